"""What a training is begun with: versions, machine, git."""

import platform
import subprocess
import time
import uuid
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from tumorseg.errors import PlanError, StorageError
from tumorseg.schema.environments import Environment, GitState
from tumorseg.storage.json_files import read_record, write_record

PACKAGES = ("tumorseg", "torch", "monai", "numpy", "scipy", "SimpleITK", "nibabel", "blosc2", "edt")
GIT_SECONDS = 5
"""Longer than this nobody waits for git, as on a slow network drive."""


class Begun(Protocol):
    """What was begun: the folder of a training, or of a study."""

    @property
    def environment(self) -> Path:
        """Where it is noted."""
        ...


def begin_environment(folder: Begun, device: str) -> Environment:
    """Write what a training is begun with into its folder, and return it."""
    found = Environment(
        training_id=uuid.uuid4().hex,
        started_at=time.time(),
        host=platform.node(),
        device=device,
        versions={"python": platform.python_version(), **_versions()},
        git=_git_state(),
    )
    write_record(folder.environment, found)
    return found


def read_environment(folder: Begun) -> Environment:
    """Return what a training was begun with; one of a version that did not note it is noted now.

    Raises:
        PlanError: the file is damaged.
    """
    if not folder.environment.is_file():
        return begin_environment(folder, "unknown")
    return read_record(Environment, folder.environment, error=PlanError)


def require_same(folder: Begun, environment: Environment, what: str) -> None:
    """Check that a folder still holds what it held: `--restart` moves it aside and begins another in its place.

    Args:
        folder: of a training or a study.
        environment: that it was begun with.
        what: it is, for the message.

    Raises:
        StorageError: it does not.
    """
    if not folder.environment.is_file() or read_environment(folder).training_id != environment.training_id:
        raise StorageError(
            f"the {what} that was sent from here was moved aside; send it from there", file=folder.environment.parent
        )


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # not installed, as MONAI need not be
            continue
    return found


def _git_state() -> GitState | None:
    try:
        folder = Path.cwd()
    except OSError:  # it was removed
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    branch = _git(folder, "symbolic-ref", "--short", "HEAD")
    return GitState(commit=commit, branch=branch or None, is_dirty=bool(_git(folder, "status", "--porcelain", "-uno")))


def _git(folder: Path, *arguments: str) -> str:
    """Return what git prints; nothing where there is no git, no repository, or an answer takes too long."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", errors="replace").strip() if done.returncode == 0 else ""
