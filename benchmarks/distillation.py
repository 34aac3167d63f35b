"""What a large teacher is worth to a small student: Task04_Hippocampus, equal iterations with and without it, three seeds, and what prediction takes.

    python -m benchmarks.distillation [--rows 2] [--data-root ../shared/data] [--folder runs/distillation]

A row is a training of preset `fast_prototyping`. The teacher's network is the preset's with 32 features instead of 16; the students' has the preset's
features and one convolution a stage instead of two, and so about an eighth of the teacher's FLOPs. Students have `--steps` steps: alone, and by
`tumorseg distill` with the teacher, which was trained on the same fold and so has not seen the held-out cases that judge both, at full resolution.
What the teacher is worth is the mean over cases of the difference between the two students of a seed, over the seeds first, with its interval.
Seconds are those of a whole held-out case from its array to its mask, by student and teacher in turn, the median over some cases.
A row goes to benchmarks/results/distillation.json as soon as its training is done; rows that are there are not run again, and a training that was cut
off goes on where it was, as long as `--folder` is the same. One takes up to twenty-five minutes on a core.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import NamedTuple

import numpy as np

from benchmarks.hippocampus import tumorseg
from benchmarks.machine import machine
from benchmarks.rows import read_rows, write_rows
from benchmarks.training_study import EPOCH, scores, write_splits
from benchmarks.training_study_scores import MEAN, Row, compared, scores_of
from tumorseg.planning.flops import network_flops
from tumorseg.schema.base import content_hash
from tumorseg.schema.plan import Plan
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.predict_array import predict_array
from tumorseg.stages.opening.fold_folders import fold_plan
from tumorseg.stages.opening.loaded import Roots, open_planned_dataset
from tumorseg.stages.opening.reading import read_case_image
from tumorseg.storage.layout import FoldFolder

RESULT = Path(__file__).parent / "results" / "distillation.json"
DATASET, FOLD, CONFIGURATION = "MSD_Hippocampus", 1, "3d_fullres"
TEACHER, ALONE, TAUGHT = "teacher", "alone", "taught"
SEEDS, TEACHER_SEED = (0, 1, 2), 10
NETWORK = f"configurations.{CONFIGURATION}.network"
LARGE = (f"{NETWORK}.features_per_stage=[32, 64, 128, 256]",)
# Fewer convolutions rather than fewer features than the preset's: on a CPU 16 features take less time than 4, whatever they compute.
SMALL = (f"{NETWORK}.convs_per_stage=[1, 1, 1, 1]", f"{NETWORK}.decoder_convs_per_stage=[1, 1, 1]")
NUM_TIMED = 7
"""Cases whose prediction is timed, after one that is not."""


class Study(NamedTuple):
    """Where things lie, and how long trainings are."""

    data_root: Path
    folder: Path
    steps: int
    teacher_steps: int
    lessons: tuple[str, ...]
    """Further options of `distill`."""

    @property
    def roots(self) -> tuple[str, ...]:
        """Return the global options of the command line."""
        return ("-q", "--data-root", str(self.data_root), "--work", str(self.folder / "runs"))

    def steps_of(self, arm: str) -> int:
        """Return how many steps an arm has."""
        return self.teacher_steps if arm == TEACHER else self.steps

    def plan(self, arm: str, seed: int) -> Path:
        """Return the plan that an arm is given; both students of a seed have the same."""
        name = TEACHER if arm == TEACHER else "student"
        return self.folder / f"{name}__seed{seed}__steps{self.steps_of(arm)}.json"

    def taught_plan(self, seed: int) -> Path:
        """Return where a student's own plan is written: each way to learn has one."""
        given = self.plan(TAUGHT, seed)
        return given.with_name(f"{given.stem}__taught_{content_hash([self.teacher_steps, self.lessons])[:8]}.json")

    @property
    def teacher(self) -> Path:
        """Return the fold's folder of the teacher."""
        models = self.folder / "runs" / DATASET / "models"
        return models / self.plan(TEACHER, TEACHER_SEED).stem / CONFIGURATION / f"fold_{FOLD}"

    def settings(self, arm: str) -> Row:
        """Return what a row of an arm says of how it was made, by which it is known again."""
        found: Row = {"arm": arm, "steps": self.steps_of(arm)}
        return found | ({"lessons": list(self.lessons), "teacher_steps": self.teacher_steps} if arm == TAUGHT else {})

    def rows_of(self, rows: Sequence[Row], arm: str) -> dict[tuple[int, int], Row]:
        """Return the rows of an arm that were made as this study is, by fold and seed."""
        wanted = self.settings(arm).items()
        return {(row["fold"], row["seed"]): row for row in rows if wanted <= row.items()}


def make_plan(study: Study, arm: str, seed: int) -> None:
    """Plan an arm; made once more it is the same, so that its training goes on."""
    splits = study.folder / "splits.json"
    write_splits(splits, open_dataset(DATASET, study.data_root))
    length = (f"training.epochs={study.steps_of(arm) // EPOCH}", f"training.iterations_per_epoch={EPOCH}")
    settings: list[str] = []
    for one in (*length, f"training.seed={seed}", *(LARGE if arm == TEACHER else SMALL)):
        settings += ("--set", one)
    start = ("plan", "-d", DATASET, "--preset", "fast_prototyping", "--splits", str(splits), "--force")
    tumorseg(*study.roots, *start, *settings, "-o", str(study.plan(arm, seed)))


def run(study: Study, arm: str, seed: int) -> Row:
    """Plan and train an arm, and return its row."""
    make_plan(study, arm, seed)
    verb = ["train"]
    if arm == TAUGHT:
        verb = ["distill", *study.lessons, "-m", str(study.teacher), "-o", str(study.taught_plan(seed))]
    placed = ("-p", str(study.plan(arm, seed)), "--fold", str(FOLD), "--device", "cpu", "--no-mlflow")
    trained = tumorseg(*study.roots, *verb, *placed)
    fold = FoldFolder(Path(trained["folder"]))
    log = [json.loads(line) for line in fold.log.read_text().splitlines()]
    found = machine()
    return study.settings(arm) | {
        "fold": FOLD,
        "seed": seed,
        "gflops": round(flops(fold_plan(fold)) / 1e9, 3),
        "case_s": {} if arm == TEACHER else case_seconds(study, fold),
        "dsc": scores(trained["metrics"]["cases"]),
        "minutes": round(sum(entry["seconds"] for entry in log) / 60, 2),
        "commit": found["commit"],
        "cpu": found["cpu"],
    }


def flops(plan: Plan) -> int:
    """Return what the network of a plan computes for a patch."""
    configuration, targets = plan.configurations[CONFIGURATION], targets_of(plan.dataset)
    return network_flops(
        configuration.network,
        configuration.patch_size,
        num_channels=num_inputs(configuration, targets),
        num_outputs=targets.num_outputs,
    )


def case_seconds(study: Study, folder: FoldFolder) -> dict[str, float]:
    """Return what it takes a student, and its teacher, to segment a held-out case."""
    plan = fold_plan(folder)
    models = {"student": load_model([folder.root], "cpu"), "teacher": load_model([study.teacher], "cpu")}
    dataset = open_planned_dataset(plan, Roots(data_root=study.data_root, work=study.folder / "runs"))
    by_id = {case.case_id: case for case in dataset.cases}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for case_id in sorted(plan.folds[FOLD])[: NUM_TIMED + 1]:
        found = read_case_image(by_id[case_id])
        for name, model in models.items():
            began = time.perf_counter()
            predict_array(model, found.image, found.affine)
            seconds[name].append(time.perf_counter() - began)
    # The first one pays for what is set up once.
    return {name: round(median(values[1:]), 4) for name, values in seconds.items()}


def summary(study: Study, rows: Sequence[Row]) -> list[str]:
    """Return what the rows say: DSC with its spread over seeds, what the teacher adds, and what a student takes against it."""
    lines = ["| arm | GFLOPs of a patch | DSC by seed | mean | spread |", "|---|---|---|---|---|"]
    by_arm = {arm: study.rows_of(rows, arm) for arm in (TEACHER, ALONE, TAUGHT)}
    for arm, own in by_arm.items():
        if not own:
            continue
        dsc = [float(np.nanmean(scores_of(own[run]).table[:, -1])) for run in sorted(own)]
        spread = f"{stdev(dsc):.4f}" if len(dsc) > 1 else "-"
        each, (first, *_) = ", ".join(f"{value:.4f}" for value in dsc), own.values()
        lines.append(f"| {arm} | {first['gflops']:.2f} | {each} | {fmean(dsc):.4f} | {spread} |")
    return lines + list(_against(by_arm))


def _against(by_arm: Mapping[str, Mapping[tuple[int, int], Row]]) -> Iterator[str]:
    """Yield how students with and without a teacher differ, and how they do from the teacher."""
    if apart := compared(by_arm[TAUGHT], by_arm[ALONE]):
        mean = apart["differences"][MEAN]
        interval = "" if mean["ci95"] is None else f" [{mean['ci95'][0]:+.4f}, {mean['ci95'][1]:+.4f}]"
        each = ", ".join(f"{value:+.4f}" for value in apart["by_training"].values())
        yield f"with its teacher, over {apart['cases']} cases: {mean['difference']:+.4f}{interval}; by seed {each}"
    students = [*by_arm[ALONE].values(), *by_arm[TAUGHT].values()]
    for teacher in by_arm[TEACHER].values():
        if students:
            yield f"a student has {students[0]['gflops'] / teacher['gflops']:.1%} of the teacher's FLOPs"
    if students:
        ratio = median(one["case_s"]["teacher"] / one["case_s"]["student"] for one in students)
        yield f"a case takes the teacher {ratio:.1f} times as long as the student"


def missing(study: Study, rows: Sequence[Row]) -> Iterator[tuple[str, int]]:
    """Yield the rows that are not there; the teacher first, and again if its weights are gone while a student needs them."""
    wanted = []
    for seed in SEEDS:
        wanted += [(arm, seed) for arm in (ALONE, TAUGHT) if (FOLD, seed) not in study.rows_of(rows, arm)]
    is_lost = bool(wanted) and not (study.teacher / "latest.ckpt").is_file()
    if is_lost or not study.rows_of(rows, TEACHER):
        yield TEACHER, TEACHER_SEED
    yield from wanted


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--folder", type=Path, default=Path("runs/distillation"), help="of plans, cases and models")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--rows", type=int, help="trainings to run now at most  [default: all]")
    parser.add_argument("--steps", type=int, default=600, help=f"of each student, a multiple of {EPOCH}")
    parser.add_argument("--teacher-steps", type=int, default=400, help=f"of the teacher, a multiple of {EPOCH}")
    parser.add_argument("--lessons", nargs="*", default=[], help="further options of distill, such as weight=0.7")
    return parser.parse_args()


def main() -> None:
    options = parse()
    rows = read_rows(options.result)
    options.folder.mkdir(parents=True, exist_ok=True)
    lessons = [f"--{one}" for one in options.lessons]
    study = Study(
        options.data_root.resolve(), options.folder.resolve(), options.steps, options.teacher_steps, tuple(lessons)
    )
    for arm, seed in list(missing(study, rows))[: options.rows]:
        print(f"{arm}, seed {seed}", flush=True)
        row = run(study, arm, seed)
        same = study.rows_of(rows, arm).get((FOLD, seed))
        rows = [other for other in rows if other is not same] + [row]
        write_rows(options.result, rows)
    print("\n".join(summary(study, rows)))


if __name__ == "__main__":
    main()
