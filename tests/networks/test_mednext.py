"""MedNeXt: what it computes beyond what every network promises, and the forms of its depthwise convolutions."""

import pytest
import torch
from torch import nn

from tests.networks.test_mednext_weights import ours, spec_of
from tumorseg.engine.weights import place
from tumorseg.networks.mednext import Block, GlobalResponseNorm
from tumorseg.networks.parts import depths, names_in

ANISOTROPIC = {
    "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 1)),
    "kernel_sizes": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
}
CPU = torch.device("cpu")


def images(num_axes=3):
    return torch.randn(2, 2, *(8, 12, 8)[:num_axes], generator=torch.Generator().manual_seed(5))


def step(network, batch):
    """Return the logits and the gradients of a step."""
    network.zero_grad()
    outputs = network.train()(batch)
    sum(logits.square().mean() for logits in outputs).backward()
    return outputs, {name: weight.grad.clone() for name, weight in network.named_parameters()}


def assert_alike(first, second):
    for one, other in zip(first[0], second[0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    for name, gradient in first[1].items():
        torch.testing.assert_close(gradient, second[1][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "changes", [{}, {"num_axes": 2}, {"kernel": 5}, ANISOTROPIC], ids=["3d", "2d", "5", "anisotropic"]
)
def test_a_network_that_keeps_channels_last_computes_the_same(changes):
    batch = images(changes.get("num_axes", 3))
    plain, last = ours(**changes), place(ours(**changes), CPU)
    assert last.channels_last
    assert not plain.channels_last
    assert_alike(step(last, batch), step(plain, batch))
    order = torch.channels_last if batch.ndim == 4 else torch.channels_last_3d
    assert last._begin(batch).is_contiguous(memory_format=order)
    assert not plain._begin(batch).is_contiguous(memory_format=order)


@pytest.mark.parametrize("changes", [{}, {"global_response_norm": True}, {"stochastic_depth": 0.5}], ids=str)
def test_checkpointing_gives_the_same_gradients(changes):
    network, found = ours(**changes), []
    for is_checkpointed in (False, True):
        network.activation_checkpointing = is_checkpointed
        torch.manual_seed(7)
        found.append(step(network, images()))
    assert_alike(*found)


def test_gradients_reach_every_weight_of_both_versions():
    network = ours(global_response_norm=True)
    # A response norm begins as nothing at all, through which its own scale is trained.
    for name, gradient in step(network, images())[1].items():
        assert gradient.isfinite().all(), name
        if not name.endswith("bias"):
            assert gradient.abs().max() > 0, name


def test_each_block_widens_as_its_stage_says():
    network = ours()
    widths = [
        stage[-1].expand.out_channels // stage[-1].expand.in_channels for stage in (*network.stages, *network.decoder)
    ]
    assert widths == [2, 3, 2, 4, 3]
    assert [len(stage) for stage in (*network.stages, *network.decoder)] == [1, 3, 2, 2, 1]
    ways = [*(stage[0] for stage in list(network.stages)[1:]), *network.upsamplings]
    assert [way.expand.out_channels // way.expand.in_channels for way in ways] == [3, 2, 4, 3]


def test_a_response_norm_strengthens_what_responds_most():
    norm = GlobalResponseNorm(2, 3)
    features = torch.ones(1, 2, 2, 2, 2)
    features[:, 1] = 3
    assert torch.equal(norm(features), features)
    nn.init.ones_(norm.scale)
    nn.init.constant_(norm.shift, 0.5)
    # Responses of sqrt(8) and 3 sqrt(8), against their mean of 2 sqrt(8).
    expected = torch.tensor([1 + 0.5 * 1 + 0.5, 3 + 1.5 * 3 + 0.5])
    torch.testing.assert_close(norm(features)[0, :, 0, 0, 0], expected)


def test_a_block_is_passed_over_as_often_as_its_chance_says_and_keeps_its_mean():
    block = Block(spec_of(stochastic_depth=0.25), (4, 4), 2, nn.Conv3d(4, 4, 3, padding=1, groups=4)).train()
    features = torch.randn(1, 4, 4, 4, 4).expand(400, -1, -1, -1, -1)
    torch.manual_seed(0)
    with torch.no_grad():
        added = block(features) - features
        whole = block.eval()(features) - features
    is_left_out = added.flatten(1).abs().amax(dim=1) < 1e-6
    assert 60 < int(is_left_out.sum()) < 140
    torch.testing.assert_close(added[~is_left_out], whole[~is_left_out] / 0.75, rtol=1e-4, atol=1e-5)


def test_parts_are_named_and_lie_as_in_other_networks_of_stages():
    network = ours()
    assert {name.split(".")[0] for name in names_in(network, ["encoder"])} == {"stem", "stages"}
    found = depths(network)
    way = (
        "stem.weight",
        "stages.0.0.norm.weight",
        "stages.2.0.shortcut.weight",
        "upsamplings.0.expand.bias",
        "heads.2.bias",
    )
    assert [found[name] for name in way] == [6, 5, 3, 2, 0]


def test_without_deep_supervision_there_is_one_head():
    assert len(ours(deep_supervision=False).heads) == 1
    assert spec_of(deep_supervision=False).num_supervised == 1
    assert spec_of().num_supervised == len(ours().heads) == 3
