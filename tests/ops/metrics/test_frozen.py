"""Frozen: what packages that cannot live beside ours measured on the masks of cases.py; see make_frozen.py."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.ops.metrics import cases
from tumorseg.ops.metrics.case import score_mask, score_segmentation
from tumorseg.ops.metrics.pairs import MaskPair
from tumorseg.ops.metrics.surfaces import pooled_hausdorff_95
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.score_rules import ScoreRules, lesion_preset
from tumorseg.schema.targets import Targets

FROZEN = json.loads((Path(__file__).parent / "frozen.json").read_text())
CUBE = (1.0, 1.0, 1.0)
RULES = ScoreRules(metrics=tuple(METRICS), tolerance_mm=1.5)
LESIONS = ("lesions_found", "lesions_invented", "lesions_missed", "lesion_dsc", "lesion_hd95_mm")
REGIONS = {"WT": (1, 2, 3), "TC": (1, 3)}
GLIOMA = {"NETC": (1,), "SNFH": (2,), "ET": (3,), "RC": (4,)} | REGIONS
STRUCTURES = {"brats_2024_ped": {"WT": (1, 2, 3, 4), "TC": (1, 2, 3)}, "brats_2024_men_rt": {"GTV": (1,)}}
PRESETS = sorted(name for name in FROZEN["maps"][0] if name.startswith("brats"))
# The last two, which have a structure in one of both alone besides others in both, are enough for every day.
MAPS = [pytest.param(number, marks=pytest.mark.slow) for number in range(cases.NUM_MAPS - 2)]
MAPS += range(cases.NUM_MAPS - 2, cases.NUM_MAPS)
OLD = [name for name in PRESETS if "2025" not in name]


def frozen(package):
    return [(number, dict(row[package])) for number, row in enumerate(FROZEN["pairs"])]


@cache
def scores(number, spacing):
    return score_mask(*cases.pair(number), spacing_mm=spacing, rules=RULES).scores


def test_the_masks_are_those_that_were_measured():
    for kind, make in (("pairs", cases.pair), ("maps", cases.label_maps)):
        for number, row in enumerate(FROZEN[kind]):
            assert row["voxels"] == [[int(one.sum()), int(np.flatnonzero(one).sum())] for one in make(number)]


@pytest.mark.parametrize(("number", "theirs"), frozen("medpy"))
def test_overlap_and_distances_are_those_of_medpy(number, theirs):
    ours = scores(number, cases.ANISOTROPIC)
    # Its HD95 pools both directions.
    pooled = pooled_hausdorff_95(*MaskPair(*cases.pair(number), spacing_mm=cases.ANISOTROPIC).distances)
    assert pooled == pytest.approx(theirs["hd95_mm"], rel=1e-6)
    for name, value in (theirs | {"hd95_mm": ours["hd95_mm"]}).items():
        assert ours[name] == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize(("number", "theirs"), frozen("autopet"))
def test_false_volumes_are_those_of_autopet(number, theirs):
    ours = scores(number, cases.ANISOTROPIC)
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize(("number", "theirs"), frozen("panoptica"))
def test_panoptic_quality_overlap_and_distances_are_those_of_panoptica(number, theirs):
    ours = scores(number, CUBE)
    pooled = pooled_hausdorff_95(*MaskPair(*cases.pair(number), spacing_mm=CUBE).distances)
    assert pooled == pytest.approx(theirs["hd95_mm"], rel=1e-6)
    for name, value in (theirs | {"hd95_mm": ours["hd95_mm"]}).items():
        assert ours[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize(("number", "theirs"), frozen("surface_distance"))
def test_surface_elements_lie_between_voxels_so_that_distances_differ_by_less_than_a_voxels_diagonal(number, theirs):
    ours = scores(number, cases.ANISOTROPIC)
    assert ours["dsc"] == pytest.approx(theirs["dsc"], abs=1e-12)
    diagonal = np.linalg.norm(cases.ANISOTROPIC)
    for name in ("hd_mm", "hd95_mm", "masd_mm"):
        assert abs(ours[name] - theirs[name]) < diagonal, name
    assert abs(ours["nsd"] - theirs["nsd"]) < 0.15


def structures_of(preset):
    return STRUCTURES.get(preset, GLIOMA)


def scored(number, preset):
    structures = structures_of(preset)
    targets = Targets(
        label_values=tuple(range(5)),
        label_names=("background", "NETC", "SNFH", "ET", "RC"),
        ignore_value=None,
        region_names=tuple(structures),
        regions=tuple(structures.values()),
        region_values=tuple(range(1, len(structures) + 1)),
    )
    rules, _, by_label = lesion_preset(preset)
    rules = ScoreRules(metrics=LESIONS, lesions=rules, label_lesions=dict(by_label))
    return score_segmentation(*cases.label_maps(number), targets=targets, spacing_mm=CUBE, rules=rules)


@pytest.mark.parametrize("number", MAPS)
@pytest.mark.parametrize("preset", OLD)
def test_lesions_are_those_of_brats(preset, number):
    ours = scored(number, preset)
    for name, (found, invented, missed, dsc, hd95_mm, bordered_mm) in FROZEN["maps"][number][preset].items():
        mine = ours[name].scores
        expected = (found, invented, missed, pytest.approx(dsc, rel=1e-6), pytest.approx(bordered_mm, rel=1e-6))
        assert tuple(mine[metric] for metric in LESIONS) == expected, name
        # With surface elements in place of border voxels a lesion's HD95 is another by less than a voxel's diagonal.
        assert abs(mine["lesion_hd95_mm"] - hd95_mm) < 1.8, name


@pytest.mark.parametrize("number", MAPS)
@pytest.mark.parametrize("preset", ["brats_2025", "brats_2025_met"])
def test_pairs_of_components_are_those_of_brats_2025(preset, number):
    ours = scored(number, preset)
    for name, expected in FROZEN["maps"][number][preset].items():
        mine = [ours[name].scores[metric] for metric in LESIONS]
        near = [None if value is None else pytest.approx(value, rel=1e-6) for value in expected]
        assert mine == near, name
