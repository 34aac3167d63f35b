"""Unions over `name`: networks, losses, transforms, optimizers, normalisation."""

import re

import pytest
from pydantic import TypeAdapter, ValidationError

from tumorseg.errors import PlanError
from tumorseg.schema.augmentation import AugmentationSpec, TransformSpec
from tumorseg.schema.base import describe_validation, parse_record
from tumorseg.schema.extensions import External, load_external, records_of
from tumorseg.schema.losses import (
    CrossEntropyLoss,
    DiceLoss,
    ExternalLoss,
    FocalLoss,
    LossComponent,
    LossSpec,
    TverskyLoss,
)
from tumorseg.schema.networks import NETWORKS, NetworkSpec, PlainUNet, ResidualUNet
from tumorseg.schema.optimizers import (
    AdamW,
    ConstantSchedule,
    CosineSchedule,
    OneCycleSchedule,
    OptimizerSpec,
    PlateauSchedule,
    PolySchedule,
    RAdam,
    ScheduleSpec,
    Sgd,
)
from tumorseg.schema.preprocessing import NoNormalization, NormalizationSpec, ZScoreNormalization
from tumorseg.schema.transforms.base import Range
from tumorseg.schema.transforms.spatial import MirrorTransform

UNET = {
    "features_per_stage": [8, 16],
    "strides": [[1, 1], [2, 2]],
    "kernel_sizes": [[3, 3], [3, 3]],
    "decoder_convs_per_stage": [1],
}


def staged(num_stages):
    """Return what every network of so many stages has."""
    strides, kernels = [[1, 1]] * num_stages, [[3, 3]] * num_stages
    return {"features_per_stage": [4] * num_stages, "strides": strides, "kernel_sizes": kernels}


PLAIN = UNET | {"name": "plain_unet", "convs_per_stage": [2, 2]}
ORIGIN = {"distribution": "tiny-nets", "version": "1.2"}


def read(union, value):
    return TypeAdapter(union).validate_python(value)


@pytest.mark.parametrize(
    ("union", "value", "expected"),
    [
        (NetworkSpec, PLAIN, PlainUNet),
        (NetworkSpec, UNET | {"name": "residual_unet", "blocks_per_stage": [1, 1]}, ResidualUNet),
        (NetworkSpec, {"name": "tiny", "parameters": {"k": [3]}} | ORIGIN, External),
        (LossComponent, {"name": "dice"}, DiceLoss),
        (LossComponent, {"name": "cross_entropy", "weight": 2}, CrossEntropyLoss),
        (LossComponent, {"name": "tversky", "alpha": 0, "gamma": 0.5}, TverskyLoss),
        (LossComponent, {"name": "focal", "alpha": 0.25}, FocalLoss),
        (LossComponent, {"name": "cldice", "weight": 2} | ORIGIN, ExternalLoss),
        (TransformSpec, {"name": "mirror", "axes": [0]}, MirrorTransform),
        (TransformSpec, {"name": "elastic"} | ORIGIN, External),
        (OptimizerSpec, {"name": "sgd"}, Sgd),
        (OptimizerSpec, {"name": "adamw"}, AdamW),
        (OptimizerSpec, {"name": "radam"}, RAdam),
        (ScheduleSpec, {"name": "poly"}, PolySchedule),
        (ScheduleSpec, {"name": "plateau"}, PlateauSchedule),
        (ScheduleSpec, {"name": "cosine", "anneal_to": 0.1}, CosineSchedule),
        (ScheduleSpec, {"name": "one_cycle"}, OneCycleSchedule),
        (ScheduleSpec, {"name": "constant"}, ConstantSchedule),
        (NormalizationSpec, {"name": "zscore", "masked": True}, ZScoreNormalization),
        (NormalizationSpec, {"name": "none"}, NoNormalization),
    ],
)
def test_the_name_chooses_the_record(union, value, expected):
    found = read(union, value)
    assert type(found) is expected
    adapter = TypeAdapter(union)
    assert adapter.validate_json(adapter.dump_json(found)) == found
    assert adapter.validate_python(found) == found


@pytest.mark.parametrize(
    ("union", "message"),
    [
        (NetworkSpec, f"network has an unknown name; known are {', '.join(NETWORKS)}, or one of another package"),
        (
            LossComponent,
            "loss has an unknown name; known are dice, generalized_dice, jaccard, tversky, unified_focal, cross_entropy, ",
        ),
        (
            TransformSpec,
            "transform has an unknown name; known are spatial, mirror, gaussian_noise, gaussian_blur, brightness, contrast",
        ),
        (OptimizerSpec, "'sgd', 'adamw'"),
        (ScheduleSpec, "'poly', 'plateau'"),
        (NormalizationSpec, "'ct', 'zscore', 'rescale_to_0_1', 'rgb_to_0_1', 'none'"),
    ],
)
@pytest.mark.parametrize("value", [{"name": "unext"}, {}, {"name": None}, {"name": ["sgd"]}, {"name": "external"}, 3])
def test_an_unknown_name_lists_those_there_are(union, message, value):
    with pytest.raises(ValidationError) as refused:
        read(union, value)
    line = describe_validation(refused.value, value)
    assert "\n" not in line
    if value in ({"name": "unext"}, {"name": "external"}):
        assert message in line


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": "tversky", "alpha": -0.1}, "alpha.*0 or more"),
        ({"name": "tversky", "beta": -0.1}, "beta.*0 or more"),
        ({"name": "tversky", "alpha": 0, "beta": 0}, "alpha and beta of tversky are both 0"),
        ({"name": "tversky", "gamma": 0}, "gamma.*above 0"),
        ({"name": "focal", "gamma": -0.5}, "gamma.*0 or more"),
        ({"name": "focal", "alpha": 1.5}, "alpha.*expected 1 or less"),
    ],
)
def test_an_unsound_loss_is_a_plan_error(value, message):
    document = {"preset": "own", "components": [value]}
    with pytest.raises(PlanError, match=message):
        parse_record(LossSpec, document, source="plan p", error=PlanError)


@pytest.mark.parametrize("missing", ["version", "parameters"])
def test_an_external_name_needs_its_distribution_and_version(missing):
    value = {name: part for name, part in ({"name": "tiny", "parameters": {}} | ORIGIN).items() if name != missing}
    if missing == "version":
        with pytest.raises(ValidationError, match="Field required"):
            read(NetworkSpec, value)
    else:
        assert read(NetworkSpec, value).parameters == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features_per_stage": [8]}, "at least 2 items"),
        ({"strides": [[1, 1]]}, "differ in length"),
        ({"decoder_convs_per_stage": [1, 1]}, "differ in length"),
        ({"kernel_sizes": [[3, 3], [3, 3, 3]]}, "2 axes, or every one 3"),
        ({"strides": [[1], [2]], "kernel_sizes": [[3], [3]]}, "2 axes, or every one 3"),
        ({"strides": [[2, 1], [2, 2]]}, "those of the first stage 1"),
        ({"strides": [[1, 1], [0, 2]]}, "at least 1"),
        ({"kernel_sizes": [[3, 3], [2, 3]]}, "must be odd"),
        ({"kernel_sizes": [[3, 3], [-1, 3]]}, "must be odd"),
        ({"convs_per_stage": [2]}, "convs_per_stage has 1 entries for 2 stages"),
        ({"norm_eps": 0}, "greater than 0"),
        ({"stochastic_depth": 0.1}, "stochastic_depth is 0.1, but no convolution of a plain_unet can be passed over"),
        ({"norm": "layer", "norm_groups": 4}, "norm_groups is 4, but norm is layer; give norm=group"),
        ({"attention_reduction": 4}, "attention_reduction is 4, but attention is none"),
        ({"dropout": 1}, "less than 1"),
        ({"features_per_stage": [8, 12 * 2**59]}, "less than or equal to 65536"),
        ({"kernel_sizes": [[3, 3], [3, 2**62 + 1]]}, "kernel sizes must be 99 at most"),
        ({"strides": [[1, 1], [2, 2**62]]}, "strides must be 99 at most"),
        ({"negative_slope": 1e200}, "less than or equal to 1"),
        ({"convs_per_stage": [1000, 1]}, "have 1002 blocks or convolutions, expected 1000 at most"),
        ({"decoder_convs_per_stage": [999]}, "have 1003 blocks or convolutions, expected 1000 at most"),
        (staged(60) | {"convs_per_stage": [1000] * 60, "decoder_convs_per_stage": [1000] * 59}, "at most 32 items"),
        ({"norm": "layers"}, "Input should be 'instance', 'group', 'batch' or 'layer'"),
    ],
)
def test_an_unsound_topology_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        read(NetworkSpec, PLAIN | changes)


def test_residual_blocks_are_counted_too():
    for blocks, message in (([1, 1, 1], "has 3 entries for 2 stages"), ([500, 500], "have 1001 blocks")):
        with pytest.raises(ValidationError, match=message):
            read(NetworkSpec, UNET | {"name": "residual_unet", "blocks_per_stage": blocks})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expansion_per_stage": [1, 12 * 2**59, 1]}, "less than or equal to 100"),
        ({"blocks_per_stage": [400, 400, 201]}, "have 1001 blocks or convolutions"),
        ({"negative_slope": 1e200}, "less than or equal to 1"),
    ],
)
def test_a_mednext_beyond_reason_is_refused(changes, message):
    fields = {name: value for name, value in UNET.items() if name != "decoder_convs_per_stage"}
    sound = fields | {"name": "mednext", "blocks_per_stage": [1, 1, 1], "expansion_per_stage": [2, 2, 2]}
    assert read(NetworkSpec, sound).num_stages == 2
    with pytest.raises(ValidationError, match=message):
        read(NetworkSpec, sound | changes)


def test_a_topology_knows_its_stages_and_axes():
    network = read(NetworkSpec, PLAIN)
    assert (network.num_stages, network.num_axes) == (2, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"components": []}, "at least 1 item"),
        ({"components": [{"name": "dice", "weight": 0}]}, "weights of the loss components sum to 0"),
        ({"components": [{"name": "dice", "weight": -1}]}, "must be 0 or more"),
        ({"deep_supervision_weights": []}, "positive weight for the full resolution"),
        ({"deep_supervision_weights": [0, 1]}, "positive weight for the full resolution"),
        ({"deep_supervision_weights": [1, -1]}, "must not be negative"),
    ],
)
def test_an_unsound_loss_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        LossSpec.model_validate({"preset": "x", "components": [{"name": "dice"}]} | changes)


def test_a_range_is_not_empty():
    assert Range(low=1, high=1).low == 1
    with pytest.raises(ValidationError, match=re.escape("low 2.0 is above high 1.0")):
        Range(low=2, high=1)


@pytest.mark.parametrize("probability", [-0.1, 1.1])
def test_a_probability_is_between_0_and_1(probability):
    with pytest.raises(ValidationError):
        AugmentationSpec.model_validate({"transforms": [{"name": "contrast", "probability": probability}]})


def spec(**changes):
    return External(**({"name": "join", "distribution": "tiny-nets", "version": "1.2"} | changes))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    info = tmp_path / "Tiny_Nets-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Tiny_Nets\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[tumorseg.tests]\njoin = posixpath:join\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("installed")
def test_an_entry_point_is_loaded_whatever_the_spelling_of_its_distribution():
    assert load_external(spec(distribution="tiny.NETS"), "tumorseg.tests")("a", "b") == "a/b"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "1.3"}, r"'join' of tiny-nets 1\.3, but tiny-nets 1\.2 is installed; install tiny-nets==1\.3"),
        ({"distribution": "huge"}, r"'join' of huge 1\.2, but tiny-nets 1\.2 is installed"),
        ({"name": "split"}, r"no installed package has it .*\(installed there: join\); install tiny-nets==1\.2"),
    ],
)
def test_another_package_than_the_plans_is_refused(changes, message):
    with pytest.raises(PlanError, match=message):
        load_external(spec(**changes), "tumorseg.tests")


def test_without_any_package_none_is_listed():
    with pytest.raises(PlanError, match=r"\(installed there: none\)"):
        load_external(spec(), "tumorseg.tests")


def test_the_records_of_a_union_are_known_by_name():
    assert records_of(OptimizerSpec) == {"sgd": Sgd, "adamw": AdamW, "radam": RAdam}
    networks = records_of(NetworkSpec)
    assert networks == NETWORKS
    assert (networks["plain_unet"], networks["residual_unet"]) == (PlainUNet, ResidualUNet)
    assert records_of(float | None) == {}
