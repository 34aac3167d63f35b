"""Sizes of targets on the grid of a plan, and how many are under a limit."""

import math

import pytest

from tests.planning.measured import case, fingerprint
from tumorseg.planning.evidence.sizes import TargetSize, Wording, judge, target_sizes
from tumorseg.planning.evidence.spacing import target_grid

LABELS = {"background": 0, "organ": 1, "lesion": 2}
REGIONS = [{"name": "all", "labels": [1, 2], "value": 1}, {"name": "lesion", "labels": [2], "value": 2}]


WORDING = Wording("thickness", "is thick", "thin")


def sizes_of(cases, **options):
    measured = fingerprint(cases, **{"labels": LABELS} | options)
    return {size.name: size for size in target_sizes(measured, target_grid(measured).value)}


def test_thickness_is_in_voxels_of_the_target_grid_along_the_thinnest_axis():
    lengths = {"lesion": (6.0, 4.5, 12.0)}
    cases = [case(str(number), (2.0, 1.5, 1.5), run_lengths_mm=lengths) for number in range(3)]
    assert sizes_of(cases)["lesion"].thickness_voxels == 3  # across the first axis as across the second
    cases = [case(str(number), (2.0, 1.0, 1.0), run_lengths_mm=lengths) for number in range(3)]
    assert sizes_of(cases)["lesion"].thickness_voxels == 3
    cases = [case(str(number), (3.0, 1.0, 1.0), run_lengths_mm=lengths) for number in range(3)]
    assert sizes_of(cases)["lesion"].thickness_voxels == 2


def test_thick_slices_are_not_crossed():
    lengths = {"organ": (10.0, 9.0, 12.0)}
    cases = [case(str(number), (10.0, 1.5, 1.5), (8, 200, 180), run_lengths_mm=lengths) for number in range(3)]
    assert sizes_of(cases)["organ"].thickness_voxels == 6


def test_flat_images_have_no_thickness_of_their_own():
    lengths = {"organ": (1.0, 9.0, 12.0)}
    cases = [case(str(number), (1.0, 1.0, 1.0), (1, 200, 180), run_lengths_mm=lengths) for number in range(3)]
    assert sizes_of(cases)["organ"].thickness_voxels == 9


def test_one_voxel_is_thin_along_every_axis():
    measured = case("a", (2.0, 1.0, 1.0), (1, 1, 1), run_lengths_mm={"organ": (2.0, 1.0, 1.0)})
    assert sizes_of([measured])["organ"].thickness_voxels == 1


def test_shares_are_of_the_case_and_of_what_a_patch_shows():
    shape = (200, 300, 250)
    cases = [case(str(number), shape=shape, label_voxels={"organ": 40_000, "lesion": 900}) for number in range(3)]
    sizes = sizes_of(cases)
    assert sizes["lesion"].share_of_case == 900 / math.prod(shape)
    assert sizes["lesion"].share_of_view == pytest.approx(900 / 128**3)
    assert sizes["organ"].share_of_view == pytest.approx(40_000 / 128**3)


def test_a_case_smaller_than_a_patch_is_seen_whole():
    size = sizes_of([case("a", shape=(30, 40, 50), label_voxels={"organ": 600})])["organ"]
    assert size.share_of_view == pytest.approx(size.share_of_case) == pytest.approx(0.01)


def test_of_flat_images_a_patch_is_a_plane():
    size = sizes_of([case("a", shape=(1, 2000, 3000), label_voxels={"organ": 600})])["organ"]
    assert size.share_of_view == pytest.approx(600 / 512**2)


def test_a_share_of_view_does_not_depend_on_how_finely_a_case_was_scanned():
    coarse = [case(str(number), (2.0, 2.0, 2.0), (200, 200, 200), label_voxels={"organ": 100}) for number in range(3)]
    fine = case("fine", (1.0, 1.0, 1.0), (400, 400, 400), label_voxels={"organ": 800})
    assert sizes_of([*coarse, fine])["organ"].share_of_view == pytest.approx(100 / 128**3)


def test_cases_without_the_label_do_not_count():
    empty = [case(f"empty {number}", label_voxels={"organ": 50, "lesion": 0}) for number in range(7)]
    with_it = [case(f"case {number}", label_voxels={"organ": 50, "lesion": 630 * number}) for number in (1, 2, 3)]
    sizes = sizes_of([*empty, *with_it])
    assert (sizes["organ"].num_cases, sizes["lesion"].num_cases) == (10, 3)
    assert sizes["lesion"].share_of_case == pytest.approx(0.02)


def test_a_label_that_no_case_holds_has_no_size():
    measured = case("a", label_voxels={"organ": 5, "lesion": 0}, run_lengths_mm={"organ": (1.0, 1.0, 1.0)})
    assert set(sizes_of([measured])) == {"organ"}


def test_regions_are_sized_in_place_of_labels():
    lengths = {"all": (9.0, 9.0, 9.0), "lesion": (2.0, 3.0, 4.0)}
    measured = case("a", label_voxels={"organ": 500, "lesion": 130}, run_lengths_mm=lengths)
    sizes = sizes_of([measured], regions=REGIONS)
    assert sizes["all"].share_of_case == pytest.approx(0.01)
    assert (sizes["all"].thickness_voxels, sizes["lesion"].thickness_voxels) == (9, 2)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"label_voxels": {"organ": 63}}, (None, 0.001)),
        ({"run_lengths_mm": {"organ": (4.0, 5.0, 6.0)}}, (4, None)),
    ],
)
def test_what_was_not_measured_is_none(fields, expected):
    size = sizes_of([case("a", **fields), case("not measured")])["organ"]
    assert (size.thickness_voxels, size.share_of_case) == expected
    assert size.num_cases == 1


def test_nothing_measured_gives_no_sizes():
    assert sizes_of(None) == {}


def size(name, thickness):
    return TargetSize(name, 5, thickness, None, None)


def judged(*thicknesses):
    sizes = [size(f"t{number}", thickness) for number, thickness in enumerate(thicknesses)]
    return judge(sizes, lambda one: one.thickness_voxels, 3)


@pytest.mark.parametrize(
    ("thicknesses", "decides", "words"),
    [
        ((), False, "thickness was not measured"),
        ((None,), False, "thickness was not measured"),
        ((3.0, 9.0), False, "every target is thick"),
        ((2.9,), True, "1 of 1 targets is thin"),
        ((2.9, None, 9.0, 9.0), True, "1 of 3 targets is thin"),
        ((2.9, 9.0, 9.0, 9.0), False, "1 of 4 targets is thin, fewer than one in 3"),
        ((2.9, 9.0, 9.0, 1.0, 9.0), True, "2 of 5 targets are thin"),
    ],
)
def test_one_target_in_three_decides(thicknesses, decides, words):
    found = judged(*thicknesses)
    assert (found.decides, found.describe(WORDING)) == (decides, words)


def test_the_least_target_is_named_with_its_figure():
    assert judged(4.0, 2.123456, None).inputs("thinnest", "voxels") == {
        "thinnest": "t1",
        "voxels": 2.123,
        "num_thinnest": 1,
    }
    assert judged().inputs("thinnest", "voxels") == {"thinnest": None, "voxels": None, "num_thinnest": 0}
