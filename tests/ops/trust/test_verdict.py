import numpy as np
import pytest

from tests.ops.trust.phantoms import SUBJECT, phantom, trust_cases
from tumorseg.errors import InputError
from tumorseg.ops.trust.fitting import dealt_parts, fit_trust, sound_cases, usable_parts
from tumorseg.ops.trust.image_profile import image_profile
from tumorseg.ops.trust.verdict import judge_case
from tumorseg.schema.base import to_json
from tumorseg.schema.trust import NameFeatures, TrustProfile


@pytest.fixture(scope="module")
def profile():
    return fit_trust(trust_cases(24), SUBJECT)


def verdict(profile, found):
    return judge_case(profile, image_profile(found))


def test_at_most_one_in_twenty_of_the_cases_that_taught_is_flagged(profile):
    assert profile.num_sound == 24
    assert profile.num_flagged <= 1


def test_other_images_of_the_kind_pass(profile):
    found = [verdict(profile, phantom(seed)) for seed in range(1000, 1030)]
    assert sum(one.review is not None for one in found) <= 3
    assert all((one.distance > 1) == (one.review is not None) for one in found)


def test_swapped_channels_are_named_by_position_and_name(profile):
    found = phantom(1001)
    review = verdict(profile, found._replace(image=found.image[::-1])).review
    assert review.startswith("channels 0000 (CT) and 0001 (t1) look swapped")


def test_a_zeroed_channel_is_named(profile):
    found = phantom(1002)
    found.image[1] = 0
    assert verdict(profile, found).review == "channel 0001 (t1) shows nothing"


def test_a_shift_of_ct_is_told_in_hu(profile):
    found = phantom(1003)
    found.image[0] += 1000
    review = verdict(profile, found).review
    assert "intensities of CT are 1000 HU higher than in training (median in the body 10" in review


def test_an_mr_of_another_scale_is_nothing_unusual(profile):
    found = phantom(1004)
    found.image[1] *= 5
    assert verdict(profile, found).review is None


@pytest.mark.parametrize(("axis", "name"), list(enumerate(SUBJECT.axes)))
def test_flips_are_told_along_axes_on_which_images_are_not_symmetric(profile, axis, name):
    found = phantom(1005)
    review = verdict(profile, found._replace(image=np.flip(found.image, axis + 1))).review
    assert f"looks flipped along {name}" in review


def test_flips_are_not_told_of_images_that_look_alike_both_ways():
    symmetric = []
    for case in trust_cases(24):
        found = phantom(int(case.case_id.split()[1]))
        found.image[:] = (found.image + np.flip(found.image, 3)) / 2
        # Noise that no two sides share.
        found.image[:] += np.random.default_rng(case.part).normal(0, 1, found.image.shape)
        symmetric.append(case.changed(image=image_profile(found)))
    told = [rule.of for rule in fit_trust(symmetric, SUBJECT).image.rules if rule.kind == "flip"]
    assert told == [(0,), (1,)]


@pytest.mark.parametrize("axis", range(3))
def test_wrong_spacing_is_told_and_not_the_extent_that_follows_from_it(profile, axis):
    found = phantom(1006)
    edges = list(found.spacing_mm)
    edges[axis] *= 2
    review = verdict(profile, found._replace(spacing_mm=edges)).review
    assert f"the spacing along {SUBJECT.axes[axis]} is {edges[axis]:.3g} mm, in training" in review
    assert "covers" not in review


def test_half_of_the_field_of_view_is_told(profile):
    found = phantom(1007, shape=(15, 23, 31))
    review = verdict(profile, found._replace(image=found.image[:, :, :, :15])).review
    assert "the image covers 12 mm along X (left to right), in training 24.8" in review


def test_the_same_cases_give_the_same_bytes_and_profiles_read_back(profile):
    again = fit_trust(trust_cases(24), SUBJECT)
    assert to_json(again) == to_json(profile)
    assert TrustProfile.model_validate_json(to_json(profile)) == profile
    assert len(to_json(profile)) < 150_000


@pytest.mark.parametrize("count", [1, 2, 6])
def test_few_cases_are_enough_for_what_is_far_off(count):
    few = fit_trust(trust_cases(count, num_parts=count), SUBJECT)
    found = phantom(2000)
    assert verdict(few, found).review is None
    found.image[0] += 1000
    assert "HU higher" in verdict(few, found).review


def test_without_cases_there_is_nothing_to_learn():
    with pytest.raises(InputError, match="found none, expected one at least"):
        fit_trust([], SUBJECT)


def test_cases_of_one_part_are_dealt_out():
    cases = [case.changed(part=3) for case in trust_cases(7)]
    assert usable_parts(cases).tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert usable_parts([*cases[:2], cases[2].changed(part=4)]).tolist() == [3, 3, 4]


def test_patients_stay_whole_where_cases_of_one_part_are_dealt_out():
    cases = [case.changed(part=3, group=f"patient {number // 3}") for number, case in enumerate(trust_cases(7))]
    assert usable_parts(cases).tolist() == [0, 0, 0, 1, 1, 1, 2]


def test_masks_are_learned_from_parts_that_know_every_fold_and_keep_patients_whole():
    cases = []
    for number, case in enumerate(trust_cases(2) * 20):
        patient = f"patient {number // 6} of fold {number % 3}"
        cases.append(case.changed(case_id=f"{number:02}", part=number % 3, group=patient))
    parts = dealt_parts(cases)
    folds_of = {part: {case.part for case, its in zip(cases, parts, strict=True) if its == part} for part in range(5)}
    assert [len(folds) for folds in folds_of.values()] == [3, 3, 3, 3, 3]
    for case, part in zip(cases, parts, strict=True):
        assert {its for other, its in zip(cases, parts, strict=True) if other.group == case.group} == {part}


def features_of(expected, volume=1000.0, entropy=0.2):
    return NameFeatures(
        expected_dsc=expected, agreement=None, entropy=entropy, volume_mm3=volume, largest_probability=1
    )


def nothing_found(largest=0.1):
    return NameFeatures(expected_dsc=None, agreement=None, entropy=None, volume_mm3=0, largest_probability=largest)


@pytest.fixture(scope="module")
def with_masks():
    """Return cases whose DSC follows from what is expected, all but two of them good."""
    random = np.random.default_rng(0)
    cases = []
    for number, case in enumerate(trust_cases(60)):
        expected = 0.4 if number in (7, 33) else random.uniform(0.8, 0.95)
        real = float(np.clip(expected + random.normal(0, 0.01), 0, 1))
        cases.append(case.changed(features={"tumour": features_of(expected)}, dsc={"tumour": real}))
    return cases


def test_a_poor_mask_is_sent_to_review_with_what_is_expected_of_it(with_masks):
    profile = fit_trust(with_masks, SUBJECT)
    image = image_profile(phantom(3000))
    found = judge_case(profile, image, {"tumour": features_of(0.4)})
    assert found.predicted_dsc["tumour"].value == pytest.approx(0.4, abs=0.06)
    assert found.review.startswith("DSC of tumour is expected to be 0.")
    assert judge_case(profile, image, {"tumour": features_of(0.88)}).review is None


def test_poor_cases_do_not_count_as_sound(with_masks):
    assert np.flatnonzero(~sound_cases(with_masks)).tolist() == [7, 33]
    missed = with_masks[5].changed(dsc={"tumour": 0.0})
    assert not sound_cases([missed])[0]
    unknown = with_masks[5].changed(dsc={"tumour": None})
    assert sound_cases([unknown])[0]


def test_a_name_that_nearly_all_cases_hold_is_missed(with_masks):
    profile = fit_trust(with_masks, SUBJECT)
    found = judge_case(profile, image_profile(phantom(3001)), {"tumour": nothing_found(0.31)})
    assert found.predicted_dsc == {"tumour": None}
    assert found.missed == {"tumour": 0.31}
    assert found.review.startswith("nothing found of tumour")


def test_a_name_of_which_postprocessing_leaves_nothing_is_missed_too(with_masks):
    profile, image = fit_trust(with_masks, SUBJECT), image_profile(phantom(3001))
    removed = judge_case(profile, image, {"tumour": nothing_found(0.97).changed(by_postprocessing="removed")})
    assert removed.predicted_dsc == {"tumour": None}
    assert removed.review.startswith("nothing left of tumour after postprocessing, of which there is some")
    added = judge_case(profile, image, {"tumour": nothing_found(0.2).changed(by_postprocessing="added")})
    assert (added.review, added.missed, added.predicted_dsc) == (None, {}, {"tumour": None})


def test_a_name_that_some_cases_lack_may_be_missing(with_masks):
    some = [
        case.changed(features={"tumour": nothing_found()}, dsc={"tumour": None}) if number % 4 == 0 else case
        for number, case in enumerate(with_masks)
    ]
    profile = fit_trust(some, SUBJECT)
    assert judge_case(profile, image_profile(phantom(3002)), {"tumour": nothing_found()}).review is None


def test_predictions_that_are_worth_nothing_send_nobody_to_review(with_masks):
    random = np.random.default_rng(1)
    blind = [case.changed(dsc={"tumour": float(random.uniform(0.5, 0.9))}) for case in with_masks]
    profile = fit_trust(blind, SUBJECT)
    assert profile.dsc["tumour"].threshold is None
    found = judge_case(profile, image_profile(phantom(3003)), {"tumour": features_of(0.3)})
    assert found.review is None


def test_all_rules_together_flag_at_most_one_in_twenty_sound_cases(with_masks):
    profile = fit_trust(with_masks, SUBJECT)
    assert profile.num_sound == 58
    assert profile.num_flagged <= 0.05 * 58


def test_cases_of_one_patient_count_once_where_the_threshold_is_set():
    cases = trust_cases(12)
    twins = [*cases, *(case.changed(case_id=f"{case.case_id} again") for case in cases)]
    patients = [case.changed(group=case.case_id.removesuffix(" again")) for case in twins]
    # Twenty-four strangers are enough for a quantile, twelve patients are not, and get a wider threshold.
    assert fit_trust(patients, SUBJECT).threshold > fit_trust(twins, SUBJECT).threshold


def test_a_body_that_is_cut_off_is_told(profile):
    found = image_profile(phantom(3004))
    assert max(max(ends) for ends in found.edges) < 0.5
    *others, (first, _) = found.edges
    cut = judge_case(profile, found.changed(edges=(*others, (first, 1.0))))
    assert cut.review == "what is seen is cut off at the last slice along X (left to right), unlike in training"
