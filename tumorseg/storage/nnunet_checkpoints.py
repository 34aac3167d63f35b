"""Checkpoints of nnU-Net v2: weights and how to use them, without running any code from the file."""

import re
from pathlib import Path, PureWindowsPath
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from torch import Tensor

from tumorseg.errors import StorageError
from tumorseg.schema.base import Record, parse_record
from tumorseg.storage.checkpoints import damaged_part, is_state_dict, lacks_memory, out_of_memory, told
from tumorseg.storage.damage import TORCH
from tumorseg.storage.formats.library_logs import hearing_library
from tumorseg.storage.json_files import read_record
from tumorseg.storage.layout import LABEL_MAP_ENDINGS

VALIDATION = "validation"
"""In a fold's folder: what it found in the cases that it held out."""
SUMMARY = "summary.json"
"""There: how good that is, written once all cases are segmented."""

# Its module was renamed between numpy 1 and 2; a number knows where it is now.
REBUILD_NUMBER = np.float64(0).__reduce__()[0]
NUMPY_GLOBALS: tuple[Any, ...] = (
    (REBUILD_NUMBER, "numpy.core.multiarray.scalar"),  # as numpy 1 called it
    (REBUILD_NUMBER, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float16", "float32", "float64", "int32", "int64", "bool")),
)
"""What numbers of numpy are rebuilt with; nnU-Net keeps some beside the weights. Nothing else is admitted."""


class _Arguments(Record, extra="ignore"):
    """Arguments of the trainer."""

    configuration: str


class CheckpointNotes(Record, extra="ignore"):
    """Contents of an nnU-Net checkpoint besides its weights."""

    trainer_name: str
    """Class that trained it."""
    init_args: _Arguments
    """What that was given."""
    inference_allowed_mirroring_axes: tuple[int, ...] | None = None
    """Axes of the network's space, plan's order, along which views may be mirrored; none are if it is null."""


def load_foreign_checkpoint(path: Path) -> Any:
    """Read what another program saved with torch; tensors of files in today's format stay on disk until they are used.

    Raises:
        StorageError: the file is missing, damaged, or holds objects other than tensors, plain values and numpy's numbers.
    """
    try:
        with torch.serialization.safe_globals(list(NUMPY_GLOBALS)):
            # Files of torch before 1.6 are no archives: they cannot be mapped, and have no checksums.
            is_archive = is_zipfile(path)
            if is_archive and (name := damaged_part(path, has_tensors=True)) is not None:
                raise StorageError(f"the checkpoint is damaged ({name}); copy it anew", file=path)
            # torch warns of other forms of pickles before it refuses them, or reads them.
            with hearing_library():
                return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except FileNotFoundError:
        raise StorageError("there is no checkpoint; copy the whole model folder", file=path) from None
    except TORCH as error:
        if lacks_memory(error):
            raise out_of_memory(path, type(error).__name__) from error
        raise StorageError(_reason(error), file=path) from error


def load_nnunet_checkpoint(path: Path) -> tuple[dict[str, Tensor], CheckpointNotes]:
    """Read a `checkpoint_final.pth` or the like; its tensors stay on disk until they are used.

    Raises:
        StorageError: the file is missing, damaged, or holds objects other than tensors, plain values and numpy's numbers.
    """
    found = load_foreign_checkpoint(path)
    weights = found.get("network_weights") if isinstance(found, dict) else None
    if not is_state_dict(weights):
        raise StorageError("found no `network_weights`; expected a checkpoint of nnU-Net v2", file=path)
    notes = {str(key): value for key, value in found.items() if key != "network_weights"}
    return weights, parse_record(CheckpointNotes, notes, source=str(path), error=StorageError)


def _reason(error: Exception) -> str:
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"holds objects of {named[1]}, which may run code; expected tensors, plain values and numbers of numpy"
    return f"the checkpoint is damaged ({told(error)}); copy it anew"


class _ValidatedCase(Record, extra="ignore"):
    prediction_file: str


class _Summary(Record, extra="ignore"):
    metric_per_case: tuple[_ValidatedCase, ...]


def validated_cases(fold: Path) -> frozenset[str]:
    """Return the cases that a fold of nnU-Net has segmented in its validation: those of its summary whose mask is there.

    Without a summary there are none: the masks alone may be left of a training with other splits.

    Raises:
        StorageError: the summary is damaged.
    """
    summary = fold / VALIDATION / SUMMARY
    if not summary.is_file():
        return frozenset()
    named = set()
    for case in read_record(_Summary, summary, error=StorageError).metric_per_case:
        # As the machine that validated wrote it, whichever that was.
        name = PureWindowsPath(case.prediction_file).name
        ending = next((ending for ending in LABEL_MAP_ENDINGS if name.endswith(ending)), None)
        if ending is not None and (summary.parent / name).is_file():
            named.add(name.removesuffix(ending))
    return frozenset(named)
