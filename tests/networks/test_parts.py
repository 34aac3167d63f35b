import pytest
from torch import nn

from tests.networks.transfer.nets import net
from tumorseg.errors import PlanError
from tumorseg.networks.parts import depths, names_in, parts_of


def test_parts_are_the_halves_and_what_they_are_made_of():
    assert parts_of(net(kind="plain_unet")) == [
        "encoder", "decoder", "stages", "stages.0", "stages.1", "stages.2", "upsamplings", "upsamplings.0", "upsamplings.1",
        "decoder.0", "decoder.1", "heads", "heads.0", "heads.1",
    ]  # fmt: skip


def test_the_encoder_is_the_stem_and_the_stages_and_the_decoder_what_climbs_back():
    network = net()
    both = names_in(network, ["encoder"]), names_in(network, ["decoder"])
    assert {name.split(".")[0] for name in both[0]} == {"stem", "stages"}
    assert {name.split(".")[0] for name in both[1]} == {"upsamplings", "decoder"}
    heads = names_in(network, ["heads"])
    assert both[0] | both[1] | heads == {name for name, _ in network.named_parameters()}


def test_a_part_is_no_beginning_of_a_number():
    network = nn.Module()
    network.stages = nn.ModuleList(nn.Linear(1, 1) for _ in range(11))
    assert names_in(network, ["stages.1"]) == {"stages.1.weight", "stages.1.bias"}
    assert names_in(network, ["stages.10.weight"]) == {"stages.10.weight"}


def test_an_unknown_part_is_refused_with_those_that_there_are():
    with pytest.raises(
        PlanError, match=r"no part stages\.7 with weights; it has encoder, decoder, stem, stem\.0, .*heads\.1"
    ):
        names_in(net(), ["stem", "stages.7"])


def test_depth_falls_along_the_way_of_the_image():
    found = depths(net())
    way = (
        "stem.0.weight",
        "stages.0.1.first.0.weight",
        "stages.1.0.second.1.bias",
        "stages.2.0.first.0.weight",
        "upsamplings.0.weight",
        "decoder.1.0.0.weight",
        "heads.0.bias",
    )
    assert [found[name] for name in way] == [6, 5, 4, 3, 2, 1, 0]
    assert found["upsamplings.0.weight"] == found["decoder.0.0.0.weight"]
    assert found["heads.1.weight"] == 0


def test_depths_of_other_networks_are_not_guessed():
    with pytest.raises(PlanError, match="layer_decay"):
        depths(nn.Conv2d(1, 1, 1))
