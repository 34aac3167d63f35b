"""The U-Nets against nnU-Net's architecture."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tumorseg.networks.blocks import ConvUnit, ResidualBlock
from tumorseg.networks.registry import build_network
from tumorseg.schema.networks import PlainUNet, ResidualUNet

FEATURES = (4, 8, 8)
STRIDES = ((1, 1, 1), (1, 2, 2), (2, 2, 2))
KERNELS = ((1, 3, 3), (3, 3, 3), (3, 3, 3))
SHARED = {"features_per_stage": FEATURES, "strides": STRIDES, "kernel_sizes": KERNELS}


def plain(**changes):
    fields = {"convs_per_stage": (2, 2, 2), "decoder_convs_per_stage": (2, 2), **SHARED, **changes}
    return build_network(PlainUNet(**fields), num_channels=2, num_outputs=3)


def residual(**changes):
    fields = {"blocks_per_stage": (1, 3, 2), "decoder_convs_per_stage": (1, 1), **SHARED, **changes}
    return build_network(ResidualUNet(**fields), num_channels=2, num_outputs=3)


def count_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def size_of_unit(channels_in, channels_out, kernel, bias=1):
    return channels_in * channels_out * math.prod(kernel) + (bias + 2) * channels_out


def size_of_decoder(num_outputs, convs):
    up = 8 * 8 * 8 + 8 + 8 * 4 * 4 + 4
    first = size_of_unit(16, 8, KERNELS[1]) + (convs - 1) * size_of_unit(8, 8, KERNELS[1])
    second = size_of_unit(8, 4, KERNELS[0]) + (convs - 1) * size_of_unit(4, 4, KERNELS[0])
    return up + first + second + 8 * num_outputs + num_outputs + 4 * num_outputs + num_outputs


def test_plain_unet_has_the_parameters_that_its_layers_add_up_to():
    encoder = sum(
        size_of_unit(before, after, kernel) + size_of_unit(after, after, kernel)
        for before, after, kernel in zip((2, 4, 8), FEATURES, KERNELS, strict=True)
    )
    assert count_parameters(plain()) == encoder + size_of_decoder(3, convs=2)


def test_residual_unet_has_the_parameters_that_its_layers_add_up_to():
    blocks = {0: (4, 4, 1), 1: (4, 8, 3), 2: (8, 8, 2)}
    encoder = size_of_unit(2, 4, KERNELS[0])
    for stage, (before, after, count) in blocks.items():
        encoder += size_of_unit(before, after, KERNELS[stage])
        encoder += (2 * count - 1) * size_of_unit(after, after, KERNELS[stage])
        encoder += size_of_unit(before, after, (1,), bias=0) if before != after else 0
    assert count_parameters(residual()) == encoder + size_of_decoder(3, convs=1)


def test_without_deep_supervision_only_the_full_resolution_has_a_head():
    assert count_parameters(plain()) - count_parameters(plain(deep_supervision=False)) == 8 * 3 + 3


def test_weights_trained_with_deep_supervision_load_without_it():
    state = plain().state_dict()
    keys = plain(deep_supervision=False).load_state_dict(state, strict=False)
    assert keys.missing_keys == []
    assert keys.unexpected_keys == ["heads.1.weight", "heads.1.bias"]


def test_convolutions_start_with_he_weights_and_zero_biases():
    torch.manual_seed(0)
    network = plain(features_per_stage=(16, 32, 32))
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            assert module.bias is not None
            assert module.bias.abs().max() == 0
            fan_in = module.weight.shape[1] * math.prod(module.kernel_size)
            expected = math.sqrt(2 / (1 + 0.01**2) / fan_in)
            if module.weight.numel() > 1000:
                assert module.weight.std().item() == pytest.approx(expected, rel=0.1)


def test_norms_take_epsilon_and_activations_their_slope_from_the_plan():
    network = plain(norm_eps=1e-3, negative_slope=0.2)
    assert {m.eps for m in network.modules() if isinstance(m, nn.InstanceNorm3d)} == {1e-3}
    assert {m.activation.negative_slope for m in network.modules() if isinstance(m, ConvUnit)} == {0.2}


def test_residual_blocks_start_as_their_shortcut():
    for block in (module for module in residual().modules() if isinstance(module, ResidualBlock)):
        channels = block.first[0].in_channels
        features = torch.randn(2, channels, 4, 4, 4)
        expected = F.leaky_relu(block.shortcut(features), 0.01)
        torch.testing.assert_close(block(features.clone()), expected)


def test_a_residual_block_adds_convolutions_and_pooled_projected_shortcut():
    spec = ResidualUNet(blocks_per_stage=(1, 1, 1), decoder_convs_per_stage=(1, 1), **SHARED)
    block = ResidualBlock(spec, (4, 8), kernel_size=(3, 3, 3), stride=(1, 2, 2))
    features = torch.randn(1, 4, 2, 4, 4)

    def norm(values):
        return F.instance_norm(values, eps=1e-5)

    first, second, projection = block.first[0], block.second[0], block.shortcut[1][0]
    assert projection.bias is None
    hidden = F.leaky_relu(norm(F.conv3d(features, first.weight, first.bias, (1, 2, 2), 1)), 0.01)
    main = norm(F.conv3d(hidden, second.weight, second.bias, 1, 1))
    shortcut = norm(F.conv3d(F.avg_pool3d(features, (1, 2, 2)), projection.weight))
    torch.testing.assert_close(block(features), F.leaky_relu(main + shortcut, 0.01))


def test_the_input_of_a_residual_block_is_left_unchanged():
    spec = ResidualUNet(blocks_per_stage=(1, 1, 1), decoder_convs_per_stage=(1, 1), **SHARED)
    block = ResidualBlock(spec, (4, 4), kernel_size=(3, 3, 3), stride=(1, 1, 1))
    features = torch.randn(1, 4, 2, 4, 4)
    before = features.clone()
    block(features)
    assert torch.equal(features, before)


def test_the_decoder_concatenates_upsampled_features_before_the_skip():
    network = plain()
    stage = network.decoder[-1]
    seen = []
    stage[0][0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.randn(1, 2, 4, 8, 8)
    network.eval()(images)
    torch.testing.assert_close(seen[0][:, 4:], network.stages[0](images))
