"""Make the frozen model folders and nnunetv2's segmentations with them; run where nnunetv2 2.8.1 is installed.

    python make_models.py DATA SCRATCH

DATA is the folder of real data, SCRATCH one for some hundred MB. nnunetv2's own trainer trains each model for a
minute, without augmentation, and its own predictor segments one LPS-stored case that was trained on. What lands beside this script holds no image
data: plans, weights, and label maps that the models made. The state of the optimizer is left out of the checkpoints.
"""

import json
import os
import shutil
import sys
from pathlib import Path

DATA, SCRATCH = Path(sys.argv[1]), Path(sys.argv[2])
for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[name] = str(SCRATCH / name)
    (SCRATCH / name).mkdir(parents=True, exist_ok=True)
os.environ |= {"nnUNet_n_proc_DA": "0", "nnUNet_compile": "f"}

import numpy as np  # noqa: E402
import SimpleITK  # noqa: E402
import torch  # noqa: E402
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: E402
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor  # noqa: E402
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402

HERE = Path(__file__).parent
BRATS = ("flair", "t1", "t1ce", "t2")
INTENSITIES = ("mean", "median", "std", "min", "max", "percentile_00_5", "percentile_99_5")


def resampling(order, is_seg):
    return {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}


def network(kind, features, kernels, strides):
    plain = kind == "PlainConvUNet"
    dim = len(strides[0])
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": len(features),
            "features_per_stage": features,
            "conv_op": f"torch.nn.modules.conv.Conv{dim}d",
            "kernel_sizes": kernels,
            "strides": strides,
            "n_conv_per_stage" if plain else "n_blocks_per_stage": [2] * len(features) if plain else [1, 2, 1],
            "n_conv_per_stage_decoder": [2 if plain else 1] * (len(features) - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dim}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def plans(dataset, configuration, fields, **shared):
    settings = {
        "data_identifier": f"nnUNetPlans_{configuration}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling(3, False),
        "resampling_fn_seg_kwargs": resampling(1, True),
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling(1, False),
        "batch_dice": False,
        **fields,
    }
    return {
        "dataset_name": dataset,
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "configurations": {configuration: settings},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        **shared,
    }


def link(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(source.resolve())


def write_label(array, like, target):
    image = SimpleITK.GetImageFromArray(array.astype(np.uint8))
    image.CopyInformation(like)
    target.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(target))


def brain_tumours(raw):
    """Four MR channels, overlapping regions, masked z-scores, residual encoder, 2.2 mm."""
    for case in sorted((DATA / "BraTS2021").iterdir()):
        for number, channel in enumerate(BRATS):
            link(case / f"{case.name}_{channel}.nii.gz", raw / "imagesTr" / f"{case.name}_{number:04d}.nii.gz")
        label = SimpleITK.ReadImage(str(case / f"{case.name}_seg.nii.gz"))
        array = SimpleITK.GetArrayFromImage(label)
        array[array == 4] = 3
        write_label(array, label, raw / "labelsTr" / f"{case.name}.nii.gz")
    dataset = {
        "channel_names": {str(number): channel for number, channel in enumerate(BRATS)},
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [1, 3], "enhancing": 3},
        "regions_class_order": [2, 1, 3],
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    fields = {
        "patch_size": [32, 32, 32],
        "median_image_size_in_voxels": [64, 78, 62],
        "spacing": [2.2, 2.2, 2.2],
        "normalization_schemes": ["ZScoreNormalization"] * 4,
        "use_mask_for_norm": [True] * 4,
        "architecture": network("ResidualEncoderUNet", [4, 8, 12], [[3, 3, 3]] * 3, [[1, 1, 1], [2, 2, 2], [2, 2, 2]]),
    }
    shared = {
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [140, 172, 137],
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {
            str(number): dict.fromkeys(INTENSITIES, 0.0) | {"std": 1.0} for number in range(4)
        },
    }
    return dataset, plans(raw.name, "3d_fullres", fields, **shared)


def sarcoma(raw):
    """CT, PET and MR with slices of 3.3 mm; a transpose that is not its own inverse; anisotropic kernels and strides."""
    source, values = DATA / "Dataset051_SarcomaPETCT", []
    for path in sorted((source / "imagesTr").iterdir()):
        link(path, raw / "imagesTr" / path.name)
    for path in sorted((source / "labelsTr").iterdir()):
        label = SimpleITK.ReadImage(str(path))
        ct = SimpleITK.GetArrayFromImage(
            SimpleITK.ReadImage(str(source / "imagesTr" / path.name.replace(".nii", "_0000.nii")))
        )
        tumour = SimpleITK.GetArrayFromImage(label) > 0
        write_label(np.where(tumour, 2, ct > -300), label, raw / "labelsTr" / path.name)
        values.append(ct[ct > -300])
    found = np.concatenate(values).astype(float)
    ct = {
        "mean": found.mean(),
        "median": np.median(found),
        "std": found.std(),
        "min": found.min(),
        "max": found.max(),
        "percentile_00_5": np.percentile(found, 0.5),
        "percentile_99_5": np.percentile(found, 99.5),
    }
    dataset = {
        "channel_names": {"0": "CT", "1": "PET", "2": "T1"},
        "labels": {"background": 0, "body": 1, "tumour": 2},
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    fields = {
        "patch_size": [32, 16, 32],
        "median_image_size_in_voxels": [50, 30, 50],
        "spacing": [1.9, 3.9, 1.9],
        "normalization_schemes": ["CTNormalization", "ZScoreNormalization", "ZScoreNormalization"],
        "use_mask_for_norm": [False] * 3,
        "architecture": network(
            "PlainConvUNet", [4, 8, 16], [[3, 1, 3], [3, 3, 3], [3, 3, 3]], [[1, 1, 1], [2, 1, 2], [2, 2, 2]]
        ),
        "batch_dice": True,
    }
    other = dict.fromkeys(INTENSITIES, 0.0) | {"std": 1.0}
    shared = {
        "original_median_spacing_after_transp": [0.977, 3.27, 0.977],
        "original_median_shape_after_transp": [100, 36, 100],
        "transpose_forward": [2, 0, 1],
        "transpose_backward": [1, 2, 0],
        "foreground_intensity_properties_per_channel": {
            "0": {key: float(value) for key, value in ct.items()},
            "1": other,
            "2": other,
        },
    }
    return dataset, plans(raw.name, "3d_fullres", fields, **shared)


def prepare(name, make):
    raw = SCRATCH / "nnUNet_raw" / name
    dataset, planned = make(raw)
    preprocessed = SCRATCH / "nnUNet_preprocessed" / name
    preprocessed.mkdir(exist_ok=True)
    for folder in (raw, preprocessed):
        (folder / "dataset.json").write_text(json.dumps(dataset))
    (preprocessed / "dataset_fingerprint.json").write_text("{}")  # the trainer copies it
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(planned))
    if not (preprocessed / "nnUNetPlans_3d_fullres").is_dir():
        DefaultPreprocessor(verbose=False).run(int(name[7:10]), "3d_fullres", "nnUNetPlans", num_processes=2)
    return dataset, planned


def train(dataset, planned, fold, iterations, mirroring):
    torch.manual_seed(fold)
    trainer = nnUNetTrainer({**planned, "continue_training": False}, "3d_fullres", fold, dataset, torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, iterations, 2
    configure = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size

    def with_mirroring():
        rotation, is_flat, _, _ = configure()
        trainer.inference_allowed_mirroring_axes = mirroring
        return rotation, is_flat, planned["configurations"]["3d_fullres"]["patch_size"], mirroring

    def without_augmentation(*others, **options):
        options.pop("use_mask_for_norm")
        return trainer.get_validation_transforms(others[2], **options)

    trainer.get_training_transforms = without_augmentation
    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size = with_mirroring
    trainer.run_training()
    return Path(trainer.output_folder_base)


def freeze(results, name, case, folds):
    target = HERE / name
    for fold in folds:
        (target / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
        checkpoint = torch.load(results / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False)
        checkpoint["optimizer_state"] = {}
        torch.save(checkpoint, target / f"fold_{fold}" / "checkpoint_final.pth")
    for file in ("plans.json", "dataset.json"):
        shutil.copy(results / file, target / file)
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(target), tuple(folds))
    images = sorted(map(str, (SCRATCH / "nnUNet_raw").glob(f"*/imagesTr/{case}_*.nii.gz")))
    predictor.predict_from_files_sequential([images], [str(SCRATCH / case)], overwrite=True)
    array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(SCRATCH / f"{case}.nii.gz")))
    np.savez_compressed(target / "segmentation.npz", segmentation=array.astype(np.uint8))


def main():
    dataset, planned = prepare("Dataset902_Sarcoma", sarcoma)
    for fold in (0, 1):
        results = train(dataset, planned, fold, 60, (0, 1))
    freeze(results, "sarcoma", "STS_002", (0, 1))
    dataset, planned = prepare("Dataset901_Tumours", brain_tumours)
    results = train(dataset, planned, 0, 60, (0, 1, 2))
    freeze(results, "tumours", "BraTS2021_00006", (0,))


if __name__ == "__main__":
    main()
