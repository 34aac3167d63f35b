"""The built-in phantom dataset as files: a small Task01_BrainTumour of varying spacing and stored orientation."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from tumorseg.ops.geometry import AS_STORED, Orientation, orient, oriented_affine
from tumorseg.schema.base import json_text
from tumorseg.sources.phantom_volume import CHANNELS, LABELS, Phantom, make_phantom
from tumorseg.storage.atomic import write_text
from tumorseg.storage.image_writing import write_image
from tumorseg.types import Affine

# Five spacings and four orientations: as 5 and 4 have no common factor, only every 20th case has the same two.
SPACINGS_MM = ((1.1, 1.1, 1.1), (0.9, 1.0, 1.0), (2.2, 1.0, 1.0), (1.3, 1.2, 1.2), (1.0, 0.95, 1.3))
"""Voxel edges (Z, Y, X) in canonical order; case k takes the one of index k modulo their number."""
ORIENTATIONS: dict[str, Orientation] = {
    "RAS": AS_STORED,
    "LPS": Orientation((0, 1, 2), (False, True, True)),
    "PIR": Orientation((2, 0, 1), (False, True, True)),
    "RAS, oblique": AS_STORED,
}
"""Stored axis order and directions (X, Y, Z), as steps from the canonical array; case k takes number k modulo four."""
TILT_DEGREES = 9.0
"""Of the oblique cases, about the left-right axis."""
CASE_WITHOUT_RIM = 1
"""Number of the case whose tumour does not enhance."""


class _Stored(NamedTuple):
    """A case as it goes into files."""

    phantom: Phantom
    affine: Affine


def write_phantom(folder: Path, *, num_cases: int = 16, seed: int = 0, edge: int = 56) -> Path:
    """Write the phantom in the layout of the Medical Segmentation Decathlon; equal arguments give equal bytes.

    Args:
        folder: where dataset.json, imagesTr/ and labelsTr/ go; dataset.json is written last.
        num_cases: how many; the second one has no enhancing tumour.
        seed: of everything random; each case depends on it and its own number only.
        edge: voxels along each axis at a spacing of 1.1 mm.

    Returns:
        The folder.

    Raises:
        StorageError: a file cannot be written.
    """
    training = []
    for number in range(num_cases):
        stored = _make_case(number, seed=seed, edge=edge)
        pair = {part: f"./{part}sTr/phantom_{number + 1:03d}.nii.gz" for part in ("image", "label")}
        # The image holds whole numbers of a few thousand at most, which int16 keeps.
        write_image(folder / pair["image"], stored.phantom.image.astype(np.int16), affine=stored.affine)
        write_image(folder / pair["label"], stored.phantom.segmentation, affine=stored.affine)
        training.append(pair)
    description = {
        "name": "Phantom",
        "description": "Synthetic gliomas made by tumorseg; no patient data",
        "tensorImageSize": "4D",
        "modality": {str(number): name for number, name in enumerate(CHANNELS)},
        "labels": {str(value): name for name, value in LABELS.items()},
        "numTraining": num_cases,
        "numTest": 0,
        "training": training,
        "test": [],
    }
    write_text(folder / "dataset.json", json_text(description))
    return folder


def _make_case(number: int, *, seed: int, edge: int) -> _Stored:
    """Make one case and turn it into its stored orientation."""
    generator = np.random.default_rng([seed, number])
    spacing_mm = SPACINGS_MM[number % len(SPACINGS_MM)]
    phantom = make_phantom(generator, edge=edge, spacing_mm=spacing_mm, has_rim=number != CASE_WITHOUT_RIM)
    name = list(ORIENTATIONS)[number % len(ORIENTATIONS)]
    affine = _canonical_affine(phantom.segmentation.shape, spacing_mm, tilt=TILT_DEGREES if "oblique" in name else 0.0)
    orientation = ORIENTATIONS[name]
    turned = oriented_affine(affine, phantom.segmentation.shape, orientation)
    return _Stored(Phantom(orient(phantom.image, orientation), orient(phantom.segmentation, orientation)), turned)


def _canonical_affine(shape: tuple[int, ...], spacing_mm: tuple[float, float, float], *, tilt: float) -> Affine:
    """Return a RAS+ affine whose origin is the centre of the head."""
    angle = np.radians(tilt)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    # World axes are x, y, z, array axes z, y, x. Voxels count from their centres, so that the middle is at (n - 1) / 2.
    affine[:3, :3] = turn @ np.diag(spacing_mm[::-1])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return affine
