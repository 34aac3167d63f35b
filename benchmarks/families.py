"""Every network once, ten minutes on two cores on Task04_Hippocampus; then the best two, and what `auto` chooses, on ACDC and sarcoma PET/CT.

    python -m benchmarks.families [--rows 2] [--minutes 10] [--data-root ../shared/data] [--folder runs/families]

A row is a training as a user would have it: `plan --preset fast_prototyping --network NAME --device cpu --max-hours`, so that the planner sizes
each network for this machine and the training ends in time; then its held-out cases at full resolution. Folds are those that a plan deals itself,
patients whole; fold 1 judges, so that no choice sees fold 0. The best two are those of the Hippocampus rows by mean DSC. Where `auto` chooses one of
them, their row is its. A row goes to benchmarks/results/families.json as soon as its training is done; rows that are there are not run again. Times
decide how much is learnt: nothing else is to run on the machine.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from benchmarks.hippocampus import tumorseg
from benchmarks.rows import read_rows, write_rows
from benchmarks.timed_trainings import train_plan
from benchmarks.training_study import write_splits
from benchmarks.training_study_scores import MEAN, Row, compared, scores_of
from tumorseg.networks.catalogue import ABOUT
from tumorseg.planning.choices.network import AUTO
from tumorseg.schema.plan import Plan
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.opening.loaded import read_plan

RESULT = Path(__file__).parent / "results" / "families.json"
FIRST, OTHERS = "MSD_Hippocampus", ("Dataset027_ACDC", "Dataset051_SarcomaPETCT")
FOLD, SEED = 1, 0
NUM_BEST = 2
LEAST_DSC = 0.5
"""Mean over labels that convolutional networks reach on Task04_Hippocampus."""


class Study(NamedTuple):
    """Where things lie, and how long trainings are."""

    data_root: Path
    folder: Path
    minutes: float

    @property
    def roots(self) -> tuple[str, ...]:
        """Return the global options of the command line."""
        return ("-q", "--data-root", str(self.data_root), "--work", str(self.folder / "runs"))

    def rows_of(self, rows: Sequence[Row], dataset: str) -> dict[str, Row]:
        """Return the rows of a dataset and of this length, by network."""
        found = {}
        for row in rows:
            if (row["dataset"], row["minutes"]) == (dataset, self.minutes):
                found[row["network"]] = row
        return found


def make_plan(study: Study, dataset: str, network: str) -> Path:
    """Plan a network for this machine, and return where the plan is."""
    splits = study.folder / f"{dataset}__splits.json"
    write_splits(splits, open_dataset(dataset, study.data_root))
    path = study.folder / f"{dataset}__{network}__{study.minutes:g}min.json"
    start = ("plan", "-d", dataset, "--preset", "fast_prototyping", "--splits", str(splits), "--force")
    chosen = ("--network", network, "--device", "cpu", "--max-hours", str(study.minutes / 60))
    tumorseg(*study.roots, *start, *chosen, "--set", f"training.seed={SEED}", "-o", str(path))
    return path


def default_of(plan: Plan) -> Any:
    """Return the configuration that is trained."""
    return plan.configurations[plan.default_configuration]


def chosen_by_auto(study: Study, dataset: str) -> str:
    """Return the network of `--network auto`."""
    return str(default_of(read_plan(make_plan(study, dataset, AUTO))).network.name)


def run(study: Study, dataset: str, network: str) -> Row:
    """Plan and train a network, and return its row."""
    path = make_plan(study, dataset, network)
    return {"dataset": dataset, "network": network, "minutes": study.minutes, **train_plan(study.roots, path, FOLD)}


def mean_dsc(row: Row) -> float:
    """Return the mean over labels and held-out cases."""
    return float(np.nanmean(scores_of(row).table[:, -1]))


def best(rows: Mapping[str, Row]) -> list[str]:
    """Return the best networks of a dataset, the best first."""
    return sorted(rows, key=lambda network: -mean_dsc(rows[network]))[:NUM_BEST]


def missing(study: Study, rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Yield what is to be trained: the first dataset whole, before it decides what the others get."""
    first = study.rows_of(rows, FIRST)
    left = [name for name in ABOUT if name not in first]
    yield from ((FIRST, name) for name in left)
    if left:
        return
    for dataset in OTHERS:
        wanted = dict.fromkeys((*best(first), chosen_by_auto(study, dataset)))
        yield from ((dataset, name) for name in wanted if name not in study.rows_of(rows, dataset))


def table(study: Study, rows: Sequence[Row]) -> Iterator[str]:
    """Yield a line for each training: what was planned, how far it came, and the DSC of its cases."""
    yield "| | network | patch | steps | s a step | DSC by label | mean |"
    yield "|---|---|---|--:|--:|---|--:|"
    for dataset in (FIRST, *OTHERS):
        own = study.rows_of(rows, dataset)
        for name in sorted(own, key=lambda network: -mean_dsc(own[network])):
            row, found = own[name], scores_of(own[name])
            means = np.nanmean(found.table, axis=0)[:-1]
            labels = ", ".join(f"{label} {mean:.3f}" for label, mean in zip(found.labels[:-1], means, strict=True))
            patch = " × ".join(map(str, row["patch_size"]))
            yield f"| {dataset} | `{name}` | {patch} | {row['steps']} | {row['step_s']:.2f} | {labels} | {mean_dsc(row):.3f} |"


def against(study: Study, rows: Sequence[Row], dataset: str, auto: str) -> Iterator[str]:
    """Yield how `auto`'s network differs from each other one of a dataset, over its cases."""
    own = study.rows_of(rows, dataset)
    run_of = (FOLD, SEED)
    for name, row in own.items():
        if name == auto or auto not in own:
            continue
        mean = compared({run_of: own[auto]}, {run_of: row})["differences"][MEAN]
        interval = mean["ci95"] or [float("-inf"), float("inf")]
        verdict = "wholly against auto" if interval[1] < 0 else "not wholly against auto"
        yield f"{dataset}: auto ({auto}) - {name} = {mean['difference']:+.4f} [{interval[0]:+.4f}, {interval[1]:+.4f}], {verdict}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--folder", type=Path, default=Path("runs/families"), help="of plans, cases and models")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--rows", type=int, help="trainings to run now at most  [default: all]")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each training, without its validation")
    return parser.parse_args()


def main() -> None:
    options = parse()
    rows = read_rows(options.result)
    options.folder.mkdir(parents=True, exist_ok=True)
    study = Study(options.data_root.resolve(), options.folder.resolve(), options.minutes)
    done = 0
    # What is missing on the other datasets follows from the rows of the first.
    while (left := next(missing(study, rows), None)) is not None and done != options.rows:
        print(", ".join(left), flush=True)
        rows.append(run(study, *left))
        write_rows(options.result, rows)
        done += 1
    print("\n".join(table(study, rows)))
    reached = [mean_dsc(row) for row in study.rows_of(rows, FIRST).values()]
    if reached:
        print(
            f"on {FIRST}: {fmean(reached):.3f} on average, {sum(one > LEAST_DSC for one in reached)} of {len(reached)} above {LEAST_DSC}"
        )
    for dataset in OTHERS:
        if study.rows_of(rows, dataset):
            print("\n".join(against(study, rows, dataset, chosen_by_auto(study, dataset))))


if __name__ == "__main__":
    main()
