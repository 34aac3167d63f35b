"""The process beside a training or a study that mirrors it to MLflow. It can be slow, fail or be killed: the training goes on."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tumorseg.stages.opening.loaded import Roots

logger = logging.getLogger(__name__)


class Mirrored(Protocol):
    """What is mirrored: the folder of a training, or of a study."""

    @property
    def root(self) -> Path:
        """The folder."""
        ...

    @property
    def tracking(self) -> Path:
        """Where the process beside it tells what it has to say."""
        ...


@contextmanager
def mirrored(folder: Mirrored, roots: Roots, uri: str | None, dataset: str | None) -> Iterator[None]:
    """Mirror what happens in a folder meanwhile.

    Nobody waits for the last of it: the process ends by itself once everything is sent, or MLflow does not answer.

    Args:
        folder: of the training or the study.
        roots: where data and work folder are.
        uri: as MLflow takes it; None for no mirror.
        dataset: where the dataset is, if it moved.
    """
    process = None if uri is None else _start(folder, roots, uri, dataset)
    try:
        yield
    finally:
        if process is not None and process.stdin is not None:
            # The end of its input is how it knows; the system closes it too where this process is killed.
            process.stdin.close()


def _start(folder: Mirrored, roots: Roots, uri: str, dataset: str | None) -> "subprocess.Popen[bytes] | None":
    command = [sys.executable, "-m", "tumorseg", "--data-root", str(roots.data_root), "--work", str(roots.work), "-q"]
    command += ["track", "-m", str(folder.root), "--follow", str(os.getpid())]
    command += [] if dataset is None else ["-d", dataset]
    try:
        with folder.tracking.open("ab") as told:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=told,
                # Out of reach of a Ctrl-C: it has the end of the training to send.
                start_new_session=True,
                # The address is no argument, which everybody on the machine can read: it may have a password.
                env={**os.environ, "OMP_NUM_THREADS": "1", "TUMORSEG_MLFLOW": uri},
            )
    except OSError as error:
        logger.warning("%s is not mirrored to MLflow (%s); tumorseg track sends it later", folder.root, error)
        return None
    # Reaps it, whenever it ends.
    threading.Thread(target=process.wait, daemon=True).start()
    return process
