"""What single changes do to held-out DSC: short trainings of preset `fast_prototyping`, compared case by case.

    python -m benchmarks.training_study [--study augmentation|presets] [--rows 4] [--data-root ../shared/data] [--folder runs/training_study]

An arm is a training of 1,000 steps, validated on the cases that its fold holds out: three seeds on Task04_Hippocampus, on ACDC and on sarcoma
PET/CT, unless options say which. Those of `augmentation` have one preset of augmentation each, in fp32 or (`basic_bf16` and the like) in bf16; those of `presets` change one thing of
the preset each, in bf16 or, where a processor takes longer in it, with `--precision fp32`. Folds are those that a plan deals itself; choices follow from folds 1 to 4, so that none of them sees fold 0. A row
goes to benchmarks/results/training_study.json or preset_study.json as soon as its arm is done; rows that are there are not run again, and a
training that was cut off goes on where it was, as long as `--folder` is the same.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.hippocampus import tumorseg
from benchmarks.machine import machine
from benchmarks.rows import read_rows, write_rows
from benchmarks.training_study_scores import ARMS, STUDIES, Row, patient_of, summary, table
from tumorseg.engine.precision import has_bf16
from tumorseg.planning.folds.splits import split_folds
from tumorseg.planning.memory.rehearsal import setting_of
from tumorseg.planning.memory.totals import plan_setting
from tumorseg.schema.base import content_hash
from tumorseg.schema.dataset import Dataset
from tumorseg.schema.plan import Plan
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.opening.loaded import read_plan
from tumorseg.stages.planning.rehearse import step_seconds

RESULTS = Path(__file__).parent / "results"
FILES = {"augmentation": "training_study.json", "presets": "preset_study.json"}
"""Of results, by study."""
DATASETS = ("MSD_Hippocampus", "Dataset027_ACDC", "Dataset051_SarcomaPETCT")
SEEDS = (0, 1, 2)
FIRST = ("basic", "basic_bf16", "none", "nnunet")
"""Arms that run on all datasets before any other."""
NUM_FOLDS = 5
PRECISION = "training.precision.cpu"
EPOCH = 20
"""Steps in an epoch."""


class Arm(NamedTuple):
    """A training."""

    dataset: str
    arm: str
    seed: int
    fold: int
    steps: int

    @property
    def stem(self) -> str:
        """Return the name of its plan."""
        return f"{self.dataset}__{self.arm}__seed{self.seed}__steps{self.steps}"


class Study(NamedTuple):
    """Where things lie, and how long an arm may take."""

    data_root: Path
    folder: Path
    most_minutes: float
    precision: str | None = None
    """Of all arms; each arm's own if None."""

    @property
    def roots(self) -> tuple[str, ...]:
        """Return the global options of the command line."""
        return ("-q", "--data-root", str(self.data_root), "--work", str(self.folder / "runs"))

    def plan(self, arm: Arm) -> Path:
        """Return the plan of an arm."""
        return self.folder / f"{arm.stem}.json"


def arms(options: argparse.Namespace) -> Iterator[Arm]:
    """Yield the arms that are asked for, those first that decide most."""
    for is_first in (True, False):
        for dataset in options.datasets:
            for seed in options.seeds:
                for name in options.arms:
                    if (name in FIRST) == is_first:
                        yield Arm(dataset, name, seed, options.fold, options.steps)


def write_splits(path: Path, dataset: Dataset) -> None:
    """Write the folds that a plan deals itself, with whole patients where cases tell them, in nnU-Net's form."""
    case_ids = sorted(case.case_id for case in dataset.cases)
    folds = []
    for held_out in split_folds({case_id: patient_of(case_id) for case_id in case_ids}, NUM_FOLDS):
        folds.append({"train": [one for one in case_ids if one not in held_out], "val": list(held_out)})
    path.write_text(json.dumps(folds))


def make_plan(study: Study, arm: Arm) -> None:
    """Plan an arm; made once more it is the same, so that its training goes on."""
    splits = study.folder / f"{arm.dataset}__splits.json"
    write_splits(splits, open_dataset(arm.dataset, study.data_root))
    length = (f"training.epochs={arm.steps // EPOCH}", f"training.iterations_per_epoch={EPOCH}")
    settings: list[str] = []
    own = ARMS[arm.arm].settings
    if study.precision is not None:
        own = (*(one for one in own if not one.startswith(PRECISION)), f"{PRECISION}={study.precision}")
    for one in (*length, f"training.seed={arm.seed}", *own):
        settings += ("--set", one)
    start = ("plan", "-d", arm.dataset, "--preset", _preset(study, arm.arm), "--splits", str(splits), "--force")
    tumorseg(*study.roots, *start, *settings, "-o", str(study.plan(arm)))


def _preset(study: Study, arm: str) -> str:
    """Return the preset of an arm: a file of one where it changes the preset itself."""
    if not ARMS[arm].preset:
        return "fast_prototyping"
    path = study.folder / f"preset_{arm}.json"
    path.write_text(json.dumps({"name": arm, "extends": "fast_prototyping", **ARMS[arm].preset}))
    return str(path)


def expected_minutes(study: Study, arm: Arm) -> float:
    """Return what the steps of an arm take on this machine, by a few on noise."""
    plan = read_plan(study.plan(arm))
    configuration = plan.configurations[plan.default_configuration]
    setting = setting_of(plan_setting(plan), configuration)._replace(precision=plan.training.precision.cpu)
    step_s = step_seconds(configuration, setting)
    return round(step_s * arm.steps / 60, 1)


def train(study: Study, arm: Arm) -> Row:
    """Train and validate an arm, and return its row."""
    placed = ("-p", str(study.plan(arm)), "--fold", str(arm.fold), "--device", "cpu", "--no-mlflow")
    trained = tumorseg(*study.roots, "train", *placed)
    log = [json.loads(line) for line in (Path(trained["folder"]) / "log.jsonl").read_text().splitlines()]
    parts = [entry["seconds_by_part"] for entry in log]
    seconds = {name: sum(part[name] for part in parts) for name in ("step", "waiting", "augmentation")}
    found = machine()
    plan = read_plan(study.plan(arm))
    return {
        **arm._asdict(),
        "plan": what_trains(plan),
        "precision": plan.training.precision.cpu,
        "step_s": round(seconds["step"] / arm.steps, 4),
        "augmentation_s": round(seconds["augmentation"] / arm.steps, 4),
        "waiting_share": round(seconds["waiting"] / (seconds["step"] + seconds["waiting"]), 4),
        "minutes": round(sum(entry["seconds"] for entry in log) / 60, 2),
        "commit": found["commit"],
        "cpu": found["cpu"],
        "dsc": scores(trained["metrics"]["cases"]),
    }


def what_trains(plan: Plan) -> str:
    """Return the hash of all of a plan that decides how its default configuration is trained: not of its reasons, whose words change."""
    training, folds = plan.training.model_dump(mode="json"), [list(fold) for fold in plan.folds]
    configuration = plan.configurations[plan.default_configuration].model_dump(mode="json")
    return content_hash({"configuration": configuration, "training": training, "folds": folds})


def scores(cases: Iterable[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return DSC by label and case."""
    found: dict[str, dict[str, float | None]] = {}
    for case in cases:
        dsc = case["dsc"]
        found.setdefault(case["label"], {})[case["case_id"]] = None if dsc is None else round(dsc, 5)
    return found


def run(study: Study, arm: Arm) -> Row | None:
    """Plan, train and validate an arm; None where it would take too long."""
    make_plan(study, arm)
    minutes = expected_minutes(study, arm)
    print(f"  {arm.stem}: {minutes} minutes of steps are expected", flush=True)
    if minutes > study.most_minutes:
        print(f"  left out: more than --most-minutes {study.most_minutes:g}", flush=True)
        return None
    return train(study, arm) | {"expected_minutes": minutes}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--folder", type=Path, default=Path("runs/training_study"), help="of plans, cases and models")
    parser.add_argument("--study", choices=STUDIES, default="augmentation", help="whose arms are trained")
    parser.add_argument("--result", type=Path, help="  [default: the study's own in benchmarks/results]")
    parser.add_argument("--rows", type=int, help="arms to run now at most  [default: all]")
    parser.add_argument("--fold", type=int, choices=range(1, NUM_FOLDS), default=1)
    parser.add_argument("--steps", type=int, default=1000, help=f"of each training, a multiple of {EPOCH}")
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, help="  [default: all of the study]")
    parser.add_argument("--most-minutes", type=float, default=20.0, help="of the steps of an arm")
    parser.add_argument("--precision", choices=("bf16", "fp32"), help="of all arms  [default: each arm's own]")
    options = parser.parse_args()
    if options.steps < EPOCH or options.steps % EPOCH:
        parser.error(f"--steps {options.steps}: expected a multiple of {EPOCH}, the steps of an epoch")
    options.arms = options.arms or list(STUDIES[options.study])
    options.result = options.result or RESULTS / FILES[options.study]
    if not has_bf16() and options.precision != "fp32":
        options.arms = [arm for arm in options.arms if f"{PRECISION}=bf16" not in ARMS[arm].settings]
        print("this processor does not compute in bf16: arms in bf16 are left out", flush=True)
    return options


def is_done(study: Study, arm: Arm, rows: Sequence[Row]) -> bool:
    """Return whether an arm's row is there, of the plan that is made of it now."""
    same = [row for row in rows if all(row[field] == value for field, value in arm._asdict().items())]
    if not same:
        return False
    make_plan(study, arm)
    return any(row["plan"] == what_trains(read_plan(study.plan(arm))) for row in same)


def main() -> None:
    options = parse()
    rows = read_rows(options.result)
    options.folder.mkdir(parents=True, exist_ok=True)
    study = Study(options.data_root, options.folder.resolve(), options.most_minutes, options.precision)
    missing = [arm for arm in arms(options) if not is_done(study, arm, rows)]
    print(f"{len(rows)} rows are there, {len(missing)} arms are left", flush=True)
    for arm in missing[: options.rows]:
        row = run(study, arm)
        if row is not None:
            # A row of an earlier plan is no longer to be compared with.
            rows = [other for other in rows if any(other[name] != row[name] for name in Arm._fields)]
            rows.append(row)
            write_rows(options.result, rows, summary(rows))
    print("\n".join(table(summary(rows))))


if __name__ == "__main__":
    main()
