import pytest
import torch

from tests.engine.phantoms import CLASSES, REGIONS, training_of
from tests.engine.waiting import CountWaits
from tumorseg.engine.collapse import CollapseWatch, LabelTally
from tumorseg.engine.ending import Length, Tail
from tumorseg.engine.faults import (
    LEAST_PATCHES,
    LOOK_EVERY,
    Action,
    Seen,
    collapse_window,
    decide_collapse,
    never_found,
    next_seed,
    window_before_end,
)
from tumorseg.schema.targets import IGNORE


def one_hot(classes):
    return torch.nn.functional.one_hot(classes, 3).movedim(-1, 1).float()


def watch_of(training, tail=None):
    length = Length(training, 0.1)
    length.tail = tail
    return CollapseWatch(CLASSES, training, length)


def test_voxels_that_are_found_and_patches_that_have_a_label_are_counted():
    truth = torch.zeros(3, 4, 4, dtype=torch.int64)
    truth[0, 0, :2], truth[1, 1, 1], truth[2, 3, 3] = 1, 2, IGNORE
    guess = torch.zeros_like(truth)
    guess[0, 0, :3] = 1
    tally = LabelTally(CLASSES)
    for _ in range(2):
        tally.add(tally.count(one_hot(guess), truth))
    assert tally.take() == {"edema": Seen(4, 2), "core": Seen(0, 2)}
    assert tally.take() == {}


def test_regions_are_found_by_their_own_channels():
    truth = torch.tensor([[[0, 1, 2]]])
    logits = torch.tensor([[[[-1.0, 1.0, -1.0]], [[1.0, 1.0, -1.0]]]])
    tally = LabelTally(REGIONS)
    tally.add(tally.count(logits, truth))
    assert tally.take() == {"whole": Seen(1, 1), "core": Seen(0, 1)}


def test_counting_does_not_wait_for_the_device():
    tally = LabelTally(CLASSES)
    with CountWaits() as waits:
        tally.add(tally.count(torch.rand(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64)))
    assert waits.count == 0


@pytest.mark.parametrize(
    ("epochs", "length", "expected"),
    [(1000, 250, range(100_000, 125_000)), (9, 250, range(1025, 1250)), (3, 999, range(1698, 1998))],
)
def test_the_window_is_the_tenth_before_the_half(epochs, length, expected):
    assert collapse_window(epochs, length) == expected


@pytest.mark.parametrize(("epochs", "length"), [(2, 5000), (24, 20), (2, 3), (3, 499)])
def test_a_short_training_is_not_judged(epochs, length):
    assert collapse_window(epochs, length) is None


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    # The half of 20 epochs of 250 steps is at 2500; a tenth is 500.
    [
        (2000, 2500, range(2000, 2500)),
        (2250, 2750, range(2000, 2500)),
        (1500, 2250, range(1750, 2250)),
        (1750, 2000, range(1750, 2000)),
        (500, 999, None),
    ],
)
def test_a_training_that_ends_before_its_half_is_judged_by_its_end(start, end, expected):
    assert window_before_end(collapse_window(20, 250), start, end) == expected


def test_a_label_is_lost_if_enough_patches_had_it_and_none_of_it_was_found():
    seen = {
        "b": Seen(0, LEAST_PATCHES),
        "a": Seen(0, LEAST_PATCHES + 1),
        "found": Seen(1, 10**6),
        "rare": Seen(0, LEAST_PATCHES - 1),
        "absent": Seen(0, 0),
    }
    assert never_found(seen) == ("a", "b")


@pytest.mark.parametrize(
    ("num_lost", "num_restarts_left", "expected"),
    [(0, 1, Action.GO_ON), (0, 0, Action.GO_ON), (2, 1, Action.RESTART), (1, 0, Action.TELL)],
)
def test_a_training_begins_again_at_most_once(num_lost, num_restarts_left, expected):
    assert decide_collapse(num_lost, num_restarts_left) is expected


def test_the_second_seed_is_far_from_those_that_users_count_up():
    assert next_seed(0) > 10**6
    assert next_seed(2**63 - 1) < 2**63


def test_one_step_in_a_few_is_looked_at_within_the_window_alone():
    watch = watch_of(training_of(10, 250))
    looked = [number for number in range(2500) if watch.tally(number) is not None]
    assert looked == list(range(1000, 1250, LOOK_EVERY))


def test_the_last_steps_are_looked_at_where_the_training_ends_sooner():
    watch = watch_of(training_of(20, 250), Tail(1500, 2250, 0.1, 0.001))
    assert [number for number in range(2500) if watch.tally(number)] == list(range(1750, 2250, LOOK_EVERY))
    lost = {"edema": [0, LEAST_PATCHES], "core": [1, LEAST_PATCHES]}
    assert [number for number in range(2501) if watch.lost_names(number, lost)] == [2250]
    assert watch.lost_names(2250, lost) == ("edema",)


def test_nothing_is_looked_at_where_the_plan_does_not_want_it_or_the_training_is_short():
    for training in (training_of(10, 250, restart_on_collapse=False), training_of()):
        watch = watch_of(training)
        assert not any(watch.tally(number) for number in range(2500))
        assert watch.lost_names(1250, {"a": [0, 99]}) == ()


def test_counts_are_added_up_in_plain_values_and_judged_at_the_half_alone():
    watch, seen = watch_of(training_of(10, 250)), {}
    truth = torch.ones(LEAST_PATCHES, 2, 2, dtype=torch.int64)
    for _ in range(2):
        tally = watch.tally(1000)
        tally.add(tally.count(one_hot(torch.zeros_like(truth)), truth))
        watch.keep(seen)
    assert seen == {"edema": [0, 2 * LEAST_PATCHES], "core": [0, 0]}
    assert watch.lost_names(1000, seen) == ()
    assert watch.lost_names(1250, seen) == ("edema",)
