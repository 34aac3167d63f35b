"""The whole main job on a built-in phantom, ending in a report."""

import logging
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import Stopped
from tumorseg.planning.overrides import Override
from tumorseg.reports.results.page import Page, ResultsInput, results_page
from tumorseg.reports.results.writing import write_page
from tumorseg.schema.base import Record
from tumorseg.schema.metrics import MetricsReport
from tumorseg.schema.plan import Plan
from tumorseg.schema.targets import targets_of
from tumorseg.sources.phantom import write_phantom
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.evaluation.case_scoring import Scoring
from tumorseg.stages.evaluation.evaluate import EvaluateRequest, evaluate
from tumorseg.stages.evaluation.overlays import shown_images
from tumorseg.stages.evaluation.pages import Shown, plan_facts, with_pictures
from tumorseg.stages.inference.predict import PredictRequest, predict
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.opening.fold_folders import fold_plan
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.planning.plan import PlanRequest, plan
from tumorseg.stages.training.preprocess import PreprocessRequest, preprocess
from tumorseg.stages.training.request import Trained, TrainRequest
from tumorseg.stages.training.train import train
from tumorseg.storage.layout import ScoresFolder, prediction_file
from tumorseg.tracking.epochs import read_epochs

logger = logging.getLogger(__name__)

NUM_UNSEEN = 3
"""Phantoms that are made apart and never trained on."""
# Phantoms follow from a seed and their number; those of the training have the seed 0.
UNSEEN_SEED = 1000
OVERRIDES: dict[str, float] = {"training.epochs": 24, "training.iterations_per_epoch": 20}
"""Length on a GPU, where it takes seconds; on a CPU these many steps at most make an epoch."""
CPU_HOURS = 0.075
"""Time of the training on a CPU; how many steps that are follows from timed ones, so that a slow or busy machine makes fewer."""


class DemoRequest(Record):
    """Options of `demo`."""

    roots: Roots = Roots()
    """The phantom is made below the work folder; the data root is not used."""
    num_cases: int = 16
    """Phantoms to train and validate on."""
    epochs: int | None = None
    """Instead of the demo's own number."""
    device: str | None = None
    """The best there is if None."""


class Demo(NamedTuple):
    """Result of the demo."""

    report: Path
    metrics: MetricsReport
    """Of phantoms that the model has never seen."""


def demo(request: DemoRequest) -> Demo:
    """Make phantoms, plan, preprocess, train fold 0, predict unseen phantoms, evaluate them, and write the report.

    What an earlier, interrupted demo finished is not done again.

    Raises:
        TumorsegError: a stage failed.
        Stopped: a signal asked to; the same command goes on.
    """
    home = request.roots.work / "demo"
    roots = Roots(data_root=home / "data", work=home)
    data = _phantoms(roots.data_root / f"Phantom{request.num_cases}", request.num_cases, seed=0)
    unseen = _phantoms(roots.data_root / "Unseen", NUM_UNSEEN, seed=UNSEEN_SEED)
    overrides = _length(request)
    # A training belongs to its plan's name, so that one of another length is a training of its own.
    length = "timed" if "training.max_hours" in overrides else overrides["training.epochs"]
    logger.info("1/5 plan")
    written = plan(
        PlanRequest(
            roots=roots,
            dataset=str(data),
            preset="fast_prototyping",
            overrides=tuple(Override(field=field, value=value) for field, value in overrides.items()),
            output=home / "plans" / f"demo_{length}.json",
        )
    )
    logger.info("2/5 preprocess")
    preprocess(PreprocessRequest(roots=roots, plan=written.plan, configurations=("3d_fullres",)))
    logger.info("3/5 train and validate fold 0")
    trained = train(TrainRequest(roots=roots, plan=written.plan, fold="0", device=request.device))
    if not trained.is_finished:
        raise Stopped(trained.kept)
    logger.info("4/5 predict %d unseen phantoms", NUM_UNSEEN)
    images, labels, output = unseen / "imagesTr", unseen / "labelsTr", trained.folder.root / "unseen"
    predict(PredictRequest(models=(trained.folder.root,), inputs=(images,), output=output, device=request.device))
    logger.info("5/5 evaluate and report")
    metrics = evaluate(
        EvaluateRequest(roots=roots, predictions=(output,), references=(labels,), dataset=str(unseen), output=output)
    )
    report = ScoresFolder(home).report
    write_page(report, _report(written.plan, trained, metrics, unseen))
    return Demo(report, metrics)


def _length(request: DemoRequest) -> dict[str, float]:
    """Return the fields of the plan that decide how long the training is."""
    if request.epochs:
        return OVERRIDES | {"training.epochs": request.epochs}
    is_timed = choose_device(request.device) == "cpu"
    return OVERRIDES | ({"training.max_hours": CPU_HOURS} if is_timed else {})


def _phantoms(folder: Path, num_cases: int, *, seed: int) -> Path:
    """Write phantoms unless they are there; dataset.json is written last."""
    return folder if (folder / "dataset.json").is_file() else write_phantom(folder, num_cases=num_cases, seed=seed)


def _report(plan: Plan, trained: Trained, metrics: MetricsReport, unseen: Path) -> Page:
    dataset = open_dataset(str(unseen), unseen.parent)
    masks = trained.folder.root / "unseen"
    pairs = {case.case_id: ((str(prediction_file(masks, case.case_id)),), case.label_files) for case in dataset.cases}
    names = [channel.name for channel in dataset.channels]
    shown = Shown(pairs, Scoring(targets_of(dataset)), shown_images(dataset.cases, names))
    content = ResultsInput(
        title="tumorseg demo",
        subtitle=f"Scores of {NUM_UNSEEN} phantoms that the model has never seen",
        facts=plan_facts(fold_plan(trained.folder), plan.default_configuration, fold=0),
        log=read_epochs(trained.folder.log),
    )
    return results_page(with_pictures(content, metrics, shown))
