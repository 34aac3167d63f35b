"""The report of a folder of predictions: what was found in each case, by what, and at what cost."""

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from pydantic import Field

from tumorseg.ops.extents import extents_of
from tumorseg.schema.base import Record
from tumorseg.schema.dataset import DatasetDescription
from tumorseg.schema.ensembles import CombinationMethod
from tumorseg.schema.targets import targets_of
from tumorseg.schema.trust import CaseTrust
from tumorseg.types import Affine, Segmentation
from tumorseg.workers.machine import peak_bytes

PACKAGES = ("tumorseg", "torch", "numpy", "scipy", "nibabel", "pydicom", "highdicom", "openvino")
"""Whose versions are told."""
ML_PER_CUBIC_MM = 1e-3
DEFINITIONS = {
    "volume_ml": "voxels in the mask, times the volume of one by the affine of the input",
    "box": "first voxel and one past the last, along Z, Y and X as the input's file stores them (Z slowest); null where nothing was found",
    "num_components": "voxels that touch at a corner belong together (26 neighbours)",
    "seconds": "by part of the work; parts of one case and of several overlap, so that they do not add up to the time that passed",
    "peak_memory_bytes": "the most that the process had held when the case was done, all models included",
    "trust": "how far the case is to be trusted (docs/trust.md); review says why a person should look at it, null where nothing is unusual",
}
"""What the report's figures mean, written into it."""


class FoundLabel(Record):
    """What was found of a label or region."""

    volume_ml: float = Field(ge=0)
    """0 where nothing was found."""
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None
    """Along Z, Y and X in the stored order: first voxel, one past the last."""
    num_components: int = Field(ge=0)
    """Connected parts."""


class CaseEntry(Record):
    """What was found in a case, and what it took."""

    run: str
    """Key of the run among those of the report."""
    labels: dict[str, FoundLabel]
    """By name of the label or region."""
    seconds: dict[str, float]
    """By part of the work."""
    peak_memory_bytes: int | None
    """Of the process so far; null where the system does not tell."""
    trust: CaseTrust | None = None
    """How far it is to be trusted; null where the model has no profile to judge by."""


class RunMember(Record):
    """One model of an ensemble."""

    plan: str
    """Name of its plan."""
    configuration: str | None
    """Name in that plan; null for one that is not of it."""
    num_folds: int
    """Networks that are averaged."""


class RunEntry(Record):
    """What segmented cases; all of one command share it."""

    plan: str
    """Name of the model's plan, or of the ensemble."""
    configuration: str | None
    """Name in that plan; null for one that is not of it, and for an ensemble."""
    num_folds: int
    """Networks that are averaged, of an ensemble those of all its members."""
    members: tuple[RunMember, ...] = ()
    """Models of an ensemble; empty for a model alone."""
    method: CombinationMethod | None = None
    """How their answers are combined; null for a model alone."""
    weight_hashes: tuple[str, ...]
    """Of the checkpoints, those of a cascade's previous model included."""
    method_hash: str
    """Of everything that shapes a mask beside its inputs."""
    engine: str
    """What ran the networks."""
    precision: str
    """In which they computed."""
    mirroring: bool | None = None
    """Whether mirrored views were averaged; null in reports of versions that did not tell."""
    overlap: float | None = None
    """Share of a tile that the next one covered again, of the first member; likewise."""
    device: str
    """Where."""
    versions: dict[str, str]
    """Of packages."""


def versions_here() -> dict[str, str]:
    """Return the versions of the packages that take part, as far as they are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # of an extra
            continue
    return found


def label_groups(dataset: DatasetDescription, kept: Mapping[str, int] | None) -> dict[str, tuple[int, ...]]:
    """Return the label values that make up each name of a report.

    Args:
        dataset: of the model.
        kept: values that masks are confined to, by name, which is then told label by label, as regions would lack a part; None
            for all.
    """
    if kept is not None:
        return {name: (value,) for name, value in kept.items()}
    targets = targets_of(dataset)
    groups = {}
    for name, classes in zip(targets.scored_names, targets.scored_classes, strict=True):
        groups[name] = tuple(targets.label_values[index] for index in classes)
    return groups


def case_entry(
    segmentation: Segmentation,
    affine: Affine,
    *,
    groups: Mapping[str, Sequence[int]],
    run: str,
    seconds: Mapping[str, float],
) -> CaseEntry:
    """Measure a mask.

    Args:
        segmentation: (Z, Y, X), label values in the stored order.
        affine: (4, 4), voxels (x, y, z, 1) to RAS+ mm.
        groups: label values that make up each name.
        run: key of what made it.
        seconds: what it took, by part.
    """
    voxel_ml = float(abs(np.linalg.det(affine[:3, :3]))) * ML_PER_CUBIC_MM
    labels = {}
    for name, extent in extents_of(segmentation, groups).items():
        labels[name] = FoundLabel(
            volume_ml=round(extent.num_voxels * voxel_ml, 9), box=extent.box, num_components=extent.num_components
        )
    measured = {part: round(spent, 4) for part, spent in sorted(seconds.items())}
    return CaseEntry(run=run, labels=labels, seconds=measured, peak_memory_bytes=peak_bytes(os.getpid()))
