"""Weights for images whose axes lie in another order."""

import math
from collections.abc import Iterable, Mapping

from torch import Tensor

from tumorseg.networks.transfer.layouts import NOTHING
from tumorseg.networks.transfer.merging import MERGED
from tumorseg.schema.initial_weights import TakenTensor
from tumorseg.schema.network_base import Axes
from tumorseg.schema.networks import NetworkSpec
from tumorseg.schema.networks_monai import UNETR_TOKEN_EDGE, SwinUnetr, Unetr

TABLE, PLACES = ".relative_position_bias_table", ".position_embeddings"
"""Learned positions: of a Swin transformer's windows, and of a UNETR's tokens."""
TOKENS = "vit.patch_embedding.patch_embeddings.weight"
"""What makes tokens of an image in a UNETR."""


def with_kernels(weights: Mapping[str, Tensor], network: NetworkSpec) -> dict[str, Tensor]:
    """Return weights of a UNETR, the matrix that makes tokens in some of them as the convolution that does the same.

    Args:
        weights: by our names; of any other network they stay as they are.
        network: that is to take them.
    """
    found = dict(weights)
    matrix = found.get(TOKENS)
    if isinstance(network, Unetr) and matrix is not None and matrix.ndim == 2:
        edges = (UNETR_TOKEN_EDGE,) * network.num_axes
        if matrix.shape[1] % math.prod(edges) == 0:
            found[TOKENS] = matrix.reshape(len(matrix), *edges, -1).movedim(-1, 1)
    return found


def turned(weights: Mapping[str, Tensor], order: Axes, network: NetworkSpec) -> dict[str, Tensor]:
    """Return the weights that do to images of another order of axes what the given ones do; those that are the same are the same objects.

    Args:
        weights: by our names.
        order: which axis there becomes the first, second (and third) here.
        network: that is to take them. Learned positions are taken to be of its window or patch, its axes in their order.
    """
    if order == tuple(sorted(order)):
        return dict(weights)
    return {name: _turned(name, tensor, order, network) for name, tensor in weights.items()}


def _turned(name: str, tensor: Tensor, order: Axes, network: NetworkSpec) -> Tensor:
    if name.endswith(TABLE) and isinstance(network, SwinUnetr):
        return _on_grid(tensor, 0, [2 * edge - 1 for edge in network.window], order)
    if name.endswith(PLACES) and isinstance(network, Unetr):
        return _on_grid(tensor, 1, [edge // UNETR_TOKEN_EDGE for edge in network.patch_size], order)
    if ".downsample." in name and isinstance(network, SwinUnetr):
        return _merging(tensor, order)
    if tensor.ndim == 2 + len(order) and max(tensor.shape[2:]) > 1:
        return tensor.permute(0, 1, *(2 + axis for axis in order))
    return tensor


def _on_grid(tensor: Tensor, dim: int, grid: list[int], order: Axes) -> Tensor:
    """Return a tensor of which one dimension lists the places of a grid, given as it is here."""
    if tensor.ndim <= dim or tensor.shape[dim] != math.prod(grid):
        return tensor
    there = [grid[order.index(axis)] for axis in range(len(order))]
    axes = [dim + axis for axis in order]
    apart = tensor.reshape(*tensor.shape[:dim], *there, *tensor.shape[dim + 1 :])
    return apart.permute(*range(dim), *axes, *range(dim + len(order), apart.ndim)).reshape(tensor.shape)


def _merging(tensor: Tensor, order: Axes) -> Tensor:
    """Return weights that go by the merged tokens' features, in the last dimension."""
    places = MERGED[len(order)]
    if tensor.shape[-1] % len(places):
        return tensor
    there = ["".join(place[order.index(axis)] for axis in range(len(order))) for place in places]
    apart = tensor.reshape(*tensor.shape[:-1], len(places), -1)
    return apart[..., [places.index(place) for place in there], :].reshape(tensor.shape)


def other_positions(own: NetworkSpec, given: NetworkSpec | None, order: Axes) -> str:
    """Return a pattern for learned positions that were those of another window or patch, however many there are.

    Args:
        own: network that is to take weights.
        given: that they are of; None if that is not known.
        order: which axis there becomes each axis here.
    """
    if isinstance(own, SwinUnetr) and isinstance(given, SwinUnetr):
        pattern, here, there = rf".*\{TABLE}", own.window, given.window
    elif isinstance(own, Unetr) and isinstance(given, Unetr):
        pattern, here, there = rf".*\{PLACES}", own.patch_size, given.patch_size
    else:
        return NOTHING
    is_same = len(here) == len(there) and here == tuple(there[axis] for axis in order)
    return NOTHING if is_same else pattern


def told(decided: Iterable[TakenTensor], notes: Mapping[str, str]) -> tuple[TakenTensor, ...]:
    """Return what was decided, tensors that were changed before being told as adapted.

    Args:
        decided: tensor by tensor.
        notes: how given tensors were changed, by their names.
    """
    found = []
    for one in decided:
        if one.source is not None and one.source in notes and one.outcome != "skipped":
            note = "; ".join(filter(None, (notes[one.source], one.note)))
            found.append(one.changed(outcome="adapted", note=note))
        else:
            found.append(one)
    return tuple(found)
