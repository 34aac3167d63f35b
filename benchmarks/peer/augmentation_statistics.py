"""What batchgeneratorsv2 draws and makes of a fixed image, as frozen for tests/augmentation/test_statistics.py.

    python benchmarks/peer/augmentation_statistics.py tests/augmentation/statistics.json

Run by the python of nnunetv2 2.8.1, whose table of transforms it is. For every transform: how often it is applied, to how many
channels, with which parameters, and what its results are, each as mean and standard deviation of the values and of their squares and
as quantiles, with their number. Then label maps turned and scaled by given numbers. Takes some minutes.
"""

import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

NUM_RUNS = 10_000
"""Of each transform."""
NUM_TABLES = 4_000
"""Of the whole table."""
CHANNELS, SOURCE, PATCH = 2, (18, 20, 16), (12, 14, 10)
"""Of one parity along each axis, so that both sides have the same middle."""
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
LARGEST_RAD = math.pi / 6
CASES = (((25.0, -10.0, 30.0), 0.8), ((0.0, 28.0, -5.0), 1.3), ((-30.0, 15.0, 12.0), 1.0), ((0.0, 0.0, 0.0), 0.7))
"""Angles in degrees and scalings of the label maps."""
NAMES = {
    "GaussianNoiseTransform": "gaussian_noise",
    "GaussianBlurTransform": "gaussian_blur",
    "MultiplicativeBrightnessTransform": "brightness",
    "ContrastTransform": "contrast",
    "SimulateLowResolutionTransform": "low_resolution",
}
PARAMETERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "gaussian_noise": lambda drawn: [drawn["sigmas"]],
    "gaussian_blur": lambda drawn: [sigma for channel in drawn["sigmas"] for sigma in channel],
    "brightness": lambda drawn: drawn["multipliers"].tolist(),
    "contrast": lambda drawn: drawn["multipliers"].tolist(),
    "low_resolution": lambda drawn: [channel[0].item() for channel in drawn["scales"]],
    "gamma": lambda drawn: drawn["gamma"].tolist(),
    "gamma_inverted": lambda drawn: drawn["gamma"].tolist(),
}
Series = dict[str, list[float]]


def fixed_image(space: tuple[int, ...]) -> torch.Tensor:
    """Return (C, *space) float32: the same on both sides."""
    channel, z, y, x = np.indices((CHANNELS, *space))
    image = np.sin(1.3 * z + 0.4 * channel) + np.cos(0.9 * y) * np.sin(0.7 * x + 0.2 * z)
    return torch.from_numpy(image.astype(np.float32))


def fixed_labels(space: tuple[int, ...]) -> np.ndarray:
    """Return (*space) int16 of four labels: the same on both sides."""
    z, y, x = np.indices(space)
    waves = np.sin(0.5 * z + 0.2) + np.cos(0.4 * y) + np.sin(0.6 * x)
    return np.digitize(waves, (-0.8, 0.3, 1.1)).astype(np.int16)


def summary(values: list[float]) -> dict[str, Any]:
    """Return what a series is compared by."""
    found = np.asarray(values, np.float64)
    squares = found**2
    moments = {"mean": found.mean(), "std": found.std(), "mean_square": squares.mean(), "std_square": squares.std()}
    quantiles = [round(float(value), 7) for value in np.quantile(found, SHARES)]
    return {
        "count": len(found),
        **{name: round(float(value), 7) for name, value in moments.items()},
        "quantiles": quantiles,
    }


def results(channel: torch.Tensor) -> Iterator[tuple[str, float]]:
    """Yield what a channel (*space) is compared by."""
    middle = tuple(size // 2 for size in channel.shape)
    yield "result_mean", channel.mean().item()
    yield "result_std", channel.std().item()
    yield "result_middle", channel[middle].item()
    yield "result_corner", channel[1, 1, 1].item()


def run_intensity(name: str, outer: Any) -> Series:
    """Return the series of a transform of intensities."""
    series: Series = defaultdict(list)
    before = fixed_image(PATCH)
    inner = outer.transform
    for _ in range(NUM_RUNS):
        applied = outer.get_parameters()["apply_transform"]
        series["applied"].append(float(applied))
        if applied:
            drawn = inner.get_parameters(image=before)
            after = inner._apply_to_image(before.clone(), **drawn)
            changed = [not torch.equal(*pair) for pair in zip(before, after, strict=True)]
            series["channel_changed"] += [float(one) for one in changed]
            series["parameter"] += PARAMETERS[name](drawn)
            for key, value in results(after[0]):
                # The first channel stands for all that changed.
                if changed[0]:
                    series[key].append(value)
    return series


def run_spatial(transform: Any) -> Series:
    """Return the series of rotation and scaling; angles are read from the matrix."""
    series: Series = defaultdict(list)
    image = fixed_image(SOURCE)
    for _ in range(NUM_RUNS):
        drawn = transform.get_parameters(image=image)
        matrix = drawn["affine"]
        matrix = np.eye(3) if matrix is None else matrix
        scaling = float(np.cbrt(np.linalg.det(matrix)))
        turn = matrix / scaling
        angles = (math.atan2(turn[2, 1], turn[2, 2]), -math.asin(turn[2, 0]), math.atan2(turn[1, 0], turn[0, 0]))
        is_turned, is_scaled = bool(np.abs(turn - np.eye(3)).max() > 1e-9), abs(scaling - 1) > 1e-9
        series["turned"].append(float(is_turned))
        series["scaled"].append(float(is_scaled))
        if is_scaled:
            series["scaling"].append(scaling)
        for axis, angle in enumerate(angles):
            if is_turned:
                series[f"degrees_{axis}"].append(math.degrees(angle))
        if is_turned or is_scaled:
            for key, value in results(transform._apply_to_image(image, **drawn)[0]):
                series[key].append(value)
    return series


def run_mirror(transform: Any) -> Series:
    """Return how often each axis is flipped."""
    series: Series = defaultdict(list)
    for _ in range(NUM_RUNS):
        axes = transform.get_parameters()["axes"]
        for axis in range(3):
            series[f"flipped_{axis}"].append(float(axis in axes))
    return series


def run_table(table: Any) -> Series:
    """Return the results of all transforms one after the other."""
    series: Series = defaultdict(list)
    labels = torch.from_numpy(fixed_labels(SOURCE))[None]
    for _ in range(NUM_TABLES):
        made = table(image=fixed_image(SOURCE), segmentation=labels.clone())
        for key, value in results(made["image"][0]):
            series[key].append(value)
        for label in range(4):
            series[f"label_{label}"].append((made["segmentation"] == label).float().mean().item())
    return series


def turned_labels() -> list[dict[str, Any]]:
    """Return label maps as they are turned and scaled."""
    labels = torch.from_numpy(fixed_labels(SOURCE))[None]
    found = []
    for degrees, scaling in CASES:
        transform = SpatialTransform(
            PATCH,
            patch_center_dist_from_border=0,
            random_crop=False,
            p_rotation=1,
            rotation=lambda image, dim, degrees=degrees: math.radians(degrees[dim]),
            p_scaling=1,
            scaling=(scaling, scaling),
            p_synchronize_scaling_across_axes=1,
            border_mode_seg="constant",
            padding_value_seg=-1,
        )
        drawn = transform.get_parameters(image=fixed_image(SOURCE))
        moved = transform._apply_to_segmentation(labels, **drawn)[0].clamp(min=0)
        digits = "".join(str(value) for value in moved.flatten().tolist())
        found.append({"degrees": degrees, "scaling": scaling, "labels": digits})
    return found


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    np.random.seed(1)
    table = nnUNetTrainer.get_training_transforms(PATCH, (-LARGEST_RAD, LARGEST_RAD), None, (0, 1, 2), False)
    spatial, *outers, mirror, _ = table.transforms
    transforms = {"spatial": run_spatial(spatial)}
    for outer in outers:
        kind = type(outer.transform).__name__
        is_inverted = getattr(outer.transform, "p_invert_image", 0) == 1
        name = NAMES.get(kind, "gamma_inverted" if is_inverted else "gamma")
        transforms[name] = run_intensity(name, outer)
    transforms["mirror"] = run_mirror(mirror)
    transforms["table"] = run_table(table)
    frozen = {
        "versions": {name: version(name) for name in ("batchgeneratorsv2", "nnunetv2", "torch")},
        "transforms": {
            name: {key: summary(series[key]) for key in sorted(series)} for name, series in transforms.items()
        },
        "labels": turned_labels(),
    }
    Path(sys.argv[1]).write_text(json.dumps(frozen, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
