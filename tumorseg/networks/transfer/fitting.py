"""Weights of a convolution in one of another shape."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tumorseg.networks.transfer.roles import Role

Shape = tuple[int, ...]
"""Of a weight: channels out and in (the other way round in an upsampling), then the kernel."""


class Images(NamedTuple):
    """How many input channels show images, first of all; those after them show the previous segmentation of a cascade."""

    own: int | None = None
    """Of the network that is wanted; None: all."""
    given: int | None = None
    """Of the other one; None: not known, so the same if it has as many channels as are wanted, else all."""


HOWS = {Role.UPSAMPLING: ("averaged", "repeated"), Role.DEPTHWISE: ("summed", "interpolated")}
"""What becomes of a kernel that has to be smaller or larger, but for convolutions of any other kind."""
ALL_IMAGES = Images()
"""No network is one of a cascade."""


class _Inputs(NamedTuple):
    """Input channels, wanted and given."""

    images: int
    given_images: int
    others: int
    given_others: int


def _inputs(own: Shape, given: Shape, images: Images) -> _Inputs:
    wanted = own[1] if images.own is None else images.own
    known = wanted if own[1] == given[1] else given[1]
    # A file need not be of the plan beside it.
    there = known if images.given is None or images.given > given[1] else images.given
    return _Inputs(wanted, there, own[1] - wanted, given[1] - there)


def is_as_wanted(own: Shape, given: Shape, images: Images) -> bool:
    """Tell whether the convolution that sees the image is given the same channels as it is wanted for.

    Args:
        own: the shape that is wanted.
        given: the one that there is.
        images: how many channels of either show images.
    """
    found = _inputs(own, given, images)
    return (found.images, found.others) == (found.given_images, found.given_others)


def misfit(role: Role, own: Shape, given: Shape) -> str | None:
    """Return why a weight cannot be given another shape; None if it can.

    Only the number of input channels and the extent of kernels can be fitted: features of another number are other features.

    Args:
        role: of the weight.
        own: the shape that is wanted.
        given: the one that there is.
    """
    if len(own) != len(given):
        return f"has {len(given)} axes there, {len(own)} here"
    # Nothing but a convolution has a kernel, which begins after two axes.
    if role is Role.FIXED or len(own) < 4:
        return f"is of {list(given)} there, of {list(own)} here"
    if own[0] != given[0] or (role is not Role.INPUT and own[1:2] != given[1:2]):
        return f"is of {list(given)} there, of {list(own)} here: another width"
    for axis in range(2, len(own)):
        # A transposed convolution whose kernel is its stride knows as many places as it makes voxels of one.
        is_smaller = own[axis] < given[axis] and own[axis] != 1
        is_other_stride = role is Role.UPSAMPLING and own[axis] != given[axis] and 1 not in (own[axis], given[axis])
        if is_smaller or is_other_stride:
            return f"has a kernel of {list(given[2:])} there, of {list(own[2:])} here"
    return None


def fit_note(role: Role, own: Shape, given: Shape, images: Images = ALL_IMAGES) -> str:
    """Return in words what `fitted` does to a weight."""
    notes = _input_notes(_inputs(own, given, images)) if role is Role.INPUT else []
    if own[2:] != given[2:]:
        smaller, larger = HOWS.get(role, ("summed", "centred"))
        hows = []
        if any(here < there for here, there in zip(own[2:], given[2:], strict=True)):
            hows.append(smaller)
        if any(here > there for here, there in zip(own[2:], given[2:], strict=True)):
            hows.append(larger)
        notes.append(f"kernel of {list(given[2:])} {' and '.join(hows)} for {list(own[2:])}")
    return "; ".join(notes)


def _input_notes(found: _Inputs) -> list[str]:
    notes = []
    if found.images != found.given_images:
        how = "repeated" if found.images % found.given_images == 0 else "averaged"
        notes.append(f"{found.given_images} input channels {how} for {found.images}")
    if found.others != found.given_others:
        if found.given_others:
            notes.append(f"{found.given_others} channels of a previous segmentation left out")
        if found.others:
            notes.append(f"zeros for the {found.others} channels of the previous segmentation")
    return notes


def fitted(weight: Tensor, own: Shape, role: Role, images: Images = ALL_IMAGES) -> Tensor:
    """Return a weight in another shape.

    An image whose channels are alike gives the features that it gave before, and so does one that does not change along the axes
    whose kernel was summed. A kernel that was centred sees no further than before; one that was interpolated, of a depthwise
    convolution, is larger in all its parts (UpKern). An upsampling that enlarges one more axis gives
    both voxels the value that the one had. The previous segmentation of a cascade is not seen at first, unless the given network
    saw one of as many labels.

    Args:
        weight: to be fitted; `misfit` found nothing.
        own: the shape that is wanted.
        role: of the weight.
        images: how many input channels of either show images.

    References:
        Carreira and Zisserman, Quo vadis, action recognition?, CVPR 2017 (kernels that are spread over a new axis);
        Roy et al., MedNeXt, MICCAI 2023 (UpKern).
    """
    if role is Role.INPUT:
        weight = _with_inputs(weight, _inputs(own, tuple(weight.shape), images))
    for axis in range(2, len(own)):
        # There is nothing to interpolate between where there is one voxel.
        is_interpolated = role is Role.DEPTHWISE and 1 < weight.shape[axis] < own[axis]
        stretch = _stretched if is_interpolated else partial(_with_extent, role=role)
        weight = stretch(weight, axis, own[axis])
    return weight


def _stretched(weight: Tensor, axis: int, extent: int) -> Tensor:
    """Return a kernel interpolated linearly along one axis; done for each axis in turn, that is what it is for all at once."""
    lines = weight.movedim(axis, -1)
    longer = F.interpolate(lines.flatten(0, -2)[:, None], size=extent, mode="linear")
    return longer.reshape(*lines.shape[:-1], extent).movedim(-1, axis).contiguous()


def _with_inputs(weight: Tensor, found: _Inputs) -> Tensor:
    shown, others = weight[:, : found.given_images], weight[:, found.given_images :]
    if found.given_images != found.images:
        shown = _with_channels(shown, found.images)
    if found.given_others != found.others:
        # A segmentation is nothing like an image, nor one of other labels like this one.
        others = weight.new_zeros((weight.shape[0], found.others, *weight.shape[2:]))
    return torch.cat((shown, others), dim=1)


def _with_channels(weight: Tensor, count: int) -> Tensor:
    given = weight.shape[1]
    # If they cannot all be repeated equally often, none stands for another: each gets the mean.
    base = weight.mean(dim=1, keepdim=True) if count % given else weight
    tiles = [1] * weight.ndim
    tiles[1] = count // base.shape[1]
    # What all channels add up to stays the same.
    return base.repeat(tiles) * (given / count)


def _with_extent(weight: Tensor, axis: int, extent: int, role: Role) -> Tensor:
    given = weight.shape[axis]
    if given == extent:
        return weight
    if role is Role.UPSAMPLING:
        return weight.mean(axis, keepdim=True) if extent == 1 else weight.repeat_interleave(extent, axis)
    if extent == 1:
        return weight.sum(axis, keepdim=True)
    shape = list(weight.shape)
    shape[axis] = extent
    larger = weight.new_zeros(shape)
    # Extents are odd, so that there is a middle.
    larger.narrow(axis, (extent - given) // 2, given).copy_(weight)
    return larger
