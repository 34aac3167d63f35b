"""DICOM series without a reference are kept apart from what judges a student, as files are."""

import shutil

import numpy as np
import pytest

from tests.dicoms import write_seg, write_series
from tumorseg.errors import PlanError
from tumorseg.schema.dataset import ImageFile
from tumorseg.stages.distillation.opening import Student
from tumorseg.stages.distillation.unlabelled import _there, find_further
from tumorseg.stages.opening.loaded import Roots, check_content, open_planned_dataset
from tumorseg.stages.planning.plan import PlanRequest, plan


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A plan for a folder of DICOM series, one each of four patients, and the folders of its command."""
    root = tmp_path_factory.mktemp("scans")
    masks = np.zeros((8, 16, 16), bool)
    masks[2:6, 4:12, 5:11] = True
    for number in range(4):
        volume = np.random.default_rng(number).integers(-40, 40, masks.shape) + 100 * masks
        uid, folder = f"1.{number}", root / "Scans" / f"{number}"
        elements = {"patient": f"P{number}", "study": uid, "series": f"{uid}.1"}
        write_seg(folder / "seg.dcm", write_series(folder, volume.astype(np.int16), **elements), {"GTV": masks})
    roots = Roots(data_root=root, work=root / "runs")
    request = PlanRequest(roots=roots, dataset="Scans", preset="fast_prototyping", output=root / "scans.json", jobs=1)
    return plan(request).plan, roots


def without_patient(made, left, *, is_kept_back):
    """Return a plan that excludes a case, or keeps it back."""
    others = tuple(sorted(case_id for fold in made.folds for case_id in fold if case_id != left))
    folds = tuple((case_id,) for case_id in others)
    ways = {"listed": others} if is_kept_back else {"excluded": (left,)}
    return made.changed(folds=folds, dataset=made.dataset.changed(content_hash=None, **ways))


@pytest.mark.parametrize(
    ("is_kept_back", "why"),
    [
        (True, "is of patient P3, of whom fold 0 holds out cases, or the plan keeps some back; leave it out"),
        (False, "is an image of case P3, which the plan excludes; take it out of the folder"),
    ],
)
def test_a_series_of_a_case_that_the_plan_does_not_use_is_refused(scans, tmp_path, is_kept_back, why):
    (made, roots), left = scans, "P3"
    changed = without_patient(made, left, is_kept_back=is_kept_back)
    dataset = open_planned_dataset(changed, roots)
    check_content(changed, dataset, roots)
    assert left not in {case.case_id for case in dataset.cases}
    (tmp_path / "other").mkdir()
    for number, path in enumerate(sorted((roots.data_root / "Scans" / "3").glob("0*.dcm"))):
        shutil.copy(path, tmp_path / "other" / f"IM{number}.dcm")
    student = Student(changed, changed.default_configuration, "0")
    with pytest.raises(PlanError, match=why):
        find_further([tmp_path], student, dataset, roots)


def test_what_is_left_of_a_series_still_tells_it(tmp_path):
    paths = write_series(tmp_path / "series", np.zeros((3, 4, 4), np.int16))
    folder, parts = str(tmp_path / "series"), tuple(path.name for path in paths)
    whole, listed = ImageFile(path=folder), ImageFile(path=folder, parts=parts)
    assert _there(whole) == whole
    assert _there(listed) == listed
    paths[1].unlink()
    assert _there(listed) == listed.changed(parts=(parts[0], parts[2]))
    assert _there(whole) == whole
    # A link that leads nowhere is a slice that is gone.
    paths[1].symlink_to(tmp_path / "nowhere")
    assert sorted(_there(whole).parts) == sorted((parts[0], parts[2]))
    shutil.rmtree(folder)
    assert _there(listed) is None
    assert _there(whole) is None
