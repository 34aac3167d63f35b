"""Mixed precision as CUDA devices apply it, on tensors of the CPU.

Torch's autocast has a list of operations for each kind of device. The CPU's is used here as it stands, but for the
operations that CUDA treats otherwise in a way that memory feels.

References:
    "Autocast Op Reference" of torch's `amp` documentation.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from tumorseg.networks.small_maps import FOR_GPUS

FULL_PRECISION = frozenset(
    {
        *(F.layer_norm, F.group_norm, F.softmax, F.log_softmax),
        *(torch.softmax, torch.log_softmax, Tensor.softmax, Tensor.log_softmax),
    }
)
"""In float32 on CUDA, in the input's own type on the CPU."""
FULL_RESULT = frozenset({torch.linalg.vector_norm, torch.sum, Tensor.sum})
"""With a result in float32 on CUDA unless another type is asked for, though the input is kept in its own."""
AS_GIVEN = frozenset({F.avg_pool3d, F.pad, F.interpolate})
"""In the input's own type on CUDA, in float32 on the CPU, at least in some of their modes."""
HALF_PRECISION = frozenset({torch.einsum})
"""In half precision on both, but made of others: where no gradients are wanted, these would be met beneath autocast."""
_ALL = FULL_PRECISION | FULL_RESULT | AS_GIVEN | HALF_PRECISION


class CudaRules(TorchFunctionMode):
    """Lets an autocast of the CPU, wherever one is on inside, choose the types that CUDA's would."""

    def __enter__(self) -> Self:
        self._token = FOR_GPUS.set(True)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        FOR_GPUS.reset(self._token)

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch."""
        kwargs = kwargs or {}
        if not torch.is_autocast_enabled("cpu") or func not in _ALL:
            return func(*args, **kwargs)
        if func in FULL_RESULT:
            kwargs = _with_full_result(args, kwargs)
        elif func not in AS_GIVEN:
            dtype = torch.float32 if func in FULL_PRECISION else torch.get_autocast_dtype("cpu")
            args, kwargs = tree_map(partial(_to, dtype), (args, kwargs))
        with torch.autocast("cpu", enabled=False):
            return func(*args, **kwargs)


def _with_full_result(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    given = args[0] if args else kwargs["input"]
    # As CUDA's autocast: numbers of full range and integers are none of its business.
    is_half = isinstance(given, Tensor) and given.dtype in (torch.float16, torch.bfloat16)
    return {"dtype": torch.float32, **kwargs} if is_half else kwargs


def _to(dtype: torch.dtype, value: Any) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
