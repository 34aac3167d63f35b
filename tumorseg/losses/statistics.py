"""Sums over voxels from which losses are made, in one pass over the logits that keeps nothing but them.

Losses of overlap and of entropy are functions of a few sums per class. They are added up chunk by chunk, so that neither
probabilities nor a one-hot reference of a whole patch ever exist; the backward pass recomputes the probabilities of each
chunk. Half-precision logits are widened chunk by chunk too.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

CPU_ELEMENTS, GPU_ELEMENTS = 2**18, 2**22
"""Logits of a chunk: on a CPU they stay in its cache, on a GPU they keep it busy at 134 MB of scratch space."""
TEMPORARIES = 8
"""Tensors of a chunk's size that are alive at once, at the most."""


class Wanted(NamedTuple):
    """Statistics to compute beyond those that are always there."""

    overlap: bool = False
    """`VoxelSums.intersection` and `predicted`."""
    entropy: bool = False
    """`VoxelSums.entropy_inside` and `entropy_outside`."""
    voxelwise: bool = False
    """The cross-entropy of every voxel."""
    squares: bool = False
    """`VoxelSums.squared`."""
    every_class: bool = False
    """`VoxelSums.entropy_of_all`."""

    def __or__(self, other: "Wanted") -> "Wanted":
        return Wanted(*(mine or theirs for mine, theirs in zip(self, other, strict=True)))


class VoxelSums(NamedTuple):
    """Sums over the supervised voxels of each sample, each (B, K) float32 or float64; 0 unless wanted, but `reference`."""

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
    """Squared probability."""
    entropy_of_all: Tensor
    """-log(probability) anywhere, of regions -log(1 - probability) too."""
    moment: Tensor
    """Probability times `moments`, where there are any."""


NUM_SUMS = len(VoxelSums._fields)
OVERLAP, ENTROPY, VOXELWISE, SQUARES, EVERY_CLASS, MASKED = range(6)
"""Flags of a pass: those of `Wanted`, and whether any voxel may be unsupervised."""
SMALLEST = 1e-30
"""Below this a probability has lost digits, and its logarithm is computed from the logits."""


class Statistics(NamedTuple):
    """Result of a pass over the logits."""

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
    unknown: Tensor | None
    """(n) bool: where there is no supervision; None for nowhere."""
    moments: Tensor | None
    """Factors (K, n)."""
    flags: list[bool]

    def keep(self, values: Tensor, other: float = 0.0) -> Tensor:
        """Set values to 0, or another value, in place where nothing is supervised, whatever they were."""
        return values if self.unknown is None else values.masked_fill_(self.unknown, other)


def _chunks(
    logits: Tensor, target: Tensor, table: Tensor | None, moments: Tensor | None, flags: list[bool]
) -> Iterator[tuple[int, slice, _Chunk]]:
    """Yield sample, voxels and contents of each chunk of (B, K, N)."""
    size = CPU_ELEMENTS if logits.device.type == "cpu" else GPU_ELEMENTS
    # Both rounded up: chunks are alike, with no small one at the end.
    count = -(-logits[0].numel() // size)
    length = -(-logits.shape[2] // count)
    kind = _wide(logits)
    classes = torch.arange(logits.shape[1], device=logits.device, dtype=kind)[:, None]
    for sample in range(len(logits)):
        for start in range(0, logits.shape[2], length):
            part = slice(start, start + length)
            index = target[sample, part]
            if table is None:
                # Numbers of one type are compared much faster than numbers of two.
                room = logits.new_empty((len(classes), len(index)), dtype=kind)
                inside = torch.eq(index.to(kind), classes, out=room)
            else:
                inside = table[:, index].to(kind)
            unknown = index < 0 if flags[MASKED] else None
            factors = None if moments is None else moments[sample, :, part]
            yield sample, part, _Chunk(logits[sample, :, part].to(kind), inside, unknown, factors, flags)


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


_forward.register_fake(lambda logits, target, table, moments, flags: _results(logits, table, flags))


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
    intersection = predicted = entropy_inside = squared = moment = None
    # Set to 0 where unsupervised, as `inside` is already: so no sum counts such a voxel.
    p = chunk.keep(logits.softmax(0))
    correct = p * inside
    entropy, every = _entropies(chunk, correct) if flags[ENTROPY] or flags[VOXELWISE] else (None, None)
    if flags[OVERLAP]:
        intersection, predicted = correct.sum(1), p.sum(1)
    if entropy is not None:
        entropy_inside = (inside * entropy).sum(1)
    if flags[SQUARES]:
        squared = p.square().sum(1)
    if moments is not None:
        moment = (p * moments).sum(1)
    sums = (intersection, predicted, inside.sum(1), entropy_inside, None, squared, every, moment)
    return sums, entropy if flags[VOXELWISE] else None


def _entropies(chunk: _Chunk, correct: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return -log(p) of each voxel's own class (n), and its sum for each class over all voxels (K) if that is wanted."""
    # 1 where unsupervised: its logarithm is 0, and the least probability is that of a supervised voxel.
    own = chunk.keep(correct.sum(0), 1.0)
    # On a CPU a logarithm costs as much as a softmax; on a GPU less than looking at the least probability.
    if not own.is_cuda and not chunk.flags[EVERY_CLASS] and bool(own.amin() > SMALLEST):
        return own.log_().neg_(), None
    log_p = chunk.logits.log_softmax(0)
    entropy = chunk.keep((log_p * chunk.inside).sum(0).neg_())
    return entropy, chunk.keep(log_p).sum(1).neg_() if chunk.flags[EVERY_CLASS] else None


def _sum_regions(chunk: _Chunk) -> tuple[Sums, Tensor | None]:
    """Return the sums of a chunk, and the cross-entropy of each voxel and region."""
    logits, inside, _, moments, flags = chunk
    p = chunk.keep(logits.sigmoid()) if flags[OVERLAP] or flags[SQUARES] or moments is not None else None
    intersection = predicted = squared = moment = None
    entropy = within = outside = every = None
    if flags[ENTROPY] or flags[VOXELWISE] or flags[EVERY_CLASS]:
        off = chunk.keep(F.softplus(logits))  # -log(1 - p); -log(p) is that minus the logit
        entropy = chunk.keep(torch.addcmul(off, logits, inside, value=-1))
        within = (entropy * inside).sum(1)
        outside = entropy.sum(1) - within
        if flags[EVERY_CLASS]:
            # A copy: these may be the network's own logits, and `keep` works in place.
            every = 2 * off.sum(1) - chunk.keep(logits.clone()).sum(1)
    if p is not None and flags[OVERLAP]:
        intersection, predicted = (p * inside).sum(1), p.sum(1)
    if p is not None and flags[SQUARES]:
        squared = p.square().sum(1)
    if p is not None and moments is not None:
        moment = (p * moments).sum(1)
    sums = (intersection, predicted, inside.sum(1), within, outside, squared, every, moment)
    return sums, entropy if flags[VOXELWISE] else None


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


_gradient.register_fake(lambda sums, voxels, logits, target, table, moments, flags: _room_like(logits))


def _room_like(logits: Tensor) -> Tensor:
    """Return room for a gradient, on fake tensors."""
    # The same as `empty_like`, for which torch would load its compiler; logits of another order are rare.
    return logits.new_empty(logits.shape) if logits.is_contiguous() else torch.empty_like(logits)


def _slope_classes(chunk: _Chunk, slopes: VoxelSums, own: Tensor | None) -> Tensor:
    """Return the slope (K, n) of a chunk's logits from those of its sums (K, 1) and of its voxels' entropies (n)."""
    p, inside, flags = chunk.logits.softmax(0), chunk.inside, chunk.flags
    # d(-log p_k)/dz_j = p_j - [j = k]; d(sum of a_k p_k)/dz_j = p_j (a_j - sum of a_k p_k).
    by_p = _by_probability(chunk, slopes, p)
    entropy = (inside * slopes.entropy_inside).sum(0) if flags[ENTROPY] else None
    if own is not None:
        entropy = own if entropy is None else entropy.add_(own)
    total = torch.zeros_like(p[0]) if by_p is None else (by_p * p).sum(0).neg_()
    if entropy is not None:
        total.add_(entropy)
    if flags[EVERY_CLASS]:
        total.add_(slopes.entropy_of_all.sum())
    # In place from here on: neither `p` nor `by_p` is read again.
    gradient = p.mul_(total) if by_p is None else by_p.add_(total).mul_(p)
    if entropy is not None:
        gradient.addcmul_(inside, entropy, value=-1)
    return gradient.sub_(slopes.entropy_of_all) if flags[EVERY_CLASS] else gradient


def _slope_regions(chunk: _Chunk, slopes: VoxelSums, own: Tensor | None) -> Tensor:
    """Return the slope (R, n) of a chunk's logits from those of its sums (R, 1) and of its entropies (R, n)."""
    p, inside, flags = chunk.logits.sigmoid(), chunk.inside, chunk.flags
    # dp/dz = p (1 - p); d(cross-entropy)/dz = p - [inside]; d(-log p - log(1 - p))/dz = 2 p - 1.
    by_p = _by_probability(chunk, slopes, p)
    gradient = torch.zeros_like(p) if by_p is None else by_p.mul_(p).mul_(1 - p)
    if flags[EVERY_CLASS]:
        gradient.add_(slopes.entropy_of_all * (2 * p - 1))
    if flags[ENTROPY]:
        entropy = inside * (slopes.entropy_inside - slopes.entropy_outside) + slopes.entropy_outside
        own = entropy if own is None else entropy.add_(own)
    return gradient if own is None else gradient.addcmul_(own, p.sub_(inside))


def _by_probability(chunk: _Chunk, slopes: VoxelSums, p: Tensor) -> Tensor | None:
    """Return the slope (K, n) of the probabilities from those of the sums of probabilities; None for 0."""
    flags, moments = chunk.flags, chunk.moments
    if not flags[OVERLAP] and not flags[SQUARES] and moments is None:
        return None
    found = (chunk.inside * slopes.intersection).add_(slopes.predicted) if flags[OVERLAP] else torch.zeros_like(p)
    if flags[SQUARES]:
        found.addcmul_(p, slopes.squared, value=2)
    if moments is not None:
        found.addcmul_(moments.to(p.dtype), slopes.moment)
    return found


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    logits, target, table, moments, flags = inputs
    # Only tensors are saved; `has` tells which of those that may be missing are among them.
    ctx.flags, ctx.has = flags, (table is not None, moments is not None)
    ctx.save_for_backward(*(kept for kept in (logits, target, table, moments) if kept is not None))


def _backward(ctx: Any, sums: Tensor, voxelwise: Tensor) -> tuple[Tensor, None, None, None, None]:
    logits, target, *others = ctx.saved_tensors
    table = others.pop(0) if ctx.has[0] else None
    moments = others.pop(0) if ctx.has[1] else None
    return _gradient(sums, voxelwise, logits, target, table, moments, ctx.flags), None, None, None, None


_forward.register_autograd(_backward, setup_context=_keep)
