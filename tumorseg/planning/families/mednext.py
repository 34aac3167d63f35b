"""`mednext`: MedNeXt in its published sizes, on the stages of a U-Net."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from tumorseg.errors import PlanError
from tumorseg.planning.families.base import Ends, Grid, NetworkFamily, Sized, StageFacts
from tumorseg.planning.families.mednext_stages import mednext_stages
from tumorseg.planning.families.unet import topologies
from tumorseg.planning.presets import Preset
from tumorseg.schema.networks import Axes, MedNext, NetworkSpec, StagedNetwork
from tumorseg.schema.plan import Reason


class Size(NamedTuple):
    """One of the published sizes."""

    blocks: tuple[int, ...]
    """Of each stage from full resolution down; the decoder's are the encoder's."""
    expansions: tuple[int, ...]
    """Of the same stages."""


SIZES = {
    "s": Size((2, 2, 2, 2, 2), (2, 2, 2, 2, 2)),
    "b": Size((2, 2, 2, 2, 2), (2, 3, 4, 4, 4)),
    "m": Size((3, 4, 4, 4, 4), (2, 3, 4, 4, 4)),
    "l": Size((3, 4, 8, 8, 8), (3, 4, 8, 8, 8)),
}
"""By name.

References:
    Roy et al., MedNeXt, MICCAI 2023, table 1.
"""
MOST_STAGES = 5
"""As published, whatever the patch: a coarser bottleneck would be most of the weights."""
DEFAULT_SIZE = "b"
"""Of a network that takes the place of another family's."""


class MedNextFamily(NetworkFamily[MedNext]):
    """MedNeXt of the preset's size; widths double at each stage without a limit, as published."""

    name = "mednext"
    rival = "residual_unet"

    def networks(self, grid: Grid, preset: Preset) -> Iterator[Sized]:
        """Yield networks for a grid, from the one on the largest patch down, as long as there is a smaller one."""
        for topology in topologies(grid, preset):
            stages = {"strides": topology.strides, "kernel_sizes": topology.kernel_sizes}
            yield Sized(_network(preset.base_features, stages, preset.network_size), topology.patch_size)

    def like(self, other: NetworkSpec) -> MedNext:
        """Return the network of the usual size on another one's first stages, strides, kernels and width."""
        if not isinstance(other, StagedNetwork):
            raise PlanError(
                f"network {other.name} has no stages that {self.name} could take over; plan again with --network "
                f"{self.name}"
            )
        kept = ("strides", "kernel_sizes", "norm_eps", "deep_supervision")
        return _network(other.features_per_stage[0], {name: getattr(other, name) for name in kept}, DEFAULT_SIZE)

    def reason(self, sized: Sized, grid: Grid, preset: Preset, *, rival: NetworkFamily[Any]) -> Reason:
        """Return where stages and blocks come from, and how many feature maps the rival would have in comparison."""
        network, patch = cast(MedNext, sized.network), sized.patch_size
        own = self.feature_maps(network, patch, grid.num_outputs)
        others = rival.feature_maps(rival.like(sized.network), patch, grid.num_outputs)
        ratio = "" if others is None else f", with {others / own:.2f} times the feature maps on the same patch"
        return Reason(
            rule=f"the stages of a U-Net on the same patch, {MOST_STAGES} at most; blocks and expansions of size "
            f"{preset.network_size.upper()} as published, kernel 3",
            inputs={
                "num_stages": network.num_stages,
                "base_features": preset.base_features,
                "network_size": preset.network_size,
                "spacing_ratio": max(grid.spacing_mm) / min(grid.spacing_mm),
            },
            alternative=f"--network {rival.name}{ratio}",
        )

    def feature_maps(self, network: MedNext, patch_size: Axes, num_outputs: int) -> int:
        """Return the elements of all feature maps that a step keeps of one patch, and of its logits."""
        stages = self.stages(network, patch_size, Ends(1, num_outputs, is_checkpointed=False))
        return sum(stage.saved_elements for stage in stages) + num_outputs * math.prod(patch_size)

    def stages(self, network: MedNext, patch_size: Axes, ends: Ends) -> tuple[StageFacts, ...]:
        """Return the stages, the encoder from full resolution down, then the decoder up."""
        return tuple(mednext_stages(network, patch_size, ends))


def _network(width: int, fields: dict[str, Any], size: str) -> MedNext:
    """Return a network on the first of some stages."""
    count = min(MOST_STAGES, len(fields["strides"]))
    cut = {name: fields[name][:count] for name in ("strides", "kernel_sizes")}
    blocks, expansions = SIZES[size]
    return MedNext(
        **(fields | cut),
        features_per_stage=tuple(width * 2**stage for stage in range(count)),
        blocks_per_stage=_there_and_back(blocks[:count]),
        expansion_per_stage=_there_and_back(expansions[:count]),
    )


def _there_and_back(of_encoder: tuple[int, ...]) -> tuple[int, ...]:
    """Return the numbers of an encoder's stages followed by those of the decoder, which are the same from below."""
    return (*of_encoder, *of_encoder[-2::-1])
