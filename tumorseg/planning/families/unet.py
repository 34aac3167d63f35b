"""Base of all U-Net families: the topology that follows from patch and spacing, and nnU-Net's decoder."""

import math
from collections.abc import Iterator
from typing import Any, cast

from tumorseg.errors import PlanError
from tumorseg.planning.families.base import Ends, Grid, NetworkFamily, Sized, StageFacts, initial_patch, too_small
from tumorseg.planning.families.topology import MIN_EDGE, Topology, choose_topology, shrunk
from tumorseg.planning.families.unet_stages import Encoder, U, stage_shapes, unet_stages
from tumorseg.planning.presets import Preset
from tumorseg.schema.networks import Axes, KnownNetwork, NetworkSpec, OwnUNet, StagedNetwork, UNetTopology
from tumorseg.schema.plan import Reason


class UNetFamily(NetworkFamily[U]):
    """U-Nets of one kind of encoder."""

    encoder: Encoder[U]

    def networks(self, grid: Grid, preset: Preset) -> Iterator[Sized]:
        """Yield networks for a grid, from the one on the largest patch down, as long as there is a smaller one."""
        most = preset.max_features_2d if len(grid.spacing_mm) == 2 else preset.max_features_3d
        for topology in topologies(grid, preset):
            stages = range(topology.num_stages)
            fields = {
                "features_per_stage": tuple(min(preset.base_features * 2**stage, most) for stage in stages),
                "strides": topology.strides,
                "kernel_sizes": topology.kernel_sizes,
            }
            network = cast(KnownNetwork, self.encoder.build(fields, topology.num_stages))
            yield Sized(network, topology.patch_size)

    def like(self, other: NetworkSpec) -> U:
        """Return the U-Net on another one's stages, strides, kernels and features."""
        if not isinstance(other, StagedNetwork):
            raise PlanError(
                f"network {other.name} has no stages that {self.name} could take over; plan again with --network "
                f"{self.name}"
            )
        # Convolutions of the decoder go with the encoder: a residual one has fewer.
        shared = list(StagedNetwork.model_fields)
        if isinstance(other, UNetTopology):
            shared.append("negative_slope")
        if isinstance(other, OwnUNet):
            shared.extend(self.encoder.parts)
        return self.encoder.build({name: getattr(other, name) for name in shared}, other.num_stages)

    def feature_maps(self, network: U, patch_size: tuple[int, ...], num_outputs: int) -> int:
        """Return the elements of all convolutions' outputs in one forward pass of one patch.

        References:
            `compute_conv_feature_map_size` of nnU-Net's networks, which leaves the heads of deep supervision out.
        """
        sizes = _map_sizes(network, patch_size)
        elements = num_outputs * math.prod(patch_size)
        for level, size in enumerate(sizes):
            elements += self.encoder.num_maps(network, level) * size
        # The decoder begins one stage above the bottleneck; upsampling makes one map more in each of its stages.
        for convs, size in zip(network.decoder_convs_per_stage, sizes[-2::-1], strict=True):
            elements += (convs + 1) * size
        return elements

    def stages(self, network: U, patch_size: tuple[int, ...], ends: Ends) -> tuple[StageFacts, ...]:
        """Return the stages, the encoder from full resolution down, then the decoder up."""
        return tuple(unet_stages(network, self.encoder, patch_size, ends))

    def reason(self, sized: Sized, grid: Grid, preset: Preset, *, rival: NetworkFamily[Any]) -> Reason:
        """Return how the stages came about, and how many more feature maps the rival would have on them."""
        network, patch = cast(U, sized.network), sized.patch_size
        own = self.feature_maps(network, patch, grid.num_outputs)
        others = rival.feature_maps(rival.like(sized.network), patch, grid.num_outputs)
        ratio = "" if others is None else f", with {others / own:.2f} times the feature maps on the same patch"
        spacing_ratio = max(grid.spacing_mm) / min(grid.spacing_mm)
        return Reason(
            rule=_pooling_rule(network, spacing_ratio),
            inputs={
                "num_stages": network.num_stages,
                "base_features": preset.base_features,
                "spacing_ratio": spacing_ratio,
            },
            alternative=f"--network {rival.name}{ratio}",
        )


def topologies(grid: Grid, preset: Preset) -> Iterator[Topology]:
    """Yield topologies for a grid, from that of the largest patch down, as long as there is a smaller one.

    Raises:
        PlanError: the median case is too small for any.
    """
    largest = choose_topology(grid.spacing_mm, initial_patch(grid, preset))
    if largest.num_stages < 2:
        needed = f"{2 * MIN_EDGE} voxels in two axes of like spacing, or {3 * MIN_EDGE} in one"
        raise too_small(grid, f"a U-Net, which needs {needed}")
    topology: Topology | None = largest
    while topology is not None:
        yield topology
        topology = shrunk(topology, grid.spacing_mm, grid.median_shape)


def _map_sizes(network: UNetTopology, patch_size: Axes) -> list[int]:
    """Return the elements of one feature map of each stage."""
    shapes = stage_shapes(network, patch_size)
    return [math.prod(shape) * features for shape, features in zip(shapes, network.features_per_stage, strict=True)]


def _pooling_rule(network: UNetTopology, spacing_ratio: float) -> str:
    flat = sum(1 in kernel for kernel in network.kernel_sizes)
    across = f" (at {spacing_ratio:.1f} times the finest: not before stage {flat + 1})" if flat else ""
    return (
        f"an axis is pooled, with kernel 3, once its spacing is at most twice the finest{across}, and while at least "
        f"{MIN_EDGE} voxels remain"
    )
