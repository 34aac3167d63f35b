"""Through real networks, on images of many orientations and spacings."""

import shutil

import nibabel
import numpy as np
import pytest
import torch

from tests.stages.selection.conftest import REGIONS, make_study, small_plan, write_fold
from tests.toys import LABELS
from tumorseg.errors import TumorsegError
from tumorseg.ops.choosing.protocol import Choice, single
from tumorseg.ops.labels import to_indices, to_values
from tumorseg.ops.quantised import STEPS
from tumorseg.stages.inference.ensembles import alone, together
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.predict_cases import predict_cases
from tumorseg.stages.inference.runtime import RuntimeOptions
from tumorseg.stages.selection.combining_cases import paint, slabs_of
from tumorseg.stages.selection.opening import identity_of, open_subjects
from tumorseg.stages.selection.pool import Pool, Shelf
from tumorseg.storage.probability_cache import RECORD, VOLUMES, ProbabilityCache, StoredVolumes
from tumorseg.storage.sealed import read_sealed, write_sealed

pytestmark = pytest.mark.slow

PLENTY = 1 << 30


def open_pool(study, folder, most_bytes=PLENTY, plans=None):
    subjects = open_subjects(plans or study.plans, study.roots).subjects
    wanted = [*subjects.keys.probabilities.values(), *subjects.keys.references.values()]
    cache = ProbabilityCache(folder, most_bytes, wanted)
    return Pool(subjects, cache, Shelf(subjects.candidates, "cpu", RuntimeOptions())), cache


def kept_bytes(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.fixture(scope="module")
def filled(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("probabilities")
    pool, _ = open_pool(study, folder)
    pool.fill()
    return folder


def masks(pool, choice):
    return pool.each_case(lambda _, opened: paint(opened, [choice], pool.question)[0], title="paint")


def margins_of(pool, choice):
    """Return by how much the likeliest class is ahead of the next, at each voxel (Z, Y, X)."""

    def work(_, opened):
        found = torch.cat([slab.logits(choice) for slab in slabs_of(opened, opened.whole, pool.question)], dim=1)
        first, second = found.softmax(dim=0).topk(2, dim=0).values
        return (first - second).numpy()

    return pool.each_case(work, title="look")


def test_references_lie_on_the_voxels_that_predictions_lie_on(study, filled):
    pool, _ = open_pool(study, filled)
    found = pool.each_case(lambda _, opened: opened.reference_in(opened.whole), title="read", candidates=())
    for case_id, indices in found.items():
        stored = np.asanyarray(nibabel.load(study.toy.data / case_id / "seg.nii.gz").dataobj).T
        assert np.array_equal(to_values(indices, pool.question.wanted), stored)
    assert set(np.unique(np.concatenate([found[one].ravel() for one in found]))) == {0, 1, 2}


def test_what_is_scored_of_a_single_candidate_is_what_its_fold_predicts(study, filled, tmp_path):
    pool, _ = open_pool(study, filled)
    for number, plan in enumerate(study.plans):
        found = masks(pool, single(number, 2))
        for case in pool.subjects.cases:
            model = load_model([study.fold(plan, case.folds[number]).root], "cpu")
            output = tmp_path / f"{plan.name} {case.case_id}"
            made = predict_cases(alone(model), [case.case], output).files[case.case_id]
            predicted = np.asanyarray(nibabel.load(made).dataobj).T
            assert predicted.any()
            assert np.array_equal(found[case.case_id], predicted)


def test_what_is_scored_of_an_ensemble_is_what_it_predicts(study, filled, tmp_path):
    """Members of two axis orders, on a held-out case, each by the fold that did not see it."""
    pool, _ = open_pool(study, filled)
    choice = Choice(((2, 1), (1, 1)))
    found, margins = masks(pool, choice), margins_of(pool, choice)
    for case in pool.subjects.cases[:2]:
        models = [
            load_model([study.fold(plan, fold).root], "cpu") for plan, fold in zip(study.plans, case.folds, strict=True)
        ]
        ensemble = together(models, pool.question.combination_of(choice))
        made = predict_cases(ensemble, [case.case], tmp_path / case.case_id).files[case.case_id]
        other = np.asanyarray(nibabel.load(made).dataobj).T
        differs = found[case.case_id] != other
        # Who rounds where is another matter in either way: within a few steps nobody can say which is right.
        assert differs.mean() < 1e-3
        assert (margins[case.case_id][differs] < 4 / STEPS).all()


def test_a_second_run_finds_everything_and_loads_no_network(study, filled):
    before = kept_bytes(filled)
    pool, _ = open_pool(study, filled)
    pool.shelf.model = None  # whoever asks for a network fails
    pool.fill()
    assert kept_bytes(filled) == before


def test_without_room_everything_is_computed_in_each_pass_and_is_the_same(study, filled, tmp_path, caplog):
    expected = masks(open_pool(study, filled)[0], single(0, 2))
    pool, cache = open_pool(study, tmp_path, most_bytes=0, plans=study.plans[:1])
    pool.fill()
    assert "of 6 predictions 0 are kept" in caplog.text
    found = masks(pool, single(0, 1))
    assert all(np.array_equal(found[case_id], mask) for case_id, mask in expected.items())
    assert list(tmp_path.iterdir()) == []
    assert cache.num_bytes == 0


def test_weights_that_were_trained_meanwhile_are_refused(study, tmp_path):
    plan = study.plans[0]
    other = make_study(study.toy, tmp_path, plan)
    pool, _ = open_pool(other, tmp_path / "kept")
    write_fold(other.fold(plan, 1), plan, seed=77)
    with pytest.raises(
        TumorsegError, match=r"fold 1 of first/3d_fullres was trained meanwhile.*give the command again"
    ):
        pool.fill()
    # The other folds' cases are kept.
    assert len(list((tmp_path / "kept").iterdir())) == 6 + 4


def test_candidates_that_answer_elsewhere_are_refused_though_they_have_as_many_voxels(study, filled, tmp_path):
    shutil.copytree(filled, tmp_path / "kept")
    pool, _ = open_pool(study, tmp_path / "kept")
    path = tmp_path / "kept" / pool.subjects.keys.probabilities[1, "case_3"] / RECORD
    about = read_sealed(StoredVolumes, path, key=VOLUMES).record
    affine = np.array(about.affine)
    affine[0, 3] += 0.5
    write_sealed(path, about.changed(affine=affine.tolist()), key=VOLUMES)
    with pytest.raises(TumorsegError, match=r"second/3d_fullres answers elsewhere than .* first/3d_fullres"):
        masks(pool, Choice(((1, 1),)))


def test_candidates_that_predict_labels_where_regions_are_scored_are_known(toy, tmp_path):
    labels, regions = small_plan(toy.plan, "labels"), small_plan(toy.plan, "regions", dataset=REGIONS)
    study = make_study(toy, tmp_path, labels, regions)
    assert open_subjects(study.plans, study.roots).subjects.question.label_candidates == (0,)
    assert open_subjects(study.plans[:1], study.roots).subjects.question.label_candidates == ()


def test_other_weights_are_other_names(study, filled, tmp_path):
    subjects = open_pool(study, filled)[0].subjects
    other = make_study(study.toy, tmp_path, *reversed(study.plans))
    again = open_subjects(study.plans, other.roots).subjects
    assert subjects.keys.references == again.keys.references
    assert not set(subjects.keys.probabilities.values()) & set(again.keys.probabilities.values())
    assert identity_of(subjects) != identity_of(again)


def test_labels_are_joined_to_the_regions_of_another_candidate(toy, tmp_path):
    labels, regions = small_plan(toy.plan, "labels"), small_plan(toy.plan, "regions", dataset=REGIONS)
    study = make_study(toy, tmp_path, labels, regions)
    pool, _ = open_pool(study, tmp_path / "kept")
    assert pool.question.wanted.scored_names == ("whole", "middle")
    found = masks(pool, Choice(((1, 1),)))
    seen = np.unique(np.concatenate([mask.ravel() for mask in found.values()]))
    assert set(seen) <= {0, *LABELS.values()}
    assert all(to_indices(mask, pool.question.wanted).max() <= 2 for mask in found.values())
