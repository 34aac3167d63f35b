"""Axes of given weights."""

import pytest
import torch

from tests.networks.monai import specs
from tests.networks.rows import Subject
from tests.stages.training.test_initial_weights import begun, learner_of
from tests.stages.training.test_published_weights import plan_with
from tumorseg.networks.transfer.kinds import KINDS
from tumorseg.networks.transfer.merging import MERGED_BEFORE
from tumorseg.networks.transfer.naming import Naming, naming_of
from tumorseg.schema.networks_monai import Dints
from tumorseg.schema.training import FineTuning
from tumorseg.stages.training.given_axes import GivenAxes, axes_of, with_axes
from tumorseg.stages.training.given_weights import Initial, Origin, open_initial
from tumorseg.storage.checkpoints import load_checkpoint, save_checkpoint
from tumorseg.storage.layout import FoldFolder
from tumorseg.storage.weight_files import OWN_NAME, WRITER, WeightFile, read_weights

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


@pytest.mark.parametrize("name", ["latest", "best"])
@pytest.mark.parametrize("is_marked", [True, False])
def test_a_checkpoint_of_ours_that_was_copied_elsewhere_stays_as_it_lies(toy, trained, tmp_path, name, is_marked):
    # Checkpoints had no mark at first.
    state = load_checkpoint(getattr(FoldFolder(trained.folder.root), name))
    assert state.pop(WRITER) == OWN_NAME
    save_checkpoint(tmp_path / "mine.ckpt", state | ({WRITER: OWN_NAME} if is_marked else {}))
    initial = open_initial(tmp_path / "mine.ckpt", "0")
    assert initial.origin.plan is None
    assert initial.file.is_own
    plan = plan_with(toy.plan, specs.ROWS["swin_unetr"])
    found = axes_of(initial, X_FIRST, plan, plan.configurations[plan.default_configuration])
    assert found.given == found.own
    assert not found.merges_as_before


def test_a_checkpoint_of_others_is_not_taken_for_ours(tmp_path):
    torch.save({"net": {"a": torch.ones(1)}}, tmp_path / "a.pt")
    torch.save({"network": torch.ones(1)}, tmp_path / "b.pt")
    # As ignite's handlers name it.
    torch.save({"network": {"a": torch.ones(1)}, "optimizer": {}}, tmp_path / "c.pt")
    assert not read_weights(tmp_path / "c.pt").is_own
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
    assert not found.notes
    assert found.warnings[0].startswith("its axes are XYZ, those here ZYX")


@pytest.mark.parametrize(("window", "is_taken"), [((7, 7, 2), True), ((7, 2, 7), False)])
def test_positions_of_another_window_are_not_taken(window, is_taken):
    axes = GivenAxes((0, 1, 2), (2, 1, 0), SPEC, specs._swin(window))
    kind = with_axes({}, axes, KINDS["swin_unetr"]).kind
    name = "swinViT.layers1.0.blocks.0.attn.relative_position_bias_table"
    assert kind.takes(name) is is_taken
    assert not kind.takes(name.replace("bias_table", "index"))


def test_a_swin_unetr_of_monais_merges_as_before_unless_the_plan_says_otherwise(toy):
    plan = plan_with(toy.plan, specs.ROWS["swin_unetr"])
    monais, ours = (Initial(Origin("file"), WeightFile({}, {}, is_own), "") for is_own in (False, True))
    known = Initial(Origin("file", toy.plan), WeightFile({}, {}), "")
    later = FineTuning(swin_merging="monai_1_5")

    def merges(initial, plan, naming=X_FIRST):
        configuration = plan.configurations[plan.default_configuration]
        return axes_of(initial, naming, plan, configuration).merges_as_before

    assert merges(monais, plan)
    assert merges(monais, plan.changed(training=plan.training.changed(fine_tuning=FineTuning())))
    assert not merges(monais, plan.changed(training=plan.training.changed(fine_tuning=later)))
    assert not merges(ours, plan)
    assert not merges(known, plan)
    assert not merges(monais, plan, X_FIRST._replace(is_x_first=False))
    assert not merges(monais, plan_with(toy.plan, specs.ROWS["segresnet"]))


def test_what_merged_as_before_is_adapted_with_a_warning():
    names = [f"swinViT.layers1.0.downsample.{part}" for part in ("reduction.weight", "norm.weight", "norm.bias")]
    given = {name: torch.randn(shape) for name, shape in zip(names, ((4, 16), (16,), (16,)), strict=True)}
    axes = GivenAxes((0, 1, 2), (2, 1, 0), SPEC, None)
    found = with_axes(given, axes._replace(merges_as_before=True), KINDS["swin_unetr"])
    assert found.notes == dict.fromkeys(names, "merging of MONAI before 1.5 adapted; axes turned")
    (warning,) = found.warnings
    assert warning.startswith("taken to be of MONAI before 1.5")
    assert "training.fine_tuning.swin_merging=monai_1_5" in warning
    # Where nothing is merged, nothing is said.
    assert with_axes({"a": torch.ones(1)}, axes._replace(merges_as_before=True), KINDS["swin_unetr"]).warnings == ()
    as_it_is = with_axes(given, axes, KINDS["swin_unetr"])
    assert as_it_is.warnings == ()
    assert as_it_is.notes == dict.fromkeys(names, "axes turned")


def merge_before(module, x):
    """Merge tokens as MONAI did before 1.5."""
    parts = [x[:, int(one[0]) :: 2, int(one[1]) :: 2, int(one[2]) :: 2] for one in MERGED_BEFORE]
    return module.reduction(module.norm(torch.cat(parts, -1)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_network_of_monai_before_gives_nearly_the_same_logits_on_turned_images():
    own, given = (specs._swin(window).changed(convolve_first=False) for window in ((1, 2, 2), (2, 2, 1)))
    patch = (32, 32, 64)
    ours, theirs = Subject(specs.Row(own, patch)), Subject(specs.Row(given, patch[::-1]))
    network, before = ours.build(1).double().eval(), theirs.build(2).double().eval()
    with torch.no_grad():
        for name, parameter in before.named_parameters():
            if ".downsample.reduction" in name:
                parameter.mul_(8)
            elif ".downsample.norm" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    weights = before.state_dict()
    for module in before.modules():
        if hasattr(module, "reduction"):
            module.forward = merge_before.__get__(module)
    index = {name: tensor for name, tensor in network.state_dict().items() if name.endswith("position_index")}
    images = ours.images(1).double()
    with torch.inference_mode():
        expected = before(images.permute(0, 1, 4, 3, 2)).permute(0, 1, 4, 3, 2)

    def error(merges_as_before):
        axes = GivenAxes((0, 1, 2), (2, 1, 0), own, given, merges_as_before)
        network.load_state_dict(with_axes(weights, axes, KINDS["swin_unetr"]).weights | index)
        with torch.inference_mode():
            return ((network(images) - expected).norm() / (expected - expected.mean()).norm()).item()

    assert error(merges_as_before=True) < 0.3 * error(merges_as_before=False)
