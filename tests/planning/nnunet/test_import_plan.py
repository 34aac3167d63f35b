"""nnU-Net v2's plans as a plan."""

import json

import pytest

from tests.nnunet.documents import INTENSITIES, changed, description, imported, plans
from tumorseg.errors import PlanError
from tumorseg.planning.choices.augmentation import cascade_augmentation
from tumorseg.planning.folds.split_lists import SplitLists
from tumorseg.planning.nnunet.import_plan import GivenSplits
from tumorseg.schema.base import parse_record, to_json
from tumorseg.schema.losses import DiceLoss
from tumorseg.schema.networks import ResidualUNet
from tumorseg.schema.plan import Plan
from tumorseg.schema.preprocessing import CtNormalization, ResamplingSpec, RescaleNormalization, ZScoreNormalization
from tumorseg.schema.transforms.spatial import MirrorTransform

TABLE = [
    "spatial",
    "gaussian_noise",
    "gaussian_blur",
    "brightness",
    "contrast",
    "low_resolution",
    "gamma",
    "gamma",
    "mirror",
    "zero_outside",
]
"""Of images with a channel normalised within its mask."""


def old_plans(kind="PlainConvUNet"):
    """Return plans as the first versions of nnU-Net v2 wrote them."""
    found = plans()
    found["foreground_intensity_properties_by_modality"] = found.pop("foreground_intensity_properties_per_channel")
    for configuration in found["configurations"].values():
        if (new := configuration.pop("architecture", None)) is not None:
            kwargs = new["arch_kwargs"]
            configuration |= {
                "UNet_class_name": kind,
                "UNet_base_num_features": 4,
                "unet_max_num_features": 10,
                "n_conv_per_stage_encoder": kwargs["n_conv_per_stage"],
                "n_conv_per_stage_decoder": kwargs["n_conv_per_stage_decoder"],
                "num_pool_per_axis": [2] * len(configuration["patch_size"]),
                "pool_op_kernel_sizes": kwargs["strides"],
                "conv_kernel_sizes": kwargs["kernel_sizes"],
            }
    return found


def given(held_out, training=None, source="user"):
    return GivenSplits(SplitLists(held_out=held_out, training=training), source)


def test_every_field_is_taken_over():
    plan = imported()
    full = plan.configurations["3d_fullres"]
    assert (plan.orientation, plan.transpose, plan.default_configuration) == ("as_stored", (2, 0, 1), "3d_fullres")
    assert (full.spacing_mm, full.patch_size, full.median_shape) == ((5.0, 0.8, 0.9), (8, 24, 20), (16, 48, 40))
    assert full.batch_size == 2
    assert full.normalization == (
        CtNormalization(lower_hu=-120.5, upper_hu=210.25, mean_hu=60.5, std_hu=41.5),
        ZScoreNormalization(masked=True),
    )
    assert full.resampling == ResamplingSpec()
    assert full.network.strides == ((1, 1, 1), (1, 2, 2), (2, 2, 2))
    assert full.network.kernel_sizes == ((1, 3, 3), (3, 3, 3), (3, 3, 3))
    assert [channel.kind for channel in plan.dataset.channels] == ["ct", "mr"]
    assert plan.budget.vram_bytes == 24 * 2**30


def test_medians_are_those_of_the_stored_axes():
    fingerprint = imported().fingerprint
    assert fingerprint.median_spacing_mm == (0.8, 0.9, 5.0)
    assert fingerprint.median_shape_after_crop == (60, 50, 20)


def test_training_is_that_of_nnunets_trainer():
    plan = imported()
    full, low = plan.configurations["3d_fullres"], plan.configurations["3d_lowres"]
    assert (plan.training.epochs, plan.training.iterations_per_epoch) == (1000, 250)
    assert (full.optimizer.name, full.optimizer.lr, full.schedule.name) == ("sgd", 0.01, "poly")
    assert [dice.batch for found in (full, low) for dice in found.loss.components if isinstance(dice, DiceLoss)] == [
        True,
        False,
    ]
    assert full.loss.deep_supervision_weights == (1.0, 0.0)
    assert full.inference.mirroring_axes == (0, 1, 2)
    assert plan.configurations["2d"].inference.mirroring_axes == (0, 1)


def test_a_cascade_inherits_its_parent():
    configurations = imported().configurations
    cascade, full = configurations["3d_cascade_fullres"], configurations["3d_fullres"]
    augmentation = cascade_augmentation(full.augmentation)
    assert cascade == full.model_copy(update={"previous_configuration": "3d_lowres", "augmentation": augmentation})


def test_augmentation_is_nnunets_whole_table():
    plan = imported()
    for name, configuration in plan.configurations.items():
        found = configuration.augmentation
        assert (found.preset, found.strength) == ("nnunet", 1)
        names = [transform.name for transform in found.transforms]
        corruptions = ["previous_morphology", "previous_removal"] if name == "3d_cascade_fullres" else []
        assert names == [*TABLE, *corruptions]
        assert [transform.probability for transform in found.transforms if transform.name == "gamma"] == [0.1, 0.3]


def test_a_configuration_comes_with_what_it_builds_on():
    assert set(imported(configurations=["3d_cascade_fullres"]).configurations) == {"3d_cascade_fullres", "3d_lowres"}
    plan = imported(configurations=["2d"])
    assert set(plan.configurations) == {"2d"}
    assert plan.default_configuration == "2d"


def test_every_reason_says_that_it_was_imported():
    plan = imported()
    assert plan.reasons["configurations.2d.patch_size"].rule.startswith("imported from nnU-Net plans")
    assert plan.reasons["configurations.3d_lowres.loss"].rule.startswith("imported from nnU-Net plans")
    assert {reason.source for reason in plan.reasons.values()} == {"import"}
    known = json.loads(to_json(plan))
    for field in plan.reasons:
        part = known
        for key in field.split("."):
            part = part[key]


def test_an_imported_plan_is_a_plan():
    plan = imported(splits=given((("b", "a"), ("c",))))
    assert parse_record(Plan, to_json(plan), source="x", error=PlanError) == plan
    assert (plan.folds, plan.dataset.listed) == ((("b", "a"), ("c",)), None)
    assert imported().folds == ()


def test_the_training_lists_of_a_split_file_are_imported():
    plan = imported(splits=given((("a",), ("c",)), (("b",), ("a", "b"))))
    assert (plan.folds, plan.kept_from_training) == ((("a",), ("c",)), (("c",), ()))
    assert plan.dataset.listed == ("a", "b", "c")
    assert not plan.dataset.selection().uses("test_case"), "though nnU-Net's plans do not say that there is one"
    with pytest.raises(PlanError, match="trains on cases that it holds out: a"):
        imported(splits=given((("a",),), (("a", "b"),)))


@pytest.mark.parametrize("source", ["user", "import"])
def test_reasons_tell_who_gave_the_split_file(source):
    reasons = imported(splits=given((("a",), ("c",)), (("b",), ("a", "b")), source)).reasons
    assert {reasons[field].source for field in ("folds", "kept_from_training", "dataset.listed")} == {source}
    words = "--splits: " if source == "user" else "nnU-Net's splits_final.json beside the plans: "
    assert all(reasons[field].rule.startswith(words) for field in ("kept_from_training", "dataset.listed"))


def test_an_import_predicts_no_memory():
    assert imported().budget.predicted_bytes is None


@pytest.mark.parametrize("reader", ["SimpleITKIO", "NibabelIO"])
def test_axes_are_taken_as_stored_by_readers_that_leave_them(reader):
    assert imported(plans(image_reader_writer=reader)).orientation == "as_stored"


def test_axes_are_taken_to_ras_by_the_reader_that_does_so():
    assert imported(plans(image_reader_writer="NibabelIOWithReorient")).orientation == "RAS"


def test_regions_are_sigmoids_painted_in_nnunets_order():
    regions = [
        {"name": "whole", "labels": [1, 2], "value": 1},
        {"name": "core", "labels": [2], "value": 2},
    ]
    plan = imported(dataset=description(regions=regions))
    loss = plan.configurations["3d_fullres"].loss
    assert [component.name for component in loss.components] == ["dice", "binary_cross_entropy"]
    assert [(region.labels, region.value) for region in plan.dataset.regions] == [((1, 2), 1), ((2,), 2)]


def test_labels_of_two_sides_are_never_mirrored_in_training():
    plan = imported(dataset=description({"background": 0, "kidney_left": 1, "kidney_right": 2}))
    full = plan.configurations["3d_fullres"]
    assert (full.inference.mirroring, full.inference.mirroring_axes) == (False, ())
    assert not any(isinstance(transform, MirrorTransform) for transform in full.augmentation.transforms)


@pytest.mark.parametrize("kind", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_plans_of_the_first_versions_are_read_as_nnunet_reads_them(kind):
    full = imported(old_plans(kind)).configurations["3d_fullres"]
    assert full.network.features_per_stage == (4, 8, 10)
    assert full.network.strides == ((1, 1, 1), (1, 2, 2), (2, 2, 2))
    assert full.normalization[0].mean_hu == 60.5
    if kind == "ResidualEncoderUNet":
        assert isinstance(full.network, ResidualUNet)
        assert full.network.blocks_per_stage == (2, 2, 2)


def test_one_number_stands_for_all_stages_and_axes():
    document = plans()
    document["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] |= {
        "features_per_stage": 6,
        "kernel_sizes": 3,
        "strides": [1, [1, 2, 2], 2],
        "n_conv_per_stage": 1,
        "n_conv_per_stage_decoder": 1,
        "norm_op_kwargs": {"affine": True},
        "nonlin_kwargs": None,
    }
    network = imported(document).configurations["3d_fullres"].network
    assert network.features_per_stage == (6, 6, 6)
    assert network.kernel_sizes == ((3, 3, 3),) * 3
    assert network.strides == ((1, 1, 1), (1, 2, 2), (2, 2, 2))
    assert (network.convs_per_stage, network.decoder_convs_per_stage) == ((1, 1, 1), (1, 1))


def test_other_arguments_of_resampling_and_activation_are_kept():
    document = plans()
    full = document["configurations"]["3d_fullres"]
    for key in ("data", "seg", "probabilities"):
        full[f"resampling_fn_{key}_kwargs"] |= {"order_z": 1, "separate_z_anisotropy_threshold": 4.0}
    full["resampling_fn_data_kwargs"]["order"] = 1
    full["architecture"]["arch_kwargs"]["nonlin_kwargs"] = {"inplace": False, "negative_slope": 0.2}
    found = imported(document).configurations["3d_fullres"]
    assert found.resampling == ResamplingSpec(image_order=1, separate_axis_order=1, separate_axis_ratio=4.0)
    assert found.network.negative_slope == 0.2


def test_a_mask_counts_for_z_scores_only():
    document = changed("use_mask_for_norm", [True, False])
    document["configurations"]["3d_fullres"]["normalization_schemes"] = [
        "RescaleTo01Normalization",
        "ZScoreNormalization",
    ]
    found = imported(document, configurations=["3d_fullres"]).configurations["3d_fullres"].normalization
    assert found == (RescaleNormalization(), ZScoreNormalization(masked=False))


ARGUMENTS = "architecture.arch_kwargs"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("architecture.network_class_name", "my.UNet", "the network is my.UNet"),
        (f"{ARGUMENTS}.dropout_op", "torch.nn.Dropout3d", "dropout_op"),
        (f"{ARGUMENTS}.conv_bias", False, "conv_bias"),
        (f"{ARGUMENTS}.nonlin_first", True, "nonlin_first"),
        (f"{ARGUMENTS}.nonlin", "torch.nn.ReLU", "nonlin"),
        (f"{ARGUMENTS}.norm_op", "torch.nn.BatchNorm3d", "norm_op"),
        (f"{ARGUMENTS}.norm_op_kwargs", {"eps": 1e-5}, "norm_op_kwargs.affine: missing"),
        (f"{ARGUMENTS}.norm_op_kwargs", None, "norm_op_kwargs"),
        (f"{ARGUMENTS}.conv_op", "torch.nn.modules.conv.Conv2d", "not for the 3 axes"),
        (f"{ARGUMENTS}.squeeze", True, "squeeze: unknown key"),
        (f"{ARGUMENTS}.n_stages", 4, "n_stages is 4, but features_per_stage has 3"),
        (f"{ARGUMENTS}.strides", [[2, 2, 2]] * 3, "strides must be"),
        ("resampling_fn_data", "resample_torch_fornnunet", "resampling_fn_data"),
        ("resampling_fn_seg_kwargs.is_seg", False, "resampling_fn_seg_kwargs.is_seg"),
        ("resampling_fn_data_kwargs.force_separate_z", False, "force_separate_z"),
        ("resampling_fn_data_kwargs.force_separate_z", ..., "force_separate_z: missing"),
        ("resampling_fn_data_kwargs.order_z", 1, "order_z or the threshold"),
        ("resampling_fn_probabilities_kwargs.order", 3, "logit_order"),
        ("preprocessor_name", "MyPreprocessor", "preprocessor_name"),
        ("normalization_schemes", ["MyNorm", "ZScoreNormalization"], "normalisation MyNorm cannot be imported"),
        ("normalization_schemes", ["CTNormalization"], "1 normalization_schemes, but 2 entries"),
        ("my_switch", 1, "my_switch: unknown key"),
        ("patch_size", [8, 25, 20], "patch_size"),
        ("inherits_from", "nowhere", "there is no configuration 'nowhere'"),
        ("inherits_from", "3d_cascade_fullres", "inherit from each other"),
        ("previous_stage", "2d", "must be 3D and no cascade itself"),
        ("architecture", ..., "found neither `architecture` nor the older UNet_class_name"),
    ],
)
def test_what_a_plan_cannot_express_is_refused_in_one_line(path, value, message):
    with pytest.raises(PlanError) as refused:
        imported(changed(path, value))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("plans.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_reader_writer": "NaturalImage2DIO"}, "image_reader_writer"),
        ({"label_manager": "MyLabels"}, "label_manager"),
        ({"transpose_backward": [2, 0, 1]}, "does not undo"),
        ({"transpose_forward": [0, 0, 1]}, "does not undo"),
        ({"foreground_intensity_properties_per_channel": {"1": INTENSITIES}}, "lacks a channel of CTNormalization"),
        ({"configurations": {}}, "configurations"),
    ],
)
def test_plans_that_nnunet_alone_understands_are_refused(changes, message):
    with pytest.raises(PlanError, match=message):
        imported(plans(**changes))


def test_stem_channels_of_their_own_are_refused():
    document = old_plans("ResidualEncoderUNet")
    configuration = document["configurations"]["3d_fullres"]
    kwargs = plans()["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    kwargs["n_blocks_per_stage"] = kwargs.pop("n_conv_per_stage")
    name = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    configuration["architecture"] = {"network_class_name": name, "arch_kwargs": kwargs | {"stem_channels": 9}}
    for key in [key for key in configuration if "UNet" in key or "unet" in key or "pool" in key or "conv" in key]:
        del configuration[key]
    with pytest.raises(PlanError, match="stem_channels is 9"):
        imported(document)


def test_an_old_network_of_another_class_is_refused():
    with pytest.raises(PlanError, match=r"configurations\.2d: UNet_class_name: .* found 'MyUNet'"):
        imported(old_plans("MyUNet"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_conv_per_stage_encoder", 2),
        ("UNet_base_num_features", "wide"),
        ("unet_max_num_features", None),
        ("pool_op_kernel_sizes", 2),
        ("patch_size", 64),
    ],
)
def test_odd_values_of_an_old_network_are_refused_in_one_line(key, value):
    document = old_plans("PlainConvUNet")
    document["configurations"]["3d_fullres"][key] = value
    with pytest.raises(PlanError, match=key) as refused:
        imported(document)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [["3d_lowres"], 3, {"a": 1}])
def test_an_odd_previous_stage_is_refused_in_one_line(value):
    document = plans()
    document["configurations"]["3d_fullres"]["previous_stage"] = value
    with pytest.raises(PlanError, match="there is no configuration") as refused:
        imported(document)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("labels", [{"background": 0, "organ": 1, "tumour": 4}, {"organ": 1, "tumour": 2}])
def test_labels_with_gaps_are_refused(labels):
    with pytest.raises(PlanError, match="nnU-Net needs 0, 1, 2"):
        imported(dataset=description(labels))


def test_an_ignore_label_that_is_not_the_last_is_refused():
    with pytest.raises(PlanError, match="the ignore label last"):
        imported(dataset=description({"background": 0, "ignore": 1, "tumour": 2}, ignore_label=1))
    plan = imported(dataset=description({"background": 0, "tumour": 1, "ignore": 2}, ignore_label=2))
    assert plan.dataset.ignore_label == 2
