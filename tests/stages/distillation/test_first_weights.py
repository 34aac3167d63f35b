import shutil

import pytest

from tests.stages.distillation.test_opening import changed, listing, written
from tests.stages.selection.conftest import CONFIGURATION, small_plan
from tumorseg.errors import PlanError
from tumorseg.schema.initial_weights import InitialWeights
from tumorseg.stages.distillation.distill import DistillRequest, distill
from tumorseg.stages.distillation.first_weights import check_first_weights
from tumorseg.stages.distillation.opening import Student
from tumorseg.stages.opening.loaded import open_planned_dataset
from tumorseg.stages.training.request import TrainRequest
from tumorseg.storage.hashing import hash_files
from tumorseg.storage.json_files import write_record

UNTOLD = "it cannot be told whether these weights have seen what fold 1 holds out"


@pytest.fixture(scope="module")
def plan(toy):
    return small_plan(toy.plan, "student")


@pytest.fixture(scope="module")
def cases(toy, plan):
    return open_planned_dataset(plan, toy.roots).cases


def check(plan, cases, path, fold="1"):
    check_first_weights(path, Student(plan, CONFIGURATION, fold), cases, own=path / "own")


def begun_with(root, plan, path, name, **run):
    digest = hash_files([str(path)])[str(path)].digest
    folder = written(root, changed(plan, name=name), run={"init": digest, **run})
    notes = {"source": str(path), "source_hash": digest, "layout": "tumorseg", "tensors": (), "unused": ()}
    write_record(folder.init, InitialWeights(**notes))
    return folder


def test_weights_that_have_seen_what_judges_the_student_are_refused(plan, cases, tmp_path, caplog):
    same, other = (written(tmp_path, changed(plan, name="given"), fold) for fold in (1, 0))
    everything = written(tmp_path, changed(plan, name="everything"), "all")
    check(plan, cases, same.root.parent)
    check(plan, cases, same.latest)
    check(plan, cases, other.root, fold="all")
    for path in (other.root, other.latest, everything.root.parent):
        with pytest.raises(PlanError, match=r"were not kept from case_2, case_5, which fold 1 holds out"):
            check(plan, cases, path)
    grouped = [case.changed(group="A" if case.case_id in ("case_2", "case_3") else None) for case in cases]
    with pytest.raises(PlanError, match=r"were not kept from case_3, which fold 1 holds out, they or others of their"):
        check(plan, grouped, same.root)
    assert caplog.text == ""


def test_they_are_followed_to_those_that_they_were_begun_with_themselves(plan, cases, tmp_path, caplog):
    same, other = (written(tmp_path, changed(plan, name="given"), fold) for fold in (1, 0))
    check(plan, cases, begun_with(tmp_path, plan, same.latest, "sound").root)
    assert caplog.text == ""
    leaking = begun_with(tmp_path, plan, other.latest, "leaking")
    with pytest.raises(PlanError, match=f"the weights of {other.root} were not kept from case_2, case_5"):
        check(plan, cases, leaking.root)
    other.latest.unlink()
    check(plan, cases, leaking.root)
    assert UNTOLD in caplog.text


def test_weights_of_which_it_cannot_be_told_are_taken_with_a_warning(plan, cases, tmp_path, caplog):
    source = written(tmp_path, changed(plan, name="given"), 1)
    shutil.copy(source.latest, tmp_path / "published.ckpt")
    check(plan, cases, tmp_path / "published.ckpt")
    assert UNTOLD in caplog.text
    caplog.clear()
    dataset = plan.dataset.changed(content_hash="0" * 32)
    check(plan, cases, written(tmp_path, changed(plan, name="changed", dataset=dataset)).root)
    assert UNTOLD in caplog.text
    caplog.clear()
    # In another dataset the same names are other cases.
    elsewhere = changed(plan, name="elsewhere", dataset=plan.dataset.changed(name="Else"))
    check(plan, cases, written(tmp_path, elsewhere, 0).root)
    assert caplog.text == ""


def test_what_taught_the_given_weights_must_have_been_kept_from_the_same_cases(plan, cases, tmp_path):
    dataset = plan.dataset.changed(excluded=("case_5",))
    without = changed(plan, name="without", dataset=dataset, folds=(("case_0",), ("case_2",)))
    check(plan, cases, written(tmp_path, without).root)
    note = {"plan_name": "x", "plan_hash": "", "configuration": CONFIGURATION, "fold": "1", "weights": ""}
    note |= {"way": "patches", "num_held_out": 1, "held_out": ""}
    taught = written(tmp_path, changed(without, name="taught"), run={"teachers": (note,)})
    with pytest.raises(PlanError, match="were not kept from case_5"):
        check(plan, cases, taught.root)


def test_distill_looks_at_given_weights_before_anything_is_written(toy, plan, tmp_path):
    path = tmp_path / "student.json"
    write_record(path, plan)
    teacher, leaking = (written(tmp_path, changed(plan, name="teacher"), fold).root for fold in (1, 0))
    asked = TrainRequest(roots=toy.roots, plan=plan, fold="1", device="cpu", init=leaking)
    with pytest.raises(PlanError, match=f"--init {leaking}: the weights"):
        distill(DistillRequest(training=asked, teachers=(teacher,), plan_path=path))
    assert not (tmp_path / "student__distilled.json").exists()


@pytest.mark.parametrize("fold", ["1", "all"])
def test_weights_that_have_seen_what_is_kept_back_are_refused(plan, cases, tmp_path, fold, caplog):
    given = written(tmp_path, changed(plan, name="given"), fold)
    student = listing(plan, "case_4", kept_back=("case_4",))
    with pytest.raises(PlanError, match=r"were not kept from case_4, .* or the plan keeps back"):
        check(student, cases, given.root, fold=fold)
    assert caplog.text == ""
    # Of what planning did not know of it cannot be told.
    check(listing(plan, "case_4"), cases, given.root, fold=fold)
    assert "it cannot be told whether these weights have seen" in caplog.text
    caplog.clear()
    check(student, cases, written(tmp_path, changed(student, name="same"), fold).root, fold=fold)
    assert caplog.text == ""


def test_weights_of_a_cascade_are_taken_with_a_warning(plan, cases, tmp_path, caplog):
    check(plan, cases, written(tmp_path, changed(plan, name="cascade"), run={"previous": "0" * 32}).root)
    assert UNTOLD in caplog.text
