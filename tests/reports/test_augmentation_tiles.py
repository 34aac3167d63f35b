import numpy as np
import pytest

from tumorseg.reports.augmentation_tiles import (
    GAP,
    PREVIOUS,
    Frame,
    Slices,
    change_between,
    is_same,
    middle_slices,
    shown_rows,
    tile_pixels,
)
from tumorseg.reports.figures import class_color
from tumorseg.reports.thumbnails import rgb_of

PATCH, SPACING = (6, 20, 12), (4.0, 1.0, 2.0)
LIMITS = ((0.0, 1.0), (-1.0, 1.0))


def color(index):
    return tuple(rgb_of(class_color(index - 1)).astype(np.uint8).tolist())


def has_color(pixels, index):
    return (pixels == np.array(color(index), np.uint8)).all(axis=-1)


@pytest.fixture
def patch():
    """A ball of class 2 away from the middle, and its image in the first of two channels."""
    grid = np.indices(PATCH)
    inside = ((grid[0] - 3) * 4) ** 2 + (grid[1] - 12) ** 2 + ((grid[2] - 4) * 2) ** 2 < 30
    image = np.stack((inside, np.zeros(PATCH))).astype(np.float32)
    return image, 2 * inside[None].astype(np.int64)


def frame(*, is_flipped=False, patch_size=PATCH, spacing_mm=SPACING):
    return Frame(LIMITS, patch_size, spacing_mm, is_flipped)


def test_the_slices_are_the_middle_ones_across_the_first_two_axes(patch):
    slices = middle_slices(*patch)
    assert [image.shape for image in slices.images] == [(2, 20, 12), (2, 6, 12)]
    assert np.array_equal(slices.images[0], patch[0][:, 3])
    assert np.array_equal(slices.segmentations[1], patch[1][:, :, 10])


def test_slices_do_not_keep_the_patch(patch):
    slices = middle_slices(*patch)
    assert not any(np.shares_memory(part, patch[0]) for part in slices.images)


def test_a_patch_of_two_axes_is_a_slice(patch):
    flat = patch[0][:, 3], patch[1][:, 3]
    (image,), (segmentation,) = middle_slices(*flat)
    assert np.array_equal(image, flat[0])
    assert np.array_equal(segmentation, flat[1])
    pixels = tile_pixels(middle_slices(*flat), [0], frame(patch_size=PATCH[1:], spacing_mm=SPACING[1:]))
    # 20 x 1 and 12 x 2 mm.
    assert pixels.shape == (300, 360, 3)


def test_pictures_have_the_worlds_proportions(patch):
    pixels = tile_pixels(middle_slices(*patch), [0], frame())
    # 6 x 4, 20 x 1 and 12 x 2 mm, at 10 pixels a millimetre.
    assert pixels.shape == (240, 240 + GAP + 240, 3)
    assert not pixels[200:, :240].any()


def test_outlines_lie_around_what_is_bright(patch):
    pixels = tile_pixels(middle_slices(*patch), [0], frame())
    is_outline = has_color(pixels, 2)
    is_bright = (pixels == 255).all(axis=-1)
    assert is_outline.any(axis=1).sum() > 40
    # Every pixel of the ball is white or its outline, and no other is either.
    for where, voxels in ((np.s_[:200, :240], patch[1][0, 3]), (np.s_[:, 243:], patch[1][0, :, 10])):
        rows, columns = np.nonzero((is_outline | is_bright)[where])
        sizes = is_outline[where].shape
        found = voxels[rows * voxels.shape[0] // sizes[0], columns * voxels.shape[1] // sizes[1]]
        assert (found == 2).all()
        assert len(rows) == sum(voxels.ravel() == 2) * (sizes[0] // voxels.shape[0]) * (sizes[1] // voxels.shape[1])


def test_a_canonical_image_is_shown_with_both_axes_reversed(patch):
    plain, flipped = (tile_pixels(middle_slices(*patch), [0], frame(is_flipped=flag)) for flag in (False, True))
    assert np.array_equal(flipped[:200, :240], plain[:200, :240][::-1, ::-1])
    assert np.array_equal(flipped[:, 243:], plain[:, 243:][::-1, ::-1])
    assert not np.array_equal(flipped, plain)


def test_intensities_beyond_the_window_are_black_and_white():
    image = np.array([[[-5.0, 0.0], [0.5, 9.0]]], np.float32)
    slices = middle_slices(image, np.zeros((1, 2, 2), np.int64))
    pixels = tile_pixels(slices, [0], frame(patch_size=(2, 2), spacing_mm=(1.0, 1.0)))
    assert pixels[::180, ::180, 0].tolist() == [[0, 0], [126, 255]]


def test_rows_are_the_channels_that_change(patch):
    before = middle_slices(*patch)
    changed = before._replace(
        images=tuple(image * np.array([[[1.0]], [[0.0]]]) + [[[0]], [[1]]] for image in before.images)
    )
    assert shown_rows(before, [before, changed], LIMITS) == [1]
    assert shown_rows(before, [before], LIMITS) == [0]
    pixels = tile_pixels(before, [0, 1], frame())
    assert pixels.shape[0] == 2 * 240 + GAP


def test_of_many_channels_those_that_change_most_are_shown():
    before = Slices((np.zeros((6, 3, 3)),), (np.zeros((1, 3, 3), np.int64),))
    after = before._replace(images=(np.arange(6.0)[:, None, None] * np.ones((6, 3, 3)),))
    limits = [(0.0, 1.0)] * 5 + [(0.0, 100.0)]
    assert shown_rows(before, [after], limits) == [1, 2, 3, 4]


def test_a_previous_segmentation_is_filled_and_the_reference_outlined_on_it(patch):
    image, reference = patch
    mistaken = np.zeros_like(reference)
    mistaken[:, :, :4] = 1
    slices = middle_slices(image, np.concatenate((reference, mistaken)))
    assert shown_rows(slices, [slices], LIMITS) == [PREVIOUS]
    pixels = tile_pixels(slices, [PREVIOUS], frame())
    assert has_color(pixels, 1)[:40, :240].all()
    is_outline = (pixels == 255).all(axis=-1)
    assert is_outline[60:80, 60:100].any()
    assert not has_color(pixels, 2).any()


def test_a_previous_segmentation_that_is_right_has_no_row(patch):
    image, reference = patch
    reference[:, 0] = -1  # ignored voxels are background to it
    both = middle_slices(image, np.concatenate((reference, np.maximum(reference, 0))))
    assert shown_rows(both, [both], LIMITS) == [0]


def test_patches_are_the_same_if_images_and_labels_are(patch):
    before = middle_slices(*patch)
    assert is_same(before, middle_slices(*patch))
    assert not is_same(before, middle_slices(patch[0], patch[1] + 1))
    assert not is_same(before, middle_slices(patch[0] + 1, patch[1]))


def test_a_change_counts_intensities_and_labels(patch):
    before = middle_slices(*patch)
    assert change_between(before, before) == 0
    # Two slices of two channels, each of which changes by one half; then every label.
    assert change_between(before, middle_slices(patch[0] + 0.5, patch[1])) == pytest.approx(2)
    assert change_between(before, middle_slices(patch[0], patch[1] + 1)) == pytest.approx(2)
