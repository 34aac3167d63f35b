"""What keeps a study from going on: a plan that cannot be trained, trials that all fail, another storage, too little time."""

import logging
import math
from collections.abc import Sequence

from tumorseg.errors import StorageError, TrainingError
from tumorseg.schema.quantities import duration_text
from tumorseg.schema.tuning import Trial, TrialsSoFar
from tumorseg.stages.tuning.study_clock import Reckoning
from tumorseg.storage.json_files import read_record
from tumorseg.storage.study_folder import StudyFolder
from tumorseg.tuning.candidates import DEFAULT

logger = logging.getLogger(__name__)

MOST_UNFIT = 50
"""Trials in a row that cannot be run, or fail; then it is no fault of theirs."""


def check_default(trials: Sequence[Trial]) -> None:
    """Raise where the plan as it is has failed: there is nothing to hold trials against."""
    if trials and trials[DEFAULT].state == "failed":
        raise TrainingError(
            f"the plan as it is cannot be tuned, as its own trial failed: {trials[DEFAULT].message}; mend that, and begin another study "
            "with --study NAME"
        )


def check_failures(trials: Sequence[Trial]) -> None:
    """Raise where one trial after the other has failed: it is no fault of theirs."""
    last = trials[-MOST_UNFIT:]
    if len(last) == MOST_UNFIT and all(trial.state == "failed" for trial in last):
        raise TrainingError(
            f"{MOST_UNFIT} trials in a row have failed, the last one: {last[-1].message}; mend that or narrow the space, and begin "
            "another study with --study NAME"
        )


def check_storage(folder: StudyFolder, num_trials: int) -> None:
    """Raise where the storage is not the one that the study was begun with."""
    known = read_record(TrialsSoFar, folder.trials, error=StorageError).trials if folder.trials.is_file() else ()
    if len(known) > num_trials:
        raise StorageError(
            f"has {len(known)} trials, and the study's storage {num_trials}; give the --storage with which it was begun",
            file=folder.root,
        )


def warn_of_time(reckoned: Reckoning, left_s: float) -> None:
    """Tell, once the first trial is over, if there is hardly time for another."""
    if math.isinf(left_s) or left_s > reckoned.reserved_s + reckoned.trial_s:
        return
    logger.warning(
        "--hours %g is too short to search: a trial takes %s, and judging %s; give more, or fewer --proxy-iterations",
        reckoned.all_s / 3600,
        duration_text(reckoned.trial_s),
        duration_text(reckoned.reserved_s),
    )
