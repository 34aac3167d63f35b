"""Files of weights of any origin: tensors by name, without running any code from the file."""

from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file
from torch import Tensor

from tumorseg.errors import StorageError, escaped, quoted
from tumorseg.storage.checkpoints import NETWORK, is_state_dict
from tumorseg.storage.damage import of_safetensors
from tumorseg.storage.nnunet_checkpoints import load_foreign_checkpoint

SAFETENSORS = ".safetensors"
PLACES = (NETWORK, "network_weights", "state_dict", "model_state_dict", "model", "net", "weights")
"""Where a checkpoint may hold its state dict: tumorseg's, nnU-Net's and nnssl's, Lightning's, and common habits."""
MOST_SIGNS = 40
"""Of a key that a message quotes."""
WRITER = "written_by"
"""Where a checkpoint says what program wrote it, as all of tumorseg's do."""
OWN_NAME = "tumorseg"
PROGRESS = "progress"
"""Where a full state of tumorseg's, and none else, says how far a training is."""
ITERATION = "iteration"
"""What, beside its tensors, the best weights of a training had alone before there was a mark."""
ADAPTATION = "nnssl_adaptation_plan"
"""Where nnssl says what the parts of the network are called."""


class WeightFile(NamedTuple):
    """Contents of a file of weights."""

    tensors: dict[str, Tensor]
    """By their names in the file."""
    adaptation: dict[str, Any]
    """nnssl's notes on the parts of the network; empty in other files."""
    is_own: bool = False
    """Whether it is a checkpoint of tumorseg's by where its tensors lie, and what lies beside them."""


def read_weights(path: Path) -> WeightFile:
    """Read the tensors of a .safetensors file, or of a checkpoint or state dict that torch saved.

    Raises:
        StorageError: the file is missing or damaged, holds objects other than tensors and plain values, or no state dict.
    """
    if not path.is_file():
        raise StorageError("there is no such file; give a model folder, or a file of weights", file=path)
    if path.suffix.lower() == SAFETENSORS:
        return WeightFile(_read_safetensors(path), {})
    found = load_foreign_checkpoint(path)
    adaptation = found.get(ADAPTATION) if isinstance(found, dict) else None
    tensors = _state_dict_in(found, path)
    is_own = isinstance(found, dict) and tensors is found.get(NETWORK) and _is_own(found)
    return WeightFile(tensors, adaptation if isinstance(adaptation, dict) else {}, is_own)


def _is_own(found: dict[Any, Any]) -> bool:
    """Tell whether tumorseg wrote a checkpoint with a network: others put one under this name too."""
    if found.get(WRITER) == OWN_NAME:
        return True
    # Earlier ones have no mark: full states, and the best weights, beside which stood nothing but their iteration.
    is_best = found.keys() == {NETWORK, ITERATION} and type(found[ITERATION]) is int
    return is_best or PROGRESS in found


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except of_safetensors() as error:
        raise StorageError(f"the file is damaged ({quoted(str(error))}); copy it anew", file=path) from error


def _state_dict_in(found: Any, path: Path) -> dict[str, Tensor]:
    places = [found, *(found.get(place) for place in PLACES)] if isinstance(found, dict) else []
    for value in places:
        if is_state_dict(value) and value:
            return value
    what = (
        f"a dictionary of {', '.join(map(_quoted, list(found)[:8])) or 'nothing'}"
        if isinstance(found, dict)
        else type(found).__name__
    )
    raise StorageError(
        f"found {what}; expected tensors by name, alone or under one of {', '.join(PLACES)}; save the network's state_dict()",
        file=path,
    )


def _quoted(key: Any) -> str:
    return escaped(str(key)[:MOST_SIGNS])
