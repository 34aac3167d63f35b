import numpy as np
import pytest

from tests.planning.measured import CT, case, fingerprint, planned
from tests.stages.opening.test_reading import AFFINE
from tumorseg.errors import InputError
from tumorseg.ops.geometry import AS_STORED
from tumorseg.schema.fingerprint import ImageDoubt
from tumorseg.stages.inference.intensities import check_intensities
from tumorseg.stages.opening.reading import CaseImage


def plan_of(doubts=()):
    cases = [case(f"case_{number}", image_doubts=doubts) for number in range(10)]
    channels = [{"name": "CT", "kind": "ct"}, {"name": "PET", "kind": "pet"}]
    return planned(fingerprint(cases, channels=channels, intensities=CT))


def image_of(ct, pet=None, covered=()):
    other = np.random.default_rng(2).uniform(0, 9, ct.shape) if pet is None else pet
    image = np.stack([ct, other]).astype(np.float32)
    return CaseImage(image, (3.0, 0.8, 1.2), AS_STORED, AFFINE, ct.shape, covered=covered)


def patient(shape=(12, 30, 28)):
    rng = np.random.default_rng(5)
    body = np.zeros(shape, bool)
    body[1:-1, 5:-5, 5:-5] = True
    return np.where(body, rng.normal(40, 40, shape), rng.normal(-1000, 8, shape))


def test_ct_in_hounsfield_units_passes_without_a_word(caplog):
    check_intensities(plan_of(), "c", image_of(patient()))
    assert not caplog.records


def test_ct_in_another_unit_is_refused_if_the_planned_images_were_sound():
    with pytest.raises(InputError, match=r"case c: CT cannot be in Hounsfield units: .*planned for Hounsfield units"):
        check_intensities(plan_of(), "c", image_of(patient() + 1024))


@pytest.mark.parametrize("doubts", [(ImageDoubt(channel="CT", kind="not_hounsfield", message="m"),)])
def test_it_is_warned_of_if_planned_images_were_so_too(caplog, doubts):
    check_intensities(plan_of(doubts), "c", image_of(patient() + 1024))
    (told,) = caplog.messages
    assert "is not known either" in told


def test_where_nobody_looked_negative_foreground_shows_what_was_planned(caplog):
    with pytest.raises(InputError, match="cannot be in Hounsfield units"):
        check_intensities(plan_of(None), "c", image_of(patient() + 1024))
    shifted = plan_of(None)
    summary = shifted.fingerprint.intensities["CT"].model_copy(update={"min": 700.0})
    measured = shifted.fingerprint.model_copy(update={"intensities": {"CT": summary, "PET": summary}})
    check_intensities(shifted.model_copy(update={"fingerprint": measured}), "c", image_of(patient() + 1024))
    assert len(caplog.records) == 1


def test_one_single_value_in_every_channel_is_refused_and_in_one_is_warned_of(caplog):
    constant = np.full((4, 5, 6), -1000.0)
    with pytest.raises(InputError, match=r"case c: found one single value in every voxel \(-1000\)"):
        check_intensities(plan_of(), "c", image_of(constant, constant))
    check_intensities(plan_of(), "c", image_of(constant))
    assert caplog.messages == [
        "case c: every voxel of CT is -1000, so that nothing is seen in it; is the file the right one?"
    ]


def test_what_a_channel_does_not_cover_says_nothing(caplog):
    ct, covered = np.full((4, 5, 6), 7.0), np.zeros((4, 5, 6), bool)
    covered[:2] = True
    ct[~covered] = -1024
    check_intensities(plan_of(), "c", image_of(ct, covered=(covered, None)))
    assert "every voxel of CT is 7" in caplog.text


def test_another_number_of_channels_is_left_to_who_segments(caplog):
    found = image_of(patient())
    check_intensities(plan_of(), "c", found._replace(image=found.image[:1]))
    assert not caplog.records
