import numpy as np
import pytest

from tests.ops.choosing.scorers import RuledScorer, near
from tumorseg.errors import InputError
from tumorseg.ops.choosing.nested import honest_gains, nested, parts_of
from tumorseg.ops.choosing.protocol import Choice, single
from tumorseg.ops.choosing.rounds import Options
from tumorseg.ops.choosing.selecting import select
from tumorseg.ops.significance.intervals import mean_intervals

TWO_HELP = near([(0.5, 0.5, 0)] * 2)


def per_part(choice: Choice) -> np.ndarray:
    """Say that in part 0 another candidate is best than in the others."""
    is_first = (np.arange(40) % 5 == 0)[:, None]
    return np.where(is_first, 0.2 * (choice == single(2, 3)), 0.2 * (choice == single(1, 3))) * np.ones(2)


def test_each_part_is_scored_by_what_was_chosen_on_the_others():
    scorer = RuledScorer(per_part)
    found = nested(scorer, Options())
    for part, selected in found.by_part.items():
        others = np.flatnonzero(scorer.parts != part)
        assert selected == select(scorer, others, Options())
        own = scorer.parts == part
        np.testing.assert_array_equal(found.selected[own], scorer.scores([selected.choice])[0][own])
        np.testing.assert_array_equal(found.baseline[own], scorer.scores([selected.baseline])[0][own])
    assert sorted(found.by_part) == [0, 1, 2, 3, 4]
    assert found.final.choice == single(1, 3)


@pytest.mark.parametrize("part", [0, 3])
def test_scores_of_a_part_do_not_leak_into_its_choice(part):
    before = nested(RuledScorer(TWO_HELP), Options())

    class Spoilt(RuledScorer):
        def scores(self, choices):
            tables = super().scores(choices)
            for choice, table in zip(choices, tables, strict=True):
                table[self.parts == part] = 0.9 * (choice == single(2, 3))
            return tables

    after = nested(Spoilt(TWO_HELP), Options())
    assert after.by_part[part] == before.by_part[part]
    assert after.final.trials != before.final.trials


def test_a_gain_that_is_there_is_claimed_with_its_paired_interval():
    scorer = RuledScorer(TWO_HELP)
    found = nested(scorer, Options())
    mean, *by_name = honest_gains(found, scorer)
    difference = (found.selected - found.baseline).mean(axis=1, keepdims=True)
    assert found.final.choice == Choice(((1, 1, 0),))
    # Of five parts by the root of 1 + 5 / 4.
    narrow = np.array(mean_intervals(difference)[0])
    np.testing.assert_allclose(mean.interval, mean.gain + 1.5 * (narrow - mean.gain))
    assert mean.gain == pytest.approx(mean.selected - mean.baseline)
    assert mean.interval[0] > 0
    assert mean.is_claimed
    assert [gain.name for gain in by_name] == ["WT", "TC"]
    assert not any(gain.is_claimed for gain in by_name)


def test_nothing_is_claimed_where_the_best_candidate_stays_alone():
    scorer = RuledScorer(near([(0, 1, 0)] * 2))
    mean = honest_gains(nested(scorer, Options()), scorer)[0]
    assert (mean.gain, mean.interval, mean.is_claimed) == (0, (0, 0), False)


def test_nothing_is_claimed_of_parts_whose_choices_the_final_one_does_not_share():
    scorer = RuledScorer(TWO_HELP)
    found = nested(scorer, Options())
    alone = found._replace(final=found.final._replace(choice=found.final.baseline))
    assert honest_gains(found, scorer)[0].is_claimed
    assert not honest_gains(alone, scorer)[0].is_claimed


def test_patients_make_the_interval_wider_than_their_cases_would():
    scorer = RuledScorer(TWO_HELP)
    found = nested(scorer, Options())
    rng = np.random.default_rng(3)
    noisy = found._replace(selected=found.selected + np.repeat(rng.normal(0, 0.1, (10, 1)), 4, axis=0))
    alone = honest_gains(noisy, scorer)[0].interval
    scorer.clusters = np.repeat(np.arange(10), 4)
    together = honest_gains(noisy, scorer)[0].interval
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])


def test_cases_of_one_part_are_refused():
    scorer = RuledScorer(TWO_HELP)
    scorer.parts = np.zeros(40, np.int64)
    with pytest.raises(InputError, match="found 40 cases of one part, expected two parts or more"):
        nested(scorer, Options())


def test_three_folds_are_the_parts_and_patients_of_fewer_are_dealt_out():
    folds = np.repeat([0, 1, 4], 4)
    np.testing.assert_array_equal(parts_of(folds, None), folds)
    patients = np.array([7, 7, 3, 3, 3, 9, 8, 8, 1, 2, 2, 5])
    dealt = parts_of(np.zeros(12, np.int64), patients)
    assert np.unique(dealt).tolist() == [0, 1, 2, 3, 4]
    for patient in np.unique(patients):
        assert np.unique(dealt[patients == patient]).size == 1
    assert np.unique(parts_of(np.repeat([0, 1], 6), None)).size == 5
