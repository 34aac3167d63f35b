import json

import pytest
import torch

from tests.stages.inference.test_nnunet_model import write_model
from tests.stages.selection.conftest import CONFIGURATION, FOLDS, REGIONS, small_plan, write_fold
from tumorseg.errors import PlanError
from tumorseg.schema.ensembles import Combination
from tumorseg.schema.initial_weights import InitialWeights
from tumorseg.schema.plan import Plan
from tumorseg.stages.distillation.lessons import way_of
from tumorseg.stages.distillation.opening import Student, find_teachers
from tumorseg.stages.inference.ensemble_folder import save_ensemble
from tumorseg.stages.opening.fold_folders import read_run, write_run
from tumorseg.stages.opening.loaded import open_planned_dataset
from tumorseg.storage.hashing import hash_files
from tumorseg.storage.json_files import write_record
from tumorseg.storage.layout import FoldFolder, fold_folder

FOLD = 1
"""Of the student; it holds out case_2 and case_5."""


@pytest.fixture(scope="module")
def plan(toy):
    return small_plan(toy.plan, "student")


@pytest.fixture(scope="module")
def cases(toy, plan):
    return open_planned_dataset(plan, toy.roots).cases


def written(root, plan, fold=FOLD, *, run=None, **changes) -> FoldFolder:
    """Write a trained fold of a plan."""
    folder = fold_folder(root / plan.name, fold)
    write_fold(folder, plan, seed=7 if fold == "all" else fold, **changes)
    if run is not None:
        write_run(folder, plan, read_run(folder).changed(**run))
    return folder


def changed(plan, **fields) -> Plan:
    return Plan.model_validate(plan.model_copy(update=fields).model_dump())


def found(plan, cases, *paths, fold=str(FOLD)):
    return find_teachers(paths, Student(plan, CONFIGURATION, fold), cases)


def refusal(plan, cases, *paths, fold=str(FOLD)):
    with pytest.raises(PlanError) as error:
        found(plan, cases, *paths, fold=fold)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_of_a_model_folder_the_same_fold_teaches(plan, cases, tmp_path):
    other = changed(plan, name="other")
    folders = [written(tmp_path, other, number) for number in (0, 1)]
    (teacher,) = found(plan, cases, folders[0].root.parent)
    assert teacher.folder == folders[1].root
    assert teacher.held_out == set(FOLDS[FOLD])
    # Named twice it counts once.
    assert found(plan, cases, folders[1].root, folders[0].root.parent) == [teacher]


def test_another_fold_is_refused_with_the_cases_that_it_has_seen(plan, cases, tmp_path):
    folder = written(tmp_path, plan, 0)
    text = refusal(plan, cases, folder.root)
    assert (
        f"student/{CONFIGURATION}, fold 0 ({folder.root}) was trained on case_2, case_5, which fold 1 holds out" in text
    )
    assert "has no fold 1, the only one that may teach fold 1" in refusal(plan, cases, folder.root.parent)


def test_other_folds_of_other_plans_teach_if_they_held_the_same_cases_out(plan, cases, tmp_path):
    dealt = (("case_0", "case_1", "case_3", "case_4"), ("case_2",), ("case_5",))
    assert "was trained on case_5," in refusal(
        plan, cases, written(tmp_path, changed(plan, name="a", folds=dealt)).root
    )
    wider = changed(plan, name="b", folds=(("case_0",), ("case_1",), ("case_2", "case_4", "case_5")))
    assert len(found(plan, cases, written(tmp_path, wider, 2).root)) == 1


def test_cases_that_are_kept_from_training_are_no_ones_to_see(plan, cases, tmp_path):
    teacher = written(tmp_path, changed(plan, name="other"))
    strict = changed(plan, kept_from_training=((), ("case_0",), ()))
    assert "was trained on case_0" in refusal(strict, cases, teacher.root)


def test_what_a_teachers_plan_leaves_out_it_has_not_seen(plan, cases, tmp_path):
    dataset = plan.dataset.changed(excluded=("case_5",))
    without = changed(plan, name="without", dataset=dataset, folds=(("case_0",), ("case_2",)))
    assert len(found(plan, cases, written(tmp_path, without).root)) == 1


def test_a_fold_of_all_cases_has_seen_all_and_may_learn_from_any(plan, cases, tmp_path):
    everything = written(tmp_path, plan, "all")
    assert "was trained on case_2, case_5" in refusal(plan, cases, everything.root)
    assert len(found(plan, cases, everything.root, fold="all")) == 1
    folds = [written(tmp_path, changed(plan, name="other"), number).root for number in (0, 2)]
    assert [teacher.folder for teacher in found(plan, cases, folds[0].parent, fold="all")] == folds


def test_another_case_of_the_same_patient_is_as_good_as_the_case(plan, cases, tmp_path):
    teacher = written(tmp_path, changed(plan, name="other"))
    grouped = [case.changed(group="A" if case.case_id in ("case_2", "case_3") else None) for case in cases]
    text = refusal(plan, grouped, teacher.root)
    assert "was trained on case_3, of patients of whom fold 1 holds out other cases" in text
    # Of a case that only the teacher's plan uses nobody here knows the patient.
    grouped = [case.changed(group="A" if case.case_id == "case_2" else None) for case in cases]
    assert len(found(plan, grouped, teacher.root)) == 1
    fewer = changed(plan, dataset=plan.dataset.changed(excluded=("case_3",)), folds=(*FOLDS[:2], ("case_4",)))
    assert "cannot be told whether they are of patients" in refusal(fewer, grouped, teacher.root)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "Else"}, "was trained on Else"),
        ({"content_hash": "0" * 32}, "so that it cannot be told what it has seen"),
        # What made an image is planning's guess; the files are the same ones.
        (
            {"content_hash": "0" * 32, "channels": ({"name": "T1", "kind": "other"}, {"name": "T2", "kind": "ct"})},
            "so that",
        ),
        ({"content_hash": None}, "so that it cannot be told what it has seen"),
        ({"labels": {"background": 0, "shell": 2, "kernel": 7}}, "labels shell=2, kernel=7, which do not tell"),
        (REGIONS, "in regions whole, middle, which do not tell the student's labels shell=2, core=7"),
    ],
)
def test_models_that_answer_another_question_do_not_teach(toy, plan, cases, tmp_path, changes, reason):
    other = small_plan(toy.plan, "other", dataset=changes)
    assert reason in refusal(plan, cases, written(tmp_path, other).root)


def test_what_has_no_hash_is_not_the_same_as_what_has_none(plan, cases, tmp_path):
    unknown = changed(plan, dataset=plan.dataset.changed(content_hash=None))
    teacher = written(tmp_path, changed(unknown, name="other"))
    assert "cannot be told what it has seen" in refusal(unknown, cases, teacher.root)


def test_models_that_are_not_finished_or_cascades_do_not_teach(plan, cases, tmp_path):
    unfinished = written(tmp_path, changed(plan, name="unfinished"), is_finished=False)
    assert "is not trained to its end" in refusal(plan, cases, unfinished.root)
    assert "no fold is trained to its end" in refusal(plan, cases, unfinished.root.parent, fold="all")
    full = plan.configurations[CONFIGURATION]
    configurations = {"3d_lowres": full, CONFIGURATION: full.changed(previous_configuration="3d_lowres")}
    cascade = changed(plan, name="cascade", configurations=configurations)
    assert "is a cascade" in refusal(plan, cases, written(tmp_path, cascade).root)


def test_a_student_teaches_only_whose_own_teachers_held_the_same_cases_out(plan, cases, tmp_path):
    other = changed(plan, name="other")
    (first,) = found(plan, cases, written(tmp_path, other).root)
    note = {
        "plan_name": "x",
        "plan_hash": first.plan_hash,
        "configuration": CONFIGURATION,
        "fold": "1",
        "weights": first.weights,
        "way": "patches",
        "num_held_out": 2,
        "held_out": "",
    }
    distilled = written(tmp_path, changed(plan, name="distilled"), run={"teachers": (note,)})
    assert len(found(plan, cases, distilled.root)) == 1
    dataset = plan.dataset.changed(excluded=("case_5",))
    without = changed(plan, name="without", dataset=dataset, folds=(("case_0",), ("case_2",)))
    blind = written(tmp_path, without, run={"teachers": (note,)})
    assert "does not tell that it never saw case_5" in refusal(plan, cases, blind.root)


def test_given_weights_are_followed_to_the_fold_that_gave_them(plan, cases, tmp_path):
    sources = [written(tmp_path, changed(plan, name=name), fold).latest for name, fold in (("a", 1), ("b", 0))]
    digests = {path: hash_files([str(path)])[str(path)].digest for path in sources}

    def begun_with(path, digest, **fields):
        name = f"from_{path.parent.parent.name}_{digest[:3]}{len(fields)}"
        folder = written(tmp_path, changed(plan, name=name, **fields), run={"init": digest})
        notes = {"source": str(path), "source_hash": digest, "layout": "tumorseg", "tensors": (), "unused": ()}
        write_record(folder.init, InitialWeights(**notes))
        return folder

    assert len(found(plan, cases, begun_with(sources[0], digests[sources[0]]).root)) == 1
    leaking = begun_with(sources[1], digests[sources[1]])
    assert "which was not kept from case_2, case_5" in refusal(plan, cases, leaking.root)
    # It held out case_3 itself, and was given what has seen it.
    grouped = [case.changed(group="A" if case.case_id in ("case_2", "case_3") else None) for case in cases]
    wide = begun_with(sources[0], digests[sources[0]], folds=(("case_0",), ("case_2", "case_3", "case_5"), ("case_4",)))
    assert "which was not kept from case_3" in refusal(plan, grouped, wide.root)
    unknown = begun_with(sources[0], "0" * 32)
    assert "it cannot be told whether these have seen" in refusal(plan, cases, unknown.root)
    unknown.init.unlink()
    assert "it cannot be told whether these have seen" in refusal(plan, cases, unknown.root)

    cascade = written(tmp_path, changed(plan, name="c"), run={"previous": "0" * 32}).latest
    begun = begun_with(cascade, hash_files([str(cascade)])[str(cascade)].digest)
    assert "it cannot be told whether these have seen" in refusal(plan, cases, begun.root)


def listing(plan, *left, **dataset):
    """Return a plan that a split file was given to, in no list of which some cases are."""
    folds = tuple(tuple(case_id for case_id in fold if case_id not in left) for fold in plan.folds)
    listed = tuple(sorted(case_id for fold in folds for case_id in fold))
    return changed(plan, folds=folds, dataset=plan.dataset.changed(listed=listed, **dataset))


@pytest.mark.parametrize("fold", ["1", "all"])
def test_what_the_students_plan_keeps_back_no_teacher_has_seen(plan, cases, tmp_path, fold):
    teacher = written(tmp_path, changed(plan, name="other"), fold)
    known = listing(plan, "case_4", kept_back=("case_4",))
    text = refusal(known, cases, teacher.root, fold=fold)
    assert f"({teacher.root}) was trained on case_4, which the student's plan keeps back from training" in text
    # Planning need not have known of all.
    unknown = listing(plan, "case_4")
    assert "whether it was trained on some that this one keeps back" in refusal(unknown, cases, teacher.root, fold=fold)
    same = written(tmp_path, changed(unknown, name="same"), fold)
    assert len(found(unknown, cases, same.root, fold=fold)) == 1
    assert len(found(known, cases, same.root, fold=fold)) == 1
    begun = written(tmp_path, changed(unknown, name="begun"), fold, run={"init": "0" * 32})
    assert "it cannot be told whether these have seen" in refusal(unknown, cases, begun.root, fold=fold)


def test_the_models_of_an_ensemble_teach(plan, cases, tmp_path):
    plans = [changed(plan, name=name) for name in ("a", "b")]
    for number, one in enumerate(plans):
        write_fold(fold_folder(tmp_path / one.name, FOLD), one, seed=number)
    save_ensemble(tmp_path / "both", [[tmp_path / one.name] for one in plans], combination=Combination())
    assert [teacher.plan.name for teacher in found(plan, cases, tmp_path / "both")] == ["a", "b"]
    # The same weights beside it are no third teacher.
    assert len(found(plan, cases, tmp_path / "both", tmp_path / "b")) == 2


def test_a_fold_of_nnunet_teaches_what_it_has_validated_on(plan, cases, tmp_path, caplog):
    model = write_model(tmp_path / "model", folds=("1", "all"))
    # nnU-Net's labels are numbered one after the other; names tell which is which.
    assert "finds labels kidney_left=1, kidney_right=2, which do not tell" in refusal(plan, cases, model)
    dataset = json.loads((model / "dataset.json").read_text())
    (model / "dataset.json").write_text(json.dumps(dataset | {"labels": {"background": 0, "core": 1, "shell": 2}}))
    validation = model / "fold_1" / "validation"
    validation.mkdir()
    for case_id in ("case_2", "case_5"):
        (validation / f"{case_id}.nii.gz").touch()
    # Masks alone may be those of an earlier training.
    assert "does not tell that it never saw case_2, case_5" in refusal(plan, cases, model)
    summarise(validation, "/there/validation/case_2.nii.gz", "notes.txt")
    assert "does not tell that it never saw case_5" in refusal(plan, cases, model)
    summarise(validation, "/there/validation/case_2.nii.gz", r"C:\there\validation\case_5.nii.gz")
    (teacher,) = found(plan, cases, model)
    assert "keeps back" not in caplog.text
    assert found(listing(plan, "case_4", kept_back=("case_4",)), cases, model)
    assert "does not tell whether it was trained on case_4, which the student's plan keeps back" in caplog.text
    (validation / "case_5.nii.gz").unlink()
    assert "does not tell that it never saw case_5" in refusal(plan, cases, model)
    assert way_of(teacher, Student(plan, CONFIGURATION, "1")) == "cases"
    assert "has no fold 2 that is trained to its end" in refusal(plan, cases, model, fold="2")
    assert "does not tell that it never saw case_2" in refusal(plan, cases, model / "fold_all")
    (model / "fold_1" / "checkpoint_final.pth").rename(model / "fold_1" / "checkpoint_best.pth")
    assert "holds no checkpoint_final.pth: it is not trained to its end" in refusal(plan, cases, model / "fold_1")


def test_where_nothing_is_held_out_each_finished_fold_of_nnunet_teaches(plan, cases, tmp_path):
    model = write_model(tmp_path / "model", folds=("0", "1", "2"))
    dataset = json.loads((model / "dataset.json").read_text())
    (model / "dataset.json").write_text(json.dumps(dataset | {"labels": {"background": 0, "core": 1, "shell": 2}}))
    checkpoints = [model / f"fold_{fold}" / "checkpoint_final.pth" for fold in range(3)]
    # Weights that are the same count once.
    weights = torch.load(checkpoints[1], weights_only=False)
    torch.save(weights | {"trainer_name": "another"}, checkpoints[1])
    checkpoints[2].rename(checkpoints[2].with_name("checkpoint_latest.pth"))
    assert [teacher.fold for teacher in found(plan, cases, model, fold="all")] == ["0", "1"]


def summarise(validation, *files):
    """Write nnU-Net's summary of a validation."""
    cases = [{"metrics": {}, "prediction_file": file, "reference_file": "x"} for file in files]
    (validation / "summary.json").write_text(json.dumps({"mean": {}, "metric_per_case": cases}))
