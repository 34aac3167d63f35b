"""What there is of the trainings below a folder: read quickly, from heads and tails of files, without torch."""

import functools
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from tumorseg.errors import StorageError
from tumorseg.schema.alive import Process, SignOfLife
from tumorseg.schema.base import parse_record
from tumorseg.schema.logs import EpochLog
from tumorseg.schema.standing import RUNNING, TrainingStanding
from tumorseg.stages.watching.states import Found, judge
from tumorseg.storage.file_system_time import file_system_now
from tumorseg.storage.json_files import read_json, read_record
from tumorseg.storage.layout import FoldFolder
from tumorseg.tracking.epoch_lines import mean_dsc
from tumorseg.tracking.epochs import last_epoch
from tumorseg.workers.machine import machine_identity, started_ticks

MODELS, FOLD = "models", "fold_"
BELOW = ("fold_*", "*/fold_*", "*/*/fold_*", "models/*/*/fold_*", "*/models/*/*/fold_*")
"""Where folds lie below themselves' model, plan, models, dataset and work folder. Those of studies and of a cascade's previous models lie deeper."""


def find_trainings(folder: Path) -> list[Path]:
    """Return the folds below a folder, or the one that it is, those that were moved aside included; sorted."""
    if is_training(folder):
        return [folder]
    found = chain.from_iterable(map(folder.glob, BELOW))
    return sorted(filter(is_training, set(found)), key=_order)


def is_training(folder: Path) -> bool:
    """Return whether a folder is a fold's: predictions and other programs' folds are in folders of the same names."""
    if not folder.absolute().name.startswith(FOLD):
        return False
    fold = FoldFolder(folder)
    try:
        return any(path.is_file() for path in (fold.run, fold.plan, fold.alive, fold.log, fold.latest))
    except OSError:  # nobody may look into it, of which its row tells
        return True


def is_aside(fold: Path) -> bool:
    """Return whether `--restart` moved a training aside."""
    return "." in fold.name


def _order(fold: Path) -> tuple[Path, int, str]:
    name = fold.name.removeprefix(FOLD)
    return fold.parent, int(name) if name.isdecimal() else -1, name


class Watcher:
    """Reads trainings, and of one whose files have not changed since the last time only its age."""

    def __init__(self, now_in: Path) -> None:
        """Begin to look.

        Args:
            now_in: a folder on the file system of the trainings, whose clock dates their signs.
        """
        self._now_in = now_in
        self._seen: dict[Path, tuple[tuple[object, ...], Found]] = {}

    def look(self, folds: list[Path]) -> list[TrainingStanding]:
        """Return how trainings stand now."""
        # Asked once a look, and only if a training of another machine is among them.
        now = functools.cache(lambda: file_system_now(self._now_in))
        return [self._look_at(FoldFolder(fold), now) for fold in folds]

    def _look_at(self, folder: FoldFolder, now: Callable[[], float]) -> TrainingStanding:
        state = _state_of(folder)
        before, found = self._seen.get(folder.root, ((), Found()))
        if before != state:
            found = _read(folder)
            self._seen[folder.root] = state, found
        if found.sign is not None:
            is_alive = _is_alive(found.sign.process)
            # On this machine its own clock has written the sign.
            silent = now() - _modified(folder.alive) if is_alive is None else time.time() - found.sign.beat_at
            found = found._replace(sign_age_s=max(silent, 0.0), is_alive=is_alive)
        return _standing(folder, found)


def _state_of(folder: FoldFolder) -> tuple[object, ...]:
    """Return what changes when a file does."""
    found: list[object] = []
    for path in (folder.run, folder.plan, folder.alive, folder.log, folder.latest, folder.metrics):
        try:
            stat = path.stat()
            found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except OSError:
            found.append(None)
    return tuple(found)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it is being moved aside
        return 0.0


def _is_alive(process: Process) -> bool | None:
    """Return whether a process lives; None if it is another machine's."""
    if process.machine is None or process.machine != machine_identity():
        return None
    return process.started_ticks is not None and started_ticks(process.process_id) == process.started_ticks


def _read(folder: FoldFolder) -> Found:
    try:
        return _read_sound(folder)
    except (StorageError, OSError, KeyError, TypeError, ValueError) as error:
        # A document that lacks what ours have says of itself no more than the key.
        reason = str(error) if isinstance(error, StorageError | OSError) else f"{folder.root}: a file lacks {error}"
        return Found(problem=" ".join(reason.replace(f"{folder.root}/", "").split()))


def _read_sound(folder: FoldFolder) -> Found:
    is_begun = folder.run.is_file()
    sign, remark = _sign_of(folder)
    if not is_begun and sign is None:
        advice = "restore it, or give --restart, which moves the folder aside"
        raise StorageError(remark or f"{folder.run.name} is missing, and so is any sign of life; {advice}")
    last = _last_epoch(folder.log)
    if is_begun:
        read_json(folder.run, StorageError)
    has_checkpoint = folder.latest.is_file()
    if has_checkpoint and not is_zipfile(folder.latest):
        raise StorageError("is cut off or no checkpoint; give --restart", file=folder.latest)
    known = (sign.num_iterations if sign is not None else None) or (last.num_iterations if last is not None else None)
    return Found(
        sign=sign,
        is_begun=is_begun,
        iteration=last.iteration if last is not None else 0,
        num_iterations=_num_iterations(folder, known) if is_begun else known,
        last=last,
        has_checkpoint=has_checkpoint,
        has_scores=folder.metrics.is_file(),
        remark=remark,
    )


def _sign_of(folder: FoldFolder) -> tuple[SignOfLife | None, str]:
    """Return a training's sign of life, None where there is none, and why it cannot be read."""
    if not folder.alive.is_file():
        return None, ""
    try:
        return read_record(SignOfLife, folder.alive, error=StorageError), ""
    except StorageError as error:  # another version's, perhaps; the training is none the worse for it
        return None, " ".join(str(error).replace(f"{folder.root}/", "").split())


def _last_epoch(path: Path) -> EpochLog | None:
    """Return the latest epoch of a log, None before the first one."""
    found = last_epoch(path)
    if found is None:
        return None
    last = parse_record(EpochLog, found, source=str(path), error=StorageError)
    if last.epoch < 0 or last.iteration < 1:
        raise StorageError(
            f"its last line is of epoch {last.epoch} after {last.iteration} steps; move it away", file=path
        )
    return last


def _num_iterations(folder: FoldFolder, known: int | None) -> int:
    """Return the steps of a whole training, whose end may have moved: on a plateau, or by a larger `--epochs`.

    Args:
        folder: of the training.
        known: by its sign of life or its log.
    """
    training = read_json(folder.plan, StorageError)["training"]
    # What was told before the training was made longer knows nothing of it.
    is_longer = "extension" in training and training["extension"] is not None
    if known is None or is_longer:
        return int(training["epochs"]) * int(training["iterations_per_epoch"])
    return known


def _standing(folder: FoldFolder, found: Found) -> TrainingStanding:
    verdict, sign = judge(found), found.sign
    plan, configuration, fold = folder.root.absolute().parts[-3:]
    told: dict[str, Any] = {
        "folder": str(folder.root),
        "dataset": _dataset(folder.root),
        "plan": plan,
        "configuration": configuration,
        "fold": fold.removeprefix(FOLD),
        "state": verdict.state,
        "note": verdict.note,
        "iteration": found.iteration or None,
        "num_iterations": found.num_iterations,
    }
    if found.last is not None:
        told |= _of_epoch(found.last, found)
    if sign is not None:
        told |= _of_sign(sign, found)
    # While it trains, its sign is ahead of its log.
    if sign is not None and verdict.state in RUNNING and sign.iteration is not None:
        told |= _of_running(sign)
    # Its log may be ahead of a sign that was given seconds before a kill.
    scores = [told.get("dsc"), told.get("best_dsc")]
    told["best_dsc"] = max((score for score in scores if score is not None), default=None)
    return TrainingStanding(**told)


def _dataset(fold: Path) -> str:
    """Return the name of the dataset's folder in `<work>/<dataset>/models/<plan>/<configuration>/<fold>`; nothing elsewhere."""
    folders = fold.absolute().parents
    return folders[3].name if len(folders) > 3 and folders[2].name == MODELS else ""


def _of_epoch(last: EpochLog, found: Found) -> dict[str, Any]:
    """Return what the latest epoch of a log tells."""
    num_epochs = None
    if found.num_iterations is not None:
        # All epochs are as long as those before.
        num_epochs = round(found.num_iterations * (last.epoch + 1) / last.iteration)
    return {
        "epoch": last.epoch + 1,
        "num_epochs": num_epochs,
        "loss": last.train_loss,
        "dsc": mean_dsc(last.dsc),
    }


def _of_sign(sign: SignOfLife, found: Found) -> dict[str, Any]:
    """Return what a sign of life tells of a training that has ended too."""
    return {
        "best_dsc": sign.best_dsc,
        "num_skipped": sign.num_skipped,
        "seconds_silent": found.sign_age_s,
        "host": sign.process.host,
        "process_id": sign.process.process_id,
    }


def _of_running(sign: SignOfLife) -> dict[str, Any]:
    """Return what a sign of life tells of a training that lives."""
    return {
        "epoch": sign.epoch,
        "num_epochs": sign.num_epochs,
        "iteration": sign.iteration,
        "num_iterations": sign.num_iterations,
        "loss": sign.loss,
        "seconds_left": sign.seconds_left,
    }
