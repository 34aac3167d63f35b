"""Readers of documents: plans and what they are made from, datasets' descriptions, and what runs, studies and scores leave behind."""

import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks.fuzzing import layouts
from benchmarks.fuzzing.samples import sample
from benchmarks.fuzzing.targets import Target, every
from tests.nnunet import documents as nnunet
from tests.reports.results.draws import drawn_report
from tests.reports.tuned import tuning_result
from tumorseg.errors import InputError, PlanError, StorageError, TumorsegError
from tumorseg.planning.nnunet.import_plan import import_plan
from tumorseg.planning.overrides import apply_overrides, parse_override
from tumorseg.planning.reading.soundness import check_plan, parse_plan
from tumorseg.reports.tables import metrics_csv
from tumorseg.schema.alive import SignOfLife
from tumorseg.schema.base import Record, to_json
from tumorseg.schema.comparisons import Comparison, Ranking
from tumorseg.schema.crossing import Cell, CrossReport, DatasetShift
from tumorseg.schema.ensembles import EnsembleDocument
from tumorseg.schema.environments import Environment
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.initial_weights import InitialWeights
from tumorseg.schema.logs import EpochLog, TrainingEvent
from tumorseg.schema.metrics import MetricsReport
from tumorseg.schema.plan import Plan
from tumorseg.schema.selection import Selection
from tumorseg.schema.settings import SettingsTable
from tumorseg.schema.trust import TrustProfile
from tumorseg.schema.tuning import Ended, Score, StudyState, Task, TrialsSoFar
from tumorseg.sources.label_mapping import read_mapping
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.evaluation.tables_in import read_scores
from tumorseg.stages.inference.budget import read_settings
from tumorseg.stages.inference.ensemble_folder import read_ensemble
from tumorseg.stages.inference.journal import Begun, Header, open_notes
from tumorseg.stages.inference.ledger import read_ledger
from tumorseg.stages.inference.nnunet_model import read_nnunet_source
from tumorseg.stages.inference.predictions import Predictions
from tumorseg.stages.inference.report_file import report_parts
from tumorseg.stages.inference.trusting import read_trust
from tumorseg.stages.opening.exclusion import excluded_ids
from tumorseg.stages.opening.fold_folders import TrainOptions, begin_run, fold_plan, read_run, write_run
from tumorseg.stages.opening.loaded import read_plan
from tumorseg.stages.planning.plan import read_flops_limit, read_preset, read_splits
from tumorseg.stages.watching.trainings import Watcher, find_trainings
from tumorseg.storage.json_files import read_json, read_record
from tumorseg.storage.layout import FoldFolder, journal_files
from tumorseg.storage.study_attempts import read_ended
from tumorseg.storage.study_attempts import read_scores as read_task_scores
from tumorseg.storage.study_folder import StudyFolder, read_study
from tumorseg.storage.study_tasks import claim_task, open_task
from tumorseg.tracking.epochs import last_epoch, read_epochs
from tumorseg.tracking.events import read_events

PLANS = Path(__file__).parents[2] / "plans"
RECORDS: Mapping[str, tuple[type[Record], type[TumorsegError]]] = {
    "selection": (Selection, InputError),
    "settings": (SettingsTable, InputError),
    "trust": (TrustProfile, InputError),
    "cross": (CrossReport, InputError),
    "cell": (Cell, StorageError),
    "shift": (DatasetShift, StorageError),
    "comparison": (Comparison, InputError),
    "ranking": (Ranking, InputError),
    "init": (InitialWeights, PlanError),
    "environment": (Environment, PlanError),
    "state": (StudyState, StorageError),
    "trials": (TrialsSoFar, StorageError),
}
"""Documents that are read as a record and nothing else."""


def _write(folder: Path, files: Mapping[str, str | bytes | Record]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = to_json(content) if isinstance(content, Record) else content
        path.write_bytes(text.encode() if isinstance(text, str) else text)


def small_plan() -> Plan:
    """Return a plan of a network of few weights."""
    return nnunet.imported(nnunet.plans())


def _plans(folder: Path) -> None:
    for name in ("Slices2D__optimized", "BrainTumour__mednext"):
        _write(folder / name, {"plan.json": (PLANS / f"{name}.json").read_text()})


def _read_plan(folder: Path) -> object:
    path = folder / "plan.json"
    return every(
        lambda: read_plan(path),
        # Sound or not, but for its memory, which takes seconds to count.
        lambda: check_plan(parse_plan(read_json(path, PlanError)), {}),
        lambda: read_flops_limit(f"{path}:0.5"),
    )


def _presets(folder: Path) -> None:
    loss = {"name": "own", "components": [{"name": "dice"}, {"name": "cross_entropy", "weight": 0.5}]}
    preset = {"name": "own", "extends": "optimized", "vram_gb": 8, "training": {"epochs": 20}}
    _write(folder / "one", {"preset.json": json.dumps(preset), "loss.json": json.dumps(loss)})


def _read_presets(folder: Path) -> object:
    from tumorseg.stages.planning.plan import _with_loss_file

    override = parse_override(f"loss.preset={folder / 'loss.json'}")
    return every(lambda: read_preset(str(folder / "preset.json")), lambda: _with_loss_file(override))


def _lists(folder: Path) -> None:
    ids = [f"case_{number}" for number in range(6)]
    splits = [{"train": ids[:3], "val": ids[3:]}, {"train": ids[3:], "val": ids[:3]}]
    mapping = {
        "WT": {"prediction": [1, 2, 4], "reference": ["edema", 3]},
        "TC": {"prediction": ["core"], "reference": [1]},
    }
    files = {"splits.json": json.dumps(splits), "mapping.json": json.dumps(mapping)}
    _write(folder / "one", {**files, "ids.json": json.dumps(ids), "ids.txt": "\n".join(ids)})
    _write(folder / "two", {**files, "splits.json": json.dumps([ids[:3], ids[3:]]), "ids.json": "[]", "ids.txt": "a"})


def _read_lists(folder: Path) -> object:
    return every(
        lambda: read_splits(folder / "splits.json"),
        lambda: read_mapping(folder / "mapping.json"),
        lambda: excluded_ids([str(folder / "ids.json"), str(folder / "ids.txt")]),
    )


def _fingerprints(folder: Path) -> None:
    _write(folder / "one", {"fingerprint.json": (PLANS / "fingerprints" / "Slices2D.json").read_text()})


def _sets(folder: Path) -> None:
    texts = [
        "training.epochs=4",
        "loss.preset=dice_focal",
        "optimizer.lr=1e-3",
        "configurations.2d.batch_size=8",
        'default_configuration="2d"',
    ]
    texts += [
        "patch_size=[32, 32]",
        "augmentation.transforms.gaussian_noise.probability=0.5",
        'network={"name": "plain_unet"}',
    ]
    for number, text in enumerate(texts):
        _write(folder / str(number), {"set.txt": text})


def _read_sets(plan: list[Plan], folder: Path) -> object:
    if not plan:
        plan.append(read_plan(PLANS / "Slices2D__optimized.json"))
    path = folder / "set.txt"
    # As a command line is read: what is no UTF-8 stands in it as lone surrogates, and it ends at a NUL.
    text = path.read_bytes().partition(b"\0")[0].decode("utf-8", "surrogateescape") if path.is_file() else ""
    return apply_overrides(plan[0], [parse_override(text)])


def _nnunet_plans(folder: Path) -> None:
    source = Path(__file__).parents[2] / "tests" / "nnunet"
    for name in ("tumours", "sarcoma"):
        (folder / name).mkdir()
        for file in ("plans.json", "dataset.json"):
            shutil.copy(source / name / file, folder / name / file)


def _read_nnunet_plans(folder: Path) -> object:
    return import_plan(read_nnunet_source(folder / "plans.json", folder / "dataset.json"), "Imported")


def _fold(folder: Path) -> None:
    plan = small_plan()
    name = next(iter(plan.configurations))
    fold = FoldFolder(folder / "one" / "fold_all")
    write_run(fold, plan, begin_run(plan, name, "all", TrainOptions()))
    lines = {fold.log: EpochLog, fold.events: TrainingEvent}
    for path, kind in lines.items():
        path.write_text("".join(json.dumps(sample(kind)) + "\n" for _ in range(3)))
    for path, kind in {fold.alive: SignOfLife, fold.init: InitialWeights, fold.environment: Environment}.items():
        path.write_text(json.dumps(sample(kind)))


def _read_fold(folder: Path) -> object:
    fold = FoldFolder(folder / "fold_all")
    return every(
        lambda: read_run(fold),
        lambda: fold_plan(fold),
        lambda: read_epochs(fold.log),
        lambda: last_epoch(fold.log),
        lambda: read_events(fold.events),
        lambda: Watcher(folder).look(find_trainings(folder)),
        lambda: read_record(InitialWeights, fold.init, error=PlanError),
        lambda: read_record(Environment, fold.environment, error=PlanError),
    )


def _records(folder: Path) -> None:
    _write(folder / "all", {f"{name}.json": json.dumps(sample(kind)) for name, (kind, _) in RECORDS.items()})


def _read_records(folder: Path) -> object:
    reads = [
        partial(read_record, kind, folder / f"{name}.json", error=error) for name, (kind, error) in RECORDS.items()
    ]
    return every(*reads, lambda: read_trust(folder), lambda: read_settings(folder))


def _ensembles(folder: Path) -> None:
    members = [
        {"folder": f"members/{number}", "plan": "A", "configuration": "2d", "folds": ["0"], "weights": ["0" * 32]}
        for number in range(2)
    ]
    steps = [
        {"kind": "keep_largest", "labels": ["core"]},
        {"kind": "replace_small", "label": "core", "by": "rim", "least_mm3": 10},
    ]
    combination = {"weights": {"core": [1, 2]}, "thresholds": {"rim": 0.4}, "temperature": 1.5, "postprocessing": steps}
    document = EnsembleDocument.model_validate({"name": "both", "members": members, "combination": combination})
    _write(folder / "one", {"ensemble.json": document, "members/0/run.json": "{}", "members/1/run.json": "{}"})


def _predictions(folder: Path) -> None:
    made_by = Predictions.model_validate({**sample(Predictions), "schema_version": 3, "cases": {}})
    header = Header.model_validate({**sample(Header), "made_by": made_by.model_dump(mode="json")})
    begun = Begun(begun="case_0", replaceable={"case_0.nii.gz": None})
    report = b"".join(report_parts([("case_0", '{"run": "a"}')], {"a": header.run}))
    journal = "".join(f"{one.model_dump_json()}\n" for one in (header, begun))
    _write(folder / "one", {"predictions.json": made_by, "report.json": report, "predictions.jsonl": journal})


def _read_predictions(folder: Path) -> object:
    return read_ledger(folder, open_notes(journal_files(folder), StorageError), StorageError)


def _studies(folder: Path) -> None:
    result = tuning_result(num_trials=4)
    study = StudyFolder(folder / "one")
    study.root.mkdir()
    task = Task(
        tumorseg_version="0.1.0", stem="trial-1", number=1, values={"optimizer.lr": 0.1}, seed=1, rungs=(10, 20)
    )
    open_task(study, task, 1)
    score = Score(iteration=10, values=(0.5,), cases={"case_0": {"dsc": {"WT": 0.5}}})
    attempt = study.attempt("trial-1", 1)
    files: dict[Path, str | Record] = {
        attempt.values: f"{score.model_dump_json()}\n" * 2,
        attempt.ended: Ended(state="failed", message="no memory"),
        study.study: result.study,
        study.result: result,
        study.trials: TrialsSoFar(trials=result.trials),
    }
    _write(study.root, {str(path.relative_to(study.root)): content for path, content in files.items()})


def _read_studies(folder: Path) -> object:
    from tumorseg.schema.tuning import TuningResult

    study = StudyFolder(folder)
    attempt = study.attempt("trial-1", 1)
    return every(
        lambda: read_study(study, "0.1.0"),
        lambda: read_task_scores(attempt.values, 0),
        lambda: read_ended(attempt),
        lambda: read_record(TuningResult, study.result, error=StorageError),
        lambda: read_record(TrialsSoFar, study.trials, error=StorageError),
        lambda: claim_task(study, "worker", "0.1.0"),
    )


def _scores(folder: Path) -> None:
    report = drawn_report(3)
    other = "Case;Label;Dice;HD95\ncase_0;WT;0,91;1,5\ncase_1;WT;0,82;\n"
    _write(folder / "one", {"metrics.json": report, "metrics.csv": metrics_csv(report), "other.csv": other})


def _read_scores(folder: Path) -> object:
    reads: list[Callable[[], object]] = [
        partial(read_scores, folder / name) for name in ("metrics.json", "metrics.csv", "other.csv")
    ]
    return every(*reads, lambda: read_record(MetricsReport, folder / "metrics.json", error=StorageError))


def _read_dataset(name: str, folder: Path) -> object:
    return open_dataset(str(folder / name), folder)


TARGETS = {
    "plan": Target(_plans, _read_plan),
    "preset": Target(_presets, _read_presets),
    "lists": Target(_lists, _read_lists),
    "fingerprint": Target(_fingerprints, lambda folder: read_record(Fingerprint, folder / "fingerprint.json")),
    "set": Target(_sets, partial(_read_sets, [])),
    "nnunet_plans": Target(_nnunet_plans, _read_nnunet_plans),
    "fold": Target(_fold, _read_fold),
    "records": Target(_records, _read_records),
    "ensemble": Target(_ensembles, read_ensemble),
    "predictions": Target(_predictions, _read_predictions),
    "study": Target(_studies, _read_studies),
    "scores": Target(_scores, _read_scores),
    "msd": Target(layouts.write_msd, partial(_read_dataset, "set")),
    "nnunet": Target(layouts.write_nnunet, partial(_read_dataset, "set")),
    "manifest_json": Target(layouts.write_manifest, partial(_read_dataset, "set/manifest.json")),
    "manifest_csv": Target(layouts.write_table, partial(_read_dataset, "set/manifest.csv")),
}
