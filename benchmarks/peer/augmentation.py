"""Times batchgeneratorsv2's transforms as nnU-Net's table has them, one request a line; run by the python of nnunetv2 2.8.1.

    python benchmarks/peer/augmentation.py

A request is a JSON object on standard input: `row` (a transform's name, or `table`), `channels`, `patch`, `labels`, `count` and `seed`.
The answer begins with RESULT: seconds a sample, in one thread. Every transform of a row is applied for certain; those of the table
have their own probabilities. Images are read as large as nnU-Net reads them; reading is not timed.
"""

import json
import math
import sys
import time
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

Patch = tuple[int, ...]
LARGEST_RAD = math.pi / 6
READ = {"rotation", "scaling", "table", "table, masked"}
"""Rows for which more is read than the patch."""
BODY = 1.1
"""Radius of what is not 0, against half a patch."""
NUM_WARM = 10
"""Runs of the blur before the clock starts."""


def spatial(patch: Patch, *, turns: float, scales: float) -> SpatialTransform:
    return SpatialTransform(
        patch,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_elastic_deform=0,
        p_rotation=turns,
        rotation=(-LARGEST_RAD, LARGEST_RAD),
        p_scaling=scales,
        scaling=(0.7, 1.4),
        p_synchronize_scaling_across_axes=1,
        bg_style_seg_sampling=False,
        border_mode_seg="constant",
        padding_value_seg=-1,
    )


def gamma(inverted: float) -> GammaTransform:
    return GammaTransform(
        gamma=BGContrast((0.7, 1.5)),
        p_invert_image=inverted,
        synchronize_channels=False,
        p_per_channel=1,
        p_retain_stats=1,
    )


class Flip:
    """Mirroring along all axes, for certain."""

    def __call__(self, **sample: torch.Tensor) -> dict[str, torch.Tensor]:
        """Flip all that is given."""
        return {key: torch.flip(part, (1, 2, 3)) for key, part in sample.items()}


@lru_cache
def transform_of(row: str, patch: Patch, channels: int) -> Any:
    """Return a transform; those of intensities with every channel."""
    factor = {"synchronize_channels": False, "p_per_channel": 1}
    match row:
        case "table" | "table, masked":
            limits, masks = (-LARGEST_RAD, LARGEST_RAD), [row != "table"] * channels
            return nnUNetTrainer.get_training_transforms(patch, limits, None, (0, 1, 2), False, use_mask_for_norm=masks)
        case "rotation" | "scaling":
            return spatial(patch, turns=float(row == "rotation"), scales=float(row == "scaling"))
        case "gaussian_noise":
            return GaussianNoiseTransform(noise_variance=(0, 0.1), p_per_channel=1, synchronize_channels=True)
        case "gaussian_blur":
            return GaussianBlurTransform(blur_sigma=(0.5, 1.0), p_per_channel=1, benchmark=True)
        case "brightness":
            return MultiplicativeBrightnessTransform(multiplier_range=BGContrast((0.75, 1.25)), **factor)
        case "contrast":
            return ContrastTransform(contrast_range=BGContrast((0.75, 1.25)), preserve_range=True, **factor)
        case "low_resolution":
            low = {"synchronize_axes": True, "ignore_axes": None, "allowed_channels": None}
            return SimulateLowResolutionTransform(scale=(0.5, 1), **factor, **low)
        case "gamma" | "inverted gamma":
            return gamma(float(row != "gamma"))
        case _:
            return Flip()


@lru_cache
def case_of(channels: int, space: Patch, patch: Patch, labels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an image (C, *space) and labels (1, *space): balls around the middle of the patch, one in the other."""
    from_middle = [(np.arange(edge) - (edge - 1) / 2) / (own / 2) for edge, own in zip(space, patch, strict=True)]
    z, y, x = np.meshgrid(*from_middle, indexing="ij", sparse=True)
    radius = np.sqrt(z**2 + y**2 + x**2)
    segmentation = sum((radius < edge).astype(np.int16) for edge in np.linspace(0.8, 0.2, labels - 1))
    image = np.random.default_rng(1).normal(0, 0.3, (channels, *space)).astype(np.float32)
    image += (segmentation - 0.5).astype(np.float32)
    # As its preprocessing leaves what lies outside the body.
    image[:, radius > BODY], segmentation[radius > BODY] = 0, -1
    return torch.from_numpy(image), torch.from_numpy(segmentation[None])


@lru_cache
def warm_up(row: str, patch: Patch, image: torch.Tensor) -> None:
    """Run a transform before the clock starts: the blur tries out how it is computed fastest, a few times."""
    transform = transform_of(row, patch, len(image))
    for one in transform.transforms if "table" in row else (transform,):
        inner = getattr(one, "transform", one)
        count = NUM_WARM if isinstance(inner, GaussianBlurTransform) else 1
        for _ in range(count):
            middle = image[(slice(None), *(slice(edge) for edge in patch))]
            inner(image=middle.clone(), segmentation=middle[:1].to(torch.int16))


def seconds(request: dict[str, Any]) -> float:
    """Return the seconds that a sample takes."""
    patch, row = tuple(request["patch"]), request["row"]
    limits = (-LARGEST_RAD, LARGEST_RAD)
    read = get_patch_size(patch, limits, limits, limits, (0.85, 1.25)) if row in READ else patch
    space = tuple(int(edge) for edge in read)
    image, segmentation = case_of(request["channels"], space, patch, request["labels"])
    transform = transform_of(row, patch, len(image))
    np.random.seed(request["seed"])
    torch.manual_seed(request["seed"])
    warm_up(row, patch, image)
    spent = 0.0
    for _ in range(request["count"]):
        sample = {"image": image.clone(), "segmentation": segmentation.clone()}
        began = time.perf_counter()
        transform(**sample)
        spent += time.perf_counter() - began
    return spent / request["count"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in sys.stdin:
        with torch.no_grad():
            print("RESULT" + json.dumps(seconds(json.loads(line))), flush=True)
