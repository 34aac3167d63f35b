"""Summary of a dataset in a few lines."""

from collections import Counter
from collections.abc import Sequence
from statistics import median

import numpy as np

from tumorseg.schema.dataset import Dataset
from tumorseg.stages.datasets.checking.case import CaseFacts

MOST_LABELS = 40
"""Labels that are listed at most."""


def dataset_facts(dataset: Dataset, facts: Sequence[CaseFacts]) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return heading to (name, value) pairs."""
    found = {"Dataset": _names(dataset)}
    if facts:
        found["Geometry"] = _geometry(facts)
    if any(one.label for one in facts):
        found["Labels"] = _labels(dataset, facts)
    return found


def _names(dataset: Dataset) -> tuple[tuple[str, str], ...]:
    labelled = sum(case.label is not None for case in dataset.cases)
    groups = {case.group for case in dataset.cases} - {None}
    sites = {case.site for case in dataset.cases} - {None}
    channels = ", ".join(channel.name for channel in dataset.channels)
    regions = ", ".join(region.name for region in dataset.regions)
    return (
        ("Cases", f"{len(dataset.cases)}, of which {labelled} with labels"),
        ("Channels", channels),
        ("Regions", regions or "none"),
        ("Groups", str(len(groups) or "none")),
        ("Sites", str(len(sites) or "none")),
    )


def _geometry(facts: Sequence[CaseFacts]) -> tuple[tuple[str, str], ...]:
    edges = np.array([one.spacing_mm for one in facts])
    shapes = np.array([one.shape for one in facts])
    codes = Counter(one.code for one in facts).most_common()
    rows = [("Cases read", str(len(facts)))]
    for axis, name in enumerate("ZYX"):
        rows.append((f"Voxel edge {name}", f"{_span(edges[:, axis])} mm"))
        rows.append((f"Voxels {name}", _span(shapes[:, axis])))
    return (*rows, ("Stored axes", ", ".join(f"{code} ({count})" for code, count in codes)))


def _span(values: np.ndarray) -> str:
    least, middle, most = float(values.min()), float(np.median(values)), float(values.max())
    return f"{middle:.4g}" if least == most else f"{middle:.4g} ({least:.4g} to {most:.4g})"


def _labels(dataset: Dataset, facts: Sequence[CaseFacts]) -> tuple[tuple[str, str], ...]:
    labelled = [(one.label, float(np.prod(one.spacing_mm))) for one in facts if one.label is not None]
    rows: list[tuple[str, str]] = []
    for name, value in dataset.labels.items():
        if value == 0:
            continue
        volumes = [label.voxels[value] * mm3 / 1000 for label, mm3 in labelled if value in label.voxels]
        size = f", median {median(volumes):.3g} ml" if volumes else ""
        rows.append((f"{name} ({value})", f"in {len(volumes)} of {len(labelled)} cases{size}"))
    if (more := len(rows) - MOST_LABELS) > 0:
        rows = [*rows[:MOST_LABELS], ("more", f"{more} labels")]
    return tuple(rows)
