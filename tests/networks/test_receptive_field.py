"""Receptive fields by arithmetic, held to how far gradients of real networks reach."""

from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.networks.rows import spec_of
from tests.planning.reading.test_anatomy import bare
from tumorseg.networks.receptive_field import Reach, receptive_field
from tumorseg.networks.registry import build_network, prepare_network
from tumorseg.schema.networks_monai import AttentionUnet, Dints, DynUNet, SegResNet, SwinUnetr, Unetr

SQUARES = ((1, 1), (2, 2), (2, 1))
U_NET = {"features_per_stage": (2, 2, 2), "strides": SQUARES}
SEGRESNET = {"features": 8, "blocks_per_stage": (1, 1, 1), "decoder_blocks_per_stage": (1, 1)}
SPECS = {
    "plain": spec_of("plain_unet", "2d", deep_supervision=False),
    "residual": spec_of("residual_unet", "2d", deep_supervision=False).changed(strides=((1, 1), (3, 2), (1, 3))),
    "mednext": spec_of("mednext", "2d", deep_supervision=False),
    "mednext, anisotropic": spec_of("mednext", "3d anisotropic", deep_supervision=False),
    "segresnet": SegResNet(halved_first=(0, 1), **SEGRESNET),
    "dynunet": DynUNet(kernel_sizes=((1, 3), (3, 3), (3, 3)), decoder_convs_per_stage=(2, 2), **U_NET),
    "attention_unet": AttentionUnet(kernel_size=(3, 3), **U_NET),
}


def reach_of(build, patch, divisors=None, channels=1):
    return receptive_field(build, patch, num_channels=channels, divisors=divisors or (1,) * len(patch))


def measured(network, divisors, lengths):
    """Return the widest box, along each axis, of voxels whose change reaches a voxel of the logits.

    Images are long along one axis after the other, and a few voxels wide along the others.
    """
    widest = []
    for axis, divisor in enumerate(divisors):
        space = [2 * other for other in divisors]
        space[axis] = lengths[axis]
        edges = [reached_edge(network, space, axis, phase) for phase in range(divisor)]
        widest.append(max(edges))
    return tuple(widest)


def reached_edge(network, space, axis, phase):
    # Not of zeros, at which a rectifier has no slope.
    images = torch.ones(1, 1, *space, dtype=torch.float64, requires_grad=True)
    place = [size // 2 for size in space]
    place[axis] += phase
    network(images)[(0, 0, *place)].backward()
    reached = images.grad[0, 0].nonzero()[:, axis]
    return int(reached.max() - reached.min()) + 1


SLOW = ("mednext", "segresnet", "dynunet", "attention_unet")
"""MONAI's import takes seconds."""
PARAMETERS = [pytest.param(name, marks=(pytest.mark.slow,) if name in SLOW else ()) for name in SPECS]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_network_sees_as_far_as_a_gradient_reaches(name):
    spec = SPECS[name]
    prepare_network(spec)
    patch = [4 * divisor for divisor in spec.divisors]
    reach = reach_of(lambda: build_network(spec, num_channels=1, num_outputs=1), patch, spec.divisors)
    # Of an even number of periods, so that one begins in the middle.
    lengths = [2 * (edge // divisor + 1) * divisor for edge, divisor in zip(reach.voxels, spec.divisors, strict=True)]
    assert reach == Reach(measured(bare(spec).eval(), spec.divisors, lengths), None)


@pytest.mark.parametrize(
    ("module", "voxels"),
    [
        (nn.Conv2d(1, 1, (3, 5), padding=(1, 2)), (3, 5)),
        (nn.Conv2d(1, 1, 3, padding="same", dilation=(2, 1)), (5, 3)),
        (nn.Sequential(nn.AvgPool2d(2), nn.ConvTranspose2d(1, 1, 2, 2)), (2, 2)),
        (nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.Upsample(scale_factor=2)), (3, 3)),
        (nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")), (4, 4)),
        (nn.Sequential(nn.AvgPool2d(2), nn.Upsample(size=(64, 64), mode="bilinear", align_corners=True)), (4, 4)),
        (nn.Sequential(nn.ZeroPad2d((1, 1, 1, 1)), nn.Conv2d(1, 1, 3)), (3, 3)),
    ],
    ids=str,
)
def test_each_operation_sees_what_it_is_made_of(module, voxels):
    assert reach_of(lambda: module.to("meta"), (64, 64), (2, 2)) == Reach(voxels, None)


@cache
def usual_reach_with(**changes):
    spec = SPECS["mednext"].changed(**changes)
    return reach_of(lambda: build_network(spec, num_channels=1, num_outputs=1), (32, 32), spec.divisors)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "whole"),
    [
        ({"norm": "layer"}, None),
        ({"attention_gates": True}, None),
        ({"attention": "squeeze_excitation"}, "patch"),
        ({"global_response_norm": True}, "patch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_parts_of_a_network_pool_or_look_no_further(changes, whole):
    assert usual_reach_with(**changes) == usual_reach_with()._replace(whole=whole)


class Gated(nn.Module):
    """A gate that is opened by the mean of all voxels."""

    def __init__(self):
        super().__init__()
        self.convolve = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, images):
        features = self.convolve(images)
        return features * F.adaptive_avg_pool2d(features, 1).sigmoid()


def test_gates_of_pooled_features_look_at_the_whole_patch_besides():
    assert reach_of(Gated, (16, 16)) == Reach((3, 3), "patch")


def test_what_sees_further_than_any_image_sees_the_whole_patch():
    assert reach_of(lambda: nn.Conv2d(1, 1, (1, 70_001), padding=(0, 35_000)), (8, 8)) == Reach(None, "patch")


def test_slices_of_other_axes_than_the_spatial_ones_are_no_reason_to_see_more():
    halves = nn.Module()
    halves.forward = lambda images: images[:, 1:] + images[:, :1]
    assert reach_of(lambda: halves, (8, 8), channels=2).voxels == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "patch", "whole"),
    [
        (SwinUnetr(features=12, window=(2, 2), depths=(2, 1, 1, 1)), (128, 128), "window"),
        (SwinUnetr(features=12, window=(7, 7), depths=(2, 1, 1, 1)), (64, 64), "patch"),
        (Unetr(patch_size=(32, 32), features=4, hidden=24, hidden_between=32, heads=2), (32, 32), "patch"),
        (Unetr(patch_size=(16, 16), features=4, hidden=24, hidden_between=32, heads=2), (16, 16), "patch"),
    ],
    ids=["windows", "windows as large as the patch", "all tokens", "a single token"],
)
def test_attention_looks_at_a_window_or_at_the_patch_as_a_whole(spec, patch, whole):
    prepare_network(spec)
    found = reach_of(lambda: build_network(spec, num_channels=1, num_outputs=1), patch, spec.divisors)
    assert found == Reach(None, whole)


@pytest.mark.slow
def test_the_searched_network_sees_further_than_its_patch_and_pools_nothing():
    spec = Dints(features=2)
    prepare_network(spec)
    found = reach_of(lambda: build_network(spec, num_channels=1, num_outputs=1), (32, 16, 16), spec.divisors)
    assert found.whole is None
    assert min(found.voxels) > 100
