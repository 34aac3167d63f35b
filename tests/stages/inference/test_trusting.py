import json

import numpy as np
import pytest

from tests.stages.models import SHAPE, write_image
from tumorseg.errors import InputError
from tumorseg.ops.preprocessing import axis_order
from tumorseg.schema.base import to_json
from tumorseg.schema.cases import reading_of
from tumorseg.schema.targets import targets_of
from tumorseg.schema.trust import CaseTrust, TrustProfile
from tumorseg.sources.inputs import open_inputs
from tumorseg.stages.inference.segment_case import RunOptions, segment_case
from tumorseg.stages.inference.trusting import (
    TRUST_FILE,
    TrustObserver,
    judge,
    learn_trust,
    profile_of,
    read_trust,
    review_lines,
    review_summary,
    subject_of,
    trust_case,
)
from tumorseg.stages.opening.reading import read_case_image
from tumorseg.storage.json_files import write_record

NUM_CASES = 12


@pytest.fixture(scope="module")
def predicted(model, tmp_path_factory):
    """Return each case with what observed it."""
    folder = tmp_path_factory.mktemp("trust") / "in"
    for seed in range(NUM_CASES):
        write_image(folder, f"case{seed:02}", seed)
    found = {}
    plan = model.plan
    for case in open_inputs([folder], [channel.name for channel in plan.dataset.channels]).cases:
        image = read_case_image(case, reading_of(plan.dataset), axis_order(plan))
        observer = TrustObserver(targets_of(plan.dataset), image)
        segment_case(model, image, options=RunOptions(with_votes=True), observers=[observer])
        found[case.case_id] = image, observer
    return found


@pytest.fixture(scope="module")
def profile(model, predicted):
    subject = subject_of(model.plan)
    cases = [
        trust_case(case_id, number % 3, profile_of(image, subject), observer.features())
        for number, (case_id, (image, observer)) in enumerate(predicted.items())
    ]
    dsc = {case.case_id: dict.fromkeys(case.features, 0.9) for case in cases}
    # In whatever order they come.
    return learn_trust(cases[::-1], subject, dsc)


def test_cases_like_those_that_taught_are_trusted(profile, predicted):
    for image, observer in predicted.values():
        found = judge(profile, image, observer)
        assert found.review is None
        assert found.distance <= 1


def test_the_observer_tells_volume_and_agreement_of_the_mask(model, predicted):
    image, observer = next(iter(predicted.values()))
    values = segment_case(model, image)
    for name, features in observer.features().items():
        value = targets_of(model.plan.dataset).values_by_name[name]
        assert features.volume_mm3 == pytest.approx((values == value).sum() * np.prod(image.spacing_mm))


def test_an_image_with_another_spacing_is_sent_to_review(profile, predicted):
    image, observer = next(iter(predicted.values()))
    wide = image._replace(spacing_mm=tuple(3 * edge for edge in image.spacing_mm))
    found = judge(profile, wide, observer)
    assert "the spacing along" in found.review
    assert found.distance > 1


def test_without_an_observer_the_image_alone_is_judged(profile, predicted):
    image, _ = next(iter(predicted.values()))
    found = judge(profile, image, None)
    assert (found.review, found.predicted_dsc, found.agreement) == (None, {}, {})


def test_an_image_of_other_channels_is_refused(profile, predicted):
    image, _ = next(iter(predicted.values()))
    with pytest.raises(InputError, match="has 1 channels, the trust profile is of 2"):
        judge(profile, image._replace(image=image.image[:1]), None)


def test_the_profile_of_a_folder_is_read_and_a_damaged_one_refused(profile, tmp_path):
    assert read_trust(tmp_path) is None
    write_record(tmp_path / TRUST_FILE, profile)
    assert read_trust(tmp_path) == profile
    (tmp_path / TRUST_FILE).write_text("{")
    with pytest.raises(InputError, match=r"trust\.json.*make the ensemble again with select"):
        read_trust(tmp_path)


def test_a_profile_of_other_features_is_refused_when_it_is_read(profile, tmp_path):
    document = json.loads(to_json(profile))
    name, rule = next(iter(document["dsc"].items()))
    rule["linear"]["coefficients"].pop()
    (tmp_path / TRUST_FILE).write_text(json.dumps(document))
    with pytest.raises(InputError, match=rf"dsc\.{name}\.linear\.coefficients.*make the ensemble again with select"):
        read_trust(tmp_path)


def test_axes_are_named_in_the_plans_order(model):
    plan = model.plan.changed(orientation="RAS", transpose=(2, 0, 1))
    assert subject_of(plan).axes == ("X (left to right)", "Z (foot to head)", "Y (back to front)")
    # Nobody knows what the axes of such a plan are in the patient.
    assert subject_of(plan.changed(orientation="as_stored")).axes == ("X", "Z", "Y")


def test_a_run_tells_the_cases_under_review():
    fine = CaseTrust(review=None, distance=0.4, predicted_dsc={}, agreement={}, missed={})
    odd = fine.changed(review="channel 0001 (t1) shows nothing", distance=12.0)
    assert review_lines({"b": odd, "a": fine}) == ["b: channel 0001 (t1) shows nothing"]
    assert review_summary(0, 3) == "review: none of 3 cases"
    assert review_summary(1, 3) == "review: 1 of 3 cases needs a look; report.json says why"


def test_profiles_are_small(profile):
    assert isinstance(profile, TrustProfile)
    assert len(profile.model_dump_json()) < 100_000
    assert SHAPE == (9, 11, 7)
