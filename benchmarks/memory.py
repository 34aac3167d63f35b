"""Memory of plans: predicted against a GPU's, and within the budget over drawn fingerprints.

python -m benchmarks.memory gpu            a table for each registered network, patch and precision; needs a GPU
python -m benchmarks.memory draws --count 60   plans for 8 GB: predicted bytes, seconds, memory of the planner
"""

import argparse
import gc
import json
import resource
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings

from benchmarks.machine import machine
from tests.planning.drawn import fingerprints
from tests.planning.measured import equal_cases, fingerprint, made
from tumorseg.errors import PlanError
from tumorseg.networks.registry import BUILDERS
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.totals import plan_setting
from tumorseg.planning.options import PlanOptions
from tumorseg.planning.planner import make_plan
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.quantities import GB

RESULTS = Path(__file__).parent / "results"
PATCHES = (64, 96, 128)


def configuration_of(network: str, edge: int) -> tuple[Plan, Configuration]:
    """Return a full-size configuration of a network on a cubic patch, and its plan."""
    preset = PRESETS["nnunet"].model_copy(update={"network": network})
    plan = made(fingerprint(equal_cases(50, (1.0, 1.0, 1.0), (edge,) * 3)), PlanOptions(preset=preset)).plan
    return plan, plan.configurations["3d_fullres"].model_copy(update={"batch_size": 2})


def measured_row(network: str, edge: int, precision: str) -> dict[str, Any]:
    """Return predicted, allocated and reserved bytes of two training steps on the GPU."""
    import torch

    from tumorseg.stages.planning.rehearse import VERIFIED, noise_learner

    plan, configuration = configuration_of(network, edge)
    setting = plan_setting(plan)._replace(precision=precision)
    predicted = MemoryCounter().count(configuration, setting).peak_bytes
    # Networks of rows before hold each other in circles, which only the collector undoes.
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    learner, inputs = noise_learner(configuration, setting, "cuda")
    for number in range(VERIFIED):
        learner.step(inputs, number)
    allocated, reserved = torch.cuda.max_memory_allocated() - held, torch.cuda.max_memory_reserved()
    row = {"network": network, "patch": edge, "batch": 2, "precision": precision}
    return row | {"predicted_bytes": predicted, "allocated_bytes": allocated, "reserved_bytes": reserved}


def gpu() -> dict[str, Any]:
    """Measure every registered network at three patches, with and without mixed precision."""
    rows = [
        measured_row(network, edge, precision)
        for network in BUILDERS
        for edge in PATCHES
        for precision in ("fp32", "fp16")
    ]
    for row in rows:
        ratio = row["predicted_bytes"] / row["allocated_bytes"]
        sizes = "  ".join(f"{name[:-6]} {row[name] / GB:6.2f} GB" for name in row if name.endswith("_bytes"))
        print(f"{row['network']:14} {row['patch']:4}  {row['precision']}  {sizes}  ratio {ratio:.2f}")
    return {"rows": rows}


def draws(count: int) -> dict[str, Any]:
    """Plan drawn fingerprints with the default preset for 8 GB."""
    rows: list[dict[str, Any]] = []

    @settings(
        max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(fingerprints())
    def draw(measured: Fingerprint) -> None:
        started = time.perf_counter()
        row: dict[str, Any] = {
            "spacing_mm": measured.cases[0].spacing_mm,
            "shape": measured.cases[0].shape,
            "cases": len(measured.cases),
            "channels": len(measured.dataset.channels),
            "labels": len(measured.dataset.labels),
        }
        try:
            plan = make_plan(measured, "drawn", PlanOptions()).plan
            found = {
                "predicted_gb": round(plan.budget.predicted_bytes / GB, 3),
                "configurations": sorted(plan.configurations),
            }
        except PlanError as refused:
            found = {"refused": str(refused)}
        row |= found | {"seconds": round(time.perf_counter() - started, 2)}
        rows.append(row)
        print(json.dumps(row), flush=True)

    draw()
    seconds = sorted(row["seconds"] for row in rows)
    predicted = [row["predicted_gb"] for row in rows if "predicted_gb" in row]
    return {
        "draws": len(rows),
        "refused": sum("refused" in row for row in rows),
        "most_predicted_gb": max(predicted),
        "seconds_median": seconds[len(seconds) // 2],
        "seconds_95_percent": seconds[max(0, -(-len(seconds) * 95 // 100) - 1)],
        "seconds_most": seconds[-1],
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "rows": rows,
    }


def main() -> None:
    """Run one part and keep its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["gpu", "draws"])
    parser.add_argument("--count", type=int, default=60)
    arguments = parser.parse_args()
    result = gpu() if arguments.part == "gpu" else draws(arguments.count)
    result = {"machine": machine()} | result
    (RESULTS / f"memory_{arguments.part}.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    print({key: value for key, value in result.items() if key != "rows"})


if __name__ == "__main__":
    main()
