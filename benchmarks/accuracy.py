"""What a training of some minutes comes to, on fold 0 alone, beside nnunetv2 2.8.1 at equal time and at equal steps.

    python -m benchmarks.accuracy [--peer PYTHON] [--rows 2] [--data-root ../shared/data] [--folder runs/accuracy]

A row is a training: ours as a user has it (`plan --preset fast_prototyping --max-hours`, and no other knob), nnU-Net's with its own plan, a
batch of 2 and its schedule set to end in time, or ours with preset `nnunet` (nnU-Net's network, patch, batch, optimizer and augmentation) in
fp32 for as many steps as nnU-Net took. Folds are those that a plan deals itself, patients whole; whatever is chosen is chosen on folds 1 to 4
(benchmarks/training_study.py), so that fold 0 only tells. A row goes to benchmarks/results/accuracy.json as soon as its training is done;
rows that are there are not run again. Times decide how much is learnt: nothing else is to run on the machine.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.accuracy_peer import BATCH_SIZE, PeerSet, prepare_peer, train_peer
from benchmarks.hippocampus import tumorseg
from benchmarks.preprocessing import Bench
from benchmarks.rows import read_rows, write_rows
from benchmarks.timed_trainings import train_plan
from benchmarks.training_study import write_splits
from benchmarks.training_study_scores import MEAN, Row, compared, patient_of, scores_of
from tumorseg.ops.significance.intervals import mean_intervals
from tumorseg.ops.significance.scores import cluster_numbers
from tumorseg.schema.plan import Plan
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.opening.loaded import read_plan

RESULT = Path(__file__).parent / "results" / "accuracy.json"
HIPPOCAMPUS, ACDC, SARCOMA = "MSD_Hippocampus", "Dataset027_ACDC", "Dataset051_SarcomaPETCT"
PEER_SETS = {HIPPOCAMPUS: PeerSet("Dataset004_Hippocampus"), ACDC: PeerSet(ACDC), SARCOMA: PeerSet(SARCOMA)}
FOLD = 0
OURS, PEER, AT_EQUAL_STEPS = "tumorseg", "nnunetv2", "tumorseg, preset nnunet"
BARS = {8.0: (0.882, 0.869), 25.0: (0.889, 0.875), 60.0: (0.892, 0.878)}
"""Least DSC of Anterior and Posterior on Task04_Hippocampus, by minutes."""
TARGETS = {8.0: (0.885, 0.872), 25.0: (0.893, 0.878), 60.0: (0.897, 0.882)}
LEAST_DIFFERENCE = -0.01
"""Of the lower end of the interval of ours minus nnU-Net's, at equal steps."""


class Training(NamedTuple):
    """What a row is of."""

    program: str
    dataset: str
    minutes: float
    seed: int


GRID = (
    *(Training(OURS, HIPPOCAMPUS, 8.0, seed) for seed in (0, 1)),
    *(Training(program, HIPPOCAMPUS, 25.0, seed) for seed in (0, 1) for program in (OURS, PEER, AT_EQUAL_STEPS)),
    *(Training(program, dataset, 20.0, 0) for dataset in (ACDC, SARCOMA) for program in (OURS, PEER)),
    *(Training(OURS, HIPPOCAMPUS, 60.0, seed) for seed in (0, 1)),
)


def missing(rows: Sequence[Row], *, has_peer: bool) -> Iterator[Training]:
    """Yield the trainings whose rows are not there and can be run now."""
    done = {training_of(row) for row in rows}
    for training in GRID:
        needed = training._replace(program=PEER)
        is_possible = training.program == OURS or has_peer or (training.program != PEER and needed in done)
        if training not in done and is_possible:
            yield training


def training_of(row: Row) -> Training:
    """Return what a row is of."""
    return Training(*(row[name] for name in Training._fields))


def roots(bench: Bench) -> tuple[str, ...]:
    """Return the global options of the command line."""
    return ("-q", "--data-root", str(bench.data_root), "--work", str(bench.folder / "runs"))


def run(bench: Bench, training: Training, rows: Sequence[Row]) -> Row:
    """Plan, train and validate, and return the row."""
    splits = bench.folder / f"{training.dataset}__splits.json"
    write_splits(splits, open_dataset(training.dataset, bench.data_root))
    if training.program == PEER:
        peer_set = PEER_SETS[training.dataset]
        prepare_peer(bench, training.dataset, peer_set, splits)
        length = {"minutes": training.minutes, "fold": FOLD, "seed": training.seed}
        return training._asdict() | train_peer(bench, training.dataset, peer_set, **length)
    theirs = next((row for row in rows if training_of(row) == training._replace(program=PEER)), None)
    if training.program == OURS:
        chosen = ["--preset", "fast_prototyping", "--max-hours", str(training.minutes / 60)]
    else:
        assert theirs is not None  # or it would not be a training that can be run now
        chosen = _as_long_as(theirs)
    who = "fast" if training.program == OURS else "as_nnunet"
    path = bench.folder / f"{training.dataset}__{who}__{training.minutes:g}min__seed{training.seed}.json"
    start = ("plan", "-d", training.dataset, "--splits", str(splits), "--set", f"training.seed={training.seed}")
    # A training that was cut off goes on with the plan that it was begun with.
    if not path.is_file():
        tumorseg(*roots(bench), *start, *chosen, "-o", str(path))
    if theirs is not None and training.program == AT_EQUAL_STEPS:
        check_equal(theirs, read_plan(path))
    return training._asdict() | train_plan(roots(bench), path, FOLD)


def check_equal(row: Row, plan: Plan) -> None:
    """Refuse to compare networks at equal steps that are not the same, or see patches of other sizes.

    Raises:
        ValueError: they differ.
    """
    configuration = plan.configurations[plan.default_configuration]
    network = configuration.network.model_dump(mode="json")
    ours = {
        "features": network["features_per_stage"],
        "strides": network["strides"],
        "patch_size": list(configuration.patch_size),
        "batch_size": configuration.batch_size,
    }
    theirs = {**row["network"], "patch_size": row["patch_size"], "batch_size": row["batch_size"]}
    if ours != theirs:
        raise ValueError(f"{plan.name}: expected nnU-Net's own {theirs}, found {ours}")


def _as_long_as(row: Row) -> list[str]:
    """Return the options of a plan of nnU-Net's own choices, for as many steps as nnU-Net took."""
    iterations = row["steps"] // row["epochs"]
    settings = (
        f"batch_size={BATCH_SIZE}",
        f"training.epochs={row['epochs']}",
        f"training.iterations_per_epoch={iterations}",
        "training.precision.cpu=fp32",
    )
    chosen = ["--preset", "nnunet"]
    for one in settings:
        chosen += ("--set", one)
    return chosen


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Return by label, and for their mean, the mean of the rows' DSC and its interval over cases, patients drawn as wholes."""
    found = [scores_of(row) for row in rows]
    first = found[0]
    table = np.nanmean([one.table for one in found], axis=0)
    patients = {case_id: {"patient": patient_of(case_id)} for case_id in first.case_ids}
    intervals = mean_intervals(table, clusters=cluster_numbers(first.case_ids, patients, "patient"))
    dsc = {}
    for label, mean, interval in zip(first.labels, np.nanmean(table, axis=0), intervals, strict=True):
        bounds = None if interval is None else [round(bound, 4) for bound in interval]
        dsc[label] = {"dsc": round(float(mean), 4), "ci95": bounds}
    means = {name: float(np.mean([row[name] for row in rows])) for name in ("steps", "taken_minutes")}
    return {
        "seeds": len(rows),
        "steps": round(means["steps"]),
        "taken_minutes": round(means["taken_minutes"], 2),
        "precision": rows[0]["precision"],
        "dsc": dsc,
    }


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the figures of each dataset, length and program, bars beside them, and ours minus nnU-Net's."""
    groups: dict[tuple[str, float], dict[str, list[Row]]] = {}
    for row in rows:
        by_program = groups.setdefault((row["dataset"], row["minutes"]), {})
        by_program.setdefault(row["program"], []).append(row)
    found: dict[str, Any] = {}
    for (dataset, minutes), by_program in groups.items():
        one: dict[str, Any] = {program: figures(own) for program, own in by_program.items()}
        if dataset == HIPPOCAMPUS and OURS in one:
            one[OURS] |= _against_bars(one[OURS]["dsc"], minutes)
        for program in (OURS, AT_EQUAL_STEPS):
            if program in one and PEER in one:
                one[program]["minus_nnunetv2"] = _difference(by_program[program], by_program[PEER])
        found[f"{dataset}, {minutes:g} minutes"] = one
    return found


def _against_bars(dsc: Mapping[str, Any], minutes: float) -> dict[str, Any]:
    reached = (dsc["Anterior"]["dsc"], dsc["Posterior"]["dsc"])
    found = {}
    for name, least in (("bar", BARS[minutes]), ("target", TARGETS[minutes])):
        found[name] = {"dsc": least, "is_met": all(one >= bar for one, bar in zip(reached, least, strict=True))}
    return found


def _difference(own: Sequence[Row], peer: Sequence[Row]) -> dict[str, Any]:
    by_seed = [{(row["fold"], row["seed"]): row for row in side} for side in (own, peer)]
    found = compared(*by_seed)
    if not found:
        # Other seeds so far: nothing is paired.
        return {"difference": None, "ci95": None, "is_not_worse": None}
    difference: dict[str, Any] = found["differences"][MEAN]
    low = difference["ci95"]
    return difference | {"is_not_worse": low is not None and low[0] >= LEAST_DIFFERENCE}


def table(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table of all groups."""
    yield "| | program | seeds | minutes | steps | DSC by label (95 %) | minus nnU-Net's mean (95 %) |"
    yield "|---|---|--:|--:|--:|---|---|"
    for name, by_program in found.items():
        for program, one in by_program.items():
            labels = []
            for label, figure in one["dsc"].items():
                bounds = "" if figure["ci95"] is None else " ({:.3f} to {:.3f})".format(*figure["ci95"])
                labels.append(f"{label} {figure['dsc']:.4f}{bounds}")
            difference = one.get("minus_nnunetv2")
            beside = ""
            if difference is not None and difference["difference"] is not None:
                beside = f"{difference['difference']:+.4f}"
                beside += "" if difference["ci95"] is None else " ({:+.4f} to {:+.4f})".format(*difference["ci95"])
            start = (
                f"| {name} | {program}, {one['precision']} | {one['seeds']} | {one['taken_minutes']} | {one['steps']}"
            )
            yield f"{start} | {', '.join(labels)} | {beside} |"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--peer", help="python of an environment with nnunetv2 2.8.1; without it, its rows are left out"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/accuracy"), help="of plans, cases and models")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--rows", type=int, help="trainings to run now at most  [default: all]")
    return parser.parse_args()


def main() -> None:
    options = parse()
    rows = read_rows(options.result)
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.data_root, options.peer or "python", folder)
    done = 0
    # What can be run may follow from rows that were just made.
    while done != options.rows and (training := next(missing(rows, has_peer=options.peer is not None), None)):
        print(", ".join(map(str, training)), flush=True)
        rows.append(run(bench, training, rows))
        write_rows(options.result, rows, summary(rows))
        done += 1
    print("\n".join(table(summary(rows))))


if __name__ == "__main__":
    main()
