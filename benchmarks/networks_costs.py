"""What every family of networks costs for BraTS and Hippocampus, each planned for a GPU of 8 GB.

    python -m benchmarks.networks costs [--untimed] [--data-root ../shared/data]
    python -m benchmarks.networks_costs     (the table of docs/networks.md, of what is kept)

A row a dataset and network, kept as soon as it is known: the same command goes on where it stopped, and times what was only counted.
Weights, operations, activations and memory are counted; a training step of `timed_batch` patches and a tile are timed on the CPU.
Where others use the machine, look at the seconds of its cores (`step_cpu_s`) rather than at those of the clock.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.networks_result import keep_part, read_part
from tumorseg.engine.averaging import NetworkForward
from tumorseg.errors import InputError, PlanError
from tumorseg.planning.families.registry import FAMILIES
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.rehearsal import setting_of
from tumorseg.planning.memory.totals import plan_setting
from tumorseg.planning.options import Machine, PlanOptions
from tumorseg.planning.planner import make_plan
from tumorseg.planning.presets import preset_named
from tumorseg.planning.reading.costs import Costs, Sight, plan_costs
from tumorseg.reports.architecture import count_text
from tumorseg.reports.architecture_flows import times
from tumorseg.reports.network_tables import sight_text
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import Plan
from tumorseg.schema.quantities import bytes_text
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.planning.fingerprint import FingerprintRequest, measure
from tumorseg.stages.planning.rehearse import noise_learner
from tumorseg.storage.json_files import read_record

PART, VRAM_GB = "costs", 8.0
FINGERPRINTS = Path(__file__).parent.parent / "plans" / "fingerprints"
MOST_BYTES = 4 * 2**30
"""Of activations in full precision: of a batch that keeps more, fewer patches are timed, at least one."""
QUICK_S, TIMED = 10.0, 3
"""A step that takes longer is timed once rather than so often."""
Row = dict[str, Any]


def hippocampus(data_root: Path) -> Fingerprint:
    """Return the fingerprint of Task04_Hippocampus."""
    with tempfile.TemporaryDirectory() as work:
        request = FingerprintRequest(roots=Roots(data_root=data_root, work=Path(work)), dataset="MSD_Hippocampus")
        return measure(request, require_labels=True).fingerprint


def brats(data_root: Path) -> Fingerprint:
    """Return the fingerprint of the Medical Decathlon's BraTS, which is committed."""
    return read_record(Fingerprint, FINGERPRINTS / "BrainTumour.json", error=InputError)


DATASETS: dict[str, Callable[[Path], Fingerprint]] = {"Hippocampus": hippocampus, "BraTS": brats}


def cost_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows that were missing, or were not timed."""
    rows = {(row["dataset"], row["network"]): row for row in read_part(PART)}
    for dataset, fingerprint_of in DATASETS.items():
        missing = [name for name in FAMILIES if _is_missing(rows.get((dataset, name)), options)]
        if not missing:
            continue
        measured = fingerprint_of(options.data_root)
        for name in missing:
            rows[dataset, name] = {"dataset": dataset, "network": name, **_row(measured, name, options)}
            keep_part(PART, list(rows.values()))
            yield rows[dataset, name]


def _is_missing(row: Row | None, options: argparse.Namespace) -> bool:
    if row is None:
        return True
    return not options.untimed and "refused" not in row and "step_s" not in row


def _row(measured: Fingerprint, name: str, options: argparse.Namespace) -> Row:
    counter, began = MemoryCounter(), time.process_time()
    planned = PlanOptions(preset=preset_named("optimized"), vram_gb=VRAM_GB, network=name)
    try:
        plan = make_plan(measured, name, planned, Machine(counter=counter)).plan
    except PlanError as error:
        return {"refused": str(error)}
    plan_s = time.process_time() - began
    costs = plan_costs(plan, plan.default_configuration, counter)
    row = costs.model_dump(mode="json", exclude={"network", "step_s", "tile_s", "device"})
    row["plan_cpu_s"] = _digits(plan_s)
    return row if options.untimed else {**row, **_times(plan, costs)}


def _times(plan: Plan, costs: Costs) -> Row:
    """Return the seconds of a step and of a tile, by the clock and of all cores."""
    # A number takes twice the bytes that it was counted with.
    a_patch = 2 * costs.activations_bytes // costs.batch_size
    timed_batch = max(1, min(costs.batch_size, MOST_BYTES // a_patch))
    configuration = plan.configurations[plan.default_configuration].changed(batch_size=timed_batch)
    setting = setting_of(plan_setting(plan), configuration)._replace(precision="fp32")
    learner, inputs = noise_learner(configuration, setting, "cpu")
    numbers = iter(range(2 * TIMED + 2))
    step = _timed(lambda: learner.step(inputs, next(numbers)))
    forward = NetworkForward([learner.network.eval()], (), configuration.num_axes, learner.autocast, learner.device)
    tile = _timed(lambda: forward(inputs.images[:1]))
    found = dict(zip(("step_s", "step_cpu_s", "tile_s", "tile_cpu_s"), (*step, *tile), strict=True))
    return {**found, "timed_batch": timed_batch, "load": round(os.getloadavg()[0], 1)}


def _timed(run: Callable[[], object]) -> tuple[float, float]:
    """Return the median seconds of the clock and of all cores; of one run where that is long, else without the first one."""
    times: list[tuple[float, float]] = []
    while len(times) < TIMED + 1:
        began = time.perf_counter(), time.process_time()
        run()
        times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
        if times[0][0] > QUICK_S:
            break
    kept = times[1:] or times
    return _digits(median(one for one, _ in kept)), _digits(median(one for _, one in kept))


def _digits(number: float) -> float:
    return float(f"{number:.3g}")


def table() -> Iterator[str]:
    """Yield the lines of the table of docs/networks.md; seconds are those of one patch."""
    rows = read_part(PART)
    is_timed = all("step_s" in row for row in rows if "refused" not in row)
    ends = ("", "") if not is_timed else (" step | tile |", "--:|--:|")
    yield f"| | network | patch | batch | weights | FLOPs a patch | activations | GPU memory | a voxel sees |{ends[0]}"
    yield f"|---|---|---|--:|--:|--:|--:|--:|---|{ends[1]}"
    for row in rows:
        cells = [row["dataset"], f"`{row['network']}`", *_cells(row)]
        if is_timed and "refused" not in row:
            cells += [f"{row['step_s'] / row['timed_batch']:.3g} s", f"{row['tile_s']:.3g} s"]
        yield f"| {' | '.join(map(str, cells))} |"


def _cells(row: Row) -> list[object]:
    if "refused" in row:
        return [row["refused"]]
    return [
        times(row["patch_size"]),
        row["batch_size"],
        count_text(row["parameters"]),
        count_text(row["flops"]),
        bytes_text(row["activations_bytes"], form=".3g"),
        bytes_text(row["memory_bytes"], form=".3g"),
        sight_text(Sight(**row["sight"])),
    ]


if __name__ == "__main__":
    print("\n".join(table()))
