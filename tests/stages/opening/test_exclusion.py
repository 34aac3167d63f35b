"""Cases that are kept out stay out: of statistics, of choices, of every fold, and of what later verbs read."""

import json
import shutil

import pytest

from tests.toys import write_toy
from tumorseg.errors import InputError, PlanError, TumorsegError
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.opening.loaded import Roots, check_content, open_planned_dataset
from tumorseg.stages.planning.fingerprint import FingerprintRequest, fingerprint, measure
from tumorseg.stages.planning.plan import PlanRequest, plan
from tumorseg.stages.planning.validate_plan import ValidatePlanRequest, validate_plan
from tumorseg.stages.training.fold_data import open_fold_data
from tumorseg.stages.training.request import TrainRequest
from tumorseg.storage.json_files import write_record

SHAPE = (9, 11, 8)
SPLITS = [{"train": ["case_0", "case_1"], "val": ["case_2"]}, {"train": ["case_2"], "val": ["case_1"]}]
"""case_0 is kept from the second fold's training; case_3 is in no list."""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("exclusion") / "Toy", num_cases=5, shape=SHAPE)


@pytest.fixture
def roots(written, tmp_path):
    shutil.copytree(written, tmp_path / "data" / "Toy")
    (tmp_path / "splits_final.json").write_text(json.dumps(SPLITS))
    (tmp_path / "runs").mkdir()
    return Roots(data_root=tmp_path / "data", work=tmp_path / "runs")


def planned(roots, **options):
    output = roots.work.parent / "p.json"
    request = PlanRequest(roots=roots, dataset="Toy", preset="fast_prototyping", output=output, jobs=1)
    return plan(request.model_copy(update=options)).plan


def with_splits(roots, **options):
    return planned(roots, splits=str(roots.work.parent / "splits_final.json"), **options)


def break_case(roots, case_id):
    """Leave one file out and fill another with what is no image."""
    folder = roots.data_root / "Toy" / case_id
    (folder / "T1.nii.gz").write_bytes(b"no image")
    (folder / "seg.nii.gz").unlink()


def rows(roots, change):
    path = roots.data_root / "Toy" / "manifest.csv"
    path.write_text("".join(map(change, path.read_text().splitlines(keepends=True))))


def without(roots, *case_ids):
    """Return the fingerprint of a dataset that never had some cases."""
    dataset = open_dataset("Toy", roots.data_root)
    kept = tuple(case for case in dataset.cases if case.case_id not in case_ids)
    return fingerprint(dataset.model_copy(update={"cases": kept}), Roots(work=roots.work / "other"), jobs=1)


def test_kept_back_and_excluded_cases_enter_nothing(roots):
    expected = without(roots, "case_3", "case_4")
    break_case(roots, "case_3")
    break_case(roots, "case_4")
    made = with_splits(roots, exclude=("case_4",))
    assert made.dataset.content_hash == expected.content_hash
    assert (made.fingerprint.intensities, made.fingerprint.num_cases) == (expected.intensities, 3)
    assert (made.folds, made.kept_from_training) == ((("case_2",), ("case_1",)), ((), ("case_0",)))
    assert (made.dataset.excluded, made.dataset.kept_back) == (("case_4",), ("case_3",))
    assert made.dataset.listed == ("case_0", "case_1", "case_2")
    assert {"dataset.excluded", "dataset.kept_back", "dataset.listed", "kept_from_training"} <= made.reasons.keys()
    assert made.reasons["dataset.kept_back"].inputs == {"num_cases": 1}


def test_no_later_verb_touches_them(roots):
    made = with_splits(roots, exclude=("case_4",))
    shutil.rmtree(roots.data_root / "Toy" / "case_4")
    break_case(roots, "case_3")
    dataset = open_planned_dataset(made, roots)
    assert [case.case_id for case in dataset.cases] == ["case_0", "case_1", "case_2"]
    assert set(check_content(made, dataset, roots)) == {"case_0", "case_1", "case_2"}
    assert validate_plan(ValidatePlanRequest(roots=roots, plan=roots.work.parent / "p.json")).num_cases == 3
    (roots.data_root / "Toy" / "case_1" / "T2.nii.gz").write_bytes(b"changed")
    with pytest.raises(PlanError, match="files were changed, added or removed"):
        check_content(made, dataset, roots)


def test_each_fold_trains_on_its_list_and_all_on_every_case_in_use(roots):
    made = with_splits(roots)
    name, found = made.default_configuration, {}
    for fold in ("0", "1", "all"):
        data = open_fold_data(TrainRequest(roots=roots, plan=made, fold=fold, jobs=1), name, None)
        found[fold] = sorted(data.training.case_ids)
    assert found == {"0": ["case_0", "case_1"], "1": ["case_2"], "all": ["case_0", "case_1", "case_2"]}


def test_a_case_can_be_excluded_whatever_is_wrong_with_it(roots):
    rows(roots, lambda row: row.replace("case_1,", "a/b,").replace("case_3/seg.nii.gz", ""))
    break_case(roots, "case_4")
    request = FingerprintRequest(roots=roots, dataset="Toy", jobs=1)
    with pytest.raises(InputError, match=r"; or leave it out: --exclude a/b$"):
        measure(request)
    with pytest.raises(TumorsegError) as failed:
        measure(request.model_copy(update={"exclude": ("a/b",)}))
    assert str(failed.value).splitlines()[-1] == "or leave them out: --exclude case_3 --exclude case_4"
    (roots.work / "out.txt").write_text("case_3\n\n  case_4\r\n")
    (roots.work / "out.json").write_text('["a/b"]')
    files = str(roots.work / "out.txt"), str(roots.work / "out.json")
    found = measure(request.model_copy(update={"exclude": files})).fingerprint
    assert [case.case_id for case in found.cases] == ["case_0", "case_2"]


def test_ids_that_the_dataset_does_not_have_are_told_with_those_like_them(roots):
    with pytest.raises(InputError, match=r"Toy has no case 'case4', .*did you mean .*case_4.*correct the ids"):
        planned(roots, exclude=("case4",))
    (roots.work / "out.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="expected a JSON list of case ids"):
        planned(roots, exclude=(str(roots.work / "out.json"),))
    with pytest.raises(InputError, match="all 5 cases are excluded"):
        planned(roots, exclude=tuple(f"case_{number}" for number in range(5)))


def test_splits_of_unknown_cases_are_refused_before_anything_is_measured(roots):
    (roots.work.parent / "splits_final.json").write_text(json.dumps([{"train": ["case_0", "x"], "val": ["case_1"]}]))
    with pytest.raises(PlanError, match="splits train on cases that the dataset does not have: x"):
        with_splits(roots)
    assert not (roots.work / "Toy" / "measurements").exists()


def test_a_fingerprint_cannot_be_rid_of_a_case_again(roots):
    path = roots.work.parent / "f.json"
    write_record(path, measure(FingerprintRequest(roots=roots, dataset="Toy", jobs=1)).fingerprint)
    given = {"dataset": None, "fingerprint": path}
    with pytest.raises(
        InputError, match=r"holds cases .*: case_4; .*measure again with `fingerprint --exclude case_4`"
    ):
        planned(roots, exclude=("case_4",), **given)
    with pytest.raises(InputError, match="in no list of the split file: case_3, case_4"):
        with_splits(roots, **given)
    options = {"exclude": ("case_3", "case_4")}
    found = measure(FingerprintRequest(roots=roots, dataset="Toy", jobs=1, **options)).fingerprint
    write_record(path, found)
    for made in (planned(roots, **given), planned(roots, **options, **given), with_splits(roots, **given)):
        assert len(check_content(made, open_planned_dataset(made, roots), roots)) == 3
    with pytest.raises(InputError, match=r"has no case 'cas_3', .*did you mean"):
        planned(roots, exclude=("cas_3",), **given)
    write_record(path, found.model_copy(update={"excluded": ()}))
    made = planned(roots, **given)
    with pytest.raises(PlanError, match=r"cases that the plan does not know are there \(case_3, case_4\)"):
        check_content(made, open_planned_dataset(made, roots), roots)
