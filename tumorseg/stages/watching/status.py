"""How all trainings below the work folder stand; nothing is written into their folders."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tumorseg.errors import InputError
from tumorseg.schema.standing import StatusReport
from tumorseg.stages.watching.trainings import Watcher, find_trainings, is_aside, is_training


def watch_trainings(folders: tuple[Path, ...]) -> Iterator[StatusReport]:
    """Yield how trainings stand, anew whenever it is asked for; trainings that began meanwhile are among them.

    Args:
        folders: work folders, or any folders in them, down to one fold's.

    Raises:
        InputError: there is no such folder.
    """
    for folder in folders:
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder; expected a work folder or one in it; check the path, or --work"
            )
    # Beside a fold, not in it.
    watcher = Watcher(folders[0].absolute().parent if is_training(folders[0]) else folders[0])
    while True:
        # A folder may be given along with one that it lies in.
        folds = {fold.absolute(): fold for fold in chain.from_iterable(map(find_trainings, folders))}
        present = [fold for fold in folds.values() if not is_aside(fold)]
        yield StatusReport(
            folders=tuple(map(str, folders)),
            trainings=tuple(watcher.look(present)),
            num_aside=len(folds) - len(present),
        )
