"""nnU-Net's own memory estimate, which its presets keep so that they plan what it plans.

Its feature-map elements (`compute_conv_feature_map_size`), in closed form, know neither parameters nor optimizer; they are
compared with those of networks that were measured.
"""

import math

from tumorseg.planning.presets import MemoryReference, Preset
from tumorseg.planning.search.patch import MIN_BATCH_SIZE, Candidate, Grid, Relief
from tumorseg.schema.networks import PlainUNet, ResidualUNet


def feature_map_elements(network: PlainUNet | ResidualUNet, patch_size: tuple[int, ...], num_outputs: int) -> int:
    """Return the elements of all convolutions' outputs in one forward pass of one patch.

    Args:
        network: the architecture.
        patch_size: voxels per axis.
        num_outputs: channels of the segmentation head.
    """
    sizes = _stage_voxels(network, patch_size)
    encoder = _plain_encoder(network, sizes) if isinstance(network, PlainUNet) else _residual_encoder(network, sizes)
    return encoder + _decoder(network, sizes, num_outputs)


def _stage_voxels(network: PlainUNet | ResidualUNet, patch_size: tuple[int, ...]) -> list[int]:
    sizes, edges = [], list(patch_size)
    for stride in network.strides:
        edges = [edge // step for edge, step in zip(edges, stride, strict=True)]
        sizes.append(math.prod(edges))
    return sizes


def _plain_encoder(network: PlainUNet, sizes: list[int]) -> int:
    stages = zip(network.convs_per_stage, network.features_per_stage, sizes, strict=True)
    return sum(convs * features * size for convs, features, size in stages)


def _residual_encoder(network: ResidualUNet, sizes: list[int]) -> int:
    """Count the stem, two convolutions a block, and the projection where a skip changes shape."""
    total, previous = network.features_per_stage[0] * sizes[0], network.features_per_stage[0]
    stages = zip(network.blocks_per_stage, network.features_per_stage, network.strides, sizes, strict=True)
    for blocks, features, stride, size in stages:
        projections = int(features != previous or max(stride) > 1)
        total += (2 * blocks + projections) * features * size
        previous = features
    return total


def _decoder(network: PlainUNet | ResidualUNet, sizes: list[int], num_outputs: int) -> int:
    """Count upsampling, convolutions and the head at full resolution; nnU-Net leaves those of deep supervision out."""
    levels = zip(network.decoder_convs_per_stage, network.features_per_stage[-2::-1], sizes[-2::-1], strict=True)
    return sum((convs + 1) * features * size for convs, features, size in levels) + num_outputs * sizes[0]


class PublishedRule:
    """nnU-Net's estimate: elements of feature maps against those of a network that was measured."""

    reliefs = (Relief(keeps_patch=False),)

    def __init__(self, reference: MemoryReference, preset: Preset, vram_gb: float, num_gpus: int) -> None:
        """Take the preset's reference and a budget in GB (2^30 bytes)."""
        self._reference, self._preset, self.vram_gb, self.num_gpus = reference, preset, vram_gb, num_gpus

    def fits(self, candidate: Candidate, grid: Grid, *, is_rough: bool) -> bool:
        """Compare as nnU-Net does: its plain planner at batch size 2, its ResEnc planners at the reference's."""
        return self._elements(candidate, grid) <= self._budget(grid) * self._least_share(grid)

    def largest_batch(self, candidate: Candidate, grid: Grid, most: int) -> int:
        """Return the reference's batch, scaled, on each GPU."""
        batch = self._budget(grid) / self._elements(candidate, grid) * self._reference_batch(grid)
        return (round(batch) if self._preset.rounds_batch else math.floor(batch)) * self.num_gpus

    def needed_gb(self, candidate: Candidate, grid: Grid, *, is_rough: bool) -> float:
        """Return the budget at which the estimate fits, rounded up to hundredths."""
        share = self._elements(candidate, grid) / (self._budget(grid) * self._least_share(grid))
        return math.ceil(share * self.vram_gb * 100) / 100

    def _elements(self, candidate: Candidate, grid: Grid) -> int:
        return feature_map_elements(candidate.network, candidate.patch_size, grid.num_outputs)

    def _budget(self, grid: Grid) -> float:
        """Return the elements, at the reference's batch size, that the budget allows."""
        elements = self._reference.elements_2d if len(grid.spacing_mm) == 2 else self._reference.elements_3d
        return elements * self.vram_gb / self._reference.vram_gb

    def _least_share(self, grid: Grid) -> float:
        is_residual = self._preset.network == "residual_unet"
        return 1.0 if is_residual else self._reference_batch(grid) / MIN_BATCH_SIZE

    def _reference_batch(self, grid: Grid) -> int:
        return self._reference.batch_2d if len(grid.spacing_mm) == 2 else self._reference.batch_3d
