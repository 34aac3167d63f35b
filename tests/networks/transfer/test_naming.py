import pytest
import torch

from tests.networks.test_nnunet_weights import FROZEN, NAMES
from tests.networks.transfer.nets import net
from tumorseg.networks.nnunet_weights import nnunet_name, own_name
from tumorseg.networks.transfer.kinds import FOREIGN, STAGED
from tumorseg.networks.transfer.layouts import Adaptation
from tumorseg.networks.transfer.naming import naming_of

OURS = {kind: list(net(kind=kind).state_dict()) for kind in ("plain_unet", "residual_unet")}
ALL = [name for names in OURS.values() for name in names]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_a_real_nnunet_has_one_here_and_comes_back(name):
    theirs = torch.load(FROZEN / f"{name}.pt", weights_only=True)["weights"]
    found = naming_of(theirs, STAGED, ALL)
    assert found.layout == "nnU-Net"
    assert found.unknown == ()
    # Weights that are listed twice count once.
    assert 0 < len(found.names) < len(theirs)
    assert {nnunet_name(own, 3): name for own, name in found.names.items()} == {
        name: name for name in found.names.values()
    }


@pytest.mark.parametrize("name", NAMES)
def test_one_name_of_each_weight_will_do_whichever_it_is(name):
    theirs = torch.load(FROZEN / f"{name}.pt", weights_only=True)["weights"]
    straight = naming_of(theirs, STAGED, ALL).names
    # As safetensors keeps a network: the first name of all that share a tensor.
    kept = {}
    for alias in sorted(theirs):
        kept.setdefault(theirs[alias].data_ptr(), alias)
    found = naming_of(kept.values(), STAGED, ALL)
    assert "decoder.encoder." in "".join(found.names.values())
    assert ".all_modules." in "".join(found.names.values())
    assert (found.layout, found.unknown) == ("nnU-Net", ())
    assert found.names.keys() == straight.keys()
    assert all(torch.equal(theirs[alias], theirs[straight[own]]) for own, alias in found.names.items())


def test_the_norm_after_a_dropout_is_known():
    name = "decoder.stages.0.convs.1.all_modules.2.bias"
    assert naming_of([name], STAGED, ALL).names == {"decoder.0.1.1.bias": name}


@pytest.mark.parametrize("kind", ["plain_unet", "residual_unet"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.module.", "net."])
def test_our_own_names_are_known_whatever_holds_the_network(kind, prefix):
    own = OURS[kind]
    found = naming_of([prefix + name for name in own], STAGED, own)
    assert found.layout == "tumorseg"
    assert found.names == {name: prefix + name for name in own}


def test_a_prefix_that_only_some_names_have_is_part_of_them():
    found = naming_of(["model.stem.0.weight", "stem.0.bias"], STAGED, ALL)
    assert found.names == {"stem.0.bias": "stem.0.bias"}
    assert found.unknown == ("model.stem.0.weight",)


def test_nnssl_says_where_its_encoder_is():
    names = (
        "online_encoder.stem.convs.0.conv.weight",
        "online_encoder.stages.1.blocks.0.conv1.norm.bias",
        "predictor.0.weight",
    )
    found = naming_of(names, STAGED, ALL, adaptation=Adaptation("online_encoder.stages", "online_encoder.stem"))
    assert found.layout == "nnssl"
    assert found.names == {"stem.0.weight": names[0], "stages.1.0.first.1.bias": names[1]}
    assert found.unknown == (names[2],)


def test_names_of_other_networks_are_their_own():
    found = naming_of(["module.a.weight", "module.b"], FOREIGN, ["a.weight", "b"])
    assert found.names == {"a.weight": "module.a.weight", "b": "module.b"}


def test_names_of_neither_layout_are_unknown():
    found = naming_of(["conv1.weight", "layer1.0.bn1.running_mean"], STAGED, ALL)
    assert (found.layout, found.names) == ("unknown", {})
    assert len(found.unknown) == 2


@pytest.mark.parametrize(
    "name",
    [
        "encoder.stem.convs.0.conv.running_mean",
        "encoder.stem.convs.0.dropout.weight",
        "decoder.seg_layers.5.weight",
        "weight",
        "encoder.stages.0.blocks.0.conv3.conv.weight",
    ],
)
def test_what_nnunet_has_and_our_networks_do_not_has_no_name(name):
    assert own_name(name, 2) is None
