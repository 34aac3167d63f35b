"""`dints`: the network that DiNTS's search found, of MONAI's cells."""

from functools import partial
from typing import Any, cast

from monai.networks.nets.dints import Cell, DiNTS
from torch import Tensor, nn

from tumorseg.networks.monai.base import Wrapped
from tumorseg.networks.spaces import check_space
from tumorseg.schema.networks_monai import NUM_DEPTHS, Dints

COMES_FROM = (0, 1, 0, 1, 2, 1, 2, 3, 2, 3)
"""Resolution that each of a layer's ten paths begins at, 0 for the finest."""
LEADS_TO = (0, 0, 1, 1, 1, 2, 2, 2, 3, 3)
"""Resolution that each ends at."""
# The published code (arch_code_cvpr.pth beside the paper's code; the same numbers in MONAI's Auto3DSeg), a layer a row.
PATHS = (
    *("1011111010", "1111011011", "1111111011", "1011111110"),
    *("1111011111", "1011111111", "1111010111", "1111110011"),
    *("1111011111", "1111011111", "1110011111", "1100000111"),
)
"""Paths of each layer that were kept."""
CELLS = (
    *("1313212011", "1031021243", "3002101210", "4221211013"),
    *("1140041111", "2000444111", "4300240103", "1100340413"),
    *("1002000011", "1423443031", "2023020032", "4400143021"),
)
"""What each path's cell does: 0 nothing, 1 a convolution of 3 voxels along each axis, 2 to 4 one along two axes and another along
the third."""
NUM_CELLS = 5


class DintsModule(Wrapped):
    """The parts of MONAI's network under its names, without those that the search left no use for.

    References:
        He et al., DiNTS: differentiable neural network topology search for 3D medical image segmentation, CVPR 2021.
    """

    def __init__(self, spec: Dints, network: nn.Module) -> None:
        super().__init__(spec)
        self.dints_space = cast(nn.Module, network.dints_space)
        self.stem_down = cast(nn.ModuleDict, network.stem_down)
        self.stem_up = cast(nn.ModuleDict, network.stem_up)
        self.stem_finals = cast(nn.Module, network.stem_finals)
        for depth in set(range(NUM_DEPTHS)) - _begun_at(0):
            del self.stem_down[str(depth)]

    def forward(self, images: Tensor) -> Tensor:
        """Map intensities to logits.

        Args:
            images: (B, C, *space), space being a multiple of 16.

        Returns:
            Logits (B, K, *space).

        Raises:
            InputError: the space is not such a multiple.
        """
        check_space(images, self.divisors)
        features = {int(depth): self.run(stem, images) for depth, stem in self.stem_down.items()}
        for layer in range(len(PATHS)):
            features = self._pass(layer, features)
        climbed: Tensor | None = None
        for depth in reversed(range(NUM_DEPTHS)):
            joined = _sum(climbed, features.get(depth))
            climbed = self.run(self.stem_up[str(depth)], joined)
        return cast(Tensor, self.stem_finals(climbed))

    def _pass(self, layer: int, features: dict[int, Tensor]) -> dict[int, Tensor]:
        """Return a layer's features by resolution, those of paths that meet added up."""
        cells = cast(dict[str, Any], cast(Any, self.dints_space).cell_tree)
        after: dict[int, Tensor] = {}
        for path in _paths(layer):
            cell = partial(cells[str((layer, path))], weight=None)
            end = LEADS_TO[path]
            after[end] = _sum(after.get(end), self.run(cell, features[COMES_FROM[path]]))
        return after


class _Space(nn.Module):
    """What MONAI's network asks of a searched space: its cells, made from numbers rather than tensors, which may be fakes."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_blocks, self.num_depths = len(PATHS), NUM_DEPTHS
        self.filter_nums = [features * 2**depth for depth in range(NUM_DEPTHS + 1)]
        self.cell_tree = nn.ModuleDict()
        for layer in range(len(PATHS)):
            for path in _paths(layer):
                self.cell_tree[str((layer, path))] = self._cell(layer, path)

    def _cell(self, layer: int, path: int) -> nn.Module:
        start, end = COMES_FROM[path], LEADS_TO[path]
        chosen = [int(number == int(CELLS[layer][path])) for number in range(NUM_CELLS)]
        # The finest resolution is half of the image's, so that features are those of one further down.
        return cast(nn.Module, Cell(self.filter_nums[start + 1], self.filter_nums[end + 1], start - end, chosen))


def dints(spec: Dints, *, num_channels: int, num_outputs: int) -> DintsModule:
    """Return MONAI's DiNTS with fresh weights.

    Args:
        spec: its width.
        num_channels: C, the image's channels.
        num_outputs: K, classes or regions.
    """
    network = DiNTS(_Space(spec.features), in_channels=num_channels, num_classes=num_outputs)
    return DintsModule(spec, network)


def _paths(layer: int) -> list[int]:
    return [path for path, is_kept in enumerate(PATHS[layer]) if is_kept == "1"]


def _begun_at(layer: int) -> set[int]:
    return {COMES_FROM[path] for path in _paths(layer)}


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor:
    """Return the sum of those that there are; one is."""
    if one is None or other is None:
        return cast(Tensor, other if one is None else one)
    return one + other
