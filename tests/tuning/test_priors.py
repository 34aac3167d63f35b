import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import truncnorm

from tumorseg.schema.tuning import ChoiceParameter, RealParameter, WholeParameter
from tumorseg.tuning.priors import even_value, prior_share, prior_value, prior_weights

LR = RealParameter(field="lr", low=1e-4, high=1e-1, scale="log", center=1e-2, spread=0.2)
STRENGTH = RealParameter(field="strength", low=0, high=3, center=1, spread=0.25)
DEPTH = WholeParameter(field="depth", low=1, high=8, center=3)
WIDE = WholeParameter(field="features", low=4, high=512, scale="log", center=32)
PRESET = ChoiceParameter(field="preset", options=("a", "b", None), center="b", weight=0.6)
NUMBERS = [LR, STRENGTH, DEPTH, WIDE, RealParameter(field="power", low=-2, high=2)]
SHARES = np.linspace(0.0005, 0.9995, 1000)


@pytest.mark.parametrize("parameter", NUMBERS, ids=lambda parameter: parameter.field)
@given(share=st.floats(0, 1))
def test_every_share_is_a_value_of_the_range(parameter, share):
    for drawn in (even_value(parameter, share), prior_value(parameter, share)):
        assert parameter.low <= drawn <= parameter.high
        assert isinstance(drawn, int if isinstance(parameter, WholeParameter) else float)


@pytest.mark.parametrize("parameter", [LR, STRENGTH], ids=lambda parameter: parameter.field)
@given(share=st.floats(0, 1))
def test_a_value_lies_at_the_share_that_it_was_drawn_from(parameter, share):
    # Four digits are kept.
    assert prior_share(parameter, prior_value(parameter, share)) == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize("parameter", [DEPTH, WIDE], ids=lambda parameter: parameter.field)
def test_a_whole_number_comes_back_from_its_share(parameter):
    for value in range(parameter.low, parameter.high + 1):
        assert prior_value(parameter, prior_share(parameter, value)) == value


def test_the_prior_is_a_normal_distribution_cut_off_at_the_ends():
    drawn = [prior_value(STRENGTH, share) for share in SHARES]
    spread = 0.25 * 3
    oracle = truncnorm(-1 / spread, 2 / spread, loc=1, scale=spread)
    assert drawn == pytest.approx(oracle.ppf(SHARES), rel=1e-3)


def test_of_a_log_scale_the_prior_is_normal_in_logarithms():
    drawn = np.log10([prior_value(LR, share) for share in SHARES])
    assert drawn == pytest.approx(truncnorm(-2 / 0.6, 1 / 0.6, loc=-2, scale=0.6).ppf(SHARES), abs=1e-3)


def test_an_even_draw_is_even_on_the_scale():
    assert even_value(LR, 1 / 3) == pytest.approx(1e-3, rel=1e-3)
    assert even_value(STRENGTH, 0.5) == 1.5
    counts = np.bincount([even_value(DEPTH, share) for share in SHARES])[1:]
    assert counts == pytest.approx([125] * 8, abs=1)


def test_options_are_drawn_by_their_weights():
    assert prior_weights(PRESET) == pytest.approx([0.2, 0.6, 0.2])
    drawn = [prior_value(PRESET, share) for share in SHARES]
    assert [drawn.count(option) for option in PRESET.options] == pytest.approx([200, 600, 200], abs=1)
    evenly = [even_value(PRESET, share) for share in SHARES]
    assert [evenly.count(option) for option in PRESET.options] == pytest.approx([333] * 3, abs=1)


def test_null_is_an_option_like_any_other_and_no_centre_means_none_is_preferred():
    null = ChoiceParameter(field="preset", options=("a", None), center=None, weight=0.75)
    assert prior_weights(null) == pytest.approx([0.25, 0.75])
    assert prior_weights(ChoiceParameter(field="preset", options=("a", "b"))) == pytest.approx([0.5, 0.5])


def test_without_a_centre_the_prior_is_highest_in_the_middle_of_the_scale():
    assert prior_value(LR.changed(center=None), 0.5) == pytest.approx(math.sqrt(1e-5), rel=1e-3)
