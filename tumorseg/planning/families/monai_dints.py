"""`dints`: the network that a search found, built through MONAI."""

import math
from collections.abc import Iterator
from typing import Any, cast

from tumorseg.errors import PlanError
from tumorseg.planning.families.base import Grid, NetworkFamily, Sized
from tumorseg.planning.families.falling import no_counterpart, on_falling_patches
from tumorseg.planning.presets import Preset
from tumorseg.schema.networks import Axes, NetworkSpec
from tumorseg.schema.networks_monai import Dints
from tumorseg.schema.plan import Reason

FINE_MAPS = 5
"""Of its width at full resolution, kept for the backward pass at the least: two of the stem's, three of the last block's."""


class DintsFamily(NetworkFamily[Dints]):
    """The searched network, whose width goes by the preset's."""

    name = "dints"
    rival = "residual_unet"

    def networks(self, grid: Grid, preset: Preset) -> Iterator[Sized]:
        """Yield the network on falling patches, multiples of 16.

        Raises:
            PlanError: the grid has two axes, or the median case is too small for any.
        """
        if len(grid.spacing_mm) != 3:
            raise PlanError(
                f"network {self.name} was searched for volumes only, the images are planes; plan with --network {self.rival}"
            )
        # Each half of a downsampling makes half of the channels.
        yield from on_falling_patches(Dints(features=max(2, preset.base_features // 2 * 2)), grid, preset)

    def like(self, other: NetworkSpec) -> Dints:
        """Raise an error: patches of other networks are not made for it.

        Raises:
            PlanError: always.
        """
        raise no_counterpart(self.name, other)

    def feature_maps(self, network: Dints, patch_size: Axes, num_outputs: int) -> int:
        """Return the elements of the maps at full resolution alone."""
        return (FINE_MAPS * network.features + num_outputs) * math.prod(patch_size)

    def reason(self, sized: Sized, grid: Grid, preset: Preset, *, rival: NetworkFamily[Any]) -> Reason:
        """Return where its figures come from."""
        network = cast(Dints, sized.network)
        return Reason(
            rule="paths and cells that the published search kept, on the pancreas of the Medical Decathlon; features go by the preset's; "
            "all axes are halved alike, so patches come in steps of 16 voxels",
            inputs={"features": network.features},
            alternative=f"--network {rival.name}",
        )
