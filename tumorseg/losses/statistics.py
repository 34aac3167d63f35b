"""Sums over voxels from which losses are made, in one pass over the logits that keeps nothing but them.

Losses of overlap and of entropy are functions of a few sums per class. They are added up chunk by chunk, so that neither
probabilities nor a one-hot reference of a whole patch ever exist; the backward pass computes the probabilities of each chunk
anew. Half-precision logits are widened chunk by chunk too.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

CPU_ELEMENTS, GPU_ELEMENTS = 2**18, 2**24
"""Logits of a chunk: on a CPU they stay in its cache, on a GPU they keep all of it busy."""
TEMPORARIES = 6
"""Tensors of a chunk's size that are alive at once, at the most."""


class Wanted(NamedTuple):
    """What is worth its time, beside the sums of the plain losses."""

    voxelwise: bool = False
    """The cross-entropy of every voxel."""
    squares: bool = False
    """`VoxelSums.squared`."""
    every_class: bool = False
    """`VoxelSums.entropy_of_all`."""

    def __or__(self, other: "Wanted") -> "Wanted":
        return Wanted(*(mine or theirs for mine, theirs in zip(self, other, strict=True)))


class VoxelSums(NamedTuple):
    """Sums over the supervised voxels of each sample, each (B, K) float32 or float64."""

    intersection: Tensor
    """Probability of each class or region where the reference has it."""
    predicted: Tensor
    """Its probability anywhere."""
    reference: Tensor
    """Voxels of the reference."""
    entropy_inside: Tensor
    """-log(probability) where the reference has it."""
    entropy_outside: Tensor
    """-log(1 - probability) elsewhere; of regions only."""
    squared: Tensor
    """Squared probability; 0 unless wanted."""
    entropy_of_all: Tensor
    """-log(probability) anywhere, of regions -log(1 - probability) too; 0 unless wanted."""
    moment: Tensor
    """Probability times `moments`; 0 without."""


NUM_SUMS = len(VoxelSums._fields)
VOXELWISE, SQUARES, EVERY_CLASS, MASKED = range(4)
"""Flags of a pass: those of `Wanted`, and whether any voxel may be unsupervised."""


class Statistics(NamedTuple):
    """What a pass over the logits gives."""

    sums: VoxelSums
    voxelwise: Tensor
    """Cross-entropy (B, *space) of classes, (B, K, *space) of regions, 0 where unsupervised; empty unless wanted."""


def class_statistics(
    logits: Tensor, target: Tensor, wanted: Wanted, *, masked: bool, moments: Tensor | None
) -> Statistics:
    """Return the sums of a softmax.

    Args:
        logits: (B, K, *space), of any floating type.
        target: (B, *space) int64 class indices; -1 where nothing is supervised.
        wanted: what is worth its time.
        masked: whether any voxel may be unsupervised.
        moments: (B, K, *space) float32 factors, such as distances, or None.
    """
    return _statistics(logits, target, None, [*wanted, masked], moments)


def region_statistics(
    logits: Tensor, target: Tensor, table: Tensor, wanted: Wanted, *, masked: bool, moments: Tensor | None
) -> Statistics:
    """Return the sums of sigmoids.

    Args:
        logits: (B, R, *space), of any floating type.
        target: (B, *space) int64 class indices; -1 where nothing is supervised.
        table: (R, classes + 1) bool: whether a region holds a class; the last column, of -1, is false.
        wanted: what is worth its time.
        masked: whether any voxel may be unsupervised.
        moments: (B, R, *space) float32 factors, or None.
    """
    return _statistics(logits, target, table, [*wanted, masked], moments)


def _statistics(
    logits: Tensor, target: Tensor, table: Tensor | None, flags: list[bool], moments: Tensor | None
) -> Statistics:
    space = logits.shape[2:]
    flat = None if moments is None else moments.flatten(2)
    sums, voxelwise = _forward(logits.flatten(2), target.flatten(1), table, flat, flags)
    return Statistics(VoxelSums(*sums.unbind()), voxelwise.unflatten(-1, space) if flags[VOXELWISE] else voxelwise)


def scratch_bytes(logits: Tensor) -> int:
    """Return the most that a pass over (B, K, N) needs on a GPU beside its inputs and results."""
    return TEMPORARIES * 4 * min(GPU_ELEMENTS, logits[0].numel())


class _Chunk(NamedTuple):
    """A part of one sample's voxels."""

    logits: Tensor
    """(K, n), float32 or float64."""
    inside: Tensor
    """(K, n), of the same type: 1 where the reference has a class or region, else 0."""
    known: Tensor | None
    """(n), of the same type: 1 where there is supervision, else 0; None for everywhere."""
    moments: Tensor | None
    """Factors (K, n)."""
    flags: list[bool]

    def keep(self, values: Tensor) -> Tensor:
        """Set values to 0 in place where nothing is supervised."""
        return values if self.known is None else values.mul_(self.known)


def _chunks(
    logits: Tensor, target: Tensor, table: Tensor | None, moments: Tensor | None, flags: list[bool]
) -> Iterator[tuple[int, slice, _Chunk]]:
    """Yield sample, voxels and contents of each chunk of (B, K, N)."""
    size = CPU_ELEMENTS if logits.device.type == "cpu" else GPU_ELEMENTS
    count = -(-logits[0].numel() // size)
    length = -(-logits.shape[2] // count)
    kind = _wide(logits)
    classes = torch.arange(logits.shape[1], device=logits.device, dtype=kind)[:, None]
    members = None if table is None else table.to(kind)
    for sample in range(len(logits)):
        for start in range(0, logits.shape[2], length):
            part = slice(start, start + length)
            index = target[sample, part]
            # Numbers of one type are compared much faster than numbers of two.
            number = index.to(kind)
            if members is None:
                inside = torch.eq(number, classes, out=logits.new_empty((len(classes), len(index)), dtype=kind))
            else:
                inside = members.index_select(1, index % members.shape[1])
            known = torch.ge(number, 0, out=torch.empty_like(number)) if flags[MASKED] else None
            factors = None if moments is None else moments[sample, :, part]
            yield sample, part, _Chunk(logits[sample, :, part].to(kind), inside, known, factors, flags)


def _wide(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


@torch.library.custom_op("tumorseg::loss_statistics", mutates_args=())
def _forward(
    logits: Tensor, target: Tensor, table: Tensor | None, moments: Tensor | None, flags: list[bool]
) -> tuple[Tensor, Tensor]:
    sums, voxelwise = _results(logits, table, flags)
    for sample, part, chunk in _chunks(logits, target, table, moments, flags):
        found, entropy = _sum_classes(chunk) if table is None else _sum_regions(chunk)
        for total, value in zip(sums, found, strict=True):
            if value is not None:
                total[sample] += value
        if entropy is not None:
            voxelwise[sample, ..., part] = entropy
    return sums, voxelwise


@_forward.register_fake
def _(
    logits: Tensor, target: Tensor, table: Tensor | None, moments: Tensor | None, flags: list[bool]
) -> tuple[Tensor, Tensor]:
    return _results(logits, table, flags)


def _results(logits: Tensor, table: Tensor | None, flags: list[bool]) -> tuple[Tensor, Tensor]:
    """Return sums (sums, B, K) of 0, and room for voxel-wise values."""
    batch, classes, voxels = logits.shape
    sums = logits.new_zeros((NUM_SUMS, batch, classes), dtype=_wide(logits))
    shape = (batch, voxels) if table is None else (batch, classes, voxels)
    return sums, logits.new_empty(shape if flags[VOXELWISE] else (0,), dtype=_wide(logits))


Sums = tuple[Tensor | None, ...]
"""As in `VoxelSums`, each (K); None for 0."""


def _sum_classes(chunk: _Chunk) -> tuple[Sums, Tensor | None]:
    """Return the sums of a chunk, and -log(p) of each voxel's own class."""
    logits, inside, _, moments, flags = chunk
    log_p = logits.log_softmax(0)
    own = log_p * inside
    every = chunk.keep(log_p.clone()).sum(1).neg_() if flags[EVERY_CLASS] else None
    p = chunk.keep(log_p.exp_())
    found = (
        (p * inside).sum(1),
        p.sum(1),
        inside.sum(1),
        own.sum(1).neg_(),
        None,
        p.square().sum(1) if flags[SQUARES] else None,
        every,
        None if moments is None else (p * moments).sum(1),
    )
    return found, own.sum(0).neg_() if flags[VOXELWISE] else None


def _sum_regions(chunk: _Chunk) -> tuple[Sums, Tensor | None]:
    """Return the sums of a chunk, and the cross-entropy of each voxel and region."""
    logits, inside, _, moments, flags = chunk
    p = chunk.keep(logits.sigmoid())
    off = chunk.keep(F.softplus(logits))  # -log(1 - p)
    of_inside = logits * inside
    entropy = off - of_inside  # -log(p) = -log(1 - p) - z
    off_inside = (off * inside).sum(1)
    found = (
        (p * inside).sum(1),
        p.sum(1),
        inside.sum(1),
        off_inside - of_inside.sum(1),
        off.sum(1) - off_inside,
        p.square().sum(1) if flags[SQUARES] else None,
        2 * off.sum(1) - chunk.keep(logits.clone()).sum(1) if flags[EVERY_CLASS] else None,
        None if moments is None else (p * moments).sum(1),
    )
    return found, entropy if flags[VOXELWISE] else None


@torch.library.custom_op("tumorseg::loss_statistics_backward", mutates_args=())
def _gradient(
    sums_slope: Tensor,
    voxel_slope: Tensor,
    logits: Tensor,
    target: Tensor,
    table: Tensor | None,
    moments: Tensor | None,
    flags: list[bool],
) -> Tensor:
    gradient = torch.empty_like(logits)
    for sample, part, chunk in _chunks(logits, target, table, moments, flags):
        slopes = VoxelSums(*(slope[:, None] for slope in sums_slope[:, sample]))
        own = voxel_slope[sample, ..., part] if flags[VOXELWISE] else None
        found = (_slope_classes if table is None else _slope_regions)(chunk, slopes, own)
        gradient[sample, :, part] = chunk.keep(found)
    return gradient


@_gradient.register_fake
def _(
    sums_slope: Tensor,
    voxel_slope: Tensor,
    logits: Tensor,
    target: Tensor,
    table: Tensor | None,
    moments: Tensor | None,
    flags: list[bool],
) -> Tensor:
    return torch.empty_like(logits)


def _slope_classes(chunk: _Chunk, slopes: VoxelSums, own: Tensor | None) -> Tensor:
    """Return the slope (K, n) of a chunk's logits from those of its sums (K, 1) and of its voxels' entropies (n)."""
    p = chunk.logits.softmax(0)
    # d(sum of a_k p_k)/dz_j = p_j (a_j - sum of a_k p_k); d(-log p_k)/dz_j = p_j - [j = k].
    by_p = _by_probability(chunk, slopes, p)
    entropy = chunk.inside * slopes.entropy_inside
    if own is not None:
        entropy.addcmul_(chunk.inside, own)
    if chunk.flags[EVERY_CLASS]:
        entropy.add_(slopes.entropy_of_all)
    total = entropy.sum(0).sub_((by_p * p).sum(0))
    return by_p.add_(total).mul_(p).sub_(entropy)


def _slope_regions(chunk: _Chunk, slopes: VoxelSums, own: Tensor | None) -> Tensor:
    """Return the slope (R, n) of a chunk's logits from those of its sums (R, 1) and of its entropies (R, n)."""
    p = chunk.logits.sigmoid()
    entropy = chunk.inside * (slopes.entropy_inside - slopes.entropy_outside) + slopes.entropy_outside
    if own is not None:
        entropy.add_(own)
    gradient = _by_probability(chunk, slopes, p).mul_(p).mul_(1 - p)
    gradient.addcmul_(entropy, p - chunk.inside)
    return gradient.add_(slopes.entropy_of_all * (2 * p - 1)) if chunk.flags[EVERY_CLASS] else gradient


def _by_probability(chunk: _Chunk, slopes: VoxelSums, p: Tensor) -> Tensor:
    """Return the slope (K, n) of the probabilities from those of the sums of probabilities."""
    found = (chunk.inside * slopes.intersection).add_(slopes.predicted)
    if chunk.flags[SQUARES]:
        found.addcmul_(p, slopes.squared, value=2)
    if chunk.moments is not None:
        found.addcmul_(chunk.moments.to(p.dtype), slopes.moment)
    return found


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    logits, target, table, moments, flags = inputs
    ctx.flags, ctx.has = flags, (table is not None, moments is not None)
    ctx.save_for_backward(*(kept for kept in (logits, target, table, moments) if kept is not None))


def _backward(ctx: Any, sums: Tensor, voxelwise: Tensor) -> tuple[Tensor, None, None, None, None]:
    logits, target, *others = ctx.saved_tensors
    table = others.pop(0) if ctx.has[0] else None
    moments = others.pop(0) if ctx.has[1] else None
    return _gradient(sums, voxelwise, logits, target, table, moments, ctx.flags), None, None, None, None


_forward.register_autograd(_backward, setup_context=_keep)
