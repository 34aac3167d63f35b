"""Plans and dataset.json of nnU-Net v2, small and complete, made as its planners write them."""

from copy import deepcopy

from tumorseg.planning.nnunet.import_plan import NnunetSource, import_plan
from tumorseg.schema.dataset import DatasetDescription

INTENSITIES = {
    "max": 1500.0,
    "mean": 60.5,
    "median": 58.0,
    "min": -900.0,
    "percentile_00_5": -120.5,
    "percentile_99_5": 210.25,
    "std": 41.5,
}
LABELS = {"background": 0, "organ": 1, "tumour": 2}


def resampling(order, *, is_seg=False):
    return {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}


def architecture(num_axes, num_stages=3):
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": num_stages,
            "features_per_stage": [4, 8, 16][:num_stages],
            "conv_op": f"torch.nn.modules.conv.Conv{num_axes}d",
            "kernel_sizes": [[1, *[3] * (num_axes - 1)]] + [[3] * num_axes] * (num_stages - 1),
            "strides": [[1] * num_axes, [1, *[2] * (num_axes - 1)], [2] * num_axes][:num_stages],
            "n_conv_per_stage": [2] * num_stages,
            "n_conv_per_stage_decoder": [2] * (num_stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{num_axes}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def configuration(name, patch_size, spacing, **changes):
    return {
        "data_identifier": f"nnUNetPlans_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": patch_size,
        "median_image_size_in_voxels": [float(2 * size) for size in patch_size],
        "spacing": spacing,
        "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
        "use_mask_for_norm": [False, True],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling(3),
        "resampling_fn_seg_kwargs": resampling(1, is_seg=True),
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling(1),
        "architecture": architecture(len(patch_size)),
        "batch_dice": True,
        **changes,
    }


def plans(**changes):
    """Return plans of all of nnU-Net's configurations, of a transpose that is not its own inverse."""
    return {
        "dataset_name": "Dataset900_Toy",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [5.0, 0.8, 0.9],
        "original_median_shape_after_transp": [20, 60, 50],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [2, 0, 1],
        "transpose_backward": [1, 2, 0],
        "configurations": {
            "2d": configuration("2d", [24, 20], [0.8, 0.9]),
            "3d_lowres": configuration("3d_lowres", [8, 16, 12], [5.0, 1.6, 1.8], batch_dice=False)
            | {"next_stage": "3d_cascade_fullres"},
            "3d_fullres": configuration("3d_fullres", [8, 24, 20], [5.0, 0.8, 0.9]),
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
        "experiment_planner_used": "nnUNetPlannerResEncL",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": INTENSITIES,
            "1": INTENSITIES | {"mean": 300.0},
        },
        **changes,
    }


def changed(path, value):
    """Return the plans with one field of `3d_fullres` set, or removed where the value is `...`."""
    found = deepcopy(plans())
    *parents, last = path.split(".")
    part = found["configurations"]["3d_fullres"]
    for key in parents:
        part = part[key]
    if value is ...:
        del part[last]
    else:
        part[last] = value
    return found


def description(labels=None, **fields):
    named = {"name": "Dataset900_Toy", "channels": ["CT", "T1"], "labels": labels or LABELS}
    return DatasetDescription.model_validate(named | fields)


def imported(document=None, *, dataset=None, **options):
    source = NnunetSource(document or plans(), dataset or description(), 7, "plans.json")
    return import_plan(source, "Toy__imported", **options)
