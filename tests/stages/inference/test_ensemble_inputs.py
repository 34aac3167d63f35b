"""What an ensemble reads of a case, on whose grid it answers, and what that takes."""

import logging

import nibabel
import numpy as np
import pytest

from tests.stages.members import AFFINE, base_model, image_of, member, write_inputs
from tumorseg.errors import InputError
from tumorseg.sources.inputs import open_inputs
from tumorseg.stages.inference.case_inputs import hash_inputs, read_inputs
from tumorseg.stages.inference.ensembles import alone, together
from tumorseg.stages.inference.maps import MapRequest
from tumorseg.stages.inference.method import PredictOptions
from tumorseg.stages.inference.outputs import Outputs
from tumorseg.stages.inference.predict_array import predict_array
from tumorseg.stages.inference.predict_cases import Filling, num_lanes, predict_cases, prepared_bytes, sums_bytes


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return base_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def inputs(tmp_path):
    return write_inputs(tmp_path / "in")


def cases_in(folder):
    return open_inputs([folder], ["T1", "T2"]).cases


def test_members_that_read_alike_share_the_voxels_and_what_is_told_is_told_once(base, inputs, caplog):
    members = [
        member(base, "a", seed=1),
        member(base, "b", seed=2, plan={"transpose": (2, 0, 1)}),
        member(base, "c", seed=3, dataset={"channels": base.plan.dataset.channels[1:]}),
    ]
    loaded = together(members)
    case = cases_in(inputs)[1]
    image = nibabel.load(case.images[1].path)
    nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.float32), image.affine), case.images[1].path)
    with caplog.at_level(logging.WARNING):
        with pytest.raises(InputError, match="found one single value in every voxel"):  # all that the third one sees
            read_inputs(loaded, case, PredictOptions())
        found = read_inputs(together(members[:2]), case, PredictOptions()).found
    assert np.shares_memory(found[0].image, found[1].image)
    assert found[1].image.shape[1:] == tuple(found[0].image.shape[1:][axis] for axis in (2, 0, 1))
    assert caplog.text.count("every voxel of T2 is 0") == 2  # once for each reading of the case


def test_all_answer_on_the_first_ones_grid(base, tmp_path):
    """The second channel lies on a coarser grid; a member that sees it alone is to answer on that of the first one."""
    first, second = image_of(1)
    (tmp_path / "in").mkdir()
    nibabel.save(nibabel.Nifti1Image(first.T, AFFINE), tmp_path / "in" / "a_0000.nii.gz")
    coarse = AFFINE @ np.diag([1, 1, 3, 1])
    nibabel.save(nibabel.Nifti1Image(second.T[..., 1::3].copy(), coarse), tmp_path / "in" / "a_0001.nii.gz")
    (case,) = cases_in(tmp_path / "in")
    both = member(base, "both", seed=1)
    swapped = member(base, "swapped", seed=2, dataset={"channels": base.plan.dataset.channels[::-1]})
    images = read_inputs(together((both, swapped)), case, PredictOptions())
    assert images.found[1].stored_shape == images.lead.stored_shape
    np.testing.assert_array_equal(images.found[1].image, images.lead.image[::-1])
    single = member(base, "single", seed=3, dataset={"channels": base.plan.dataset.channels[1:]})
    made = predict_cases(together((both, single)), [case], tmp_path / "out")
    assert "the models answer on different grids" in made.failures[0].message


def test_a_model_alone_hashes_and_reads_a_case_as_before(base, inputs):
    model = alone(member(base, "a", seed=1))
    case = cases_in(inputs)[0]
    assert read_inputs(model, case, PredictOptions()).lead.image.shape[0] == 2
    assert hash_inputs(model, case).input_hash == hash_inputs(together((model.lead, model.lead)), case).input_hash


def test_memory_counts_the_sums_of_all_members_once_and_their_images_for_each_case(base, inputs, monkeypatch):
    members = [member(base, name, median_shape=(40, 3000, 2000)) for name in ("a", "b")]
    one, two = alone(members[0]), together(members)
    assert sums_bytes(two) == 2 * sums_bytes(one)
    cases = cases_in(inputs)
    monkeypatch.setattr("tumorseg.stages.inference.predict_cases.expected_bytes", lambda _: 0)
    enough = 2 * prepared_bytes(members[1]) + sums_bytes(two)
    for available, lanes in ((enough, 2), (enough - 1, 1)):
        monkeypatch.setattr("tumorseg.stages.inference.predict_cases.available_bytes", lambda room=available: room)
        assert num_lanes(two, cases) == lanes


def test_disagreement_is_refused_of_one_voter_alone(base, inputs, tmp_path):
    maps = Filling(Outputs(maps=MapRequest(disagreement=True)))
    one, options = member(base, "a", seed=1), PredictOptions(mirroring=False)
    with pytest.raises(InputError, match="found one fold and one view"):
        predict_cases(alone(one), cases_in(inputs), tmp_path / "out", options=options, filling=maps)
    both = together((one, member(base, "b", seed=2)))
    assert not predict_cases(both, cases_in(inputs), tmp_path / "out", options=options, filling=maps).failures


def test_an_array_is_shared_by_members_too_and_told_of_once(base, caplog):
    loaded = together((member(base, "a", seed=1), member(base, "b", seed=2, plan={"transpose": (2, 0, 1)})))
    image = image_of()
    image[1] = 0
    with caplog.at_level(logging.WARNING):
        predict_array(loaded, image, AFFINE)
    assert caplog.text.count("every voxel of T2 is 0") == 1
