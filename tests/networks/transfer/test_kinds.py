import pytest

from tests.networks.monai.specs import IN_CI
from tests.networks.rows import OWN, ROWS, Subject
from tumorseg.networks.transfer.kinds import FOREIGN, KINDS, kind_of
from tumorseg.networks.transfer.roles import Role
from tumorseg.schema.networks import NETWORKS


def test_every_network_has_its_kind_and_those_of_other_packages_the_foreign_one():
    assert set(KINDS) == set(NETWORKS)
    assert kind_of("mednext") is KINDS["mednext"]
    assert kind_of("theirs") is FOREIGN


def marks_of(name):
    if ROWS[name].spec.name in OWN:
        return ()
    return (pytest.mark.slow,) if name in IN_CI else (pytest.mark.slow, pytest.mark.long)


@pytest.mark.parametrize("row", [pytest.param(row, id=name, marks=marks_of(name)) for name, row in ROWS.items()])
def test_what_sees_channels_and_what_makes_outputs_is_known_by_its_name(row):
    kind = kind_of(row.spec.name)
    shapes = [
        {name: tuple(tensor.shape) for name, tensor in Subject(row, *ends).build().state_dict().items()}
        for ends in ((2, 3), (5, 3), (2, 7))
    ]
    usual, more_channels, more_outputs = shapes
    assert {name for name in usual if kind.role_of(name) is Role.INPUT} == {
        name for name in usual if usual[name] != more_channels[name]
    }
    assert {name for name in usual if kind.role_of(name) is Role.HEAD} == {
        name for name in usual if usual[name] != more_outputs[name]
    }
    encoder = {name for name in usual if kind.is_of_encoder(name)}
    assert encoder
    assert not any(kind.role_of(name) is Role.HEAD for name in encoder)


def test_parts_that_climb_are_met_from_the_shallow_end():
    kind = KINDS["plain_unet"]
    assert kind.shifted("gates.0.0.weight", 2) == "gates.2.0.weight"
    assert kind.shifted("stages.0.0.0.weight", 2) == "stages.0.0.0.weight"
    assert kind.num_climbing(["gates.0.weight", "decoder.3.0.weight", "stages.7.weight"]) == 4
