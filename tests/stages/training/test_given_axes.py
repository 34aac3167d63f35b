"""Axes of given weights."""

import pytest
import torch

from tests.networks.monai import specs
from tests.stages.training.test_initial_weights import begun, learner_of
from tumorseg.networks.transfer.kinds import KINDS
from tumorseg.networks.transfer.naming import Naming, naming_of
from tumorseg.schema.networks_monai import Dints
from tumorseg.stages.training.given_axes import GivenAxes, axes_of, with_axes
from tumorseg.stages.training.given_weights import Initial, Origin
from tumorseg.storage.layout import FoldFolder
from tumorseg.storage.weight_files import WeightFile, read_weights

X_FIRST = Naming("MONAI", {}, (), is_x_first=True)
SPEC = specs._swin((2, 7, 7))


def turned_plan(plan, transpose, name="turned"):
    return plan.changed(name=name, transpose=transpose)


@pytest.mark.parametrize(
    ("network", "name"),
    [
        ("swin_unetr", "out.conv.conv.weight"),
        ("swin_unetr", "module.patch_embed.proj.weight"),
        ("segresnet", "down_layers.0.1.conv1.conv.weight"),
        ("dynunet", "skip_layers.downsample.conv1.conv.weight"),
        ("unetr", "vit.patch_embedding.patch_embeddings.1.weight"),
        ("mednext", "enc_stages.0.0.conv1.weight"),
    ],
)
def test_whatever_has_monais_names_has_x_first(network, name):
    own = {
        "swin_unetr": ("out.conv.conv.weight", "swinViT.patch_embed.proj.weight"),
        "segresnet": ("encoder.layers.0.blocks.0.conv1.weight",),
        "dynunet": ("input_block.conv1.conv.weight",),
        "unetr": ("vit.patch_embedding.patch_embeddings.weight",),
        "mednext": ("stages.0.0.spatial.weight",),
    }
    found = naming_of([name], KINDS[network], own[network])
    assert found.names
    assert found.is_x_first


def test_names_of_nnunet_and_our_own_have_the_axes_of_the_plan(toy, weights):
    for network, names in (("plain_unet", list(weights)), ("mednext", ["enc_block_0.0.conv1.weight"])):
        naming = naming_of(names, KINDS[network], [*weights, "stages.0.0.spatial.weight"])
        assert naming.names
        assert not naming.is_x_first


@pytest.fixture(scope="module")
def weights(toy):
    return learner_of(toy.plan).network.state_dict()


@pytest.mark.parametrize("transpose", [(0, 1, 2), (1, 0, 2)])
@pytest.mark.parametrize(("is_own", "has_plan"), [(False, False), (True, False), (False, True)])
def test_a_file_alone_has_x_first_unless_it_is_a_checkpoint_of_ours(toy, transpose, is_own, has_plan):
    plan = turned_plan(toy.plan, transpose)
    origin = Origin("file", toy.plan if has_plan else None)
    initial = Initial(origin, WeightFile({}, {}, is_own), "")
    found = axes_of(initial, X_FIRST, plan, plan.configurations[plan.default_configuration])
    assert found.own == transpose
    assert found.given == (toy.plan.transpose if has_plan else transpose if is_own else (2, 1, 0))


def test_a_checkpoint_of_ours_is_known_wherever_it_lies(trained, tmp_path):
    assert read_weights(FoldFolder(trained.folder.root).latest).is_own
    torch.save({"net": {"a": torch.ones(1)}}, tmp_path / "a.pt")
    torch.save({"network": torch.ones(1)}, tmp_path / "b.pt")
    assert not read_weights(tmp_path / "a.pt").is_own
    assert not read_weights(tmp_path / "b.pt").is_own


def test_a_model_of_another_order_of_axes_is_turned(toy, trained):
    given = begun(toy.plan, trained.folder.root)[0].network.state_dict()
    plan = turned_plan(toy.plan, toy.plan.transpose[::-1])
    learner, report = begun(plan, trained.folder.root)
    own = learner.network.state_dict()
    kernels = [name for name, tensor in given.items() if tensor.ndim == 5 and max(tensor.shape[2:]) > 1]
    assert [one.name for one in report.tensors if one.outcome == "adapted"] == kernels
    assert {one.note for one in report.tensors if one.name in kernels} == {"axes turned"}
    assert all(torch.equal(own[name], given[name].permute(0, 1, 4, 3, 2)) for name in kernels)
    assert not any(torch.equal(own[name], given[name]) for name in kernels)


def test_planes_of_other_axes_stay_as_they_lie_with_a_warning():
    given = {"a": torch.randn(1, 1, 3, 3)}
    found = with_axes(given, GivenAxes((1, 2), (0, 2), specs._swin((7, 7)), None), KINDS["swin_unetr"])
    assert found.weights["a"] is given["a"]
    assert found.warnings == ("its planes are of axes ZX, those here of YX: weights stay as they lie",)


def test_a_network_whose_parts_differ_by_axis_stays_as_it_lies_with_a_warning():
    given = {"a": torch.randn(1, 1, 3, 3, 1)}
    found = with_axes(given, GivenAxes((0, 1, 2), (2, 1, 0), Dints(features=2), None), KINDS["dints"])
    assert found.weights["a"] is given["a"]
    assert not found.turned
    assert found.warnings[0].startswith("its axes are XYZ, those here ZYX")


@pytest.mark.parametrize(("window", "is_taken"), [((7, 7, 2), True), ((7, 2, 7), False)])
def test_positions_of_another_window_are_not_taken(window, is_taken):
    axes = GivenAxes((0, 1, 2), (2, 1, 0), SPEC, specs._swin(window))
    kind = with_axes({}, axes, KINDS["swin_unetr"]).kind
    name = "swinViT.layers1.0.blocks.0.attn.relative_position_bias_table"
    assert kind.takes(name) is is_taken
    assert not kind.takes(name.replace("bias_table", "index"))
