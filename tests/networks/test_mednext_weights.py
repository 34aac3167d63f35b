"""Weights of the published MedNeXt in ours."""

import re

import pytest
import torch

from tests.networks.published_mednext import PublishedMedNeXt
from tumorseg.networks.mednext_weights import TURNED, own_mednext_name
from tumorseg.networks.registry import build_network
from tumorseg.networks.transfer.deciding import transfer
from tumorseg.networks.transfer.kinds import KINDS
from tumorseg.networks.transfer.naming import naming_of
from tumorseg.schema.networks import MedNext

BLOCKS, EXPANSIONS = (1, 2, 1, 2, 1), (2, 3, 2, 4, 3)


def spec_of(num_axes=3, kernel=3, **changes):
    fields = {
        "features_per_stage": (4, 8, 16),
        "strides": ((1,) * num_axes, (2,) * num_axes, (2,) * num_axes),
        "kernel_sizes": ((kernel,) * num_axes,) * 3,
        "blocks_per_stage": BLOCKS,
        "expansion_per_stage": EXPANSIONS,
    }
    return MedNext(**fields | changes)


def ours(seed=0, **changes):
    torch.manual_seed(seed)
    return build_network(spec_of(**changes), num_channels=2, num_outputs=3)


def theirs(**changes):
    torch.manual_seed(1)
    network = PublishedMedNeXt(4, BLOCKS, EXPANSIONS, **changes)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if "grn" in name or "norm" in name:
                tensor.add_(
                    torch.randn_like(tensor), alpha=0.3
                )  # norms begin at 1 and 0, where scales could be mixed up
    return network


def taken(own, weights, *, has_same_outputs=True):
    """Load what a network can take over of a state dict; return whose names it has, what is unknown, and the outcomes by name."""
    naming = naming_of(weights, KINDS["mednext"], own.state_dict())
    given = naming.renamed(weights)
    found = transfer(own.state_dict(), given, kind=KINDS["mednext"], has_same_outputs=has_same_outputs)
    own.load_state_dict(found.weights)
    return naming, {one.name: one for one in found.tensors}


@pytest.mark.parametrize("has_response", [False, True], ids=["first", "second"])
@pytest.mark.parametrize(("num_axes", "kernel"), [(2, 3), (3, 3), (3, 5)])
def test_logits_and_gradients_are_the_published_ones(num_axes, kernel, has_response):
    published = theirs(num_axes=num_axes, kernel=kernel, has_response=has_response)
    own = ours(num_axes=num_axes, kernel=kernel, global_response_norm=has_response)
    naming, outcomes = taken(own, published.state_dict())
    assert (naming.layout, naming.unknown) == ("MedNeXt", ("dummy_tensor",))
    assert {one.outcome for one in outcomes.values()} == {"matched"}
    images = torch.randn(2, 2, *(8, 12, 8)[:num_axes])
    expected, found = published(images), own.train()(images)
    assert len(found) == len(expected) == 3
    for one, other in zip(found, expected, strict=True):
        assert one.std() > 0.1
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
    for outputs in (expected, found):
        sum(one.square().mean() for one in outputs).backward()
    gradients = {name: tensor.grad for name, tensor in published.named_parameters()}
    for name, tensor in own.named_parameters():
        other = gradients[naming.names[name]]
        other = other.transpose(0, 1) if re.fullmatch(TURNED, name) else other
        torch.testing.assert_close(tensor.grad, other, rtol=1e-3, atol=1e-5)


def test_names_are_those_of_the_published_modules():
    pairs = {
        "stem.weight": "stem.weight",
        "enc_block_0.0.conv1.weight": "stages.0.0.spatial.weight",
        "down_0.res_conv.bias": "stages.1.0.shortcut.bias",
        "enc_block_1.1.conv2.weight": "stages.1.2.expand.weight",
        "bottleneck.0.norm.bias": "stages.4.1.norm.bias",
        "up_3.conv3.weight": "upsamplings.0.compress.weight",
        "dec_block_0.1.grn_gamma": "decoder.3.1.response.scale",
        "dec_block_3.0.grn_beta": "decoder.0.0.response.shift",
        "out_4.conv_out.weight": "heads.4.weight",
        "dummy_tensor": None,
        "enc_block_0.0.conv4.weight": None,
    }
    assert {name: own_mednext_name(name, num_stages=5) for name in pairs} == pairs


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "network.", "backbone."])
def test_weights_of_wrapped_networks_load(prefix):
    weights = theirs().state_dict()
    plain, wrapped = ours(), ours(seed=2)
    taken(plain, weights)
    taken(wrapped, {prefix + name: tensor for name, tensor in weights.items()})
    assert all(torch.equal(wrapped.state_dict()[name], tensor) for name, tensor in plain.state_dict().items())


def test_what_is_missing_begins_anew_and_what_is_too_much_is_told():
    weights = theirs().state_dict()
    del weights["up_0.norm.bias"]
    naming, outcomes = taken(ours(), weights | {"gate.weight": torch.zeros(1)})
    assert [name for name, one in outcomes.items() if one.outcome == "skipped"] == ["upsamplings.1.norm.bias"]
    assert naming.unknown == ("dummy_tensor", "gate.weight")


def test_a_deeper_network_is_taken_from_the_shallow_end():
    deeper = {
        "features_per_stage": (4, 8, 16, 32),
        "strides": ((1,) * 3, *[(2,) * 3] * 3),
        "kernel_sizes": ((3,) * 3,) * 4,
    }
    own = ours(**deeper, blocks_per_stage=(1, 2, 1, 1, 1, 2, 1), expansion_per_stage=(2, 3, 2, 4, 2, 4, 3))
    _, outcomes = taken(own, theirs().state_dict())
    assert outcomes["decoder.2.0.expand.weight"].source == "decoder.1.0.expand.weight"
    assert {
        one.outcome for name, one in outcomes.items() if name.startswith(("stages.1.", "decoder.2.", "heads.0"))
    } == {"matched"}


@pytest.mark.slow
def test_names_of_monais_module_give_all_weights():
    from monai.networks.nets.mednext import MedNeXt

    sizes = {"blocks_down": (1, 2), "blocks_bottleneck": 1, "blocks_up": (2, 1), "kernel_size": 3}
    expansions = {"encoder_expansion_ratio": (2, 3), "bottleneck_expansion_ratio": 2, "decoder_expansion_ratio": (4, 3)}
    response = {"norm_type": "group", "global_resp_norm": True, "use_residual_connection": True}
    monais = MedNeXt(3, 4, 2, 3, **sizes, **expansions, **response, deep_supervision=True)
    own = ours(global_response_norm=True)
    naming, outcomes = taken(own, monais.state_dict())
    assert naming.layout == "MONAI's MedNeXt"
    left = {name.rsplit(".", 2)[0] for name, one in outcomes.items() if one.outcome == "skipped"}
    # Ways down and up have no response norm there, and widen as the stage that they leave.
    assert left <= {"stages.1.0", "stages.2.0", "upsamplings.0", "upsamplings.1"}


@pytest.mark.slow
def test_logits_are_those_of_monais_module():
    from monai.networks.nets.mednext import MedNeXt

    torch.manual_seed(0)
    sizes = {"blocks_down": (1, 2), "blocks_bottleneck": 1, "blocks_up": (2, 1), "kernel_size": 3}
    expansions = {"encoder_expansion_ratio": (2, 2), "bottleneck_expansion_ratio": 2, "decoder_expansion_ratio": (2, 2)}
    fields = {"norm_type": "group", "use_residual_connection": True, "deep_supervision": True}
    monais = MedNeXt(3, 4, 2, 3, **sizes, **expansions, **fields)
    own = ours(expansion_per_stage=(2,) * 5)
    _, outcomes = taken(own, monais.state_dict())
    assert {one.outcome for one in outcomes.values()} == {"matched"}
    images = torch.randn(2, 2, 8, 12, 8)
    with torch.no_grad():
        for found, expected in zip(own.train()(images), monais.train()(images), strict=True):
            assert expected.std() > 0.1
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


class TestUpKern:
    def test_small_kernels_are_interpolated_and_all_else_stays(self):
        small, large = ours().state_dict(), ours(seed=3, kernel=5)
        _, outcomes = taken(large, small)
        for name, tensor in large.state_dict().items():
            assert outcomes[name].outcome == ("adapted" if name.endswith("spatial.weight") else "matched")
            if name.endswith("spatial.weight"):
                assert outcomes[name].note == "kernel of [3, 3, 3] interpolated for [5, 5, 5]"
                assert tensor.shape[2:] == (5, 5, 5)
            else:
                assert torch.equal(small[name], tensor)

    def test_published_weights_of_small_kernels_begin_a_network_of_large_ones(self):
        _, outcomes = taken(ours(kernel=5), theirs(kernel=3).state_dict())
        assert {one.outcome for one in outcomes.values()} == {"matched", "adapted"}

    def test_another_width_begins_anew(self):
        _, outcomes = taken(ours(features_per_stage=(4, 8, 24)), ours().state_dict())
        assert "another width" in outcomes["stages.2.1.spatial.weight"].note
        assert outcomes["stages.1.1.spatial.weight"].outcome == "matched"
