"""Tumours of other patches, pasted with their labels."""

import pytest
import torch
from pydantic import ValidationError

from tests.augmentation.seeded import CT, facts_of, sample_of
from tumorseg.augmentation.copy_paste import apply_copy_paste
from tumorseg.augmentation.pipeline import Augmentation
from tumorseg.errors import InputError
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.preprocessing import ZScoreNormalization
from tumorseg.schema.transforms.acquisition import CopyPaste
from tumorseg.schema.transforms.base import PatchFacts
from tumorseg.schema.transforms.intensity import Brightness
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform

SPACES = {"2d": (19, 24), "3d": (9, 19, 24)}

ALL = (1, 2, 3, 4)


@pytest.fixture(params=SPACES.values(), ids=SPACES)
def space(request):
    return request.param


def box(space, start, stop):
    """Return the slices of a box; in space it is 5 planes deep."""
    sides = (slice(start, stop), slice(start, stop))
    return sides if len(space) == 2 else (slice(2, 7), *sides)


def donor_of(space, *, label=2):
    """Return a patch with a lesion of 8 voxels' edge, brighter than what is around it."""
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(2, *space, generator=generator) + 5
    segmentation = torch.zeros(1, *space, dtype=torch.int64)
    image[:, *box(space, 6, 14)] += 3
    segmentation[0][box(space, 6, 14)] = label
    return sample_of(image, segmentation)


def host_of(space):
    return sample_of(
        torch.randn(2, *space, generator=torch.Generator().manual_seed(4)), torch.zeros(1, *space, dtype=torch.int64)
    )


def paste(host, donor, facts=None, **fields):
    """Return the host with the donor's lesion."""
    patch = tuple(host.image.shape[1:])
    spec = AugmentationSpec(transforms=(CopyPaste(**({"labels": ALL} | fields), probability=1, largest_share=0.5),))
    augmentation = Augmentation(spec, facts or facts_of(patch, has_ct=True))
    return augmentation.apply(host, augmentation.with_donor(augmentation.draw(0), donor))


def test_wherever_a_label_is_pasted_the_image_is_the_donors(space):
    host, donor = host_of(space), donor_of(space)
    after = paste(host, donor)
    pasted = after.segmentation[0] == 2
    assert torch.equal(after.segmentation, donor.segmentation)
    assert torch.equal(after.image[:, pasted], donor.image[:, pasted])


def test_beyond_a_seam_of_two_voxels_the_image_is_the_patchs(space):
    host, donor = host_of(space), donor_of(space)
    after = paste(host, donor)
    beyond = torch.ones(space, dtype=torch.bool)
    beyond[tuple(slice(max(side.start - 2, 0), side.stop + 2) for side in box(space, 6, 14))] = False
    assert torch.equal(after.image[:, beyond], host.image[:, beyond])
    seam = ~beyond & (donor.segmentation[0] == 0)
    between = (after.image - host.image)[:, seam] / (donor.image - host.image)[:, seam]
    assert sorted({round(share, 2) for share in between.flatten().tolist()}) == [0.33, 0.67]


def test_without_units_a_lesion_keeps_its_contrast_to_what_is_around_it(space):
    host, donor = host_of(space), donor_of(space)
    facts = PatchFacts(space, (CT, ZScoreNormalization(masked=False)))
    after = paste(host, donor, facts)
    pasted = after.segmentation[0] == 2
    assert torch.equal(after.image[0, pasted], donor.image[0, pasted])
    shift = (after.image - donor.image)[1, pasted]
    torch.testing.assert_close(shift, shift[:1].expand_as(shift))
    assert shift[0].item() == pytest.approx(-5, abs=0.3)  # between the means of the two images


def test_other_labels_are_not_pasted_over_unless_that_is_planned(space):
    host, donor = host_of(space), donor_of(space)
    host.segmentation[0][box(space, 10, 16)] = 1
    host.segmentation[0][box(space, 6, 8)] = -1
    others = host.segmentation[0] != 0
    after = paste(host, donor)
    assert torch.equal(after.segmentation[0][others], host.segmentation[0][others])
    assert torch.equal(after.segmentation[0] == 2, (donor.segmentation[0] == 2) & ~others)
    over = paste(host, donor, onto=(0, 1))
    assert torch.equal(over.segmentation[0] == 2, (donor.segmentation[0] == 2) & (host.segmentation[0] != -1))


def test_only_the_labels_that_are_named_are_pasted(space):
    host, donor = host_of(space), donor_of(space)
    donor.segmentation[0][box(space, 12, 16)] = 3
    assert set(paste(host, donor, labels=(3,)).segmentation.unique().tolist()) == {0, 3}
    assert set(paste(host, donor, labels=(2, 3)).segmentation.unique().tolist()) == {0, 2, 3}
    assert set(paste(host, donor).segmentation.unique().tolist()) == {0, 2, 3}
    same = paste(host, donor, labels=(1,))
    assert torch.equal(same.image, host.image)


def test_nothing_is_pasted_outside_the_mask_of_the_normalisation(space):
    host, donor = host_of(space), donor_of(space)
    host.image[..., :10] = 0
    host.image[0, ..., 12] = 0  # in one channel only
    facts = PatchFacts(space, (ZScoreNormalization(masked=True),) * 2)
    after = paste(host, donor, facts)
    pasted = after.segmentation[0]
    assert torch.equal(after.image[..., :10], host.image[..., :10])  # nor does the seam reach out
    # Without a mask only what is 0 in all channels lies beyond the image.
    unmasked = paste(host, donor).segmentation
    assert torch.equal(unmasked[..., 10:], donor.segmentation[..., 10:])
    assert not unmasked[..., :10].any()
    assert not pasted[..., :10].any()
    assert pasted[..., 10:14].any()


def test_nothing_is_pasted_from_outside_the_donors_mask(space):
    host, donor = host_of(space), donor_of(space)
    donor.image[..., 10:] = 0
    facts = PatchFacts(space, (ZScoreNormalization(masked=True),) * 2)
    after = paste(host, donor, facts)
    assert torch.equal(after.image[..., 10:], host.image[..., 10:])
    assert torch.equal(after.segmentation[..., :10], donor.segmentation[..., :10])
    assert not after.segmentation[..., 10:].any()


def test_more_than_the_largest_share_is_not_pasted(space):
    host, donor = host_of(space), donor_of(space)
    share = (donor.segmentation > 0).float().mean().item()
    facts = facts_of(space, has_ct=True)
    for limit, has_pasted in ((share + 0.01, True), (share - 0.01, False)):
        augmentation = Augmentation(
            AugmentationSpec(transforms=(CopyPaste(probability=1, labels=ALL, largest_share=limit),)), facts
        )
        after = augmentation.apply(host, augmentation.with_donor(augmentation.draw(0), donor))
        assert after.segmentation.any() == has_pasted
        assert torch.equal(after.image, host.image) != has_pasted


def test_a_lesion_may_fill_the_whole_patch(space):
    host, donor = host_of(space), donor_of(space)
    donor.segmentation.fill_(1)
    augmentation = Augmentation(
        AugmentationSpec(transforms=(CopyPaste(probability=1, labels=ALL, largest_share=1),)), facts_of(space)
    )
    after = augmentation.apply(host, augmentation.with_donor(augmentation.draw(0), donor))
    assert torch.equal(after.image, donor.image)  # there is no seam to take a mean of


def test_the_donors_flips_take_image_and_labels_along(space):
    host, donor = host_of(space), donor_of(space)
    axis = len(space) - 1
    spec = AugmentationSpec(transforms=(CopyPaste(probability=1, labels=ALL, largest_share=0.5, mirror_axes=(axis,)),))
    augmentation = Augmentation(spec, facts_of(space, has_ct=True))
    found = set()
    for seed in range(12):
        draws = augmentation.with_donor(augmentation.draw(seed), donor)
        after = augmentation.apply(host, draws)
        is_flipped = bool(draws[0].axes)
        image, labels = (part.flip(-1) if is_flipped else part for part in donor[:2])
        pasted = labels[0] == 2
        assert torch.equal(after.segmentation, labels)
        assert torch.equal(after.image[:, pasted], image[:, pasted])
        found.add(is_flipped)
    assert found == {False, True}


def test_in_a_cascade_the_previous_segmentation_of_the_lesion_comes_along(space):
    host, donor = host_of(space), donor_of(space)
    previous = donor.segmentation.clone()
    previous[0][box(space, 6, 8)] = 1
    host = host._replace(segmentation=torch.zeros(2, *space, dtype=torch.int64))
    donor = donor._replace(segmentation=torch.cat((donor.segmentation, previous)))
    after = paste(host, donor)
    assert torch.equal(after.segmentation, donor.segmentation)


def test_without_a_donor_nothing_happens(space):
    host = host_of(space)
    after = paste(host, None)
    assert all(torch.equal(one, other) for one, other in zip(after, host, strict=True))


def test_the_donor_and_the_patch_stay_as_they_are(space):
    host, donor = host_of(space), donor_of(space)
    before = [part.clone() for part in (*host, *donor)]
    paste(host, donor)
    assert all(torch.equal(one, other) for one, other in zip((*host, *donor), before, strict=True))


def test_a_donor_is_asked_for_where_one_is_drawn():
    def classes(*transforms):
        augmentation = Augmentation(AugmentationSpec(transforms=transforms), facts_of((7, 9)))
        return augmentation.donor_classes(augmentation.draw(3))

    assert classes(CopyPaste(probability=1, labels=(3, 1))) == (3, 1)
    assert classes(Brightness(probability=1), CopyPaste(probability=1, labels=ALL)) == ALL
    assert classes(CopyPaste(probability=0, labels=ALL)) is None
    assert classes(Brightness(probability=1)) is None


def test_the_other_draws_stay_when_a_donor_comes():
    spec = AugmentationSpec(transforms=(Brightness(probability=1), CopyPaste(probability=1, labels=ALL)))
    augmentation = Augmentation(spec, facts_of((19, 24)))
    draws, donor = augmentation.draw(1), donor_of((19, 24))
    assert augmentation.with_donor(draws, donor)[0] == draws[0]
    assert augmentation.with_donor(draws, donor)[1].donor is donor


def test_a_donor_of_another_size_is_refused():
    facts = facts_of((19, 24))
    augmentation = Augmentation(AugmentationSpec(transforms=(CopyPaste(probability=1, labels=ALL),)), facts)
    draw = augmentation.with_donor(augmentation.draw(0), donor_of((20, 24)))[0]
    with pytest.raises(InputError, match=r"to copy from has shape \(2, 20, 24\), the patch \(2, 19, 24\)"):
        apply_copy_paste(host_of((19, 24)), draw, facts)


def test_it_stands_after_what_cuts_the_patch():
    facts = facts_of((19, 24))
    turn, paste_, flip = SpatialTransform(rotation_deg=(15.0,)), CopyPaste(labels=ALL), MirrorTransform(axes=(0,))
    assert list(AugmentationSpec(transforms=(turn, paste_, flip)).misfits(facts)) == []
    assert list(AugmentationSpec(transforms=(paste_, turn)).misfits(facts)) == [
        "copy_paste stands before spatial; it pastes from patches of the final size, so place it after"
    ]


def test_what_a_dataset_does_not_have_is_refused():
    spec = AugmentationSpec(transforms=(CopyPaste(labels=(2, 4), onto=(0, 1)),))
    assert list(spec.unknown_classes(5)) == []
    assert list(spec.unknown_classes(4)) == ["copy_paste names the class indices [0, 1, 2, 4]; the dataset has 0 to 3"]
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        CopyPaste(labels=(0, 1))
    with pytest.raises(ValidationError, match="names one twice"):
        CopyPaste(labels=(1, 1))
    with pytest.raises(ValidationError, match="at least 1 item"):
        CopyPaste(labels=ALL, onto=())


def test_flips_along_an_axis_that_is_not_there_are_refused():
    assert list(CopyPaste(labels=ALL, mirror_axes=(0, 2)).misfits(facts_of((7, 9)))) == [
        "copy_paste.mirror_axes are (0, 2); a patch of 2 axes has 0 to 1"
    ]
