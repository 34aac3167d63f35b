"""Make the frozen label maps that nnU-Net v2 preprocesses; run where nnunetv2 2.8.1 and batchgenerators 0.25.5 are installed.

python make_labels.py    writes labels.npz beside this script: drawn images and labels, and what its DefaultPreprocessor makes of them
"""

from pathlib import Path

import numpy as np
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy import ndimage

LABELS = {"background": 0, "a": 1, "b": 2, "c": 3, "ignore": 4}

# shape, spacing, target, order along a separate axis
CASES = {
    "finer": ((11, 17, 16), (1.2, 0.9, 1.0), (0.8, 1.1, 0.7), 0),
    "halved": ((16, 20, 18), (1.0, 1.0, 1.0), (2.0, 2.0, 1.5), 0),
    "half_way": ((12, 31, 15), (0.7, 0.3, 0.3), (0.5, 0.6, 0.6), 0),
    "thick_slices": ((6, 21, 19), (5.0, 0.8, 0.9), (3.0, 1.2, 0.6), 0),
    "thick_slices_linear": ((6, 21, 19), (5.0, 0.8, 0.9), (2.5, 1.2, 0.6), 1),
}


def resampling(order, order_z, *, is_seg=False):
    return {"is_seg": is_seg, "order": order, "order_z": order_z, "force_separate_z": None}


def plans(target, order_z):
    function = "resample_data_or_seg_to_shape"
    configuration = {
        "spacing": list(target),
        "patch_size": [8, 8, 8],
        "architecture": {"network_class_name": "", "arch_kwargs": {}, "_kw_requires_import": []},
        "normalization_schemes": ["NoNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": function,
        "resampling_fn_seg": function,
        "resampling_fn_probabilities": function,
        "resampling_fn_data_kwargs": resampling(3, order_z),
        "resampling_fn_seg_kwargs": resampling(1, order_z, is_seg=True),
        "resampling_fn_probabilities_kwargs": resampling(1, order_z),
    }
    return {
        "plans_name": "drawn",
        "transpose_forward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": {}},
        "label_manager": "LabelManager",
        "configurations": {"3d_fullres": configuration},
    }


def draw(shape, seed):
    """Return a body of irregular outline with a cavity of 0, and labels that reach its outline."""
    rng = np.random.default_rng(seed)
    distance = ndimage.distance_transform_edt(np.pad(np.ones(np.array(shape) - 2), 1))
    body = distance + ndimage.gaussian_filter(rng.normal(size=shape), 1) * 4 > 1.5
    fields = [ndimage.gaussian_filter(rng.normal(size=shape), 1.3) for _ in LABELS]
    label = np.where(body, np.argmax(fields, axis=0), 0).astype(np.int8)
    body[tuple(size // 2 for size in shape)] = False
    return body.astype(np.uint8), label


def main():
    arrays = {}
    for seed, (name, (shape, spacing, target, order_z)) in enumerate(CASES.items()):
        image, label = draw(shape, seed)
        manager = PlansManager(plans(target, order_z))
        dataset = {"labels": LABELS, "channel_names": {"0": "MR"}, "file_ending": ".nii.gz"}
        _, found, _ = DefaultPreprocessor(verbose=False).run_case_npy(
            image[None],
            label[None],
            {"spacing": list(spacing)},
            manager,
            manager.get_configuration("3d_fullres"),
            dataset,
        )
        known = {"image": image, "label": label, "spacing": spacing, "target": target, "order_z": order_z}
        arrays |= {f"{name}.{key}": np.asarray(value) for key, value in known.items()}
        arrays[f"{name}.found"] = np.where(found[0] == -1, 0, found[0]).astype(np.int8)
    np.savez_compressed(Path(__file__).parent / "labels.npz", **arrays)


if __name__ == "__main__":
    main()
