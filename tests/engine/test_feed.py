import pytest
import torch

from tests.engine.phantoms import Cases, cases_of, configuration_of, fit_of, learner_of, training_of, tumour
from tumorseg.engine.batches import read_items
from tumorseg.engine.feed import Data, open_feeds, patch_spec
from tumorseg.errors import InputError
from tumorseg.schema.augmentation import AffineTransform, Brightness, Contrast, GaussianNoise, MirrorTransform
from tumorseg.schema.losses import BoundaryLoss, DiceLoss, LossSpec

AUGMENTED = configuration_of(
    transforms=(
        AffineTransform(rotation_deg=(30, 30, 30), rotation_probability=0.5, scaling_probability=0.5),
        GaussianNoise(probability=0.5),
        Brightness(probability=0.5),
        Contrast(probability=0.5),
        MirrorTransform(axes=(0, 1, 2)),
    ),
    batch_size=5,
)


def feeds_of(configuration, data):
    learner = learner_of(configuration)
    return open_feeds(data, configuration, training_of(), learner)


def test_parts_of_a_batch_are_augmented_as_the_whole_batch():
    data = Data(cases_of(3), None)
    feed = feeds_of(AUGMENTED, data).training
    whole = feed.load(4)
    expected = feed.inputs(whole)
    spec = patch_spec(AUGMENTED, learner_of().targets, AUGMENTED.augmentation)
    parts = [feed.inputs(read_items(data.training, spec, whole.items[part])) for part in (slice(0, 2), slice(2, 5))]
    assert torch.equal(torch.cat([part.images for part in parts]), expected.images)
    assert torch.equal(torch.cat([part.segmentations for part in parts]), expected.segmentations)


def test_batches_come_in_order_and_the_wait_for_them_is_timed():
    feed = feeds_of(AUGMENTED, Data(cases_of(2), None)).training
    batches = list(feed.batches(range(3, 6)))
    assert [batch.number for batch in batches] == [3, 4, 5]
    assert all(len(batch.case_ids) == 5 for batch in batches)
    assert torch.equal(batches[1].inputs.images, feed.inputs(feed.load(4)).images)
    assert feed.waited_s > 0


def test_held_out_patches_are_not_augmented_and_without_held_out_cases_there_are_none():
    cases = cases_of(1, shape=(8, 8, 8))
    feeds = feeds_of(AUGMENTED, Data(cases, cases))
    image, _ = cases.arrays["case 0"]
    assert torch.equal(feeds.validation.inputs(feeds.validation.load(0)).images[0], torch.from_numpy(image))
    assert feeds_of(AUGMENTED, Data(cases, None)).validation is None


def test_distances_are_measured_while_reading_for_the_training_alone():
    loss = LossSpec(preset="mine", components=(DiceLoss(), BoundaryLoss(distance_maps="loader")))
    feeds = feeds_of(configuration_of(loss=loss), Data(cases_of(1), cases_of(1)))
    assert feeds.training.load(0).distances.shape == (2, 3, 8, 8, 8)
    assert feeds.validation.load(0).distances is None


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
    with pytest.raises(InputError, match=r"cases odd hold class indices from .*expected 0 to 2, or -1 for ignored"):
        fit_of(data=Data(labelled(value), None)).run()
