"""What normalisations, activations, attention and chance do within a network."""

import pytest
import torch
from torch import nn

from tests.networks.part_rows import NETWORKS
from tests.networks.rows import SHAPES, spec_of, with_parts
from tumorseg.networks.attention import AttentionGate, Cbam, SqueezeExcitation
from tumorseg.networks.blocks import ResidualBlock
from tumorseg.networks.channels_last import lies_channels_last, on_rows
from tumorseg.networks.layers import dropped, norm_of
from tumorseg.networks.mednext import Block
from tumorseg.networks.parts import depths, names_in
from tumorseg.networks.registry import build_network

SPACE = SHAPES["3d"][0]


def built(spec):
    torch.manual_seed(0)
    return build_network(spec, num_channels=2, num_outputs=3).train()


def images(batch=2):
    return torch.randn(batch, 2, *SPACE, generator=torch.Generator().manual_seed(1))


def weights_in(module):
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    return module


def test_channels_are_weighted_by_their_means():
    module = weights_in(SqueezeExcitation(4, 2))
    nn.init.ones_(module.squeeze.weight)
    nn.init.constant_(module.excite.weight, 0.5)
    features = torch.randn(3, 4, 2, 3, 5)
    hidden = features.mean((2, 3, 4)).sum(1).relu()
    expected = features * torch.sigmoid(2 * 0.5 * hidden)[:, None, None, None, None]
    torch.testing.assert_close(module(features), expected)


def test_cbam_weights_channels_by_means_and_maxima_and_then_voxels_by_both_around_them():
    module = weights_in(Cbam(2, 2, 2))
    nn.init.eye_(module.squeeze.weight)
    nn.init.eye_(module.excite.weight)
    nn.init.zeros_(module.place.weight)
    with torch.no_grad():
        # Half the mean over channels of the voxel above, and twice the maximum of the voxel itself.
        module.place.weight[0, 0, 2, 3], module.place.weight[0, 1, 3, 3] = 0.5, 2.0
    features = torch.rand(2, 2, 9, 8)
    weighted = features * torch.sigmoid(features.mean((2, 3)) + features.amax((2, 3)))[:, :, None, None]
    above = torch.zeros(2, 9, 8)
    above[:, 1:] = weighted.mean(1)[:, :-1]
    expected = weighted * torch.sigmoid(0.5 * above + 2 * weighted.amax(1))[:, None]
    torch.testing.assert_close(module(features), expected)


def test_a_gate_weights_each_voxel_of_a_skip_connection_by_what_both_show_there():
    gate = weights_in(AttentionGate(2, 1, 3))
    nn.init.constant_(gate.of_skip.weight, 1.0)
    nn.init.constant_(gate.of_raised.weight, -2.0)
    nn.init.constant_(gate.weight.weight, 3.0)
    skip, raised = torch.randn(2, 1, 2, 3, 4, 5)
    both = (skip.sum(1, keepdim=True) - 2 * raised.sum(1, keepdim=True)).relu()
    torch.testing.assert_close(gate(skip, raised), skip * torch.sigmoid(3 * both))


def test_groups_are_as_many_as_the_plan_says_or_their_common_divisor():
    spec = spec_of("plain_unet", "3d", True).changed(norm="group", norm_groups=8)
    assert [norm_of(spec, channels).num_groups for channels in (32, 12, 7)] == [8, 4, 1]


@pytest.mark.parametrize("name", NETWORKS)
def test_parts_are_where_the_plan_puts_them_and_other_weights_keep_their_names(name):
    plain, gated = built(spec_of(name, "3d", True)), built(with_parts(name, "3d", "all, batch"))
    names = {name for name, _ in gated.named_parameters()}
    own = {name for name, _ in plain.named_parameters()}
    assert own < names
    added = names - own
    assert all("attention." in name or name.startswith("gates.") for name in added)
    attended = {name.partition(".attention.")[0] for name in added if ".attention." in name}
    stacks = len(plain.stages) + len(plain.decoder)
    blocks = sum(isinstance(module, ResidualBlock | Block) for module in plain.modules())
    assert (
        len(attended) == {"plain_unet": stacks, "residual_unet": blocks + len(plain.decoder), "mednext": blocks}[name]
    )
    assert {name for name in added if name.startswith("gates.")} <= names_in(gated, ["decoder"])
    assert (
        depths(gated)["gates.0.weight.bias"]
        == depths(gated)["upsamplings.0." + ("weight" if name != "mednext" else "norm.weight")]
    )


@pytest.mark.parametrize("name", ["residual_unet", "mednext"])
def test_the_chance_of_being_passed_over_rises_up_to_that_of_the_last_block(name):
    network = built(with_parts(name, "3d", "stochastic depth"))
    if name == "mednext":
        blocks = [module for module in network.modules() if type(module) is Block]
    else:
        blocks = [module for module in network.modules() if isinstance(module, ResidualBlock)]
    steps = [0.4 * number / len(blocks) for number in range(1, len(blocks) + 1)]
    assert [block.stochastic_depth for block in blocks] == pytest.approx(steps)


def test_a_residual_block_that_is_passed_over_is_its_shortcut():
    spec = with_parts("residual_unet", "3d", "stochastic depth").changed(stochastic_depth=0.5)
    block = ResidualBlock(spec, (3, 3), kernel_size=(3, 3, 3), stride=(1, 1, 1)).train()
    nn.init.ones_(block.second[1].weight)
    features = torch.rand(1, 3, 3, 4, 3).expand(200, -1, -1, -1, -1)
    torch.manual_seed(0)
    with torch.no_grad():
        found, whole = block(features), block.eval()(features)
    is_passed = (found == features).flatten(1).all(1)
    assert 70 < int(is_passed.sum()) < 130
    assert not torch.equal(whole, features)


def test_dropped_channels_are_whole_ones_and_the_mean_stays():
    features = torch.ones(50, 40, 2, 2)
    torch.manual_seed(0)
    found = dropped(features, 0.25, is_training=True)
    assert found.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(found, found[:, :, :1, :1].expand_as(found))
    assert float(found.mean()) == pytest.approx(1, abs=0.05)
    assert dropped(features, 0.25, is_training=False) is features


@pytest.mark.parametrize("name", NETWORKS)
def test_recomputing_counts_running_statistics_once(name):
    spec, found = with_parts(name, "3d", "batch"), []
    for is_checkpointed in (False, True):
        network = built(spec)
        network.activation_checkpointing = is_checkpointed
        outputs = network(images())
        sum(logits.square().mean() for logits in outputs).backward()
        found.append({name: buffer.clone() for name, buffer in network.named_buffers()})
    assert any(name.endswith("running_var") for name in found[0])
    torch.testing.assert_close(found[1], found[0])
    network.eval()(images())
    torch.testing.assert_close(dict(network.named_buffers()), found[1], atol=0, rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("part", "draws"), [("dropout", True), ("cbam", False)])
def test_networks_say_whether_they_draw_random_numbers(name, part, draws):
    assert built(with_parts(name, "3d", part)).draws_random_numbers is draws


@pytest.mark.parametrize("num_axes", [2, 3])
def test_a_convolution_of_single_voxels_is_a_product_of_matrices(num_axes):
    convolution = (nn.Conv2d if num_axes == 2 else nn.Conv3d)(3, 5, 1)
    order = torch.channels_last if num_axes == 2 else torch.channels_last_3d
    features = torch.randn(2, 3, 4, 5, 6)[
        (slice(None), slice(None), *(slice(None),) * num_axes, *(0,) * (3 - num_axes))
    ]
    features = features.contiguous(memory_format=order)
    found = on_rows(convolution, features.movedim(1, -1)).movedim(-1, 1)
    torch.testing.assert_close(found, convolution(features))
    assert lies_channels_last(features)
    assert lies_channels_last(found)
    assert not lies_channels_last(features.contiguous())
