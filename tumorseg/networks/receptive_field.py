"""What one voxel of a network's logits depends on, by arithmetic over its operations, without computing any of them."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tumorseg.networks.following import Following, attended, tensors_of
from tumorseg.schema.networks import Axes

META = torch.device("meta")
"""Where tensors have a shape and nothing else: an image of any size costs nothing."""
WIDE, MOST = 2**12, 2**15
"""Voxels along an axis of the image that follows the patch, and beyond which a network counts as one that sees everything."""
RESHAPING = frozenset({"view", "reshape", "flatten", "unflatten", "permute", "transpose", "movedim", "squeeze"})
"""Functions after which the same numbers lie otherwise."""

Places = NDArray[np.int_]
Span = tuple[Places, Places]
"""First and last voxel of the image that each voxel along an axis sees."""


class Reach(NamedTuple):
    """How far a network sees."""

    voxels: Axes | None
    """Edges of the box that the logits of one voxel depend on by convolutions, pooling and interpolation; of voxels that see unlike
    far the widest. None where attention leaves no such box."""
    whole: Literal["window", "patch"] | None
    """What attention looks at as a whole, or, `patch` beside voxels, what features are pooled over; None for neither.

    Statistics of normalisation, which most networks take over the patch, are left out, as is usual."""


class _Seen(NamedTuple):
    spans: tuple[Span, ...]
    """Per axis."""
    is_pooled: bool = False
    """Whether it depends on the whole patch besides."""

    @property
    def sizes(self) -> list[int]:
        """Return the voxels along each axis."""
        return [len(first) for first, _ in self.spans]


def receptive_field(build: Callable[[], nn.Module], patch_size: Axes, *, num_channels: int, divisors: Axes) -> Reach:
    """Follow an image through a network.

    Args:
        build: returns the network.
        patch_size: voxels per axis that it is trained on.
        num_channels: C, channels of its input.
        divisors: what an edge of an image must be a multiple of.
    """
    with META, torch.no_grad():
        network = build().eval()
    edges = tuple(patch_size)
    while True:
        mode = _SeenMode(len(edges))
        seen = mode.run(network, (1, num_channels, *edges))
        if mode.num_groups:
            return Reach(None, "patch" if min(mode.num_groups) == 1 else "window")
        widths = [_width(span, divisor) for span, divisor in zip(seen.spans, divisors, strict=True)]
        found = [width for width in widths if width is not None]
        if len(found) == len(widths):
            return Reach(tuple(found), "patch" if seen.is_pooled else None)
        if max(edges) > MOST:
            return Reach(None, "patch")
        # Beyond the edges of the image nothing is seen, so that the middle needs more room.
        edges = tuple(max(WIDE // divisor * divisor, 2 * edge) for edge, divisor in zip(edges, divisors, strict=True))


def _width(span: Span, divisor: int) -> int | None:
    """Return the most that a voxel in the middle sees, of one period of strides; None if it sees the end of the image."""
    size = len(span[0])
    first = size // 2 // divisor * divisor
    lower, upper = (ends[first : first + divisor] for ends in span)
    if lower.min() <= 0 or upper.max() >= size - 1:
        return None
    return int((upper - lower).max()) + 1


class _SeenMode(Following[_Seen]):
    """Follows what is seen, and attention; a call that is unknown here passes on what its tensors see."""

    def __init__(self, num_axes: int) -> None:
        super().__init__()
        self.num_axes = num_axes
        self.num_groups: list[int] = []
        """Of each attention, how many groups of tokens pay it within themselves."""

    def run(self, network: nn.Module, shape: Axes) -> _Seen:
        """Return what the logits of an image (B, C, *space) see."""
        image = torch.empty(shape, device=META)
        whole = [np.arange(edge) for edge in shape[2:]]
        self.write(image, _Seen(tuple((axis, axis) for axis in whole)))
        with torch.no_grad(), self:
            logits = network(image)
        seen = self.note(logits)
        assert seen is not None  # logits come from the image
        return seen

    def passed_on(
        self, function: str, arguments: Sequence[Any], options: dict[str, Any], result: Tensor
    ) -> _Seen | None:
        """Return what a result sees."""
        if (attention := attended(function, arguments, options)) is not None:
            self.num_groups.append(attention[0])
        noted = [tensor for tensor in tensors_of([*arguments, options]) if self.note(tensor) is not None]
        if not noted:
            return None
        seen = self._joined(noted)
        rule = _rule(function)
        if rule is not None and (ahead := rule(arguments, options, self.num_axes)) is not None:
            sizes = result.shape[-self.num_axes :]
            spans = zip(seen.spans, ahead, sizes, strict=True)
            return seen._replace(spans=tuple(_moved(span, move, size) for span, move, size in spans))
        return seen if self._keeps_voxels(function, noted[0], result, seen) else seen._replace(is_pooled=True)

    def _joined(self, noted: Sequence[Tensor]) -> _Seen:
        """Return what several tensors see together; what is pooled to a single voxel sees no more than is said of it."""
        every = [seen for tensor in noted if (seen := self.note(tensor)) is not None]
        most = max(every, key=lambda seen: math.prod(seen.sizes))
        alike = [seen.spans for seen in every if seen.sizes == most.sizes]
        spans = tuple(_union(axis) for axis in zip(*alike, strict=True))
        return _Seen(spans, any(seen.is_pooled for seen in every))

    def _keeps_voxels(self, function: str, given: Tensor, result: Tensor, seen: _Seen) -> bool:
        """Tell whether a result still has all voxels, rather than a mean or a part of them."""
        if function in RESHAPING or result.numel() >= given.numel():
            return True
        return list(result.shape[-self.num_axes :]) == seen.sizes


class _Move(NamedTuple):
    """Of the voxel j of a result, the first and last voxel of what it is made of, as fractions of j: rounded up and down."""

    step: float
    first: float
    last: float


def _moved(span: Span, move: _Move, size: int) -> Span:
    """Return what the voxels of a result see."""
    places = np.arange(size) * move.step
    end = len(span[0]) - 1
    # A fraction that is whole may miss it by a rounding error.
    first = np.ceil(places + move.first - 1e-9).astype(int).clip(0, end)
    last = np.floor(places + move.last + 1e-9).astype(int).clip(0, end)
    return span[0][np.minimum(first, last)], span[1][np.maximum(first, last)]


def _union(spans: Sequence[Span]) -> Span:
    lower, upper = zip(*spans, strict=True)
    return np.minimum.reduce(lower), np.maximum.reduce(upper)


_Rule = Callable[[Sequence[Any], dict[str, Any], int], list[_Move] | None]


def _rule(function: str) -> _Rule | None:
    """Return the rule for what changes the voxels; None for what does not."""
    return _RULES.get(function.removesuffix("2d").removesuffix("3d"))


def _given(names: str, arguments: Sequence[Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return arguments by name, those that were given by place too."""
    return dict(zip(names.split(), arguments, strict=False)) | options


def _per_axis(value: Any, num_axes: int) -> list[int]:
    values = list(value) if isinstance(value, Sequence | torch.Size) else [value]
    return values if len(values) == num_axes else values * num_axes


def _convolution(arguments: Sequence[Any], options: dict[str, Any], num_axes: int) -> list[_Move]:
    given = _given("input weight bias stride padding dilation groups", arguments, options)
    kernel = list(given["weight"].shape[2:])
    dilation = _per_axis(given.get("dilation", 1), num_axes)
    reach = [(edge - 1) * gap for edge, gap in zip(kernel, dilation, strict=True)]
    padding = given.get("padding", 0)
    if isinstance(padding, str):
        before = [edge // 2 if padding == "same" else 0 for edge in reach]
    else:
        before = _per_axis(padding, num_axes)
    stride = _per_axis(given.get("stride", 1), num_axes)
    return [_Move(step, -left, far - left) for step, left, far in zip(stride, before, reach, strict=True)]


def _transposed(arguments: Sequence[Any], options: dict[str, Any], num_axes: int) -> list[_Move]:
    given = _given("input weight bias stride padding output_padding groups dilation", arguments, options)
    kernel = list(given["weight"].shape[2:])
    numbers = [_per_axis(given.get(name, usual), num_axes) for name, usual in _TRANSPOSED_DEFAULTS]
    moves = []
    for edge, step, before, gap in zip(kernel, *numbers, strict=True):
        # The voxel i of the features adds to the voxels i * step - before + place of the result.
        moves.append(_Move(1 / step, (before - gap * (edge - 1)) / step, before / step))
    return moves


_TRANSPOSED_DEFAULTS = (("stride", 1), ("padding", 0), ("dilation", 1))


def _pooling(arguments: Sequence[Any], options: dict[str, Any], num_axes: int) -> list[_Move]:
    given = _given("input kernel_size stride padding", arguments, options)
    kernel = _per_axis(given["kernel_size"], num_axes)
    stride = _per_axis(given.get("stride") or kernel, num_axes)
    before = _per_axis(given.get("padding", 0), num_axes)
    return [_Move(step, -left, edge - 1 - left) for step, left, edge in zip(stride, before, kernel, strict=True)]


def _interpolation(arguments: Sequence[Any], options: dict[str, Any], num_axes: int) -> list[_Move]:
    given = _given("input size scale_factor mode align_corners", arguments, options)
    sizes = list(given["input"].shape[2:])
    if given.get("size") is not None:
        results = _per_axis(given["size"], num_axes)
    else:
        factors = _per_axis(given["scale_factor"], num_axes)
        results = [math.floor(size * factor) for size, factor in zip(sizes, factors, strict=True)]
    is_nearest = given.get("mode", "nearest").startswith("nearest")
    moves = []
    for size, result in zip(sizes, results, strict=True):
        step, shift = size / result, 0.5 * size / result - 0.5
        if given.get("align_corners"):
            step, shift = (size - 1) / max(result - 1, 1), 0.0
        # The nearest voxel, or those on either side.
        moves.append(_Move(step, -1 + 1e-6, 0) if is_nearest else _Move(step, shift - 1 + 1e-6, shift + 1 - 1e-6))
    return moves


def _padding(arguments: Sequence[Any], options: dict[str, Any], num_axes: int) -> list[_Move]:
    given = _given("input pad", arguments, options)
    # The last axis comes first, and axes that are not named are left as they are.
    before = [*given["pad"][::2], *(0 for _ in range(num_axes))][:num_axes][::-1]
    return [_Move(1, -left, -left) for left in before]


def _slicing(arguments: Sequence[Any], options: dict[str, Any], num_axes: int) -> list[_Move] | None:
    index = arguments[1]
    # Slices of all spatial axes, behind what takes other axes whole.
    if not isinstance(index, tuple) or len(index) <= num_axes:
        return None
    slices = index[-num_axes:]
    if not all(one is Ellipsis or one == slice(None) for one in index[:-num_axes]):
        return None
    if not all(isinstance(one, slice) and (one.start or 0) >= 0 for one in slices):
        return None
    return [_Move(one.step or 1, one.start or 0, one.start or 0) for one in slices]


_RULES: dict[str, _Rule] = {
    "conv": _convolution,
    "conv_transpose": _transposed,
    "avg_pool": _pooling,
    "max_pool": _pooling,
    "interpolate": _interpolation,
    "pad": _padding,
    "__getitem__": _slicing,
}
"""By torch's name without the number of axes."""
