import numpy as np
import pytest
import torch

from tests.engine.phantoms import CLASSES, REGIONS
from tests.engine.test_distillation import RENUMBERED, SWAPPED
from tests.stages.models import Above, model_of
from tests.stages.selection.conftest import CONFIGURATION, make_study, small_plan
from tumorseg.errors import InputError, StorageError
from tumorseg.ops.geometry import orient
from tumorseg.ops.preprocessing import axis_order, network_grid, prepare_segmentation
from tumorseg.ops.quantised import STEPS
from tumorseg.schema.cases import preprocessing_of
from tumorseg.schema.targets import targets_of
from tumorseg.stages.distillation.opening import Student, find_teachers
from tumorseg.stages.distillation.whole_cases import (
    LEAST,
    Audience,
    Desk,
    SeenCase,
    key_of,
    look_at,
    stored_parts,
    write_mean,
)
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.opening.loaded import open_planned_dataset
from tumorseg.stages.opening.reading import read_case_image
from tumorseg.stages.selection.out_of_fold import write_probabilities
from tumorseg.storage.probability_cache import ProbabilityCache


@pytest.fixture(scope="module")
def study(toy, tmp_path_factory):
    """The student's plan, and two teachers' of other axis orders."""
    plans = [small_plan(toy.plan, "student")]
    plans += [small_plan(toy.plan, name, transpose=order) for name, order in (("a", (2, 0, 1)), ("b", (1, 2, 0)))]
    return make_study(toy, tmp_path_factory.mktemp("study"), *plans)


@pytest.fixture(scope="module")
def cases(study):
    return {case.case_id: case for case in open_planned_dataset(study.plans[0], study.roots).cases}


def audience_of(plan):
    return Audience(preprocessing_of(plan, plan.configurations[CONFIGURATION]), targets_of(plan.dataset))


def whole(volumes):
    return volumes.read(tuple((0, size) for size in volumes.about.shape))


def decided(steps):
    """Return the likeliest class; the background has what the others leave."""
    steps = steps.astype(np.int64)
    return np.concatenate((STEPS - steps.sum(0, keepdims=True), steps)).argmax(0)


def test_what_is_improbable_is_kept_as_a_temperature_makes_much_of_it(study, cases, tmp_path):
    teacher = study.plans[1]
    model = model_of(teacher, teacher.configurations[CONFIGURATION], Improbable(), "hash")
    for least, is_kept in ((LEAST, True), (0.001, False)):
        folder = tmp_path / f"{least:g}"
        folder.mkdir()
        assert whole(write_probabilities(model, cases["case_0"], folder, least=least)).any() == is_kept


class Improbable(torch.nn.Module):
    """Gives every label but the background 1 / 2,000."""

    def forward(self, images):
        odds = torch.zeros(len(images), 3, *images.shape[2:])
        odds[:, 1:] = -7.6
        return odds


@pytest.mark.parametrize("case_id", ["case_0", "case_1", "case_3"])
def test_what_a_teacher_finds_lies_where_it_was_found(study, cases, tmp_path, case_id):
    student, teacher = study.plans[:2]
    # The bright ball: what is noise from voxel to voxel would not be the same once resampled.
    model = model_of(teacher, teacher.configurations[CONFIGURATION], Above(0.8), "hash")
    audience, case = audience_of(student), cases[case_id]
    for name in ("seen", "mean"):
        (tmp_path / name).mkdir()
    seen = write_probabilities(model, case, tmp_path / "seen")
    found = whole(write_mean(case, [(seen, targets_of(teacher.dataset))], audience, tmp_path / "mean"))
    # As the student is shown the reference.
    image = read_case_image(case, audience.preprocessing.reading, axis_order(audience.preprocessing))
    mask = orient(decided(whole(seen)), image.orientation)
    spec, covered = audience.preprocessing, image.covered
    grid = network_grid(image.image, image.spacing_mm, spec, covered=covered)
    expected = prepare_segmentation(mask, grid, spec, image=image.image, covered=covered)
    assert found.shape == (2, *expected.shape)
    assert (expected == 1).sum() > 500
    same = (decided(found) == expected).mean()
    assert same == 1 if mask.shape == expected.shape else same > 0.97


def test_teachers_are_averaged_and_kept_once(study, cases, tmp_path):
    student, *others = study.plans
    folders = [study.fold(plan, 0).root for plan in others]
    teachers = find_teachers(folders, Student(student, CONFIGURATION, "0"), tuple(cases.values()))
    audience, case = audience_of(student), cases["case_3"]

    def looked(chosen, **cache):
        seen = [SeenCase(case, (case,) * len(chosen), key_of(chosen, audience, ["hash"]))]
        kept = ProbabilityCache(tmp_path / "cache", **({"most_bytes": 10**8} | cache))
        return look_at(seen, chosen, audience, Desk(kept, "cpu"))["case_3"]

    each = [whole(looked([teacher])) for teacher in teachers]
    both = looked(teachers)
    assert np.abs(whole(both) - (each[0].astype(float) + each[1]) / 2).max() <= 1
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.b2nd")}
    assert len(written) == 3
    looked(teachers)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.b2nd")} == written
    with pytest.raises(StorageError, match=r"in 0 of 1 cases fills --cache-gb .*give more"):
        looked(teachers[::-1], most_bytes=100)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".partial")]


def test_a_case_that_teachers_read_on_other_voxels_is_told(study, cases, tmp_path):
    student, teacher = study.plans[:2]
    model = load_model([study.fold(teacher, 0).root], "cpu")
    (tmp_path / "seen").mkdir()
    seen = write_probabilities(model, cases["case_0"], tmp_path / "seen")
    with pytest.raises(InputError, match=r"case_1: a teacher reads it on voxels \[17, 22, 19\] of one of its channels"):
        write_mean(cases["case_1"], [(seen, targets_of(teacher.dataset))], audience_of(student), tmp_path)


def test_what_is_stored_is_told_apart_by_name():
    assert stored_parts(CLASSES, CLASSES) == [(0,), (1,)]
    assert stored_parts(CLASSES, RENUMBERED) == [(1,), (0,)]
    assert stored_parts(CLASSES, SWAPPED) == [(1,), (0, 1)]
    assert stored_parts(REGIONS, SWAPPED) == [(1,), (0,)]
