"""Mixed precision as CUDA devices apply it, on tensors of the CPU.

Torch's autocast has a list of operations for each kind of device. The CPU's is used here as it stands, but for the
operations that CUDA treats otherwise in a way that memory feels.

References:
    "Autocast Op Reference" of torch's `amp` documentation.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

FULL_PRECISION = frozenset({F.layer_norm, F.group_norm, F.softmax, F.log_softmax, torch.softmax, torch.log_softmax})
"""In float32 on CUDA, in the input's own type on the CPU."""
AS_GIVEN = frozenset({F.avg_pool3d, F.pad, F.interpolate})
"""In the input's own type on CUDA, in float32 on the CPU, at least in some of their modes."""


class CudaRules(TorchFunctionMode):
    """Lets an autocast of the CPU, wherever one is on inside, choose the types that CUDA's would."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch."""
        kwargs = kwargs or {}
        if not torch.is_autocast_enabled("cpu") or not (func in FULL_PRECISION or func in AS_GIVEN):
            return func(*args, **kwargs)
        if func in FULL_PRECISION:
            args, kwargs = tree_map(_to_float32, (args, kwargs))
        with torch.autocast("cpu", enabled=False):
            return func(*args, **kwargs)


def _to_float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
