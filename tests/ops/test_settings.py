import pytest

from tumorseg.ops.settings import Costs, Offer, best_within, expected_seconds, fit_beside, machine_scale, merit
from tumorseg.schema.settings import BesideSeconds, Setting


def offer(seconds, dsc=0.9, nsd=0.8, **fields):
    known = {"num_folds": 1, "mirroring": False, "overlap": 0.5, "precision": "auto", "engine": "torch"}
    return Offer(Setting(**known | fields), dsc, nsd, seconds)


def test_the_best_dsc_that_fits_is_taken_however_much_time_is_left():
    offers = [offer(1, dsc=0.80), offer(4, dsc=0.90, mirroring=True), offer(9, dsc=0.95, overlap=0.75)]
    assert best_within(offers, 100) == offers[2]
    assert best_within(offers, 9) == offers[2]
    assert best_within(offers, 8.9) == offers[1]
    assert best_within(offers, 3) == offers[0]
    assert best_within(offers, 0.5) is None


def test_of_equal_dsc_the_nsd_decides_then_the_folds_then_the_time():
    slow, fast = offer(5, nsd=0.85), offer(2, nsd=0.84)
    assert best_within([fast, slow], 10) == slow
    one, all_folds = offer(2), offer(8, num_folds=5)
    assert best_within([one, all_folds], 10) == all_folds
    assert best_within([one, all_folds], 7) == one
    assert best_within([offer(5), fast._replace(nsd=0.8)], 10).seconds == 2


def test_differences_that_a_few_cases_cannot_show_are_none():
    assert best_within([offer(8, dsc=0.9004), offer(2, dsc=0.8996)], 10).seconds == 2
    assert best_within([offer(8, dsc=0.9006), offer(2, dsc=0.8994)], 10).seconds == 8


def test_what_was_not_measured_is_last_and_more_work_is_better_there():
    measured = offer(1, dsc=0.1)
    plain, mirrored = offer(2, dsc=None, nsd=None), offer(5, dsc=None, nsd=None, mirroring=True)
    assert best_within([plain, mirrored, measured], 10) == measured
    assert best_within([plain, mirrored], 10) == mirrored
    assert merit(plain) < merit(plain._replace(seconds=1.5)) < merit(mirrored) < merit(measured)


def test_seconds_are_those_of_all_networks_and_of_what_is_beside_them():
    beside = BesideSeconds(per_case=0.5, per_megavoxel=2.0)
    costs = Costs((0.1, 0.01), beside)
    assert expected_seconds((30, 100), 0.25, costs=costs) == pytest.approx(3.0 + 1.0 + 0.5 + 0.5)
    # Tiles were timed here; the rest was measured on a machine that is twice as fast.
    assert expected_seconds((30, 100), 0.25, costs=costs._replace(scale=2.0)) == pytest.approx(4.0 + 2.0)


def test_what_is_beside_the_networks_is_found_again_from_cases_of_different_size():
    sizes = [0.1, 0.4, 2.0]
    found = fit_beside(sizes, [0.3 + 1.5 * size for size in sizes])
    assert found.per_case == pytest.approx(0.3)
    assert found.per_megavoxel == pytest.approx(1.5)


@pytest.mark.parametrize("sizes", [[0.5], [0.5, 0.5], [3.0]])
def test_cases_of_one_size_are_met_without_negative_seconds(sizes):
    found = fit_beside(sizes, [0.6] * len(sizes))
    assert found.of(sizes[0]) == pytest.approx(0.6)
    assert found.per_case >= 0
    assert found.per_megavoxel >= 0
    assert fit_beside(sizes, [-0.2] * len(sizes)) == BesideSeconds()


def test_a_machine_is_as_slow_as_its_tiles():
    there = {"torch": (0.1, 0.2), "openvino": (0.05, 0.1)}
    assert machine_scale({"torch": (0.2, 0.4)}, there) == pytest.approx(2)
    assert machine_scale({"torch": (0.2, 0.4), "compile": (9.0, 9.0)}, there) == pytest.approx(2)
    assert machine_scale({"torch": (0.2, 0.2)}, there) == pytest.approx(2**0.5)
    assert machine_scale({"compile": (1.0, 1.0)}, there) == 1
