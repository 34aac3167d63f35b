"""Send a study to MLflow, once, or as long as it goes on."""

import logging
import time
from pathlib import Path

from tumorseg.errors import StorageError
from tumorseg.stages.tracking.study_mirror import StudyMirror, StudySent
from tumorseg.stages.tracking.track import (
    EARLIER_S,
    MOST_RETRY_S,
    RETRY_S,
    TrackRequest,
    has_ended,
    send_rest,
)
from tumorseg.storage.locks import hold_folder
from tumorseg.storage.study_folder import StudyFolder

logger = logging.getLogger(__name__)

LOOK_S = 5.0
"""Between two looks at a study's trials, which take minutes each."""


def is_study(folder: Path) -> bool:
    """Return whether a folder is that of a study."""
    return StudyFolder(folder).study.is_file()


def track_study(request: TrackRequest) -> StudySent:
    """Send what MLflow lacks of a study; to send it twice changes nothing.

    Args:
        request: whose model is the study's folder.

    Raises:
        PlanError: the folder holds no study.
        StorageError: MLflow does not answer, or another process sends the study now.
    """
    folder = StudyFolder(request.model)
    with hold_folder(folder.tracking, doing="sent to MLflow", error=StorageError):
        return StudyMirror(folder, request.roots.work, request.uri).send(is_running=False)


def follow_study(request: TrackRequest) -> None:
    """Send a study's trials as they come, until the process that tunes closes this one's standard input.

    Nothing here ends or slows the study: a server that does not answer is tried again, less and less often.

    Raises:
        StorageError: MLflow does not answer in the end, or the study was moved aside.
    """
    folder = StudyFolder(request.model)
    with hold_folder(folder.tracking, doing="sent to MLflow", error=StorageError, patience_s=EARLIER_S):
        mirror = StudyMirror(folder, request.roots.work, request.uri)
        _send_meanwhile(mirror)
        send_rest(lambda: mirror.send(is_running=False))


def _send_meanwhile(mirror: StudyMirror) -> None:
    seen, wait, tried = b"", 0.0, 0.0
    while not has_ended(LOOK_S):
        now = time.monotonic()
        found = mirror.watched.read_bytes() if mirror.watched.is_file() else b""
        if found == seen or now - tried < wait:
            continue
        tried = now
        try:
            mirror.send(is_running=True)
        except StorageError as error:
            wait = min(max(RETRY_S, 2 * wait), MOST_RETRY_S)
            logger.warning("%s; trying again in %.0f s", error, wait)
        else:
            seen, wait = found, 0.0
