"""Predict and score a fold's held-out cases at full resolution."""

from pathlib import Path

from tumorseg.errors import PlanError, StorageError
from tumorseg.reports.results.page import ResultsInput, results_page
from tumorseg.schema.base import Record
from tumorseg.schema.cases import reading_of
from tumorseg.schema.initial_weights import OUTCOMES, InitialWeights
from tumorseg.schema.metrics import MetricsReport
from tumorseg.schema.targets import targets_of
from tumorseg.stages.evaluation.case_scoring import Scoring
from tumorseg.stages.evaluation.cohorts import SummaryOptions, attributes_of, cohort_of
from tumorseg.stages.evaluation.overlays import shown_images
from tumorseg.stages.evaluation.pages import Shown, plan_facts, with_pictures
from tumorseg.stages.evaluation.results import Results, write_results
from tumorseg.stages.evaluation.scoring import check_outcome, score_all
from tumorseg.stages.inference.ensembles import alone
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.predict_cases import Filling, predict_cases
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.opening.fold_folders import Run, fold_plan, read_run
from tumorseg.stages.opening.loaded import Roots, check_content, open_planned_dataset
from tumorseg.stages.opening.stopping import stop_on_signal
from tumorseg.stages.training.cascade import known_to
from tumorseg.storage.json_files import read_record
from tumorseg.storage.layout import ALL_CASES, FoldFolder, ScoresFolder
from tumorseg.storage.locks import hold_folder
from tumorseg.tracking.epochs import read_epochs


class ValidateRequest(Record):
    """Options of `validate`."""

    roots: Roots = Roots()
    """Data and work folder."""
    model: Path
    """One fold's folder."""
    device: str | None = None
    """The best there is if None."""
    dataset: str | None = None
    """Where the dataset is, if it moved."""


@stop_on_signal()
def validate(request: ValidateRequest) -> MetricsReport:
    """Segment the cases that a fold did not train on, into its `validation` folder, and score them there.

    Cases that were already segmented in the same way are left alone. Beside the scores a report is written, with the learning curve and pictures
    of the worst and the best cases.

    A cascade is shown what the previous configuration's model of the same fold found in them, which has not seen them either.

    Raises:
        PlanError: the folder is no fold, or one that trained on every case, or the dataset is not what was planned.
        StorageError: another process writes into the `validation` folder now.
        TumorsegError: cases failed; all are listed, and the others are scored.
        Stopped: a signal asked to; masks that are done are kept.
    """
    folder = FoldFolder(request.model)
    run = read_run(folder)
    if run.fold == ALL_CASES:
        raise PlanError(f"{folder.root} trained on every case, so none is held out; predict and evaluate other cases")
    with hold_folder(folder.validation.resolve(), doing="written to", error=StorageError):
        return _validate(request, folder, run)


def _validate(request: ValidateRequest, folder: FoldFolder, run: Run) -> MetricsReport:
    model = load_model([folder.root], choose_device(request.device), previous=known_to(folder, run))
    dataset = open_planned_dataset(model.plan, request.roots, request.dataset)
    check_content(model.plan, dataset, request.roots)
    held_out = set(model.plan.folds[int(run.fold)])
    cases = [case for case in dataset.cases if case.case_id in held_out]
    results = ScoresFolder(folder.validation)
    stale = (results.metrics, results.table, results.report)
    predicted = predict_cases(alone(model), cases, folder.validation, filling=Filling(stale=stale))
    failed = {failure.case_id for failure in predicted.failures}
    scored = [case for case in cases if case.case_id not in failed]
    pairs = {case.case_id: ((str(predicted.files[case.case_id]),), case.label_files) for case in scored}
    scoring = Scoring(targets_of(model.plan.dataset), reading=reading_of(model.plan.dataset))
    cohort = cohort_of(SummaryOptions(), attributes_of(cases), pairs)
    outcome = score_all(pairs, scoring, failed=predicted.failures, cohort=cohort)
    names = [channel.name for channel in model.plan.dataset.channels]
    shown = Shown(pairs, scoring, shown_images(scored, names))
    content = ResultsInput(
        title=f"{model.plan.name}, fold {run.fold}",
        subtitle=f"Held-out cases of {model.plan.dataset.name}",
        facts=plan_facts(fold_plan(folder), run.configuration, fold=int(run.fold))
        | _initial_facts(folder)
        | _teacher_facts(run),
        log=read_epochs(folder.log),
    )
    page = results_page(with_pictures(content, outcome.report, shown))
    write_results(Results(outcome.report, page=page), folder.validation)
    check_outcome(outcome, folder.validation)
    return outcome.report


def _initial_facts(folder: FoldFolder) -> dict[str, list[tuple[str, str]]]:
    """Return what a report says of the weights that a training was begun with; nothing where they followed from the seed."""
    if not folder.init.is_file():
        return {}
    found = read_record(InitialWeights, folder.init, error=StorageError)
    counts = ", ".join(f"{found.count(outcome)} {outcome}" for outcome in OUTCOMES)
    facts = [("File", found.source), ("Layout", found.layout), ("Tensors", counts)]
    return {"Initial weights": [*facts, *(("Note", warning) for warning in found.warnings)]}


def _teacher_facts(run: Run) -> dict[str, list[tuple[str, str]]]:
    """Return what a report says of the models that a training has learnt from; nothing where there were none."""
    facts = [(f"{one.plan_name}/{one.configuration}, fold {one.fold}", f"by {one.way}") for one in run.teachers]
    if run.unlabelled is not None:
        facts.append(("Cases without a reference", run.unlabelled))
    return {"Teachers": facts} if facts else {}
