"""The report of an evaluation: its scores, and pictures and volumes of the worst and the best cases."""

import logging
from collections.abc import Mapping
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.reports.page import Picture
from tumorseg.reports.results.choosing import worst_and_best
from tumorseg.reports.results.page import ResultsInput
from tumorseg.reports.results.volumes import ViewerCase, viewer_case
from tumorseg.schema.dataset import ImageFile
from tumorseg.schema.metrics import MetricsReport
from tumorseg.schema.plan import Plan
from tumorseg.stages.evaluation.case_scoring import ScoreTask, Scoring
from tumorseg.stages.evaluation.overlays import overlay_of, read_shown
from tumorseg.stages.evaluation.scoring import Pair

logger = logging.getLogger(__name__)

NUM_WORST = 3
NUM_BEST = 2
"""Cases that are shown in pictures, and opened in the viewer: as many are read again, however many are scored."""


class Shown(NamedTuple):
    """What is needed to show cases."""

    pairs: Mapping[str, Pair]
    """Files of a prediction and of its reference, by case_id."""
    scoring: Scoring
    """How they are read."""
    images: Mapping[str, ImageFile] = {}
    """Image on which a case is shown; one without is not shown."""


def with_pictures(content: ResultsInput, report: MetricsReport, shown: Shown) -> ResultsInput:
    """Return a report's content with its scores, and its worst and best cases; one that cannot be shown is told and left out."""
    overlays: list[Picture] = []
    volumes: list[ViewerCase] = []
    for case in worst_and_best(report, num_worst=NUM_WORST, num_best=NUM_BEST):
        prediction, reference = shown.pairs[case.case_id]
        if case.case_id not in shown.images or not prediction:
            continue
        task = ScoreTask(case.case_id, prediction, reference, shown.scoring)
        try:
            read = read_shown(task, shown.images[case.case_id])
        except InputError as error:
            logger.warning("case %s is not shown in the report: %s", case.case_id, error.text(case_id=case.case_id))
            continue
        overlays.append(Picture(f"{case.case_id}: {case.remark}", overlay_of(read)))
        volumes.append(viewer_case(read))
    return content._replace(metrics=report, overlays=overlays, volumes=volumes)


def plan_facts(plan: Plan, name: str, *, fold: int) -> dict[str, list[tuple[str, str]]]:
    """Return what a report says of a model: heading to (name, value) pairs.

    Args:
        plan: of the training, its length resolved.
        name: of the configuration.
        fold: that was held out.
    """
    configuration = plan.configurations[name]
    dataset = plan.dataset
    return {
        "Dataset": [
            ("Cases", f"{plan.fingerprint.num_cases}, {len(plan.folds[fold])} of them held out"),
            ("Channels", ", ".join(channel.name for channel in dataset.channels)),
            ("Labels", ", ".join(label for label, value in dataset.labels.items() if value)),
        ],
        "Plan": [
            ("Network", f"{configuration.network.name}"),
            ("Spacing (mm)", " × ".join(f"{edge:.2f}" for edge in configuration.spacing_mm)),
            ("Patch", " × ".join(map(str, configuration.patch_size)) + f", batch {configuration.batch_size}"),
            ("Loss", configuration.loss.preset),
            ("Training", f"{plan.training.epochs} epochs of {plan.training.iterations_per_epoch} iterations"),
        ],
    }
