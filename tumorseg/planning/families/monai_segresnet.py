"""`segresnet`: residual blocks that normalise first, built through MONAI."""

import math
from collections.abc import Iterator
from typing import Any, cast

from tumorseg.planning.families.base import Grid, NetworkFamily, Sized
from tumorseg.planning.families.falling import no_counterpart, on_falling_patches
from tumorseg.planning.presets import Preset
from tumorseg.schema.networks import Axes, NetworkSpec
from tumorseg.schema.networks_monai import SegResNet
from tumorseg.schema.plan import Reason

BLOCKS_PER_STAGE = (1, 2, 2, 4)
"""Residual blocks of the first stages; the last number goes on."""


class SegResNetFamily(NetworkFamily[SegResNet]):
    """SegResNets that first halve fine axes until all are about as coarse, as MONAI's Auto3DSeg does."""

    name = "segresnet"
    rival = "residual_unet"

    def networks(self, grid: Grid, preset: Preset) -> Iterator[Sized]:
        """Yield one network on falling patches.

        Raises:
            PlanError: the median case is too small for any.
        """
        most = preset.max_features_2d if len(grid.spacing_mm) == 2 else preset.max_features_3d
        # Features double at each stage, as there is no other choice, so that their limit is that of the stages.
        num_stages = 1 + max(1, math.floor(math.log2(most / preset.base_features)))
        last = len(BLOCKS_PER_STAGE) - 1
        blocks = tuple(BLOCKS_PER_STAGE[min(stage, last)] for stage in range(num_stages))
        network = SegResNet(
            features=preset.base_features,
            blocks_per_stage=blocks,
            decoder_blocks_per_stage=(1,) * (num_stages - 1),
            halved_first=_halved_first(grid.spacing_mm, num_stages - 1),
        )
        yield from on_falling_patches(network, grid, preset)

    def like(self, other: NetworkSpec) -> SegResNet:
        """Raise an error: patches of other networks are not made for it.

        Raises:
            PlanError: always.
        """
        raise no_counterpart(self.name, other)

    def feature_maps(self, network: SegResNet, patch_size: Axes, num_outputs: int) -> int:
        """Return the elements of all convolutions' outputs, the heads of coarser stages left out."""
        elements, edges = num_outputs * math.prod(patch_size), tuple(patch_size)
        # Two convolutions a block, and the one that leads into the stage.
        decoder = (0, *network.decoder_blocks_per_stage)[::-1]
        for stage, stride in enumerate(network.strides):
            edges = tuple(edge // step for edge, step in zip(edges, stride, strict=True))
            maps = 2 * network.blocks_per_stage[stage] + 1
            if stage < len(network.strides) - 1:
                maps += 2 * decoder[stage] + 1
            elements += maps * network.features * 2**stage * math.prod(edges)
        return elements

    def reason(self, sized: Sized, grid: Grid, preset: Preset, *, rival: NetworkFamily[Any]) -> Reason:
        """Return how the stages came about."""
        network = cast(SegResNet, sized.network)
        return Reason(
            rule="features double at each stage up to the preset's most; an axis that is at least twice as fine as the "
            "coarsest is halved, and convolved, before that one is",
            inputs={
                "num_stages": len(network.blocks_per_stage),
                "base_features": network.features,
                "halved_first": list(network.halved_first),
            },
            alternative=f"--network {rival.name}",
        )


def _halved_first(spacing_mm: tuple[float, ...], most: int) -> tuple[int, ...]:
    coarsest = max(spacing_mm)
    return tuple(min(most, math.floor(math.log2(coarsest / spacing))) for spacing in spacing_mm)
