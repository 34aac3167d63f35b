"""How far cases are to be trusted, as a prediction tells it: in the report, the result and the closing lines."""

import json

import nibabel
import numpy as np
import pytest

from tests.stages.models import write_image
from tumorseg.cli.prediction_options import predicted_json, predicted_text
from tumorseg.schema.ensembles import RemoveSmall
from tumorseg.sources.inputs import Inputs, open_inputs
from tumorseg.stages.inference.case_inputs import read_inputs
from tumorseg.stages.inference.ensembles import alone
from tumorseg.stages.inference.method import AS_PLANNED
from tumorseg.stages.inference.outputs import AS_USUAL
from tumorseg.stages.inference.predict_cases import predict_cases
from tumorseg.stages.inference.predict_file import predict_into_file
from tumorseg.stages.inference.segment_case import RunOptions
from tumorseg.stages.inference.segment_ensemble import segment_ensemble
from tumorseg.stages.inference.trusting import TrustObserver, learn_trust, profile_of, subject_of, trust_case

NUM_CASES = 12


def cases_in(folder):
    return open_inputs([folder], ["T1", "T2"]).cases


@pytest.fixture(scope="module")
def judging(model, tmp_path_factory):
    """Return the model with a profile that was learnt from some cases."""
    folder = tmp_path_factory.mktemp("training") / "in"
    for seed in range(NUM_CASES):
        write_image(folder, f"case{seed:02}", seed)
    ensemble, subject, learnt = alone(model), subject_of(model.plan), []
    for number, case in enumerate(cases_in(folder)):
        images = read_inputs(ensemble, case, AS_PLANNED)
        observer = TrustObserver(ensemble.targets, images.lead)
        segment_ensemble(ensemble, images, options=RunOptions(with_votes=True), observers=(observer,))
        profile = profile_of(images.lead, subject)
        learnt.append(trust_case(case.case_id, number % 3, profile, observer.features()))
    dsc = {case.case_id: dict.fromkeys(case.features, 0.9) for case in learnt}
    return ensemble._replace(trust=learn_trust(learnt, subject, dsc))


@pytest.fixture
def inputs(tmp_path):
    """Return a folder of a usual case and one whose voxels are four times as large."""
    write_image(tmp_path / "in", "usual", seed=3)
    write_image(tmp_path / "in", "wide", seed=4)
    for path in (tmp_path / "in").glob("wide_*"):
        image = nibabel.load(path)
        data = np.asanyarray(image.dataobj)
        nibabel.save(nibabel.Nifti1Image(data, image.affine @ np.diag([4.0, 4.0, 4.0, 1.0])), path)
    return tmp_path / "in"


def test_the_report_and_the_closing_lines_tell_which_cases_to_look_at(judging, inputs, tmp_path):
    made = predict_cases(judging, cases_in(inputs), tmp_path / "out")
    told = {case_id: entry["trust"] for case_id, entry in report_in(tmp_path / "out").items()}
    assert told["usual"]["review"] is None
    assert "spacing" in told["wide"]["review"]
    assert told["usual"]["predicted_dsc"].keys() == set(judging.targets.scored_names)
    assert {case_id: trust.model_dump(mode="json") for case_id, trust in made.trusts.items()} == told
    *lines, counts, closing = predicted_text(made).splitlines()
    assert lines == [f"wide: {told['wide']['review']}"]
    assert counts.startswith("2 cases segmented, 0 left alone")
    assert closing == "review: 1 of 2 cases needs a look; report.json says why"
    assert predicted_json(made)["review"] == {"wide": told["wide"]["review"]}


def test_cases_that_are_left_alone_are_told_again(judging, inputs, tmp_path):
    predict_cases(judging, cases_in(inputs), tmp_path / "out")
    again = predict_cases(judging, cases_in(inputs), tmp_path / "out")
    assert again.left_alone == ("usual", "wide")
    assert again.trusts["wide"].review is not None


def test_masks_are_those_of_the_model_without_a_profile_which_judges_nothing(judging, inputs, tmp_path):
    judged = predict_cases(judging, cases_in(inputs), tmp_path / "judged").files
    plain = predict_cases(judging._replace(trust=None), cases_in(inputs), tmp_path / "plain")
    assert all(plain.files[name].read_bytes() == path.read_bytes() for name, path in judged.items())
    assert plain.trusts == {}
    assert {entry["trust"] for entry in report_in(tmp_path / "plain").values()} == {None}
    assert "review" not in predicted_text(plain)


def test_no_dsc_is_expected_of_what_postprocessing_takes_away(judging, inputs, tmp_path):
    names = tuple(judging.targets.values_by_name)
    cleaned = judging.combination.changed(postprocessing=(RemoveSmall(labels=names, least_mm3=1e9),))
    (usual,) = (case for case in cases_in(inputs) if case.case_id == "usual")
    # Whether the mask is confined to other labels is no matter.
    only = AS_PLANNED._replace(only_labels=("kidney_right",))
    predict_cases(judging, [usual], tmp_path / "as found", options=only)
    predict_cases(judging._replace(combination=cleaned), [usual], tmp_path / "cleaned", options=only)
    found = report_in(tmp_path / "as found")["usual"]["trust"]
    left = report_in(tmp_path / "cleaned")["usual"]["trust"]
    assert found["predicted_dsc"]["kidney_left"] is not None
    assert set(left["predicted_dsc"].values()) == set(left["agreement"].values()) == {None}
    assert "nothing left of" in left["review"]
    assert left["missed"].keys() == found["predicted_dsc"].keys()
    (trust,) = predict_into_file(
        judging._replace(combination=cleaned),
        Inputs((usual,), ()),
        tmp_path / "mine.nii.gz",
        options=AS_PLANNED,
        outputs=AS_USUAL,
    ).trusts.values()
    assert trust.model_dump(mode="json") == left


def test_one_file_is_judged_too(judging, inputs, tmp_path):
    (wide,) = (case for case in cases_in(inputs) if case.case_id == "wide")
    made = predict_into_file(
        judging, Inputs((wide,), ()), tmp_path / "mine.nii.gz", options=AS_PLANNED, outputs=AS_USUAL
    )
    assert "spacing" in made.trusts["wide"].review


def report_in(folder):
    return json.loads((folder / "report.json").read_text())["cases"]


def test_one_network_and_one_view_agree_with_nobody(judging, inputs, tmp_path):
    predict_cases(judging, cases_in(inputs), tmp_path / "several")
    predict_cases(judging, cases_in(inputs), tmp_path / "one", options=AS_PLANNED._replace(mirroring=False))
    told = {}
    for name in ("several", "one"):
        told[name] = set(report_in(tmp_path / name)["usual"]["trust"]["agreement"].values())
    assert told["several"] != {None}
    assert told["one"] == {None}
