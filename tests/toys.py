"""Small datasets that can be learnt in seconds, with everything awkward about them."""

import csv
from pathlib import Path

import nibabel
import numpy as np

LABELS = {"background": 0, "shell": 2, "core": 7}
CODES = ("RAS", "LPS", "PIR", "LAS", "SRA", "RAS")
SPACINGS = ((1.0, 1.0, 1.2), (1.1, 1.0, 1.0), (1.0, 1.3, 1.0), (1.0, 1.0, 1.0), (1.2, 1.1, 1.0), (1.0, 1.0, 1.0))


def oblique(degrees: float) -> np.ndarray:
    """Return a rotation about the first axis."""
    angle = np.radians(degrees)
    return np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])


def toy_arrays(number: int, shape=(19, 22, 17)) -> tuple[np.ndarray, np.ndarray]:
    """Return channels (X, Y, Z, 2) and labels (X, Y, Z): a bright ball with a core, dark outside."""
    rng = np.random.default_rng(number)
    centre = np.array(shape) / 2 + rng.uniform(-2, 2, 3)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    distance = np.linalg.norm(grid - centre, axis=-1)
    labels = np.zeros(shape, np.uint8)
    labels[distance < 6] = LABELS["shell"]
    labels[distance < 3] = LABELS["core"]
    first = 100 + 80 * (labels > 0) + rng.normal(0, 5, shape)
    second = 50 + 60 * (labels == LABELS["core"]) + rng.normal(0, 5, shape)
    return np.stack([first, second], axis=-1).astype(np.float32), labels


def save(array: np.ndarray, affine: np.ndarray, path: Path, code: str = "RAS") -> Path:
    """Write an array (X, Y, Z) given in RAS order in another axis order, at the same world points."""
    image = nibabel.Nifti1Image(array, affine)
    target = nibabel.orientations.axcodes2ornt(code)
    transform = nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), target)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image.as_reoriented(transform), path)
    return path


def write_toy(folder: Path, num_cases: int = 6, shape=(19, 22, 17)) -> Path:
    """Write a manifest dataset: two channels, label gaps, mixed orientations and spacings, one oblique, one empty."""
    rows = []
    for number in range(num_cases):
        channels, labels = toy_arrays(number, shape)
        if number == num_cases - 1:
            labels[:] = 0
        affine = np.eye(4)
        affine[:3, :3] = (oblique(12) if number == 1 else np.eye(3)) @ np.diag(SPACINGS[number % 6])
        affine[:3, 3] = (-10.0, 5.0 * number, 3.0)
        code, case_id = CODES[number % 6], f"case_{number}"
        for position, channel in enumerate(("T1", "T2")):
            save(channels[..., position], affine, folder / case_id / f"{channel}.nii.gz", code)
        save(labels, affine, folder / case_id / "seg.nii.gz", code)
        rows.append([case_id, f"{case_id}/T1.nii.gz", f"{case_id}/T2.nii.gz", f"{case_id}/seg.nii.gz", "", ""])
    named = [f"label:{name}={value}" for name, value in LABELS.items() if value]
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["case_id", "T1", "T2", "label", *named], *rows])
    return folder
