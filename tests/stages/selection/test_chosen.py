"""What is done with a choice of two members of different axis orders: trust, settings, the folder."""

import json

import pytest

from tests.stages.selection.conftest import make_study, write_fold
from tests.stages.selection.test_pool import open_pool
from tumorseg.errors import PlanError
from tumorseg.ops.choosing.protocol import Choice, single
from tumorseg.schema.ensembles import KeepLargest
from tumorseg.stages.inference.ensemble_folder import save_ensemble
from tumorseg.stages.inference.ensembles import load_ensemble
from tumorseg.stages.selection.case_scores import score_choices
from tumorseg.stages.selection.chosen_cases import Measuring, case_for, channels_of, measure, members_of, save_chosen
from tumorseg.stages.selection.measure_settings import Limit
from tumorseg.stages.selection.opening import open_subjects
from tumorseg.stages.selection.trust_cases import learn, record_stem
from tumorseg.stages.selection.unseen import parts_of_cases

pytestmark = pytest.mark.slow

CHOICE = Choice(((2, 1),), steps=(KeepLargest(labels=("shell", "core")),))


@pytest.fixture(scope="module")
def pool(study, tmp_path_factory):
    found, _ = open_pool(study, tmp_path_factory.mktemp("probabilities"))
    found.fill()
    return found


@pytest.fixture(scope="module")
def combination(pool):
    return pool.question.combination_of(CHOICE).changed(temperature=1.5)


@pytest.fixture(scope="module")
def learned(pool, combination, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trust")
    return learn(pool, CHOICE, combination, parts=parts_of_cases(pool.subjects.cases), folder=folder), folder


def test_the_masks_that_trust_is_learnt_from_are_those_that_were_scored(pool, learned):
    _, folder = learned
    scored = pool.each_case(lambda _, opened: score_choices(opened, [CHOICE], pool.question)[0], title="score")
    for path in folder.glob("*.json"):
        record = json.loads(path.read_text())
        found = [1.0 if record["dsc"][name] is None else record["dsc"][name] for name in ("shell", "core")]
        assert found == pytest.approx(scored[record["case_id"]].tolist(), abs=2e-3)


def test_trust_is_learnt_from_every_case_by_parts(pool, learned):
    profile, folder = learned
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    assert profile.num_cases == len(records) == 6
    assert {record["case_id"]: record["part"] for record in records} == {
        case.case_id: part for case, part in zip(pool.subjects.cases, parts_of_cases(pool.subjects.cases), strict=True)
    }
    # Of two axis orders the first member's counts.
    assert profile.subject.axes[0].startswith("Z")
    assert all(record["features"]["core"]["agreement"] is not None for record in records)


def test_what_was_learnt_of_a_case_is_kept_and_what_is_damaged_is_learnt_again(pool, combination, learned):
    profile, folder = learned
    files = sorted(folder.glob("*.json"))
    before = [path.read_bytes() for path in files]
    files[2].write_text("{")
    again = learn(pool, CHOICE, combination, parts=parts_of_cases(pool.subjects.cases), folder=folder)
    assert again == profile
    assert [path.read_bytes() for path in files] == before


def test_settings_are_those_of_all_members(pool, combination, tmp_path):
    how = Measuring("cpu", tmp_path / "kept", tmp_path / "engines", Limit(1, 0.0, ("torch",)), in_processes=False)
    table = measure(pool.subjects, CHOICE, combination, how)
    assert table.networks == ("first/3d_fullres", "second/3d_fullres")
    assert {row.setting.num_folds for row in table.rows} == {1, 3}


def test_the_folder_predicts_with_every_fold_of_every_member(pool, combination, tmp_path):
    members = [[fold.folder.root for fold in one.folds.values()] for one in members_of(CHOICE, pool.subjects)]
    save_ensemble(tmp_path / "best", members, combination=combination)
    loaded = load_ensemble([tmp_path / "best"], "cpu")
    assert [len(member.networks) for member in loaded.members] == [3, 3]
    assert loaded.combination == combination


def test_a_folder_of_weights_that_were_trained_meanwhile_is_not_left(study, combination, tmp_path):
    other = make_study(study.toy, tmp_path, *study.plans)
    members = open_subjects(other.plans, other.roots).subjects.candidates
    write_fold(other.fold(other.plans[1], 2), other.plans[1], seed=77)
    with pytest.raises(PlanError, match=r"fold 2 of second/3d_fullres was trained meanwhile.*give the command again"):
        save_chosen(tmp_path / "best", members, combination=combination, extra={})
    assert not (tmp_path / "best").exists()
    members = open_subjects(other.plans, other.roots).subjects.candidates
    save_chosen(tmp_path / "best", members, combination=combination, extra={})
    assert load_ensemble([tmp_path / "best"], "cpu").combination == combination


def test_what_was_learnt_of_other_members_is_not_taken(pool, combination, learned):
    _, folder = learned
    known = {path.name.split(" ")[0] for path in folder.glob("*.json")}
    assert known == {record_stem(CHOICE, combination)}
    one, other = single(0, 2), single(1, 2)
    plain = pool.question.combination_of(one)
    assert plain == pool.question.combination_of(other)
    assert record_stem(one, plain) != record_stem(other, plain)


def test_a_case_brings_the_channels_of_all_members_by_name(pool):
    subjects = pool.subjects
    channels = channels_of(subjects.candidates)
    case = subjects.cases[0]
    swapped = case_for(channels[::-1], case, subjects)
    assert [one.path for one in swapped.images] == [one.path for one in case.case.images][::-1]
    assert swapped.label == case.case.label
