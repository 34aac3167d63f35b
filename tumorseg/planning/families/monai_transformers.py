"""`swin_unetr` and `unetr`: encoders of attention, built through MONAI."""

import math
from collections.abc import Iterator
from typing import Any, cast

from tumorseg.planning.families.base import Grid, NetworkFamily, Sized
from tumorseg.planning.families.falling import falling_patches, no_counterpart, on_falling_patches
from tumorseg.planning.presets import Preset
from tumorseg.schema.networks import Axes, NetworkSpec
from tumorseg.schema.networks_monai import UNETR_TOKEN_EDGE, SwinUnetr, Unetr
from tumorseg.schema.plan import Reason

WINDOW = 7
"""Tokens along each axis of a window, as published."""
FULL_RESOLUTION_MAPS = 7
"""Maps at full resolution that are kept for the backward pass at the least: of the first block its two convolutions, of
the last one its joined input, which counts twice, and three convolutions."""
UNETR_LAYERS = 12
"""Attention blocks, each of which keeps its weights of attention."""


class SwinUnetrFamily(NetworkFamily[SwinUnetr]):
    """Swin UNETRs of the published depths, heads and window, narrower where the preset is."""

    name = "swin_unetr"
    rival = "residual_unet"
    grows_straight = False

    def networks(self, grid: Grid, preset: Preset) -> Iterator[Sized]:
        """Yield one network on falling patches, multiples of 32.

        Raises:
            PlanError: the median case is too small for any.
        """
        # 48 features where a U-Net begins with 32; a multiple of 12, so that all heads are alike.
        features = 12 * max(1, preset.base_features // 8)
        network = SwinUnetr(features=features, window=(WINDOW,) * len(grid.spacing_mm))
        yield from on_falling_patches(network, grid, preset)

    def like(self, other: NetworkSpec) -> SwinUnetr:
        """Raise an error: patches of other networks are not made for it.

        Raises:
            PlanError: always.
        """
        raise no_counterpart(self.name, other)

    def feature_maps(self, network: SwinUnetr, patch_size: Axes, num_outputs: int) -> int:
        """Return the elements of the maps at full resolution alone."""
        return (FULL_RESOLUTION_MAPS * network.features + num_outputs) * math.prod(patch_size)

    def reason(self, sized: Sized, grid: Grid, preset: Preset, *, rival: NetworkFamily[Any]) -> Reason:
        """Return where its figures come from."""
        network = cast(SwinUnetr, sized.network)
        return Reason(
            rule="published depths, heads and window; features go by the preset's, in steps of 12; patches in steps of 32 "
            "voxels, as tokens of 2 are merged four times",
            inputs={"features": network.features, "window": list(network.window)},
            alternative=f"--network {rival.name}",
        )


class UnetrFamily(NetworkFamily[Unetr]):
    """UNETRs of the published shape, narrower where the preset is; each patch has its own network."""

    name = "unetr"
    rival = "swin_unetr"
    grows_straight = False

    def networks(self, grid: Grid, preset: Preset) -> Iterator[Sized]:
        """Yield networks on falling patches, multiples of 16, whose positions they learn."""
        # 16 features, 12 heads of 64 channels where a U-Net begins with 32 features.
        heads = max(1, 12 * preset.base_features // 32)
        width = {"features": max(1, preset.base_features // 2), "heads": heads, "hidden": 64 * heads}
        for patch in falling_patches(grid, preset, (UNETR_TOKEN_EDGE,) * len(grid.spacing_mm)):
            yield Sized(Unetr(patch_size=patch, hidden_between=256 * heads, **width), patch)

    def kin(self, network: Unetr) -> Unetr:
        """Return the network for the smallest patch: positions are few beside all else."""
        return network.changed(patch_size=network.divisors)

    def like(self, other: NetworkSpec) -> Unetr:
        """Raise an error: patches of other networks are not made for it.

        Raises:
            PlanError: always.
        """
        raise no_counterpart(self.name, other)

    def feature_maps(self, network: Unetr, patch_size: Axes, num_outputs: int) -> int:
        """Return the elements of the maps at full resolution, and of attention, which grows with the patch squared."""
        voxels = math.prod(patch_size)
        tokens = voxels // math.prod(network.divisors)
        attention = UNETR_LAYERS * network.heads * tokens**2
        return (FULL_RESOLUTION_MAPS * network.features + num_outputs) * voxels + attention

    def reason(self, sized: Sized, grid: Grid, preset: Preset, *, rival: NetworkFamily[Any]) -> Reason:
        """Return where its figures come from."""
        network = cast(Unetr, sized.network)
        return Reason(
            rule="12 attention blocks of heads of 64 channels, as published; features and heads go by the preset's "
            "features; patches in steps of 16 voxels, the edge of a token",
            inputs={"features": network.features, "heads": network.heads, "hidden": network.hidden},
            alternative=f"--network {rival.name}",
        )
