"""`dynunet` and `attention_unet`: U-Nets on the stages of a plain one, built through MONAI."""

from collections.abc import Iterator
from typing import Any, cast

from tumorseg.errors import PlanError
from tumorseg.planning.families.base import Grid, NetworkFamily, Sized, too_small
from tumorseg.planning.families.plain_unet import PlainUNetFamily
from tumorseg.planning.presets import Preset
from tumorseg.schema.networks import Axes, NetworkSpec, PlainUNet, StagedNetwork, UNetTopology
from tumorseg.schema.networks_monai import AttentionUnet, DynUNet
from tumorseg.schema.plan import Reason

PLAIN = PlainUNetFamily()
"""Whose stages both take."""
LEAST_STAGES = 3
"""Of a DynUNet."""


class DynUNetFamily(NetworkFamily[DynUNet]):
    """MONAI's U-Nets after nnU-Net's, with plain encoders."""

    name = "dynunet"
    rival = "plain_unet"

    def networks(self, grid: Grid, preset: Preset) -> Iterator[Sized]:
        """Yield networks on the patches and stages of plain U-Nets, of three stages at least.

        Raises:
            PlanError: the median case is too small for any.
        """
        is_any = False
        for plain in PLAIN.networks(grid, preset):
            if cast(PlainUNet, plain.network).num_stages >= LEAST_STAGES:
                is_any = True
                yield Sized(self.like(plain.network), plain.patch_size)
        if not is_any:
            raise too_small(grid, f"the {LEAST_STAGES} stages of {self.name}", f"plan with --network {self.rival}")

    def like(self, other: NetworkSpec) -> DynUNet:
        """Return the network on another one's stages, strides, kernels and features.

        Raises:
            PlanError: the other one has no stages, or too few.
        """
        staged = _staged(self.name, other)
        if staged.num_stages < LEAST_STAGES:
            raise PlanError(
                f"network {other.name} has {staged.num_stages} stages, {self.name} needs {LEAST_STAGES}; plan a larger patch"
            )
        # Of what both have, but for what is particular to one of them.
        shared = {name: getattr(staged, name) for name in StagedNetwork.model_fields}
        slope = {"negative_slope": staged.negative_slope} if isinstance(staged, UNetTopology) else {}
        return DynUNet(**shared, **slope, decoder_convs_per_stage=(2,) * (staged.num_stages - 1))

    def feature_maps(self, network: DynUNet, patch_size: Axes, num_outputs: int) -> int:
        """Return those of a plain U-Net on these stages, which has as many; residual blocks have more."""
        return PLAIN.feature_maps(PLAIN.like(network), patch_size, num_outputs)

    def reason(self, sized: Sized, grid: Grid, preset: Preset, *, rival: NetworkFamily[Any]) -> Reason:
        """Return where the stages come from."""
        return _stages_reason(cast(DynUNet, sized.network).num_stages, rival)


class AttentionUnetFamily(NetworkFamily[AttentionUnet]):
    """U-Nets with gates on their skip connections."""

    name = "attention_unet"
    rival = "plain_unet"

    def networks(self, grid: Grid, preset: Preset) -> Iterator[Sized]:
        """Yield networks on the patches, strides and features of plain U-Nets.

        Raises:
            PlanError: the median case is too small for any.
        """
        for plain in PLAIN.networks(grid, preset):
            yield Sized(self.like(plain.network), plain.patch_size)

    def like(self, other: NetworkSpec) -> AttentionUnet:
        """Return the network on another one's strides and features, with kernels of 3.

        Raises:
            PlanError: the other one has no stages.
        """
        staged = _staged(self.name, other)
        kernel = (3,) * staged.num_axes
        return AttentionUnet(features_per_stage=staged.features_per_stage, strides=staged.strides, kernel_size=kernel)

    def feature_maps(self, network: AttentionUnet, patch_size: Axes, num_outputs: int) -> int:
        """Return those of a plain U-Net with one convolution in each stage of the decoder: all but the gates'."""
        num_stages = len(network.features_per_stage)
        plain = PlainUNet(
            features_per_stage=network.features_per_stage,
            strides=network.strides,
            kernel_sizes=(network.kernel_size,) * num_stages,
            convs_per_stage=(2,) * num_stages,
            decoder_convs_per_stage=(1,) * (num_stages - 1),
        )
        return PLAIN.feature_maps(plain, patch_size, num_outputs)

    def reason(self, sized: Sized, grid: Grid, preset: Preset, *, rival: NetworkFamily[Any]) -> Reason:
        """Return where the stages come from."""
        return _stages_reason(len(cast(AttentionUnet, sized.network).features_per_stage), rival)


def _staged(name: str, other: NetworkSpec) -> StagedNetwork:
    if not isinstance(other, StagedNetwork):
        raise PlanError(
            f"network {other.name} has no stages that {name} could take over; plan again with --network {name}"
        )
    return other


def _stages_reason(num_stages: int, rival: NetworkFamily[Any]) -> Reason:
    return Reason(
        rule=f"patch, strides and features of a {PLAIN.name}, whose stages follow from patch and spacing",
        inputs={"num_stages": num_stages},
        alternative=f"--network {rival.name}",
    )
