"""Processes of both programs that take training steps, by turns, and what their times come to."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from benchmarks.training_setup import PRESETS, Job, Row, fed_plan
from benchmarks.watching import MIB, told_by, watch
from tumorseg.cli.main import share_cores
from tumorseg.engine.precision import has_bf16

PEER_PROCESSES = (1, 2)
"""That augment for nnU-Net; the faster number is taken after the first turn."""
AIMS = {"tumorseg_fp32": (0.9, 0.8), "tumorseg_bf16": (0.6, 0.45)}
"""Shares of nnU-Net's seconds: at most, and aimed at."""
FED = ("CT_Liver_IRCADb17", "BraTS2021")
"""Sets of large images."""
MOST_WAITING = 0.05
"""Share of the time between two steps that may be waiting for batches."""
PEER, AS_IT_IS = "nnunetv2", "as_it_is_fp32"
"""Variants that others are held against."""
POLL_S = 1.0
"""Between two looks at the memory: rarely, as each takes time from the cores that are measured."""


class Side(NamedTuple):
    """One way to take the steps."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]


def peer_side(job: Job, part: str, processes: int) -> Side:
    """Return nnU-Net on all cores, without compiling."""
    script = Path(__file__).parent / "peer" / "training.py"
    command = (str(job.bench.peer), str(script), part, *job.settings.options())
    chosen = {"nnUNet_n_proc_DA": str(processes), "nnUNet_compile": "f"}
    return Side(f"nnunetv2_{processes}", command, {**job.bench.nnunet, **chosen})


def own_side(job: Job, name: str, *options: str) -> Side:
    """Return ours on the plan that is nnU-Net's too."""
    return _own(job, name, "training_steps", "-p", str(job.plan(PRESETS[0])), *_roots(job), *options)


def _roots(job: Job) -> tuple[str, ...]:
    return ("--work", str(job.bench.folder / "runs"), "--data-root", str(job.bench.data_root))


def _own(job: Job, name: str, module: str, *options: str) -> Side:
    command = (sys.executable, "-m", f"benchmarks.{module}", *job.settings.options(), *options)
    environment: dict[str, str] = {}
    # As the command line does before it imports torch.
    share_cores(environment)
    return Side(f"tumorseg_{name}", command, environment)


def run_side(side: Side, turn: int) -> Row:
    """Run a process, and return a row of what its steps took."""
    watched = watch(side.command, environment=side.environment, poll_s=POLL_S)
    told = told_by(watched)
    taken, waiting = told.pop("steps_s"), told.pop("waiting_s")
    return {
        "side": side.name,
        "turn": turn,
        "step_s": round(median(taken), 4),
        "mean_step_s": round(fmean(taken), 4),
        "steps_s": [round(one, 3) for one in taken],
        "waiting_share": round(sum(waiting) / sum(taken), 4),
        "all_processes_mib": round(watched.all_bytes / MIB),
        **{name: round(value, 4) for name, value in told.items()},
    }


def steps(job: Job) -> Iterator[Row]:
    """Take whole training steps by turns: nnU-Net, ours in fp32, ours in bf16 where the processor has it."""
    precisions = ("fp32", "bf16") if has_bf16() else ("fp32",)
    own = [own_side(job, precision, "--precision", precision) for precision in precisions]
    peers = [peer_side(job, "steps", processes) for processes in PEER_PROCESSES]
    first: dict[str, float] = {}
    for turn in range(job.settings.turns):
        for side in (*peers, *own):
            row = run_side(side, turn)
            first.setdefault(side.name, row["step_s"])
            yield row
        # After the first turn nnU-Net runs in as many processes as were faster for it.
        peers = [min(peers, key=lambda side: first[side.name])]


def compare_steps(rows: Sequence[Row]) -> Row:
    """Return the median step of each side over its turns, and the shares of nnU-Net's."""
    found = _medians(rows, lambda row: str(row["side"]))
    firsts = {row["side"]: row["step_s"] for row in rows if row["turn"] == 0 and row["side"].startswith(PEER)}
    # Only then has nnU-Net had both its chances.
    if len(firsts) < len(PEER_PROCESSES):
        return found
    chosen = min(firsts, key=lambda name: firsts[name])
    peer = found[chosen]
    for name, (most, aimed_at) in AIMS.items():
        if name in found:
            share = round(found[name]["step_s"] / peer["step_s"], 3)
            of_means = round(found[name]["mean_step_s"] / peer["mean_step_s"], 3)
            found[name] |= {"share": share, "share_of_means": of_means, "at_most": most, "aimed_at": aimed_at}
            found[name]["is_met"] = share <= most
    return found | {"peer_chosen": chosen}


def measures(job: Job) -> Iterator[Row]:
    """Take our steps as they are, and each time without one of the measures that make them fast, by turns."""
    as_it_is = own_side(job, "as_it_is")
    sides = (
        as_it_is,
        own_side(job, "no_reading_ahead", "--num-workers", "0"),
        own_side(job, "freed_pages_go_back", "--no-kept-pages"),
        # Threads of torch that wait for each other by turning take the core from the one that reads.
        as_it_is._replace(name="tumorseg_threads_spin", environment={}),
        own_side(job, "no_augmentation", "--no-augmentation"),
    )
    for turn in range(job.settings.turns):
        for side in sides:
            yield run_side(side, turn)


def compare_measures(rows: Sequence[Row]) -> Row:
    """Return the median step of each side over its turns, and its ratio to the one with all measures."""
    return _against(_medians(rows, lambda row: str(row["side"])), "tumorseg_as_it_is")


def feeding(job: Job) -> Iterator[Row]:
    """Take steps on large images with one reader, and tell what share of their time they wait for batches."""
    for turn in range(job.settings.turns):
        for dataset in FED:
            plan = fed_plan(job, dataset)
            side = _own(job, dataset, "training_steps", "-p", str(plan), *_roots(job), "--num-workers", "1")
            yield run_side(side, turn)


def compare_feeding(rows: Sequence[Row]) -> Row:
    """Return the median step of each set over its turns, and whether steps wait no longer than they may."""
    found = _medians(rows, lambda row: str(row["side"]))
    for one in found.values():
        one |= {"at_most": MOST_WAITING, "is_met": one["waiting_share"] <= MOST_WAITING}
    return found


def networks(job: Job) -> Iterator[Row]:
    """Run networks alone by turns: nnU-Net's, and ours in all variants."""
    plans: list[str] = []
    for preset in PRESETS:
        plans += ("-p", str(job.plan(preset)))
    kept, going_back = (), ("--no-kept-pages", "--no-optimizers", "--variants", "as_it_is")
    # Passes of many variants in each turn: fewer of each are enough.
    job = job._replace(settings=job.settings._replace(iterations=max(1, job.settings.iterations // 3), warm_up=1))
    for turn in range(job.settings.turns):
        if job.has_peer:
            row = run_side(peer_side(job, "network", 1), turn)
            yield {"plan": job.plan(PRESETS[0]).stem, "variant": PEER, "turn": turn, "step_s": row["step_s"]}
        for options, ending in ((kept, ""), (going_back, "_pages_go_back")):
            side = _own(job, "network", "training_networks", *plans, *options)
            told: list[Row] = told_by(watch(side.command, environment=side.environment, poll_s=POLL_S))
            for row in told:
                yield row | {"variant": row["variant"] + ending, "turn": turn}


def compare_networks(rows: Sequence[Row]) -> Row:
    """Return by plan the median of each variant over its turns, and its ratio to the network as it is."""
    plans = dict.fromkeys(row["plan"] for row in rows)
    found: Row = {}
    for plan in plans:
        own = [row for row in rows if row["plan"] == plan]
        found[plan] = _against(_medians(own, lambda row: str(row["variant"])), AS_IT_IS)
    return found


def _medians(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, Row]:
    """Return the medians over turns of what rows of one key have of these figures."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    found: dict[str, Row] = {}
    for name, group in groups.items():
        figures = [one for one in ("step_s", "mean_step_s", "waiting_share") if one in group[0]]
        found[name] = {one: round(median(row[one] for row in group), 4) for one in figures}
    return found


def _against(found: dict[str, Row], base: str) -> dict[str, Any]:
    """Add to each group its ratio to one of them, once that is there."""
    if base in found:
        for group in found.values():
            group["ratio"] = round(group["step_s"] / found[base]["step_s"], 3)
    return found
