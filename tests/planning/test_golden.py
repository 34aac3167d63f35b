"""The plans of nnunetv2 2.8.1, found again.

`nnunet_plans_golden.json` holds what its planners give for fingerprints whose cases all have one spacing and shape.
A handful of its numbers are frozen below, for checkouts without the file.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.planning.measured import CT, MR, equal_cases, fingerprint
from tumorseg.planning.choices.augmentation import cascade_augmentation
from tumorseg.planning.families.base import Grid
from tumorseg.planning.options import Machine, PlanOptions
from tumorseg.planning.planner import decide
from tumorseg.planning.presets import PRESETS
from tumorseg.planning.search.lowres import find_lowres
from tumorseg.planning.search.patch import search
from tumorseg.planning.search.published_rule import PublishedRule
from tumorseg.schema.losses import DiceLoss
from tumorseg.schema.preprocessing import CtNormalization, ZScoreNormalization

GOLDEN = Path(__file__).parents[3] / "shared" / "reference" / "nnunet_plans_golden.json"
NORMALIZATIONS = {"CTNormalization": "ct", "ZScoreNormalization": "zscore"}
PLANNERS = {
    "plain": "nnunet",
    "resenc_m": "nnunet_resenc_m",
    "resenc_l": "nnunet_resenc_l",
    "resenc_xl": "nnunet_resenc_xl",
}
RULE = PublishedRule(PRESETS["nnunet"].memory, PRESETS["nnunet"], 8, 1)


class Known(NamedTuple):
    """A dataset of the golden file."""

    spacing_mm: tuple[float, ...]
    shape: tuple[int, ...]
    num_cases: int
    channels: tuple[str, ...]
    num_labels: int
    relative_size: float = 1.0


# patch, batch, stages, pools, first kernel, features of the last stage, feature-map elements in millions, median shape
FROZEN_DATASETS = {
    "BrainTumour": Known((1, 1, 1), (138, 169, 138), 484, ("FLAIR", "T1w", "T1gd", "T2w"), 4, 0.6),
    "Hippocampus": Known((1, 1, 1), (36, 50, 35), 260, ("MRI",), 3),
    "Prostate": Known((3.6, 0.625, 0.625), (20, 320, 320), 32, ("T2", "ADC"), 3),
    "ACDC": Known((10.0, 1.5625, 1.5625), (9, 256, 216), 200, ("cineMRI",), 4),
}
FROZEN = {
    ("BrainTumour", "2d"): ((192, 160), 105, 6, (5, 5), (3, 3), 512, 9.7, (169, 138)),
    ("BrainTumour", "3d_fullres"): ((128,) * 3, 2, 6, (5, 5, 5), (3, 3, 3), 320, 454.9, (138, 169, 138)),
    ("Hippocampus", "2d"): ((56, 40), 366, 4, (3, 3), (3, 3), 256, 0.7, (50, 35)),
    ("Hippocampus", "3d_fullres"): ((40, 56, 40), 9, 4, (3, 3, 3), (3, 3, 3), 256, 19.2, (36, 50, 35)),
    ("Prostate", "2d"): ((320, 320), 32, 7, (6, 6), (3, 3), 512, 32.3, (320, 320)),
    ("Prostate", "3d_fullres"): ((20, 320, 256), 2, 7, (2, 6, 6), (1, 3, 3), 320, 483.3, (20, 320, 320)),
    ("ACDC", "2d"): ((256, 224), 56, 6, (5, 5), (3, 3), 512, 18.1, (256, 216)),
    ("ACDC", "3d_fullres"): ((10, 256, 224), 7, 6, (1, 5, 5), (1, 3, 3), 320, 170.6, (9, 256, 216)),
}


def measured(dataset):
    return fingerprint(
        equal_cases(dataset.num_cases, dataset.spacing_mm, dataset.shape),
        channels=dataset.channels,
        labels={"background": 0} | {f"label_{value}": value for value in range(1, dataset.num_labels)},
        intensities=CT if dataset.channels == ("CT",) else MR,
        relative_size=dataset.relative_size,
    )


def pools(network):
    return tuple(round(math.log2(math.prod(axis))) for axis in zip(*network.strides, strict=True))


def found_values(configuration, reasons):
    """Return a configuration's values in the order of `FROZEN`; `reasons` are those of its patch."""
    network = configuration.network
    return (
        configuration.patch_size,
        configuration.batch_size,
        network.num_stages,
        pools(network),
        network.kernel_sizes[0],
        network.features_per_stage[-1],
        round(reasons.inputs["feature_map_elements"] / 1e6, 1),
        configuration.median_shape,
    )


def batch_dice(configuration):
    return next(part.batch for part in configuration.loss.components if isinstance(part, DiceLoss))


@pytest.mark.parametrize(("dataset", "name"), FROZEN)
def test_the_nnunet_preset_plans_what_nnunet_plans(dataset, name):
    known = FROZEN_DATASETS[dataset]
    plan = decide(measured(known), "golden", PlanOptions(preset=PRESETS["nnunet"]), Machine()).plan
    configuration = plan.configurations[name]
    assert found_values(configuration, plan.reasons[f"configurations.{name}.patch_size"]) == FROZEN[dataset, name]
    assert batch_dice(configuration) == (name == "2d")
    assert set(configuration.normalization) == {ZScoreNormalization(masked=dataset == "BrainTumour")}
    assert len(configuration.normalization) == len(known.channels)
    assert configuration.spacing_mm == tuple(map(float, known.spacing_mm[-configuration.num_axes :]))


def test_more_than_a_quarter_of_a_case_in_a_patch_needs_no_lower_resolution():
    grid = Grid((1.0, 1.0, 1.0), (36.0, 50.0, 35.0), 1e7, 3)
    assert find_lowres(grid, (40, 56, 40), PRESETS["nnunet"], RULE) is None


def test_livers_lower_resolution_is_nnunets():
    grid = Grid((1.0, 0.767578125, 0.767578125), (432.0, 512.0, 512.0), 432 * 512 * 512 * 131, 3)
    coarser = find_lowres(grid, (128, 128, 128), PRESETS["nnunet"], RULE)
    assert coarser is not None
    assert coarser.grid.spacing_mm == pytest.approx((2.427, 1.863, 1.863), abs=5e-4)
    assert coarser.grid.median_shape == (178, 211, 211)


# printed by nnunetv2 2.8.1 for 100 cases; with the rounded shape the loop ends a step sooner or later
@pytest.mark.parametrize(
    ("grid", "spacing", "patch", "shape"),
    [
        (((3.0, 0.5, 0.5), (211, 578, 223)), (3.0, 0.93014729, 0.93014729), (128, 192, 80), (211, 311, 120)),
        (((0.7, 0.5, 0.5), (446, 363, 365)), (1.38151056, 0.98679326, 0.98679326), (128, 128, 128), (226, 184, 185)),
    ],
)
def test_a_lower_resolution_is_judged_by_the_shape_that_is_not_rounded(grid, spacing, patch, shape):
    full = Grid(*grid, 100.0 * math.prod(grid[1]), 3)
    coarser = find_lowres(full, search(full, PRESETS["nnunet"], RULE).candidate.patch_size, PRESETS["nnunet"], RULE)
    assert coarser is not None
    assert coarser.grid.spacing_mm == pytest.approx(spacing, abs=1e-7)
    assert coarser.grid.median_shape == shape
    assert coarser.found.candidate.patch_size == patch
    assert coarser.found.candidate.batch_size == 2
    assert coarser.grid.dataset_voxels == pytest.approx(100 * math.prod(shape), rel=0.01)


def golden_plans():
    if not GOLDEN.exists():
        reason = "needs ../shared/reference/nnunet_plans_golden.json"
        return [pytest.param(None, None, None, marks=pytest.mark.skip(reason=reason), id="absent")]
    datasets = json.loads(GOLDEN.read_text())["datasets"]
    return [
        pytest.param(dataset["fingerprint"], planner, configurations, id=f"{name}-{planner}")
        for name, dataset in datasets.items()
        for planner, configurations in dataset["plans"].items()
    ]


@pytest.mark.real
@pytest.mark.parametrize(("about", "planner", "expected"), golden_plans())
def test_every_golden_plan_is_found_again(about, planner, expected):
    known = Known(
        tuple(about["spacing_mm"]),
        tuple(about["shape_after_crop"]),
        about["num_training"],
        tuple(about["channel_names"]),
        about["num_labels_with_background"],
        about["median_relative_size_after_cropping"],
    )
    plan = decide(measured(known), "golden", PlanOptions(preset=PRESETS[PLANNERS[planner]]), Machine()).plan
    assert sorted(plan.configurations) == sorted(expected)
    for name, configuration in plan.configurations.items():
        golden = expected[name]
        if isinstance(golden, str):
            assert golden == "cascade of 3d_lowres into 3d_fullres"
            full = plan.configurations["3d_fullres"]
            augmentation = cascade_augmentation(full.augmentation)
            update = {"previous_configuration": "3d_lowres", "augmentation": augmentation}
            assert configuration == full.model_copy(update=update)
        else:
            assert_equals_golden(configuration, plan.reasons[f"configurations.{name}.patch_size"], golden, name)


def assert_equals_golden(configuration, reason, golden, name):
    assert found_values(configuration, reason) == (
        tuple(golden["patch_size"]),
        golden["batch_size"],
        golden["num_stages"],
        tuple(golden["pools"]),
        tuple(golden["first_kernel"]),
        golden["features_last_stage"],
        golden["feature_map_elements_millions"],
        tuple(golden["median_shape"]),
    )
    assert [round(edge, 3) for edge in configuration.spacing_mm] == golden["spacing_mm"]
    assert batch_dice(configuration) == golden["batch_dice"], name
    for normalization in configuration.normalization:
        assert normalization.name == NORMALIZATIONS[golden["normalization"]]
        assert golden["masked_zscore"] == (normalization == ZScoreNormalization(masked=True))
        if isinstance(normalization, CtNormalization):
            assert (normalization.lower_hu, normalization.upper_hu) == (CT.percentile_00_5, CT.percentile_99_5)
