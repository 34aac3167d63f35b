"""Allocations followed from the operations that make them: no memory is used, no device is needed."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from tumorseg.losses import distance_maps, selection, statistics
from tumorseg.planning.memory.fakes import EagerMode, storage_of

BLOCK_BYTES = 512
"""Sizes are rounded up to this, as torch's CUDA allocator does."""


class AllocationTracker(EagerMode):  # type: ignore[no-untyped-call]
    """Follows every storage that operations make while the mode is on, from its making to its release.

    Inside `FakeMode` storages have sizes but no memory, so that a step of any size can be followed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = 0
        """Allocated now."""
        self.peak_bytes = 0
        """Most that was allocated at once, scratch space included, since the last `restart`."""
        self.workspace_bytes = 0
        """Largest workspace of an operation."""
        self._references: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def restart(self) -> None:
        """Forget the peak: what is allocated now stays."""
        self.peak_bytes = self.live_bytes

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and note what it left behind."""
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._note(storage_of(leaf))
        # Scratch space is free again when the next operation begins: it counts for the peak alone.
        scratch = workspace(func, args, out)
        self.workspace_bytes = max(self.workspace_bytes, scratch)
        self.peak_bytes = max(self.peak_bytes, self.live_bytes + scratch)
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata  # the storage itself, whatever tensor shows it
        if key in self._references:
            return
        size = in_blocks(storage.nbytes())
        self.live_bytes += size
        self._references[key] = weakref.ref(storage, self._releaser(key, size))

    def _releaser(self, key: int, size: int) -> Callable[[Any], None]:
        def release(_: Any) -> None:
            self.live_bytes -= size
            # The key is an address, which the next storage may get.
            del self._references[key]

        return release


def in_blocks(num_bytes: int) -> int:
    """Return what the allocator hands out for a number of bytes."""
    return -(-num_bytes // BLOCK_BYTES) * BLOCK_BYTES


def workspace(func: Any, args: tuple[Any, ...], out: Any) -> int:
    """Return the scratch space of an operation.

    Of a convolution these are its tensors once more, in the order that tensor cores read: cuDNN's fast kernels for half
    precision want channels last; tensors of the usual order are copied. In the backward pass the gradients of input and
    weight are computed one after the other. The losses' own operations work by chunks. Others need none.
    """
    if func is torch.ops.tumorseg.loss_statistics.default:
        return statistics.scratch_bytes(args[0])
    if func is torch.ops.tumorseg.loss_statistics_backward.default:
        return statistics.scratch_bytes(args[2])
    if func is torch.ops.tumorseg.kth_largest.default:
        return selection.scratch_bytes(args[0])
    if func is torch.ops.tumorseg.distances.default:
        return distance_maps.scratch_bytes(args[0])
    if func is torch.ops.aten.convolution.default:
        return sum(map(_bytes, (args[0], args[1], out)))
    if func is torch.ops.aten.convolution_backward.default:
        gradient, features, weight = map(_bytes, args[:3])
        return gradient + features + weight
    return 0


def _bytes(tensor: Tensor) -> int:
    return int(tensor.numel() * tensor.element_size())
