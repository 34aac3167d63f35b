from typing import NamedTuple

import numpy as np
import pytest
import torch

from tests.engine.phantoms import Cases, cases_of, tumour
from tumorseg.engine.batches import (
    TRAINING,
    VALIDATION,
    Item,
    PatchSpec,
    drawn_case,
    first_forced,
    is_forced,
    read_donor,
    read_patch,
)

EACH_LABEL = ((1,), (2,))


def spec_of(patch=(6, 9, 7), batch_size=3, foreground=0.33, scored=EACH_LABEL):
    return PatchSpec(patch, batch_size, foreground, scored)


class Batch(NamedTuple):
    images: torch.Tensor
    segmentations: torch.Tensor
    case_ids: tuple[str, ...]


def read(reader, spec=None, seed=0, stream=TRAINING, number=0, items=None, source=None):
    """Return all patches of a batch, or some, with or without what lies around them."""
    spec = spec or spec_of()
    numbers = range(spec.batch_size) if items is None else items
    size = source or spec.patch_size
    patches = [read_patch(reader, spec, Item(seed, stream, number, item), size) for item in numbers]
    images = torch.stack([patch.sample.image for patch in patches])
    segmentations = torch.stack([patch.sample.segmentation[0] for patch in patches])
    return Batch(images, segmentations, tuple(patch.case_id for patch in patches))


def is_equal(one, other):
    return torch.equal(one.images, other.images) and torch.equal(one.segmentations, other.segmentations)


def single(*voxels, shape=(20, 21, 22), value=1):
    """Return one case whose image holds each voxel's own number, with labels at the given voxels."""
    segmentation = np.zeros(shape, np.int8)
    for voxel in voxels:
        segmentation[voxel] = value
    image = np.arange(1, segmentation.size + 1, dtype=np.float32).reshape(1, *shape)
    return Cases({"one": (image, segmentation)})


def test_a_batch_has_the_shapes_and_types_that_training_needs():
    batch = read(cases_of(3))
    assert batch.images.shape == (3, 2, 6, 9, 7)
    assert batch.images.dtype == torch.float32
    assert batch.segmentations.shape == (3, 6, 9, 7)
    assert batch.segmentations.dtype == torch.int64
    assert len(batch.case_ids) == 3


def test_a_batch_follows_from_seed_stream_and_number_alone():
    reader = cases_of(4)
    later = [read(reader, number=number) for number in (5, 3, 4)]
    again = cases_of(4)
    for number, batch in zip((5, 3, 4), later, strict=True):
        assert is_equal(read(again, number=number), batch)
        assert read(again, number=number).case_ids == batch.case_ids
    others = [read(reader, seed=1, number=5), read(reader, stream=VALIDATION, number=5), read(reader, number=6)]
    assert not any(is_equal(later[0], other) for other in others)


def test_draws_follow_from_the_place_of_an_item_and_differ_between_places_and_purposes():
    places = [(0, 0, 0, 0), (0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (2**63 - 1, 0, 0, 0)]
    draws = {Item(*place).augmentation_seed() for place in places}
    patches = {tuple(Item(*place).patch_generator().random(4)) for place in places}
    assert (len(draws), len(patches)) == (6, 6)


def test_a_batch_read_in_two_parts_equals_the_batch_read_whole():
    reader, spec = cases_of(4), spec_of(batch_size=5)
    whole = read(reader, spec, number=7)
    parts = [read(reader, spec, number=7, items=part) for part in (range(2), range(2, 5))]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert torch.equal(torch.cat([part.segmentations for part in parts]), whole.segmentations)
    assert parts[0].case_ids + parts[1].case_ids == whole.case_ids


def test_labels_stay_on_their_voxels():
    reader = cases_of(2)
    for image, segmentation in zip(read(reader).images, read(reader).segmentations, strict=True):
        assert (
            torch.equal(image[0] > 0.5, segmentation > 0)
            or ((image[0] > 0.5) == (segmentation > 0)).float().mean() > 0.9
        )


@pytest.mark.parametrize(
    ("batch_size", "fraction", "expected"),
    [(2, 0.33, 1), (1, 0.33, 0), (3, 0.33, 2), (9, 0.33, 6), (12, 0.33, 8), (2, 0, 2), (2, 1, 0), (4, 0.01, 3)],
)
def test_how_many_patches_are_forced_is_nnunets_rounding_but_at_least_one(batch_size, fraction, expected):
    assert first_forced(batch_size, fraction) == expected


@pytest.mark.parametrize(("fraction", "low", "high"), [(0.0, 0, 0), (0.33, 280, 380), (1.0, 1000, 1000)])
def test_of_batches_of_one_as_many_are_forced_as_the_share_says(fraction, low, high):
    spec = spec_of((1, 1, 1), batch_size=1, foreground=fraction)
    forced = sum(is_forced(spec, Item(0, TRAINING, number, 0)) for number in range(1000))
    assert low <= forced <= high


@pytest.mark.parametrize("number", range(20))
def test_forced_patches_hold_foreground(number):
    reader = single((2, 3, 4), (19, 20, 21), (0, 0, 0))
    batch = read(reader, spec_of((3, 5, 4), foreground=1.0), number=number)
    assert all((segmentation == 1).any() for segmentation in batch.segmentations)


def test_each_label_that_a_case_has_is_chosen_as_often_however_small():
    reader = single((10, 10, 10), value=2)
    reader.arrays["one"][1][:5] = 1
    spec = spec_of((1, 1, 1), batch_size=1, foreground=1.0)
    found = [int(read(reader, spec, number=number).segmentations) for number in range(60)]
    assert set(found) == {1, 2}
    assert 18 <= found.count(2) <= 42


def test_a_region_is_found_by_any_of_its_labels():
    spec = spec_of((1, 1, 1), batch_size=1, foreground=1.0, scored=((1, 2), (2,)))
    assert all(int(read(single((4, 4, 4)), spec, number=number).segmentations) == 1 for number in range(10))


@pytest.mark.parametrize("voxel", [(0, 0, 0), (19, 20, 21), (18, 1, 21), (10, 10, 10), (17, 19, 20)])
def test_a_patch_never_leaves_an_image_that_it_fits_into(voxel):
    spec = spec_of((7, 8, 5), foreground=1.0)
    for number in range(5):
        batch = read(single(voxel), spec, number=number)
        assert (batch.images > 0).all()  # padding is 0, no voxel is
        assert (batch.segmentations == 1).sum(dim=(1, 2, 3)).eq(1).all()


def test_a_patch_is_centred_on_its_voxel_where_there_is_room():
    batch = read(single((10, 10, 10)), spec_of((5, 7, 6), batch_size=1, foreground=1.0))
    assert torch.nonzero(batch.segmentations[0]).tolist() == [[2, 3, 3]]


def test_random_patches_reach_every_corner():
    reader = single()
    spec = spec_of((18, 19, 20), batch_size=1, foreground=0)
    for number in range(150):
        read(reader, spec, number=number)
    assert {box[0] for _, box in reader.boxes} == {(0, 18), (1, 19), (2, 20)}
    assert {box[2] for _, box in reader.boxes} == {(0, 20), (1, 21), (2, 22)}


@pytest.mark.parametrize("foreground", [0, 1.0])
def test_a_small_image_lies_in_the_middle_of_its_patch(foreground):
    reader = single((1, 2, 3), shape=(3, 4, 5))
    batch = read(reader, spec_of((7, 4, 8), batch_size=2, foreground=foreground))
    image, segmentation = reader.arrays["one"]
    for patch, labels in zip(batch.images, batch.segmentations, strict=True):
        inner = (slice(2, 5), slice(0, 4), slice(1, 6))
        assert torch.equal(patch[(0, *inner)], torch.from_numpy(image[0]))
        assert torch.equal(labels[inner], torch.from_numpy(segmentation).long())
        assert int((patch != 0).sum()) == image.size


def test_what_is_read_around_a_patch_has_the_patch_in_its_middle():
    reader = single((10, 10, 10), (0, 0, 0))
    narrow = spec_of((4, 5, 6), batch_size=4)
    for number in range(6):
        inner = read(reader, narrow, number=number, source=(9, 9, 6)).images[:, :, 2:6, 2:7]
        assert torch.equal(inner, read(reader, narrow, number=number).images)


def test_planes_are_read_for_a_network_of_two_axes():
    reader = single((7, 3, 4), (12, 20, 21))
    spec = spec_of((6, 9), batch_size=4, foreground=1.0)
    batch = read(reader, spec, source=(8, 11))
    assert batch.images.shape == (4, 1, 8, 11)
    assert batch.segmentations.shape == (4, 8, 11)
    assert batch.segmentations.eq(1).sum(dim=(1, 2)).eq(1).all()
    assert {box[0] for _, box in reader.boxes} <= {(7, 8), (12, 13)}


def test_a_case_of_background_gives_random_patches():
    batch = read(single(), spec_of((5, 5, 5), foreground=1.0))
    assert (batch.segmentations == 0).all()
    assert (batch.images > 0).all()


def test_without_an_ignore_label_the_stream_of_patches_stays():
    reader = cases_of(2)
    read(reader, number=1)
    assert reader.boxes == [
        ("case 1", ((7, 13), (0, 9), (0, 7))),
        ("case 1", ((3, 9), (7, 16), (8, 15))),
        ("case 0", ((6, 12), (0, 9), (4, 11))),
    ]


def sparse(*values, shape=(20, 21, 22)):
    """Return a case of which only the first voxels are annotated."""
    segmentation = np.full(shape, -1, np.int8)
    segmentation.ravel()[: len(values)] = values
    return Cases({"one": (np.zeros((1, *shape), np.float32), segmentation)})


@pytest.mark.parametrize("foreground", [0, 1.0])
def test_with_an_ignore_label_patches_are_drawn_at_annotated_voxels_of_any_class(foreground):
    spec = spec_of((1, 1, 1), batch_size=60, foreground=foreground)
    assert (
        read(sparse(0, 0, 0), spec).segmentations == 0
    ).all()  # also where foreground is asked for, and there is none
    found = read(sparse(*[0] * 30, *[1] * 10), spec).segmentations
    share = float((found == 1).float().mean())
    assert (found >= 0).all()
    assert share == 1 if foreground else 0.1 < share < 0.4  # a quarter: by voxels, not by classes


def test_a_case_without_a_single_annotated_voxel_gives_random_patches():
    reader = sparse()
    read(reader, spec_of((5, 5, 5), batch_size=4))
    assert len({box for _, box in reader.boxes}) == 4


def test_every_case_is_read():
    reader = Cases({f"case {number}": tumour((8, 8, 8), number) for number in range(5)})
    found = {case_id for number in range(20) for case_id in read(reader, number=number).case_ids}
    assert found == set(reader.case_ids)


def donors(reader, classes, count=30, patch=(5, 6, 7)):
    """Return what would be pasted into the first patches of as many batches, and the cases of these patches."""
    items = [Item(0, TRAINING, number, 0) for number in range(count)]
    spec = spec_of(patch, batch_size=1)
    return [read_donor(reader, spec, item, classes) for item in items], [drawn_case(reader, item) for item in items]


def test_a_donor_is_another_case_centred_on_a_voxel_of_the_classes_and_of_the_patchs_size():
    reader = Cases({f"case {number}": tumour((13, 17, 15), number) for number in range(4)})
    found, own = donors(reader, (2,))
    read = [case_id for case_id, _ in reader.boxes]
    assert all(one != other for one, other in zip(read, own, strict=True))
    assert set(read) == set(reader.case_ids)
    for donor in found:
        assert donor.sample.image.shape == (2, 5, 6, 7)
        assert (donor.sample.segmentation.shape, donor.sample.segmentation.dtype) == ((1, 5, 6, 7), torch.int64)
        assert donor.sample.maps.shape == (0, 5, 6, 7)
        assert donor.sample.segmentation[0, 2, 3, 3] == 2


def test_each_class_of_a_donor_is_as_likely_and_one_that_the_case_lacks_is_passed_over():
    large, small = tumour((13, 17, 15)), tumour((13, 17, 15), 1)
    small[1][small[1] == 1] = 0
    reader = Cases({"both": large, "core": small})
    found, own = donors(reader, (1, 2), count=80, patch=(1, 1, 1))
    middles = {"both": [], "core": []}
    for donor, case_id in zip(found, own, strict=True):
        # With two cases the donor is the other one.
        middles["core" if case_id == "both" else "both"].append(int(donor.sample.segmentation))
    assert set(middles["core"]) == {2}
    assert 0.25 < middles["both"].count(1) / len(middles["both"]) < 0.75


def test_without_the_classes_or_another_case_there_is_no_donor():
    assert donors(cases_of(1), (1,))[0] == [None] * 30
    empty = np.zeros((13, 17, 15), np.int8)
    reader = Cases({"empty": (tumour((13, 17, 15))[0], empty), "full": tumour((13, 17, 15))})
    found, own = donors(reader, (1,))
    assert [donor is None for donor in found] == [case_id == "full" for case_id in own]


def test_a_donor_follows_from_the_place_of_its_item():
    reader = cases_of(5)
    first, again = donors(reader, (1, 2))[0], donors(reader, (1, 2))[0]
    assert all(torch.equal(one.sample.image, other.sample.image) for one, other in zip(first, again, strict=True))
    assert len({float(donor.sample.image.sum()) for donor in first}) > 20


def test_a_donor_of_planes_and_of_a_cascade_has_their_layers():
    image, segmentation = tumour((13, 17, 15))
    reader = Cases({"a": (image, segmentation), "b": (image, segmentation)}, {"a": segmentation, "b": segmentation})
    spec = spec_of((6, 9), batch_size=1)._replace(has_previous=True)
    donor = read_donor(reader, spec, Item(0, TRAINING, 0, 0), (1,))
    assert donor.sample.image.shape == (2, 6, 9)
    assert torch.equal(donor.sample.segmentation[0], donor.sample.segmentation[1])
    assert (donor.sample.segmentation[0] == 1).any()
