"""Files of weights with published names, as `--init` takes them; those of MONAI's networks are written by its own modules."""

import io
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch

from tests.networks.monai.specs import ROWS
from tests.networks.published_mednext import PublishedMedNeXt
from tests.networks.rows import ROWS as ALL_ROWS
from tests.stages.training.test_initial_weights import begun
from tumorseg.errors import PlanError
from tumorseg.losses.presets import deep_supervision_weights
from tumorseg.schema.base import parse_record
from tumorseg.schema.plan import Configuration

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

HEADS = {"swin_unetr": ("out.",), "unetr": ("out.",), "attention_unet": ("model.2.",), "dints": ("stem_finals.1.",)}
HEADS["dynunet"] = ("output_block.", "deep_supervision_heads.")


def plan_with(plan, row, **changes):
    """Return a plan with a row's network and patch."""
    name = plan.default_configuration
    configuration, spec = plan.configurations[name], row.spec.changed(**changes)
    loss = configuration.loss.model_copy(
        update={"deep_supervision_weights": deep_supervision_weights(spec.num_supervised)}
    )
    fields = configuration.model_dump() | {
        "network": spec.model_dump(),
        "patch_size": row.patch,
        "loss": loss.model_dump(),
    }
    return plan.changed(configurations={name: parse_record(Configuration, fields, source="test", error=PlanError)})


def drawn(weights):
    """Return weights that differ from those that any network begins with."""
    generator = torch.Generator().manual_seed(7)
    return {
        name: torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }


def skipped(report):
    own = "relative_position_index"  # which follows from the window
    return {one.name for one in report.tensors if one.outcome == "skipped" and not one.name.endswith(own)}


def adapted(report):
    by_axes = ("axes turned", "merging of MONAI before 1.5 adapted; axes turned")
    return {one.name for one in report.tensors if one.outcome == "adapted" and one.note not in by_axes}


def turned(kernel):
    """Return a kernel for (X, Y, Z) as one for (Z, Y, X)."""
    return kernel.permute(0, 1, 4, 3, 2)


def check_taken(learner, report, theirs):
    """Check that what was matched is the same, and kernels that were turned are the turned ones."""
    own = learner.network.state_dict()
    for one in report.tensors:
        if one.outcome == "matched":
            assert torch.equal(own[one.name], theirs[one.name])
        elif one.note == "axes turned" and own[one.name].ndim == 5:
            assert torch.equal(own[one.name], turned(theirs[one.name]))


def swin_unetr(*, channels=1):
    from monai.networks.nets.swin_unetr import SwinUNETR

    sizes = {"feature_size": 12, "window_size": (3, 3, 2), "depths": (2, 1, 1, 1), "num_heads": (3, 6, 12, 24)}
    return drawn(SwinUNETR(in_channels=channels, out_channels=14, **sizes).state_dict())


@pytest.fixture
def swin_plan(toy):
    return plan_with(toy.plan, ROWS["swin_unetr"], window=(2, 3, 3), convolve_first=False)


SEEN = {"swinViT.patch_embed.proj.weight", "encoder1.layer.conv1.conv.weight", "encoder1.layer.conv3.conv.weight"}


class TestSwinUnetr:
    @pytest.mark.parametrize(
        ("place", "prefix"), [("state_dict", ""), ("state_dict", "module."), ("model", "backbone."), ("net", "net.")]
    )
    def test_monais_own_give_all_but_the_head(self, swin_plan, tmp_path, place, prefix):
        theirs = swin_unetr()
        torch.save({place: {prefix + name: one for name, one in theirs.items()}, "epoch": 3}, tmp_path / "swin.pt")
        learner, report = begun(swin_plan, tmp_path / "swin.pt")
        assert (report.layout, skipped(report)) == ("MONAI", {"out.conv.conv.weight", "out.conv.conv.bias"})
        assert adapted(report) == SEEN
        assert ["MONAI before 1.5" in warning for warning in report.warnings] == [True]
        own = learner.network.state_dict()
        check_taken(learner, report, theirs)
        seen = "encoder1.layer.conv1.conv.weight"
        assert torch.equal(own[seen][:, :1], turned(theirs[seen]) / 2)
        table = "swinViT.layers1.0.blocks.0.attn.relative_position_bias_table"
        grids = (own[table].reshape(3, 5, 5, -1), theirs[table].reshape(5, 5, 3, -1))
        assert torch.equal(grids[0], grids[1].permute(2, 1, 0, 3))

    def test_the_second_version_begins_its_convolution_blocks_anew(self, toy, tmp_path):
        torch.save(swin_unetr(channels=2), tmp_path / "swin.pt")
        report = begun(plan_with(toy.plan, ROWS["swin_unetr"], window=(2, 3, 3)), tmp_path / "swin.pt")[1]
        assert {name.split(".")[1] for name in skipped(report)} == {
            "layers1c",
            "layers2c",
            "layers3c",
            "layers4c",
            "conv",
        }

    def test_suprem_gives_its_backbone_and_none_of_its_organ_heads(self, swin_plan, tmp_path):
        theirs = {name: one for name, one in swin_unetr().items() if not name.startswith("out.")}
        named = {f"module.backbone.{name}": one for name, one in theirs.items()}
        heads = ("organ_embedding", "precls_conv.0.weight", "GAP.0.weight", "controller.weight", "text_to_vision.bias")
        others = {f"module.{name}": torch.ones(3) for name in heads}
        torch.save({"net": named | others, "optimizer": {"state": {}}, "epoch": 799}, tmp_path / "suprem.pth")
        report = begun(swin_plan, tmp_path / "suprem.pth")[1]
        assert skipped(report) == {"out.conv.conv.weight", "out.conv.conv.bias"}
        assert {name for name in report.unused if not name.endswith("position_index")} == set(others)

    def test_an_encoder_that_was_pre_trained_alone_is_found(self, swin_plan, tmp_path):
        theirs = {
            name.removeprefix("swinViT."): one for name, one in swin_unetr().items() if name.startswith("swinViT.")
        }
        theirs = {name.replace(".linear", ".fc"): one for name, one in theirs.items()}
        heads = {"rotation_head.weight": torch.ones(4, 192), "conv.0.weight": torch.ones(1)}
        written = {
            "load_from.pt": {"state_dict": {f"module.{name}": one for name, one in (theirs | heads).items()}},
            "model_swinvit.pt": {"state_dict": {f"module.swin_vit.{name}": one for name, one in theirs.items()}},
        }
        twice = {
            name.replace(".0.blocks.", ".0.0.blocks.").replace(".0.downsample.", ".0.0.downsample."): one
            for name, one in theirs.items()
        }
        named = {f"encoder.{name}": one for name, one in twice.items()} | {"encoder.mask_token": torch.ones(1)}
        written["ssl_pretrained_weights.pth"] = {"model": named | {"decoder.0.weight": torch.ones(1)}}
        for name, content in written.items():
            torch.save(content, tmp_path / name)
            learner, report = begun(swin_plan, tmp_path / name)
            assert report.layout == "MONAI's pre-trained Swin transformer"
            assert not any(name.startswith("swinViT.") for name in skipped(report))
            own = learner.network.state_dict()["swinViT.layers2.0.blocks.0.mlp.linear1.weight"]
            assert torch.equal(own, theirs["layers2.0.blocks.0.mlp.fc1.weight"])

    def test_another_width_is_refused_by_a_weight_of_the_encoder(self, toy, tmp_path):
        torch.save(swin_unetr(), tmp_path / "narrow.pt")
        plan = plan_with(toy.plan, ROWS["swin_unetr"], window=(2, 3, 3), features=24)
        with pytest.raises(
            PlanError, match=r"layout: MONAI\) fits the plan's encoder; swinViT.patch_embed.proj.weight"
        ):
            begun(plan, tmp_path / "narrow.pt")


def segresnet():
    from monai.networks.nets.segresnet import SegResNet

    sizes = {"blocks_down": [1, 1, 2], "blocks_up": [1, 1], "init_filters": 8}
    return drawn(SegResNet(in_channels=1, out_channels=14, **sizes).state_dict())


def test_suprems_segresnet_gives_all_but_upsamplings_and_heads(toy, tmp_path):
    theirs = segresnet()
    torch.save({"net": {f"module.{name}": one for name, one in theirs.items()}}, tmp_path / "segresnet.pth")
    learner, report = begun(plan_with(toy.plan, ROWS["segresnet"]), tmp_path / "segresnet.pth")
    assert report.layout == "MONAI's SegResNet"
    assert {name.split(".")[2] for name in skipped(report)} == {"upsample", "head"}
    assert adapted(report) == {"encoder.conv_init.weight"}
    own = learner.network.state_dict()
    assert torch.equal(own["encoder.layers.1.downsample.weight"], turned(theirs["down_layers.2.0.conv.weight"]))
    conv = "down_layers.2.2.conv2.conv.weight"
    assert torch.equal(own["encoder.layers.2.blocks.1.conv2.weight"], turned(theirs[conv]))
    assert torch.equal(own["up_layers.1.blocks.0.norm1.bias"], theirs["up_layers.1.0.norm1.bias"])
    assert {name.split(".")[1] for name in report.unused} == {"up_samples", "conv_final"}


def test_suprems_u_net_is_refused_in_one_line(toy, tmp_path):
    named = {f"module.backbone.down_tr64.ops.{number}.conv1.weight": torch.ones(32, 1, 3, 3, 3) for number in (0, 1)}
    torch.save({"net": named}, tmp_path / "unet.pth")
    for row in (ALL_ROWS["plain_unet"], ROWS["segresnet"]):
        with pytest.raises(
            PlanError, match=r"none of its 2 tensors \(module\.backbone\.down_tr64.*layout: unknown"
        ) as raised:
            begun(plan_with(toy.plan, row), tmp_path / "unet.pth")
        assert "\n" not in str(raised.value)


def monais(name, spec):
    if name == "dynunet":
        from monai.networks.nets.dynunet import DynUNet

        sizes = {"strides": spec.strides, "upsample_kernel_size": spec.strides[1:], "filters": spec.features_per_stage}
        norm = ("instance", {"affine": True})
        heads = {"deep_supervision": True, "deep_supr_num": 1}
        return DynUNet(3, 2, 14, kernel_size=spec.kernel_sizes, **sizes, norm_name=norm, **heads)
    if name == "attention_unet":
        from monai.networks.nets.attentionunet import AttentionUnet

        return AttentionUnet(3, 2, 14, channels=spec.features_per_stage, strides=spec.strides[1:])
    if name == "unetr":
        from monai.networks.nets.unetr import UNETR

        sizes = {"img_size": spec.patch_size, "feature_size": spec.features, "hidden_size": spec.hidden}
        return UNETR(2, 14, **sizes, mlp_dim=spec.hidden_between, num_heads=spec.heads)
    from monai.networks.nets.dints import DiNTS, TopologyInstance

    from tumorseg.networks.monai.dints import CELLS, PATHS

    code = [np.array([list(map(int, layer)) for layer in one]) for one in (PATHS, CELLS)]
    with redirect_stdout(io.StringIO()):
        space = TopologyInstance(code, channel_mul=spec.features / 32, num_blocks=12, num_depths=4)
    return DiNTS(space, 2, 14, node_a=np.ones((13, 4)))


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("unetr", "module."),
        ("dints", "model."),
        ("dynunet", "net."),
        # Its own names begin with what frameworks put before names.
        ("attention_unet", ""),
        ("attention_unet", "model."),
        ("attention_unet", "module."),
    ],
)
def test_a_state_dict_of_monai_gives_all_but_the_heads(toy, tmp_path, name, prefix):
    row = ROWS[name]
    theirs = drawn(monais(name, row.spec).state_dict())
    if name == "dynunet":  # one tensor under two names
        again = [one for one in theirs if one.startswith("skip_layers.next_layer.upsample.transp")]
        theirs[again[0]] = theirs["upsamples.0.transp_conv.conv.weight"]
    torch.save({"state_dict": {prefix + one: tensor for one, tensor in theirs.items()}}, tmp_path / "weights.pt")
    learner, report = begun(plan_with(toy.plan, row), tmp_path / "weights.pt")
    assert report.layout == "MONAI"
    assert all(one.startswith(HEADS[name]) for one in skipped(report))
    assert adapted(report) == set()
    # Cells of DiNTS differ by axis.
    is_turned = any(one.note == "axes turned" for one in report.tensors)
    assert (is_turned, len(report.warnings)) == ((False, 1) if name == "dints" else (True, 0))
    check_taken(learner, report, theirs)
    # What no forward pass meets, statistics of norms that are others here, and the heads.
    left = ("cross_attn", "running_", "num_batches_tracked", "stem_down.3.", "cls_token")
    assert all(any(part in one for part in (*left, *HEADS[name])) for one in report.unused)


def test_second_names_of_a_dynunet_will_do(toy, tmp_path):
    row = ROWS["dynunet"]
    theirs = monais("dynunet", row.spec).state_dict()
    torch.save(
        {one: tensor for one, tensor in theirs.items() if one.startswith("skip_layers.")}, tmp_path / "weights.pt"
    )
    learner, report = begun(plan_with(toy.plan, row), tmp_path / "weights.pt")
    assert skipped(report) == {one.name for one in report.tensors if one.name.startswith(HEADS["dynunet"])}
    check_taken(learner, report, theirs)


@pytest.mark.parametrize("place", ["fold_0", "fold_3", "."])
def test_a_folder_of_mednext_gives_all_but_the_heads(toy, tmp_path, place):
    row = ALL_ROWS["mednext"]
    spec = row.spec.changed(features_per_stage=(4, 8, 16))
    published = PublishedMedNeXt(4, spec.blocks_per_stage, spec.expansion_per_stage, outputs=5)
    (tmp_path / place).mkdir(exist_ok=True)
    content = {"state_dict": published.state_dict(), "epoch": 1000, "plot_stuff": ([np.float64(0.5)], [], [], [])}
    torch.save(content, tmp_path / place / "model_final_checkpoint.model")
    for given in (tmp_path, tmp_path / place, tmp_path / place / "model_final_checkpoint.model"):
        plan = plan_with(toy.plan, row, features_per_stage=(4, 8, 16))
        report = begun(plan, given)[1]
        assert report.layout == "MedNeXt"
        assert {name.split(".")[0] for name in skipped(report)} == {"heads"}
        assert adapted(report) == set()
        assert report.unused[-1] == "dummy_tensor"
    large = plan_with(toy.plan, row, features_per_stage=(4, 8, 16), kernel_sizes=((5, 5, 5),) * 3)
    assert {name.rsplit(".", 2)[1] for name in adapted(begun(large, tmp_path)[1])} == {"spatial"}
