"""A worker of a study: claim a task, carry it out, answer line by line, until the study is over.

It knows neither the storage of the study nor the other workers, and owns nothing that is lost with it: whoever claims the task next goes
on from its last checkpoint.
"""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tumorseg import __version__
from tumorseg.errors import Stopped, StorageError, TumorsegError
from tumorseg.schema.tuning import Ended, Ending, Score, Task
from tumorseg.stages.opening.stopping import Wish
from tumorseg.stages.tuning.beats import USUAL_PACE, Pace, beating
from tumorseg.stages.tuning.leaving import leave_with_parent, leaving_on_signal
from tumorseg.storage.atomic import remove_file
from tumorseg.storage.study_attempts import append_score, begin_attempt, previous_attempt, write_ended
from tumorseg.storage.study_folder import StudyFolder, read_study
from tumorseg.storage.study_tasks import Claim, claim_task
from tumorseg.storage.study_workers import new_worker
from tumorseg.workers.outcomes import one_line

logger = logging.getLogger(__name__)


class Attempt(NamedTuple):
    """Where and how a task is carried out."""

    folder: Path
    """Of this attempt; no other process writes there."""
    previous: Path | None = None
    """Of the newest attempt before it that has a checkpoint, to go on from."""
    scores: tuple[Score, ...] = ()
    """Of rungs that attempts before it have reached, which need not be scored again."""
    should_stop: Callable[[], bool] = lambda: False
    """Whether to leave a checkpoint and return; cheap enough to be asked after each step."""


Do = Callable[[Task, Attempt], Iterator[Score]]
"""Carries a task out: yields the score of each rung in turn, and returns early only if it should stop."""


class _Lookout:
    """Why a task is to be left, if it is."""

    def __init__(self, folder: StudyFolder, claim: Claim, leave: Wish, look_s: float) -> None:
        self._flag, self._claim, self._leave = folder.stop(claim.task.stem), claim, leave
        self._look_s, self._looked_s = look_s, time.monotonic()
        self._reason: Ending | None = None
        self.is_taken = False
        """Whether the claim is another worker's by now: then nothing is to be said of the task any more."""

    @property
    def reason(self) -> Ending | None:
        """What the task ends as; None while there is no reason to leave it."""
        # Asked for without the folder, and after it: a task that was stopped is not given back.
        return self._reason or ("released" if self._leave.is_asked else None)

    def should_stop(self) -> bool:
        """Return whether to leave the task; looks at the folder now and then alone."""
        if time.monotonic() - self._looked_s >= self._look_s:
            self.look()
        return self.is_taken or self.reason is not None

    def look(self) -> None:
        """Look at the folder now."""
        self._looked_s = time.monotonic()
        if self._flag.exists():
            self._reason = "stopped"
        self.is_taken = self.is_taken or not self._claim.holds()


def work(folder: StudyFolder, do: Do, *, pace: Pace = USUAL_PACE, stdin: int | None = 0) -> bool:
    """Take on tasks of a study until it is over, or this process is asked to leave.

    SIGTERM, SIGUSR1, or the end of the coordinator that started this process, lets the task come to a checkpoint and gives it back.

    Args:
        folder: of the study, on this machine or on a drive that it shares.
        do: carries a task out. A TumorsegError of its fails the task; any other exception ends this process, and the
            coordinator has the task done elsewhere.
        pace: how often to look for tasks and to show that this process lives.
        stdin: descriptor of the standard input, which a coordinator holds open; None to end with nobody.

    Returns:
        True if the study is over, False if this process was asked to leave.

    Raises:
        PlanError: the folder holds no study, or one of another version of tumorseg.
        StorageError: the folder cannot be written.
    """
    read_study(folder, __version__)
    worker = new_worker()
    with leaving_on_signal() as leave, beating(folder, worker, pace.beat_s):
        if stdin is not None:
            leave_with_parent(leave, stdin)
        for claim in _claims(folder, worker, leave, pace.poll_s):
            _carry_out(folder, claim, do, _Lookout(folder, claim, leave, pace.look_s))
        return not leave.is_asked


def _claims(folder: StudyFolder, worker: str, leave: Wish, poll_s: float) -> Iterator[Claim]:
    """Yield one task after the other as they come."""
    has_told = False
    while not leave.is_asked and not folder.is_closed():
        claim = claim_task(folder, worker, __version__)
        if claim is not None:
            yield claim
            continue
        if not has_told:
            logger.info("%s: waiting for a task of the study", folder.root)
            has_told = True
        time.sleep(poll_s)


def _carry_out(folder: StudyFolder, claim: Claim, do: Do, lookout: _Lookout) -> None:
    """Do a task, and say how it was left while it is this worker's."""
    task, number = claim.task, claim.file.attempt
    place = folder.attempt(task.stem, number)
    known = begin_attempt(folder, task, number)
    attempt = Attempt(place.root, previous_attempt(folder, task.stem, number), known, lookout.should_stop)
    logger.info("%s, attempt %d: at rung %d of %d", task.stem, number + 1, len(known), len(task.rungs))
    try:
        ended = _answer(do(task, attempt), place.values, task.rungs[len(known) :], lookout)
    except Stopped:
        # While cases were preprocessed or predicted; what is done of them is kept.
        ended = Ended(state="released")
    except KeyboardInterrupt:
        # Given back at once; nobody waits for the end of the lease.
        if claim.holds():
            write_ended(place, Ended(state="released"))
        raise
    if claim.holds():
        write_ended(place, ended)
    if lookout.reason == "stopped":
        # The checkpoint of one that was told to stop, which came after the coordinator had taken the task back.
        remove_file(place.fold.latest)
    logger.info("%s: %s%s", task.stem, "given up" if lookout.is_taken else ended.state, _after(ended.message))


def _answer(scores: Iterator[Score], values: Path, rungs: tuple[int, ...], lookout: _Lookout) -> Ended:
    """Write a line for each rung, and return how the task ended."""
    left = list(rungs)
    try:
        for score in scores:
            lookout.look()
            # An attempt that goes on from an older checkpoint comes to some rungs again.
            if not lookout.is_taken and score.iteration in left:
                _require_next(score, left)
                append_score(values, score)
                left.pop(0)
    except StorageError:
        # A full disk is no fault of the task; whoever can write goes on with it.
        raise
    except TumorsegError as error:
        return Ended(state="failed", message=one_line(str(error)))
    lookout.look()
    if left and not lookout.is_taken and lookout.reason is None:
        raise RuntimeError(f"{values.parent}: the task ended without a score after iteration {left[0]}")
    return Ended(state=(lookout.reason or "stopped") if left else "finished")


def _require_next(score: Score, left: list[int]) -> None:
    if score.iteration != left[0]:
        raise RuntimeError(f"a score after iteration {score.iteration} came before that after iteration {left[0]}")


def _after(message: str) -> str:
    return f": {message}" if message else ""
