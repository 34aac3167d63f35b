"""Weights of nnU-Net v2 in our networks; the frozen networks and logits are of nnunetv2 2.8.1 (tests/nnunet/make_networks.py)."""

from pathlib import Path

import pytest
import torch

from tumorseg.errors import PlanError
from tumorseg.networks.nnunet_weights import from_nnunet
from tumorseg.networks.registry import build_network
from tumorseg.planning.nnunet.networks import read_network, write_network
from tumorseg.schema.nnunet import Architecture

FROZEN = Path(__file__).parents[1] / "nnunet"
NAMES = ("plain_2d", "plain_3d", "residual_2d", "residual_3d")


@pytest.fixture(params=NAMES)
def frozen(request):
    return torch.load(FROZEN / f"{request.param}.pt", weights_only=True)


def network_of(frozen):
    architecture = Architecture.model_validate(frozen["architecture"])
    spec = read_network(architecture, frozen["images"].ndim - 2, "plans.json")
    return build_network(spec, num_channels=2, num_outputs=3), spec


def loaded(frozen, weights):
    network, spec = network_of(frozen)
    network.load_state_dict(from_nnunet(weights, network.state_dict(), spec.num_stages))
    return network


def test_logits_at_every_resolution_are_nnunets(frozen):
    network = loaded(frozen, frozen["weights"])
    with torch.no_grad():
        found = network.train()(frozen["images"])
    assert len(found) == len(frozen["logits"]) == 2
    for ours, theirs in zip(found, frozen["logits"], strict=True):
        assert float(theirs.std()) > 0.1
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_a_network_is_written_as_nnunet_writes_it(frozen):
    _, spec = network_of(frozen)
    assert write_network(spec, "plans.json") == frozen["architecture"]


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_weights_of_wrapped_networks_load(frozen, prefix):
    wrapped = {prefix + name: tensor for name, tensor in frozen["weights"].items()}
    network = loaded(frozen, wrapped)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(frozen["images"]), frozen["logits"][0], rtol=0, atol=1e-4)


def test_weights_are_those_of_the_file_not_of_a_duplicate(frozen):
    listed_twice = [name for name in frozen["weights"] if "all_modules" in name or name.startswith("decoder.encoder.")]
    assert listed_twice
    alone = {name: tensor for name, tensor in frozen["weights"].items() if name not in listed_twice}
    ours, network = loaded(frozen, alone).state_dict(), loaded(frozen, frozen["weights"])
    assert all(torch.equal(ours[name], tensor) for name, tensor in network.state_dict().items())


def test_a_missing_weight_is_named(frozen):
    weights = {name: tensor for name, tensor in frozen["weights"].items() if name != "decoder.seg_layers.0.bias"}
    with pytest.raises(PlanError, match=r"lacks the weights decoder\.seg_layers\.0\.bias;"):
        loaded(frozen, weights)


def test_weights_too_many_are_named_and_counted(frozen):
    more = {f"encoder.gate.{number}.weight": torch.zeros(1) for number in range(5)}
    with pytest.raises(PlanError, match=r"has besides the weights encoder\.gate\.0\.weight, .* and 2 more"):
        loaded(frozen, frozen["weights"] | more)


def test_a_weight_of_another_shape_is_named(frozen):
    head = torch.zeros(4, *frozen["weights"]["decoder.seg_layers.1.weight"].shape[1:])
    with pytest.raises(PlanError, match=r"decoder\.seg_layers\.1\.weight has shape \[4, .* needs \[3, "):
        loaded(frozen, frozen["weights"] | {"decoder.seg_layers.1.weight": head})
