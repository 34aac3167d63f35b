import numpy as np
import pytest

from tumorseg.ops.trust.measures import Measure, Units
from tumorseg.ops.trust.rules import can_tell, make_rule, natural, score_of, typical

UNITS = Units((None, 0.5), 1.0, (True, False))
SPACING = Measure("spacing", (0,))
HU = Measure("level", (0, 2))
MR = Measure("level", (1, 2))
FLIP = Measure("flip", (2,))
PARTS = np.arange(40) % 5


def test_the_centre_is_the_median_and_the_spread_that_of_a_normal_distribution():
    values = np.random.default_rng(0).normal(100, 50, 4000)
    center, spread = typical(HU, values, UNITS)
    assert center == pytest.approx(100, abs=3)
    assert spread == pytest.approx(50, rel=0.05)


def test_two_clusters_are_usual_both():
    values = np.array([0.0] * 28 + [400.0] * 12)
    rule = make_rule(HU, values, PARTS, UNITS).rule
    assert score_of(rule, 0.0) < 1
    assert score_of(rule, 400.0) < 1
    assert score_of(rule, 1400.0) > 1


def test_equal_spacings_still_leave_room_for_what_does_not_matter():
    rule = make_rule(SPACING, np.zeros(40), PARTS, UNITS).rule
    assert score_of(rule, np.log(1.1)) < 1
    assert score_of(rule, np.log(2)) > 2
    assert score_of(rule, np.log(0.5)) > 2


def test_levels_that_differ_by_ten_thousand_in_training_do_not_flag_another_factor_of_ten():
    values = np.log(10.0) * np.linspace(0, 4, 40)
    rule = make_rule(MR, values, PARTS, UNITS).rule
    assert score_of(rule, np.log(10.0) * 5) < 1


def test_heavy_tails_of_the_training_widen_the_rule():
    values = np.random.default_rng(1).normal(0, 40, 400)
    values[:16] = 800  # 4 in 100, beyond percentile 95
    rule = make_rule(HU, values, np.arange(400) % 5, UNITS).rule
    assert score_of(rule, 700.0) <= 1


def test_scores_of_the_training_are_by_the_other_parts():
    values = np.zeros(40)
    values[PARTS == 0] = 500
    made = make_rule(HU, values, PARTS, UNITS)
    # Of the others all are 0: 500 HU are 500 / (30 x (1 + 2 / 32)) spreads.
    assert (made.scores * made.rule.unit)[0] == pytest.approx(500 / (30 * (1 + 2 / 32)), rel=1e-5)


def test_what_is_unknown_has_no_score():
    values = np.where(np.arange(40) == 3, np.nan, 1.0)
    scores = make_rule(HU, values, PARTS, UNITS).scores
    assert np.isnan(scores[3])
    assert np.isfinite(np.delete(scores, 3)).all()


def test_flips_are_told_only_where_images_are_not_symmetric():
    random = np.random.default_rng(2)
    assert can_tell(FLIP, random.normal(1, 0.3, 40))
    assert not can_tell(FLIP, random.normal(0.1, 0.4, 40))
    assert not can_tell(FLIP, np.ones(3))
    # Along an axis of one voxel nothing differs.
    assert not can_tell(FLIP, np.zeros(40))


def test_an_image_that_fits_better_as_it_is_never_counts_as_flipped():
    rule = make_rule(FLIP, np.random.default_rng(3).normal(0.9, 0.05, 40), PARTS, UNITS).rule
    assert score_of(rule, 0.01) < 1
    assert score_of(rule, -0.2) < 1
    assert score_of(rule, -0.9) == pytest.approx(3, abs=0.1)
    assert score_of(rule, 5.0) == 0


def test_an_empty_channel_is_certain_unless_the_training_had_some():
    empty = Measure("empty", (1,))
    assert score_of(make_rule(empty, np.zeros(40), PARTS, UNITS).rule, 1.0) == pytest.approx(100)
    assert not can_tell(empty, np.array([0.0] * 35 + [1.0] * 5))


def test_few_cases_make_spreads_larger():
    assert typical(HU, np.zeros(4), UNITS).spread == pytest.approx(30 * 1.5)
    assert typical(HU, np.zeros(400), UNITS).spread == pytest.approx(30 * 1.005)


@pytest.mark.parametrize(
    ("measure", "value", "expected"),
    [(SPACING, np.log(3.0), 3.0), (HU, -20.0, -20.0), (MR, np.arcsinh(70 / 0.5), 70.0), (FLIP, 0.4, 0.4)],
)
def test_messages_speak_of_natural_units(measure, value, expected):
    assert natural(measure, value, UNITS) == pytest.approx(expected)
