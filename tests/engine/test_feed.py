import threading
import time
from contextlib import closing
from itertools import count, islice

import numpy as np
import pytest
import torch

from tests.engine.phantoms import Cases, cases_of, configuration_of, fit_of, learner_of, training_of, tumour
from tumorseg.augmentation.registry import TRANSFORMS
from tumorseg.engine.batches import TRAINING, VALIDATION, drawn_case
from tumorseg.engine.feed import Data, Place, open_feeds
from tumorseg.engine.patch_feed import Assembly
from tumorseg.errors import InputError, TrainingError
from tumorseg.schema.losses import BoundaryLoss, DiceLoss, LossSpec
from tumorseg.schema.transforms.acquisition import CopyPaste
from tumorseg.schema.transforms.intensity import Brightness, Contrast, GaussianNoise
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform

AUGMENTED = configuration_of(
    transforms=(
        SpatialTransform(rotation_deg=(30, 30, 30), rotation_probability=0.5, scaling_probability=0.5),
        GaussianNoise(probability=0.5),
        Brightness(probability=0.5),
        Contrast(probability=0.5),
        MirrorTransform(axes=(0, 1, 2)),
    ),
    batch_size=5,
)
NUM_WORKERS = (0, 1, 3)


def feeds_of(configuration, data, num_workers=1):
    learner = learner_of(configuration)
    return open_feeds(data, configuration, training_of(), learner, num_workers=num_workers)


def training_places(numbers):
    return [Place(TRAINING, number) for number in numbers]


def threads_of_feeds():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("reader", "feeder"))]


def is_equal(one, other):
    parts = zip(one, other, strict=True)
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in parts)


def test_parts_of_a_batch_are_augmented_as_the_whole_batch():
    feed = feeds_of(AUGMENTED, Data(cases_of(3), None)).training
    whole = feed.load(4)
    expected = feed.inputs(whole)
    parts = [feed.inputs(whole[part]) for part in (slice(0, 2), slice(2, 5))]
    assert torch.equal(torch.cat([part.images for part in parts]), expected.images)
    assert torch.equal(torch.cat([part.segmentations for part in parts]), expected.segmentations)


@pytest.mark.parametrize("num_workers", NUM_WORKERS)
def test_batches_of_both_streams_come_in_the_order_that_was_asked_for(num_workers):
    feeds = feeds_of(AUGMENTED, Data(cases_of(2), cases_of(1, seed=9)), num_workers)
    places = [*training_places([3, 4]), Place(VALIDATION, 0), *training_places([5])]
    batches = list(feeds.batches(places))
    assert [batch.number for batch in batches] == [3, 4, 0, 5]
    for place, batch in zip(places, batches, strict=True):
        feed = feeds.training if place.stream == TRAINING else feeds.validation
        loaded = feed.load(place.number)
        assert is_equal(batch.inputs, feed.inputs(loaded))
        assert batch.case_ids == tuple(item.facts.case_id for item in loaded)
    assert list(feeds.batches([])) == []


def test_a_batch_is_the_same_whatever_team_of_threads_the_steps_have():
    configuration = configuration_of(edge=40, batch_size=2, transforms=(Contrast(probability=1),))
    feeds = feeds_of(configuration, Data(cases_of(1, shape=(41, 43, 42)), None), 0)
    found, before = [], torch.get_num_threads()
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        found.append(next(feeds.batches(training_places([0]))).inputs)
    torch.set_num_threads(before)
    assert is_equal(found[0], found[1])
    assert is_equal(found[0], found[2])


def num_read(cases, settle_s=5.0):
    """Return how many patches have been read once no more are."""
    ends = time.monotonic() + settle_s
    found = -1
    while len(cases.boxes) != found and time.monotonic() < ends:
        found = len(cases.boxes)
        time.sleep(0.05)
    return found


@pytest.mark.parametrize(("num_workers", "num_batches"), [(0, 1), (1, 4), (3, 4)])
def test_no_more_is_read_ahead_than_was_decided_and_without_workers_nothing_is(num_workers, num_batches):
    cases = cases_of(2)
    feeds = feeds_of(configuration_of(batch_size=2), Data(cases, None), num_workers)
    with closing(feeds.batches(Place(TRAINING, number) for number in count())) as batches:
        for number in range(3):
            next(batches)
            assert num_read(cases) == 2 * (number + num_batches)


def test_several_threads_read_one_batch():
    names, together = set(), threading.Barrier(2, timeout=20)

    class Watched(Cases):
        def read(self, case_id, box):
            together.wait()
            names.add(threading.current_thread().name)
            return super().read(case_id, box)

    feeds = feeds_of(configuration_of(), Data(Watched(cases_of(2).arrays), None), 2)
    assert len(list(feeds.batches(training_places([0])))) == 1
    assert len(names) == 2


@pytest.mark.parametrize("num_workers", NUM_WORKERS)
def test_no_thread_is_left_once_batches_are_closed_early(num_workers):
    feeds = feeds_of(AUGMENTED, Data(cases_of(2), None), num_workers)
    for is_beside in (True, False):
        feeds.training.reader.augments = is_beside
        batches = feeds.batches(training_places(range(1000)))
        next(batches)
        assert threads_of_feeds()
        batches.close()
        assert threads_of_feeds() == []


def broken(kind, *arguments):
    """Return three cases of which one raises an error when it is read."""

    class Broken(Cases):
        def read(self, case_id, box):
            if case_id == "case 1":
                raise kind(*arguments)
            return super().read(case_id, box)

    return Broken(cases_of(3).arrays)


@pytest.mark.parametrize("augments", [True, False], ids=["on the CPU", "by the feeder"])
@pytest.mark.parametrize("num_workers", NUM_WORKERS)
def test_an_error_comes_up_at_its_own_batch_and_names_its_case(num_workers, augments):
    feeds = feeds_of(configuration_of(batch_size=1), Data(broken(ValueError, "bad block"), None), num_workers)
    feeds.training.reader.augments = augments
    sound = feeds_of(configuration_of(batch_size=1), Data(cases_of(3), None))
    expected = [batch.case_ids for batch in sound.batches(training_places(range(20)))]
    found = []
    with pytest.raises(ValueError, match="bad block") as caught:
        found.extend(batch.case_ids for batch in feeds.batches(training_places(range(20))))
    assert expected[: len(found) + 1] == [*found, ("case 1",)]
    assert caught.value.__notes__ == ["while a patch of case case 1 was read"]
    # With its own traceback, down to where it was raised.
    assert caught.traceback[-1].name == "read"
    assert threads_of_feeds() == []


def test_a_reader_without_memory_names_its_case_and_what_to_do():
    with pytest.raises(TrainingError, match=r"^case case 1: there is no memory .*GB are free.*--num-workers") as caught:
        fit_of(configuration_of(batch_size=6), data=Data(broken(MemoryError), None)).run()
    assert isinstance(caught.value.__cause__, MemoryError)


def place_of(feeds, case_id):
    """Return the place of a batch whose first patch is of a case."""
    feed = feeds.training
    return next(Place(TRAINING, n) for n in count() if drawn_case(feed.reader.cases, feed.items(n)[0]) == case_id)


def fail(*_):
    raise ZeroDivisionError("a transform's own")


@pytest.mark.parametrize("augments", [True, False], ids=["on the CPU", "by the feeder"])
def test_an_error_in_augmentation_names_the_case_of_its_patch(augments, monkeypatch):
    monkeypatch.setitem(TRANSFORMS, "brightness", TRANSFORMS["brightness"]._replace(apply=fail))
    configuration = configuration_of(transforms=(Brightness(probability=1),), batch_size=1)
    feeds = feeds_of(configuration, Data(cases_of(3), None))
    feeds.training.reader.augments = augments
    with pytest.raises(ZeroDivisionError) as caught:
        next(feeds.batches([place_of(feeds, "case 2")]))
    assert caught.value.__notes__ == ["while a patch of case case 2 was augmented"]


def test_a_donor_that_cannot_be_read_is_named_and_not_what_it_was_read_for():
    paste = CopyPaste(probability=1, labels=(1, 2), largest_share=1)
    cases = broken(MemoryError)
    cases.arrays.pop("case 2")
    feeds = feeds_of(configuration_of(transforms=(paste,), batch_size=1), Data(cases, None))
    with pytest.raises(TrainingError, match=r"^case case 1: there is no memory"):
        next(feeds.batches([place_of(feeds, "case 0")]))


def test_what_a_user_can_mend_comes_as_it_was_said():
    with pytest.raises(InputError) as caught:
        fit_of(configuration_of(batch_size=6), data=Data(broken(InputError, "case 1: cut short"), None)).run()
    assert str(caught.value) == "case 1: cut short"
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("num_workers", NUM_WORKERS)
def test_batches_that_a_feeder_augments_are_those_that_readers_augment(num_workers):
    feeds = feeds_of(AUGMENTED, Data(cases_of(3), cases_of(1)), num_workers)
    places = [*training_places(range(4)), Place(VALIDATION, 1)]
    expected = list(feeds.batches(places))
    for feed in (feeds.training, feeds.validation):
        feed.reader.augments = False
    found = list(feeds.batches(places))
    for one, other in zip(found, expected, strict=True):
        assert one[:2] == other[:2]
        assert is_equal(one.inputs, other.inputs)


def test_seconds_are_counted_by_what_was_done():
    feed = feeds_of(AUGMENTED, Data(cases_of(2), None)).training
    feed.load(0)
    assert set(feed.reader.stopwatch.seconds) == {"reading", "augmentation"}
    feed.reader.augments = False
    feed.inputs(feed.load(0))
    seconds = feed.reader.stopwatch.lap()
    assert set(seconds) == {"reading", "augmentation", "transfer"}
    assert all(value > 0 for value in seconds.values())


def test_memory_is_counted_by_what_is_read_and_what_waits():
    plain = feeds_of(configuration_of(batch_size=5), Data(cases_of(1), None)).training
    # Two channels of float32 and a segmentation of int64.
    assert plain.needs() == (False, 5, 16 * 8**3, 3 * 16 * 8**3)
    turned = feeds_of(AUGMENTED, Data(cases_of(1), None)).training
    here = turned.needs()
    assert here.patch_bytes == 16 * 8**3
    assert here.reading_bytes > 2 * plain.needs().reading_bytes
    turned.reader.augments = False
    assert turned.needs() == (True, 5, here.reading_bytes // 3, here.reading_bytes)
    loss = LossSpec(preset="mine", components=(DiceLoss(), BoundaryLoss(distance_maps="loader")))
    measured = feeds_of(configuration_of(loss=loss), Data(cases_of(1), None)).training
    # And a distance for each of three classes.
    assert measured.needs().patch_bytes == 28 * 8**3


def test_held_out_patches_are_not_augmented_and_without_held_out_cases_there_are_none():
    cases = cases_of(1, shape=(8, 8, 8))
    feeds = feeds_of(AUGMENTED, Data(cases, cases))
    image, _ = cases.arrays["case 0"]
    assert torch.equal(feeds.validation.inputs(feeds.validation.load(0)).images[0], torch.from_numpy(image))
    assert feeds_of(AUGMENTED, Data(cases, None)).validation is None


def test_distances_are_measured_while_reading_for_the_training_alone():
    loss = LossSpec(preset="mine", components=(DiceLoss(), BoundaryLoss(distance_maps="loader")))
    feeds = feeds_of(configuration_of(loss=loss), Data(cases_of(1), cases_of(1)))
    assert feeds.training.inputs(feeds.training.load(0)).distances.shape == (2, 3, 8, 8, 8)
    assert feeds.validation.inputs(feeds.validation.load(0)).distances is None


def labelled(value):
    image, segmentation = tumour((8, 8, 8))
    segmentation[0, 0, 0] = value
    return Cases({"odd": (image, segmentation)})


@pytest.mark.parametrize(("value", "has_ignored"), [(0, False), (-1, True)])
def test_while_reading_is_seen_whether_anything_is_ignored(value, has_ignored):
    feed = feeds_of(configuration_of(), Data(labelled(value), None)).training
    assert feed.inputs(feed.load(0)).has_ignored is has_ignored


@pytest.mark.parametrize("value", [-2, 3])
def test_an_index_that_is_no_class_names_the_cases(value):
    with pytest.raises(InputError, match=r"case odd holds class indices from .*expected 0 to 2, or -1 for ignored"):
        fit_of(data=Data(labelled(value), None)).run()


def test_a_batch_comes_together_in_any_order():
    generator = np.random.default_rng(0)
    patches = [
        (torch.from_numpy(generator.normal(size=(2, 3, 4))), torch.full((3, 4), number), torch.empty(0, 3, 4))
        for number in range(3)
    ]
    assembly = Assembly(3)
    for place in (2, 0, 1):
        assembly.put(place, patches[place])
    for part, expected in zip(assembly.parts, zip(*patches, strict=True), strict=True):
        assert torch.equal(part, torch.stack(expected))
        assert part.dtype == expected[0].dtype


def test_places_may_be_endless():
    feeds = feeds_of(configuration_of(), Data(cases_of(2), None))
    with closing(feeds.batches(Place(TRAINING, number) for number in count(7))) as batches:
        assert [batch.number for batch in islice(batches, 3)] == [7, 8, 9]


def two_cases():
    """Return two cases of which each has a value and a label of its own, in corners that are not the same."""
    arrays = {}
    for label, corner in ((1, slice(0, 3)), (2, slice(5, 8))):
        segmentation = np.zeros((8, 8, 8), np.int8)
        segmentation[corner, corner, corner] = label
        image = np.full((2, 8, 8, 8), 10.0 * label, np.float32)
        arrays[f"case {label}"] = image, segmentation
    return Cases(arrays)


@pytest.mark.parametrize("num_workers", NUM_WORKERS)
@pytest.mark.parametrize(("labels", "pasted"), [((1, 2), {1, 2}), ((2,), {2})])
def test_what_is_pasted_is_the_other_cases(num_workers, labels, pasted):
    paste = CopyPaste(probability=1, labels=labels, largest_share=1)
    feeds = feeds_of(configuration_of(transforms=(paste,), batch_size=4), Data(two_cases(), None), num_workers)
    (batch,) = feeds.batches(training_places([0]))
    assert set(batch.case_ids) == {"case 1", "case 2"}
    for case_id, segmentation in zip(batch.case_ids, batch.inputs.segmentations, strict=True):
        own, other = (1, 2) if case_id == "case 1" else (2, 1)
        expected = {0, own, other} if other in pasted else {0, own}
        assert set(segmentation.unique().tolist()) == expected


def test_without_another_case_nothing_is_pasted():
    cases = cases_of(1, shape=(8, 8, 8))
    configuration = configuration_of(transforms=(CopyPaste(probability=1, labels=(1, 2)),))
    (batch,) = feeds_of(configuration, Data(cases, None)).batches(training_places([0]))
    image, segmentation = cases.arrays["case 0"]
    assert torch.equal(batch.inputs.images[0], torch.from_numpy(image))
    assert torch.equal(batch.inputs.segmentations[0], torch.from_numpy(segmentation).long())
