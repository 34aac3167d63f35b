import numpy as np
import pytest
import torch

from tests.engine.phantoms import CLASSES, REGIONS
from tumorseg.engine.restoration import decide
from tumorseg.engine.segmentation import OrientedImage, Segmenter, cropped_logits, prepare, segment
from tumorseg.engine.sliding_window import Tiling
from tumorseg.ops.cropping import box_shape
from tumorseg.schema.cases import Preprocessing
from tumorseg.schema.preprocessing import NoNormalization, ResamplingSpec

SHAPE = (11, 19, 14)
INNER = (slice(2, 9), slice(3, 15), slice(1, 13))
TILING = Tiling((6, 8, 5), 0.5, 0.125, is_planar=False)


def spec_of(**changes):
    fields = {
        "orientation": "RAS",
        "transpose": (0, 1, 2),
        "spacing_mm": (2.0, 1.5, 1.0),
        "normalization": (NoNormalization(), NoNormalization()),
        "resampling": ResamplingSpec(),
    }
    return Preprocessing(**fields | changes)


def image_of(previous=None):
    """Return two channels, zero around an inner box."""
    image = np.zeros((2, *SHAPE), np.float32)
    noise = np.random.default_rng(0).normal(size=(2, *SHAPE))
    image[:, *INNER] = noise[:, *INNER]
    return OrientedImage(image, (2.0, 1.0, 1.25), previous=previous)


def brightest(tiles):
    """Three classes: neither, the first channel above the second, or the other way round."""
    return torch.cat((torch.zeros_like(tiles[:, :1]) + 0.1, tiles[:, :2] - tiles[:, :2].flip(1)), dim=1)


def segmenter_of(forward=brightest, targets=CLASSES, tiling=TILING, **changes):
    return Segmenter(spec_of(**changes), tiling, forward, targets)


def both(oriented, segmenter):
    """Return an image as a segmenter takes it, and the segmenter."""
    return prepare(oriented, segmenter.preprocessing), segmenter


def test_logits_lie_on_the_images_own_grid_where_it_was_not_cropped_away():
    box, slices = cropped_logits(*both(image_of(), segmenter_of()))
    assert box == tuple((part.start, part.stop) for part in INNER)
    found = list(slices)
    assert len(found) == box_shape(box)[0]
    assert {(one.shape, one.dtype) for one in found} == {((3, 12, 12), torch.float32)}


@pytest.mark.parametrize("targets", [CLASSES, REGIONS], ids=["labels", "regions"])
def test_a_segmentation_is_the_decision_on_each_slice_and_background_around_it(targets):
    def forward(tiles):
        return brightest(tiles)[:, -targets.num_outputs :]

    segmenter = segmenter_of(forward, targets)
    labels = segment(*both(image_of(), segmenter))
    expected = np.zeros(SHAPE, np.uint8)
    expected[INNER] = [decide(logits, targets) for logits in cropped_logits(*both(image_of(), segmenter)).slices]
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, expected)
    assert set(np.unique(labels)) == {0, 1, 4}


def test_on_its_own_grid_each_voxel_gets_what_the_forward_says_of_it():
    oriented = image_of()
    labels = segment(*both(oriented, segmenter_of(spacing_mm=oriented.spacing_mm, cropping=False)))
    logits = brightest(torch.from_numpy(oriented.image)[None])[0]
    assert np.array_equal(labels, np.array(CLASSES.label_values)[logits.argmax(dim=0)])


def test_slices_are_made_as_they_are_asked_for():
    seen = []
    slices = cropped_logits(*both(image_of(), segmenter_of(lambda tiles: seen.append(1) or brightest(tiles)))).slices
    assert not seen
    next(slices)
    num_seen = len(seen)
    list(slices)
    assert 0 < num_seen < len(seen)


def test_a_previous_segmentation_is_the_last_channel_of_the_tiles():
    previous = np.zeros(SHAPE, np.int8)
    previous[3:8, 4:12, 2:7], previous[5:8, 8:12, 7:12] = 1, 2

    def repeat(tiles):
        assert tiles.shape[1] == 3
        return torch.cat([(tiles[:, 2:] == index).float() for index in range(3)], dim=1)

    oriented = image_of(previous)
    labels = segment(*both(oriented, segmenter_of(repeat, spacing_mm=oriented.spacing_mm)))
    assert np.array_equal(labels, np.array(CLASSES.label_values)[previous])


def test_batches_of_tiles_give_the_same_labels():
    one_by_one, batched = (
        segment(*both(image_of(), segmenter_of(tiling=TILING._replace(batch_size=size)))) for size in (1, 5)
    )
    assert np.array_equal(one_by_one, batched)
