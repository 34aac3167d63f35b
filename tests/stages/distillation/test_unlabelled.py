import shutil

import numpy as np
import pytest

from tests.engine.phantoms import CLASSES, REGIONS
from tests.stages.distillation.test_distill import School
from tests.stages.selection.conftest import CONFIGURATION, write_fold
from tests.toys import save, toy_arrays
from tumorseg.errors import InputError, PlanError, StorageError, TumorsegError
from tumorseg.ops.quantised import STEPS
from tumorseg.schema.cases import preprocessing_of
from tumorseg.schema.dataset import ImageFile
from tumorseg.schema.targets import targets_of
from tumorseg.stages.distillation import unlabelled
from tumorseg.stages.distillation.agreement import agreement, decided
from tumorseg.stages.distillation.distill import DistillRequest, distill
from tumorseg.stages.distillation.lessons import FoundTeachers, Source, _kept_bytes
from tumorseg.stages.distillation.opening import Student, find_teachers
from tumorseg.stages.distillation.unlabelled import Further, View, find_further, learn_from
from tumorseg.stages.distillation.whole_cases import Audience, Room, SeenCase
from tumorseg.stages.opening.fold_folders import read_run
from tumorseg.stages.opening.loaded import check_content, hash_dataset, open_planned_dataset
from tumorseg.stages.training.fold_data import open_fold_data
from tumorseg.storage.layout import fold_folder, work_folder
from tumorseg.storage.probability_cache import StoredVolumes, write_volumes


@pytest.fixture(scope="module")
def school(toy, tmp_path_factory):
    return School(toy, tmp_path_factory.mktemp("school"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two cases without a reference; the name of one is that of a case of the dataset."""
    folder = tmp_path_factory.mktemp("images")
    for number, name in ((20, "case_0"), (21, "new")):
        channels, _ = toy_arrays(number)
        for position in range(2):
            save(channels[..., position], np.eye(4), folder / f"{name}_{position:04d}.nii.gz")
    return folder


def found_further(school, *paths, plan=None, fold="0"):
    plan = plan or school.plan
    dataset = open_planned_dataset(plan, school.roots)
    check_content(plan, dataset, school.roots)
    return find_further(paths, Student(plan, CONFIGURATION, fold), dataset, school.roots)


def gathered(school, images, *names, is_first=True, cache_gb=1.0):
    """Return the training cases of a student of some teachers, further ones among them."""
    student = Student(school.plan, CONFIGURATION, "0")
    dataset = open_planned_dataset(school.plan, school.roots)
    teachers = find_teachers([school.teachers[name] for name in names], student, dataset.cases)
    source = Source(school.roots, None, cache_gb)
    found = FoundTeachers(student, teachers, source, found_further(school, images))
    data = open_fold_data(school.asked(), CONFIGURATION, None)
    return found.extended(data, "cpu", is_first=is_first)


def test_further_cases_have_names_and_hashes_of_their_own(school, images):
    further = found_further(school, images)
    assert [case.case_id for case in further.cases] == ["unlabelled_case_0", "unlabelled_new"]
    assert further.identity == found_further(school, images).identity
    with pytest.raises(InputError):
        found_further(school, images / "nowhere")


def test_an_image_of_a_case_that_judges_is_refused_whatever_it_is_called(school, tmp_path):
    held_out = school.plan.folds[0][0]
    data = school.roots.data_root / "Toy"
    for number, channel in enumerate(("T1", "T2")):
        shutil.copy(data / held_out / f"{channel}.nii.gz", tmp_path / f"other_{number:04d}.nii.gz")
    with pytest.raises(PlanError, match=rf"is an image of case {held_out}, which fold 0 holds out; take it out"):
        found_further(school, tmp_path)
    assert len(found_further(school, tmp_path, fold="1").cases) == 1


def test_images_of_patients_who_judge_are_refused(school, images, tmp_path):
    dataset = open_planned_dataset(school.plan, school.roots)
    check_content(school.plan, dataset, school.roots)
    held_out, mate = school.plan.folds[0][0], school.plan.folds[1][0]
    cases = [case.changed(group="A" if case.case_id in (held_out, mate) else None) for case in dataset.cases]
    dataset = dataset.changed(cases=tuple(cases))

    def refused(path):
        with pytest.raises(PlanError) as error:
            find_further([path], Student(school.plan, CONFIGURATION, "0"), dataset, school.roots)
        return str(error.value)

    for number, channel in enumerate(("T1", "T2")):
        place = school.roots.data_root / "Toy" / mate / f"{channel}.nii.gz"
        shutil.copy(place, tmp_path / f"other_{number:04d}.nii.gz")
    assert f"is an image of case {mate}, of a patient of whom other cases fold 0 holds out" in refused(tmp_path)
    table = tmp_path / "table.csv"
    table.write_text(f"case_id,T1,T2,group\nx,{images}/new_0000.nii.gz,{images}/new_0001.nii.gz,A\n")
    assert "is of patient A, of whom fold 0 holds out cases" in refused(table)


LEFT = "case_5"
"""Left out of plans below."""


@pytest.fixture
def copies(school, tmp_path):
    """Images of a case of the dataset, under another name."""
    for number, channel in enumerate(("T1", "T2")):
        place = school.roots.data_root / "Toy" / LEFT / f"{channel}.nii.gz"
        shutil.copy(place, tmp_path / f"other_{number:04d}.nii.gz")
    return tmp_path


def without_left(plan, **dataset):
    """Return a plan that does not use a case."""
    folds = tuple(tuple(case_id for case_id in fold if case_id != LEFT) for fold in plan.folds)
    return plan.changed(folds=folds, dataset=plan.dataset.changed(content_hash=None, **dataset))


def listing(plan):
    return without_left(plan, listed=tuple(f"case_{number}" for number in range(5)))


@pytest.mark.parametrize("fold", ["0", "all"])
def test_an_image_of_a_case_that_the_plan_does_not_use_is_refused(school, copies, fold):
    for plan, why in (
        (without_left(school.plan, excluded=(LEFT,)), "which the plan excludes"),
        (listing(school.plan), "which the plan keeps back from training"),
    ):
        with pytest.raises(PlanError, match=rf"is an image of case {LEFT}, {why}; take it out"):
            found_further(school, copies, plan=plan, fold=fold)


def test_patients_of_whom_cases_are_kept_back_are_kept_apart_whole(school, images, copies, monkeypatch):
    plan, mate = listing(school.plan), school.plan.folds[2][0]
    dataset = open_planned_dataset(plan, school.roots)
    check_content(plan, dataset, school.roots)

    def grouped(found):
        cases = (case.changed(group="A" if case.case_id in (LEFT, mate) else None) for case in found.cases)
        return found.changed(cases=tuple(cases))

    opened = grouped(open_planned_dataset(school.plan, school.roots))
    monkeypatch.setattr(unlabelled, "find_planned_dataset", lambda *_: opened)
    student = Student(plan, CONFIGURATION, "0")
    for number, channel in enumerate(("T1", "T2")):
        shutil.copy(school.roots.data_root / "Toy" / mate / f"{channel}.nii.gz", copies / f"other_{number:04d}.nii.gz")
    with pytest.raises(PlanError, match=rf"is an image of case {mate}, of a patient of whom other cases"):
        find_further([copies], student, grouped(dataset), school.roots)
    table = copies / "table.csv"
    table.write_text(f"case_id,T1,T2,group\nx,{images}/new_0000.nii.gz,{images}/new_0001.nii.gz,A\n")
    with pytest.raises(PlanError, match="is of patient A, of whom fold 0 holds out cases, or the plan keeps some back"):
        find_further([table], student, grouped(dataset), school.roots)


def test_a_patient_is_kept_apart_even_if_the_images_that_are_kept_back_are_gone(school, images, tmp_path, monkeypatch):
    made = listing(school.plan)
    dataset = open_planned_dataset(made, school.roots)
    check_content(made, dataset, school.roots)
    opened = open_planned_dataset(school.plan, school.roots)
    gone = tuple(ImageFile(path=str(tmp_path / f"gone_{channel}.nii.gz")) for channel in range(2))
    cases = (one.changed(group="A", images=gone) if one.case_id == LEFT else one for one in opened.cases)
    opened = opened.changed(cases=tuple(cases))
    monkeypatch.setattr(unlabelled, "find_planned_dataset", lambda *_: opened)
    table = tmp_path / "table.csv"
    table.write_text(f"case_id,T1,T2,group\nx,{images}/new_0000.nii.gz,{images}/new_0001.nii.gz,A\n")
    with pytest.raises(PlanError, match="is of patient A, of whom fold 0 holds out cases, or the plan keeps some back"):
        find_further([table], Student(made, CONFIGURATION, "0"), dataset, school.roots)


def test_excluded_cases_that_are_past_reading_are_passed_over_with_a_warning(school, copies, monkeypatch, caplog):
    find = unlabelled.find_planned_dataset

    def past_reading(plan, *place):
        if LEFT not in plan.dataset.excluded:
            raise InputError("its image is cut short", case_id=LEFT)
        return find(plan, *place)

    monkeypatch.setattr(unlabelled, "find_planned_dataset", past_reading)
    assert len(found_further(school, copies, plan=without_left(school.plan, excluded=(LEFT,))).cases) == 1
    assert "excluded cases are not looked for among the images" in caplog.text
    # What is kept back has to be known.
    with pytest.raises(InputError, match="cut short"):
        found_further(school, copies, plan=listing(school.plan))


def test_the_order_of_further_cases_tells_them_apart(school):
    cases = open_planned_dataset(school.plan, school.roots).cases[:2]
    hashes = {case.case_id: case.case_id * 2 for case in cases}
    assert Further(cases, hashes).identity != Further(cases[::-1], hashes).identity


def test_what_killed_runs_left_is_not_kept(tmp_path):
    for name in ("a", ".partial-b-x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "volumes").write_bytes(b"0" * 100)
    assert _kept_bytes(tmp_path) == 100


def test_images_that_the_cache_of_hashes_lacks_are_read(school, tmp_path, monkeypatch):
    held_out = school.plan.folds[0][0]
    for number, channel in enumerate(("T1", "T2")):
        place = school.roots.data_root / "Toy" / held_out / f"{channel}.nii.gz"
        shutil.copy(place, tmp_path / f"other_{number:04d}.nii.gz")

    def hashed_meanwhile(dataset, roots):
        found = hash_dataset(dataset, roots)
        # As another process does that began before.
        work_folder(roots.work, dataset.name).hashes.write_text("{}")
        return found

    monkeypatch.setattr(unlabelled, "hash_dataset", hashed_meanwhile)
    with pytest.raises(PlanError, match=f"is an image of case {held_out}"):
        found_further(school, tmp_path)


def test_a_name_that_a_case_of_the_dataset_has_is_refused(school, images):
    dataset = open_planned_dataset(school.plan, school.roots)
    first, *others = dataset.cases
    dataset = dataset.changed(cases=(first.changed(case_id="unlabelled_new"), *others))
    with pytest.raises(PlanError, match="unlabelled_new would be the name of a further case"):
        find_further([images], Student(school.plan, CONFIGURATION, "0"), dataset, school.roots)


def test_cases_that_cannot_be_used_are_listed_and_cascades_learn_from_none(school, images, tmp_path):
    shutil.copy(images / "new_0000.nii.gz", tmp_path)
    with pytest.raises(TumorsegError, match="new"):
        found_further(school, tmp_path)
    full = school.plan.configurations[CONFIGURATION]
    configurations = {"3d_lowres": full, CONFIGURATION: full.changed(previous_configuration="3d_lowres")}
    with pytest.raises(PlanError, match="a cascade is shown what its previous configuration found"):
        found_further(school, images, plan=school.plan.changed(configurations=configurations))


@pytest.mark.slow
def test_further_cases_are_stored_without_a_reference_and_believed_by_agreement(school, images, tmp_path):
    cases = gathered(school, images, "near", "far").training
    ids = [case_id for case_id in cases.case_ids if case_id.startswith("unlabelled_")]
    assert ids == ["unlabelled_case_0", "unlabelled_new"]
    assert cases.has_further
    assert cases.num_taught == 2
    for case_id in ids:
        whole = tuple((0, size) for size in cases.shape(case_id))
        image, indices = cases.read(case_id, whole)
        assert (indices == -1).all()
        assert image.shape == (2, *cases.shape(case_id))
        assert cases.read_taught(case_id, whole).shape == image.shape
        assert 0 < cases.trust(case_id) < 1
        assert sum(cases.num_locations(case_id, index) for index in (1, 2)) > 0
    assert cases.trust(cases.case_ids[0]) == 1
    # Another process of the same training finds what this one has kept.
    again = gathered(school, images, "near", "far", is_first=False).training
    assert [again.trust(case_id) for case_id in ids] == [cases.trust(case_id) for case_id in ids]
    # A training that wants other cases, with little room, takes nothing away from one that reads these.
    shutil.copytree(images, tmp_path / "fewer", ignore=shutil.ignore_patterns("new*"))
    with pytest.raises(StorageError, match="fills --cache-gb"):
        gathered(school, tmp_path / "fewer", "near", "far", cache_gb=1e-9)
    gathered(school, images, "near", "far", cache_gb=1e-9)
    assert cases.read_taught(cases.case_ids[0], ((0, 2),) * 3).shape == (2, 2, 2, 2)


@pytest.mark.slow
def test_a_single_teacher_agrees_with_itself_without_mirrored_views(school, images, caplog):
    full = school.plan.configurations[CONFIGURATION]
    inference = full.inference.changed(mirroring=True, mirroring_axes=(0, 1, 2))
    plan = school.plan.changed(name="mirrored", configurations={CONFIGURATION: full.changed(inference=inference)})
    write_fold(fold_folder(school.model("mirrored"), 0), plan, seed=3)
    school.teachers["mirrored"] = school.model("mirrored")
    cases = gathered(school, images, "mirrored").training
    assert cases.num_taught == 0
    assert 0 < cases.trust("unlabelled_new") < 1
    assert "believed wholly" not in caplog.text
    assert gathered(school, images, "near").training.trust("unlabelled_new") == 1
    assert "a single teacher that mirrors nothing is believed wholly" in caplog.text


@pytest.mark.slow
def test_a_student_learns_from_them_and_says_so(school, images):
    request = {"teachers": (school.teachers["near"],), "plan_path": school.path, "unlabelled": (images,)}
    done = distill(DistillRequest(training=school.asked(has_validation=False), **request))
    assert done.is_finished
    run = read_run(done.folder)
    assert run.unlabelled == found_further(school, images).identity
    with pytest.raises(PlanError, match=r"further cases .*, now the teachers .* are given; give the same"):
        distill(DistillRequest(training=school.asked(), **request | {"unlabelled": ()}))


def volumes_of(folder, *volumes):
    """Write volumes of probabilities (Z, Y, X)."""
    folder.mkdir()
    shape = volumes[0].shape
    about = StoredVolumes(
        shape=shape,
        spacing_mm=(1, 1, 1),
        affine=tuple(map(tuple, np.eye(4).tolist())),
        box=tuple((0, size) for size in shape),
        num_volumes=len(volumes),
    )
    return write_volumes(folder, about, [(np.asarray(one) * STEPS).astype(np.uint16) for one in volumes])


def test_labels_and_regions_are_decided_as_everywhere(tmp_path):
    first = np.array([[[0.2, 0.5, 0.3, 0.0]]])
    second = np.array([[[0.2, 0.4, 0.6, 0.4]]])
    found = volumes_of(tmp_path / "a", first, second)
    assert decided(found, CLASSES).tolist() == [[[0, 1, 2, 0]]]
    regions = volumes_of(tmp_path / "b", np.array([[[0.2, 0.9, 0.9, 0.0]]]), second)
    assert decided(regions, REGIONS).tolist() == [[[0, 1, 2, 0]]]


def test_agreement_is_the_mean_dsc_of_pairs(tmp_path):
    empty = np.zeros((1, 1, 4))
    one, other = np.array([[[1.0, 1, 0, 0]]]), np.array([[[1.0, 0, 0, 0]]])
    first, second = volumes_of(tmp_path / "a", one, empty), volumes_of(tmp_path / "b", other, empty)
    nothing = volumes_of(tmp_path / "c", empty, empty)
    for targets in (CLASSES, REGIONS):
        assert agreement([first, second], targets) == pytest.approx(2 / 3)
        assert agreement([first, nothing], targets) == 0
        assert agreement([nothing, nothing], targets) == agreement([first], targets) == 1


def test_cases_on_which_teachers_agree_on_nothing_do_not_enter(school, tmp_path, caplog):
    plan = school.plan
    audience = Audience(preprocessing_of(plan, plan.configurations[CONFIGURATION]), targets_of(plan.dataset))
    case = open_planned_dataset(plan, school.roots).cases[0]
    left, right = np.zeros((2, 4, 4, 4))
    left[0], right[1] = 1, 1
    opinions = {
        "one": volumes_of(tmp_path / "one", left, left * 0),
        "other": volumes_of(tmp_path / "other", right, right * 0),
    }
    assert opinions["one"].about.shape == (4, 4, 4)
    views = [View(None, [SeenCase(case, (case,), key)], None) for key in opinions]
    learnt = learn_from(views, audience, Room(tmp_path, tmp_path / "cases", None, "cpu"))
    assert learnt.keys == learnt.trust == {}
    assert f"left out, as teachers agree on nothing in them: {case.case_id}" in caplog.text
