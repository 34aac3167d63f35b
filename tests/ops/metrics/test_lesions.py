import tracemalloc

import numpy as np
import pytest

from tumorseg.ops.metrics.lesions import lesion_scores
from tumorseg.ops.metrics.pairs import MaskPair
from tumorseg.schema.score_rules import LESION_PRESETS, LesionRules

PLAIN = LesionRules(dilation_steps=0, smallest_mm3=0.0)
PAIRS = LESION_PRESETS["brats_2025"].rules


def bars(prediction, reference, shape=(5, 6, 60)):
    """Return masks of bars of 2 by 2 voxels along X, each from a place up to another."""
    masks = np.zeros((2, *shape), dtype=bool)
    for mask, places in zip(masks, (prediction, reference), strict=True):
        for lower, upper in places:
            mask[1:3, 2:4, lower:upper] = True
    return masks


def scores(prediction, reference, rules=PLAIN, spacing=(1.0, 1.0, 1.0)):
    return lesion_scores(MaskPair(*bars(prediction, reference), spacing_mm=spacing), rules)


def counts(found):
    return tuple(found[f"lesions_{kind}"] for kind in ("found", "missed", "invented"))


def test_lesions_are_found_missed_and_invented():
    found = scores([(5, 10), (40, 43)], [(5, 9), (20, 24)])
    assert counts(found) == (1, 1, 1)
    assert found["lesion_dsc"] == pytest.approx((2 * 4 / 9) / 3)
    assert found["lesion_hd95_mm"] == pytest.approx((1.0 + 374 + 374) / 3, rel=1e-3)
    assert (found["lesion_f1"], found["lesion_precision"], found["lesion_recall"]) == (0.5, 0.5, 0.5)


def test_all_components_that_touch_a_lesion_belong_to_it_as_wholes():
    found = scores([(4, 6), (9, 14)], [(5, 10)])
    assert counts(found) == (1, 0, 0)
    assert found["lesion_dsc"] == pytest.approx(2 * 2 / (7 + 5))


def test_a_component_may_belong_to_several_lesions():
    found = scores([(4, 16)], [(5, 8), (12, 15)])
    assert counts(found) == (2, 0, 0)
    assert found["lesion_dsc"] == pytest.approx(2 * 3 / (12 + 3))


@pytest.mark.parametrize(("steps", "expected"), [(0, (0, 2, 1)), (1, (0, 2, 1)), (2, (1, 1, 0)), (3, (1, 0, 0))])
def test_dilation_finds_what_is_near_and_joins_what_meets(steps, expected):
    # Between the lesions there are 5 voxels; the third and fourth are predicted, a step nearer to the second lesion.
    found = scores([(11, 13)], [(5, 9), (14, 18)], PLAIN.changed(dilation_steps=steps))
    assert counts(found) == expected
    assert found["lesion_dsc"] == 0.0, "what is near belongs to a lesion, and overlaps it by nothing"


def test_lesions_of_the_volume_limit_or_less_are_left_out():
    reference = [(5, 9), (20, 25)]
    for smallest, expected in ((15.9, (1, 1, 0)), (16.0, (1, 0, 0)), (20.0, (0, 0, 0))):
        assert counts(scores([(20, 25)], reference, PLAIN.changed(smallest_mm3=smallest))) == expected
    # A lesion that is left out takes what belongs to it along: nothing is invented.
    found = scores([(5, 9)], reference, PLAIN.changed(smallest_mm3=16.0))
    assert (counts(found), found["lesion_dsc"]) == ((0, 1, 0), 0.0)


def test_volumes_are_those_of_the_spacing():
    rules = PLAIN.changed(smallest_mm3=20.0)
    assert counts(scores([], [(5, 9)], rules, (2.0, 1.0, 0.5))) == (0, 0, 0)
    assert counts(scores([], [(5, 9)], rules, (2.0, 1.0, 0.7))) == (0, 1, 0)


@pytest.mark.parametrize("edge", [0.9999999, 1.0, 1.0000001])
def test_a_lesion_of_just_the_limits_volume_falls_on_the_same_side_whatever_the_last_digits_of_the_spacing(edge):
    spacing, reference = (edge,) * 3, [(5, 10), (20, 25), (40, 46)]
    # Of 20, 20 and 24 mm³: left out are those that are not larger.
    assert counts(scores([], reference, PLAIN.changed(smallest_mm3=20.0), spacing)) == (0, 1, 0)
    predicted = PLAIN.changed(smallest_predicted_mm3=20.0)
    assert counts(scores(reference, [], predicted, spacing)) == (0, 0, 1)
    # Pairs leave out those that are smaller: the mean is that of a lesion found and of two missed, or of the last alone.
    for smallest, expected in ((20.0, 1 / 3), (20.1, 0.0), (24.0, 0.0)):
        rules = LESION_PRESETS["brats_2025_met"].rules.changed(smallest_mm3=smallest)
        assert scores([(5, 10)], reference, rules, spacing)["lesion_dsc"] == pytest.approx(expected)


def test_a_hair_is_not_a_voxel():
    # 4000 voxels of 0.01 mm³ against 4001.
    rules, spacing = PLAIN.changed(smallest_mm3=40.0), (0.1, 0.1, 1.0)
    masks = np.zeros((2, 2, 3, 5000), dtype=bool)
    masks[0, 1, 1, 5:4005] = masks[1, 1, 1, 5:4006] = True
    for mask, expected in zip(masks, (0, 1), strict=True):
        found = lesion_scores(MaskPair(np.zeros_like(mask), mask, spacing_mm=spacing), rules, with_distances=False)
        assert found["lesions_missed"] == expected


def test_small_predicted_lesions_may_be_taken_for_background():
    rules = PLAIN.changed(smallest_predicted_mm3=8.0)
    assert counts(scores([(5, 9), (30, 32), (40, 43)], [(5, 9)], rules)) == (1, 0, 1)


def test_predicted_components_that_meet_may_be_one():
    prediction, reference = [(5, 9), (12, 15)], [(30, 34)]
    near = PLAIN.changed(dilation_steps=2)
    assert counts(scores(prediction, reference, near)) == (0, 1, 2)
    assert counts(scores(prediction, reference, near.changed(joins_predictions=True))) == (0, 1, 1)


def test_invented_lesions_may_be_told_and_not_averaged():
    prediction, reference = [(5, 9), (30, 32)], [(5, 9)]
    found = scores(prediction, reference, PLAIN.changed(counts_invented=False))
    assert (counts(found), found["lesion_dsc"], found["lesion_hd95_mm"]) == ((1, 0, 1), 1.0, 0.0)
    assert scores(prediction, reference)["lesion_dsc"] == 0.5


@pytest.mark.parametrize(
    ("rule", "without", "with_invented"),
    [
        ("perfect", (1.0, 0.0), (0.0, 374.0)),
        ("worst", (None, None), (0.0, 374.0)),
        ("undefined", (None, None), (None, None)),
    ],
)
def test_where_no_lesion_counts_the_rules_say_what_the_means_are(rule, without, with_invented):
    rules = PLAIN.changed(if_none=rule, smallest_mm3=16.0)
    for prediction, expected in (([], without), ([(40, 42)], with_invented)):
        found = scores(prediction, [(5, 9)], rules)
        assert (found["lesion_dsc"], found["lesion_hd95_mm"]) == expected


@pytest.mark.parametrize(
    ("penalty", "expected"), [(12.5, 12.5), ("diagonal_voxels", (5, 6, 60)), ("diagonal", (10.0, 6.0, 30.0))]
)
def test_the_penalty_is_a_number_or_the_images_diagonal(penalty, expected):
    found = scores([], [(5, 9)], PLAIN.changed(penalty_mm=penalty), (2.0, 1.0, 0.5))
    assert found["lesion_hd95_mm"] == pytest.approx(np.linalg.norm(expected))


def test_the_distance_of_a_lesion_is_its_own():
    # One lesion is 3 voxels too long, one has all that is right.
    found = scores([(5, 12), (30, 40)], [(5, 9), (30, 40)], spacing=(1.0, 1.0, 0.5))
    alone = scores([(5, 12)], [(5, 9)], spacing=(1.0, 1.0, 0.5))
    assert alone["lesion_hd95_mm"] > 1.0
    assert found["lesion_hd95_mm"] == pytest.approx((alone["lesion_hd95_mm"] + 0) / 2)


def test_a_lesion_of_one_slice_has_its_border_in_space_and_not_in_the_plane():
    prediction, reference = np.zeros((2, 9, 12, 30), dtype=bool)
    reference[4, 2:9, 2:9] = True
    prediction[4, 2:9, 2:9] = True
    prediction[4, 5, 5] = False
    prediction[4, 2:9, 20:24] = reference[4, 2:9, 20:24] = True
    # Of a plate of one slice every voxel is border, the one of the hole too.
    found = lesion_scores(MaskPair(prediction, reference, spacing_mm=(1.0, 1.0, 1.0)), PLAIN)
    assert found["lesion_hd95_mm"] == 0.0


def test_components_are_paired_for_the_largest_sum_of_dsc():
    # The middle component overlaps both lesions; the pairs that leave it to the second are better in sum.
    found = scores([(2, 7), (8, 17)], [(4, 12), (13, 18)], PAIRS)
    first, second = 2 * 3 / (5 + 8), 2 * 4 / (9 + 5)
    assert counts(found) == (2, 0, 0)
    assert found["lesion_dsc"] == pytest.approx((first + second) / 2)


def test_pairs_alone_are_averaged_one_to_one():
    found = scores([(5, 9), (11, 13), (50, 52)], [(5, 13), (30, 34)], PAIRS)
    assert (counts(found), found["lesion_dsc"]) == ((1, 1, 2), pytest.approx(2 * 4 / 12))
    assert found["lesion_f1"] == pytest.approx(2 / (2 + 1 + 2))
    missed = scores([(50, 52)], [(5, 13)], PAIRS)
    assert (missed["lesion_dsc"], missed["lesion_hd95_mm"]) == (0.0, 373.0)


def test_hd95_is_measured_only_where_it_is_wanted():
    pair = MaskPair(*bars([(5, 9)], [(5, 10)]), spacing_mm=(1.0, 1.0, 1.0))
    assert "lesion_hd95_mm" not in lesion_scores(pair, PLAIN, with_distances=False)


def specks(num):
    """Return masks of num³ specks of two voxels: in turn found, half found, missed."""
    masks = np.zeros((2, 3 * num, 3 * num, 4 * num), dtype=bool)
    starts = np.zeros_like(masks[0])
    starts[1::3, 1::3, 1::4] = True
    places = np.flatnonzero(starts)
    prediction, reference = (mask.reshape(-1) for mask in masks)
    reference[places] = reference[places + 1] = True
    prediction[places[np.arange(places.size) % 3 < 2]] = True
    prediction[places[::3] + 1] = True
    return masks


def test_thousands_of_pairs_take_the_memory_of_their_voxels():
    num = 15
    pair = MaskPair(*specks(num), spacing_mm=(2.0, 1.0, 0.5))
    tracemalloc.start()
    found = lesion_scores(pair, PAIRS, with_distances=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    third = num**3 // 3
    assert counts(found) == (2 * third, third, 0)
    # A table of all that may be paired would take 80 MB.
    assert peak < 12e6


@pytest.mark.parametrize("rules", [PLAIN, PAIRS.changed(counts_missed=True)], ids=["touching", "pairs"])
def test_of_many_specks_each_is_measured_by_itself(rules):
    found = lesion_scores(MaskPair(*specks(9), spacing_mm=(2.0, 1.0, 0.5)), rules.changed(penalty_mm=10.0))
    assert found["lesion_dsc"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    # From half a speck to the whole it is 0, back 0 and 0.5 mm: two directions, or three distances in all.
    half = 0.95 * 0.5 if rules.percentile == "larger" else 0.9 * 0.5
    assert found["lesion_hd95_mm"] == pytest.approx((0 + half + 10) / 3)


def test_a_lesion_is_measured_on_the_box_around_it():
    masks = np.zeros((2, 3, 1000, 1200), dtype=bool)
    for mask, length in zip(masks, (1, 2), strict=True):
        for start in range(2, 1000, 50):
            mask[1, start - 1 : start, start : start + length] = mask[1, -2, start] = True
    pair = MaskPair(*masks, spacing_mm=(1.0, 1.0, 1.0))
    # Components, which the pair keeps, are found on the whole; what comes after needs no array of its size.
    lesion_scores(pair, PLAIN, with_distances=False)
    tracemalloc.start()
    found = lesion_scores(pair, PLAIN)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["lesion_hd95_mm"] == pytest.approx((0.95 + 0) / 2)
    assert peak < 1e6
