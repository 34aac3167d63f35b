"""What settings bring and cost, on cases that a tiny trained fold has not seen."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import nibabel
import numpy as np
import pytest
import torch

from tests.ops.trust.phantoms import SUBJECT, trust_cases
from tumorseg.errors import InputError, TumorsegError
from tumorseg.ops.settings import Offer, merit
from tumorseg.ops.trust.fitting import fit_trust
from tumorseg.schema.dataset import Case, ImageFile
from tumorseg.schema.ensembles import Combination
from tumorseg.schema.settings import BesideSeconds, Setting
from tumorseg.stages.inference import settings
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.offers import case_sizes
from tumorseg.stages.opening.loaded import open_planned_dataset
from tumorseg.stages.selection import setting_grid, setting_notes, setting_runs
from tumorseg.stages.selection.measure_settings import Limit, SettingsRequest, measure_settings
from tumorseg.stages.selection.setting_grid import Found, Grid, grid_of, mean_score, rows_of, spread
from tumorseg.stages.selection.setting_notes import CaseNote, CaseNotes, CaseTask, CostNote, HeldOut

# They measure, in turn, what a dozen settings cost.
pytestmark = pytest.mark.slow


@dataclass
class Known:
    """A trained fold and the cases that it held out."""

    toy: object
    fold: Path
    held_out: Sequence[HeldOut]
    metrics: object

    def request(self, keep, **fields):
        limit = Limit(most_cases=2, engines=("torch",))
        known = {"members": ((self.fold,),), "combination": Combination(), "cases": tuple(self.held_out)}
        places = {"device": "cpu", "keep": keep, "limit": limit, "in_processes": False}
        return SettingsRequest(**known | places | fields)


@pytest.fixture(scope="module", autouse=True)
def without_bf16():
    """As many settings on every processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setting_grid, "inference_dtype", lambda *known: torch.float32)
        yield


@pytest.fixture(scope="module")
def known(toy, trained) -> Known:
    dataset = open_planned_dataset(toy.plan, toy.roots)
    cases = [case for case in dataset.cases if case.case_id in toy.plan.folds[0]]
    held_out = [HeldOut(case, (trained.folder.root,)) for case in cases]
    return Known(toy, trained.folder.root, held_out, trained.metrics)


@pytest.fixture(scope="module")
def measured(known, tmp_path_factory):
    """A table, and the folder of what was noted for it."""
    keep = tmp_path_factory.mktemp("keep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "LEAST_SECONDS", 0.0)
        return measure_settings(known.request(keep)), keep


def row_of(table, **fields):
    (found,) = [row for row in table.rows if fields.items() <= row.setting.model_dump().items()]
    return found


def test_the_planned_setting_has_the_scores_of_the_validation(known, measured):
    table, _ = measured
    expected: dict[str, list[float]] = {}
    for score in known.metrics.cases:
        if score.case_id in table.cases and score.scores["dsc"] is not None:
            expected.setdefault(score.label, []).append(score.scores["dsc"])
    configuration = load_model([known.fold], "cpu").configuration
    planned = {"mirroring": configuration.inference.mirroring, "overlap": configuration.inference.overlap}
    row = row_of(table, **planned)
    assert row.dsc == pytest.approx(fmean(fmean(scores) for scores in expected.values()))
    assert row.num_cases == len(table.cases) == 2
    assert not row.is_of_one_fold


def test_every_combination_has_a_row_and_the_best_comes_first(measured):
    table, _ = measured
    settings_of = [(row.setting.mirroring, row.setting.overlap) for row in table.rows]
    # The plan of the toy averages no mirrored views.
    assert sorted(settings_of) == [(False, 0.25), (False, 0.5)]
    merits = [merit(Offer(row.setting, row.dsc, row.nsd, row.seconds)) for row in table.rows]
    assert merits == sorted(merits, reverse=True)
    assert all(row.peak_bytes > 10 * 2**20 and row.tile_s[0] > 0 for row in table.rows)
    # Of one machine, engine and precision.
    assert len({(row.tile_s, row.beside) for row in table.rows}) == 1
    assert row_of(table, overlap=0.5).seconds >= row_of(table, overlap=0.25).seconds > 0


def test_what_was_noted_is_not_measured_again(known, measured):
    table, keep = measured
    before = {path: path.stat().st_mtime_ns for path in keep.iterdir()}
    assert measure_settings(known.request(keep)) == table
    assert {path: path.stat().st_mtime_ns for path in keep.iterdir()} == before


def test_a_note_that_is_damaged_or_missing_is_made_anew(known, measured, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "LEAST_SECONDS", 0.0)
    table, keep = measured
    shutil.copytree(keep, tmp_path / "keep")
    first, second, *_ = sorted((tmp_path / "keep").iterdir())
    first.write_text("{")
    second.unlink()
    again = measure_settings(known.request(tmp_path / "keep"))
    found = {str(row.setting): (row.dsc, row.nsd) for row in again.rows}
    assert found == {str(row.setting): (row.dsc, row.nsd) for row in table.rows}
    assert len(list((tmp_path / "keep").iterdir())) == len(list(keep.iterdir()))


CHEAPEST = Setting(num_folds=1, mirroring=False, overlap=0.25, precision="auto", engine="torch")


def test_on_another_machine_and_for_a_judged_model_a_case_is_measured_anew(known, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "LEAST_SECONDS", 0.0)
    task = CaseTask(known.held_out[0], Combination(), (CHEAPEST,), "cpu", tmp_path)
    here = setting_runs.measure_case(task)
    assert setting_runs.measure_case(task) == here
    assert len(list(tmp_path.iterdir())) == 1
    with monkeypatch.context() as elsewhere:
        other = setting_notes.machine_note("cpu").changed(cores=77)
        elsewhere.setattr(setting_runs, "machine_note", lambda device: other)
        setting_runs.measure_case(task)
    assert len(list(tmp_path.iterdir())) == 2
    # Of other channels: whoever judges by it fails.
    subject = SUBJECT.changed(channels=("CT",), kinds=("ct",))
    trust = fit_trust(trust_cases(5), SUBJECT).changed(subject=subject)
    with pytest.raises(TumorsegError, match="the trust profile is of 1: CT"):
        setting_runs.measure_case(task._replace(trust=trust))


def test_sizes_are_those_of_the_case_as_it_is_cropped(known, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "LEAST_SECONDS", 0.0)
    held_out = known.held_out[0]
    images = []
    for number, file in enumerate(held_out.case.images):
        image = nibabel.load(file.path)
        data = np.asanyarray(image.dataobj).copy()
        data[: data.shape[0] // 2] = 0
        path = tmp_path / f"{number}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(data, image.affine), path)
        images.append(file.changed(path=str(path)))
    case = held_out.case.changed(images=tuple(images))
    task = CaseTask(HeldOut(case, held_out.folders), Combination(), (CHEAPEST,), "cpu", tmp_path)
    (note,) = setting_runs.measure_case(task).notes
    (whole,) = case_sizes([load_model([known.fold], "cpu")], [case])[0].shapes
    assert math.prod(note.shapes[0]) < 0.7 * math.prod(whole)


def test_when_the_time_is_over_one_case_has_to_do(known, measured):
    _, keep = measured
    limit = Limit(most_cases=2, seconds=1e-6, engines=("torch",))
    table = measure_settings(known.request(keep, limit=limit))
    assert len(table.cases) == 1
    assert all(row.num_cases == 1 for row in table.rows)


def test_a_case_that_cannot_be_read_is_left_out_and_all_of_them_are_an_error(known, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "LEAST_SECONDS", 0.0)
    broken = known.held_out[0].case
    gone = tuple(file.changed(path=str(tmp_path / "gone.nii.gz")) for file in broken.images)
    held_out = HeldOut(broken.changed(images=gone), known.held_out[0].folders)
    with pytest.raises(TumorsegError, match="none of the held-out cases could be segmented"):
        measure_settings(known.request(tmp_path / "keep", cases=(held_out,)))
    with pytest.raises(InputError, match=f"case {broken.case_id}: .*gone.nii.gz"):
        setting_runs.measure_case(CaseTask(held_out, Combination(), (CHEAPEST,), "cpu", tmp_path))
    with pytest.raises(InputError, match="no held-out case to measure settings on"):
        measure_settings(known.request(tmp_path / "keep", cases=()))


def test_in_processes_of_their_own_the_same_is_brought(known, measured, tmp_path):
    table, _ = measured
    apart = measure_settings(known.request(tmp_path / "keep", in_processes=True))
    assert {str(row.setting): row.dsc for row in apart.rows} == {str(row.setting): row.dsc for row in table.rows}
    # This process holds all the tests before; that one, a model.
    assert apart.rows[0].peak_bytes < table.rows[0].peak_bytes


def held_out_of(folder, name, num_bytes):
    (folder / f"{name}.nii").write_bytes(b"0" * num_bytes)
    case = Case(case_id=name, images=(ImageFile(path=str(folder / f"{name}.nii")),))
    return HeldOut(case, ())


def test_cases_of_all_sizes_are_taken_the_median_first(tmp_path):
    cases = [held_out_of(tmp_path, f"case{number}", 10 + number) for number in (4, 0, 3, 1, 2)]
    names = [one.case.case_id for one in spread(cases, 9)]
    assert names == ["case2", "case4", "case0", "case1", "case3"]
    assert [one.case.case_id for one in spread(cases, 3)] == names[:3]
    assert spread(cases[:1], 3) == cases[:1]


def test_a_score_is_the_mean_over_labels_of_the_mean_over_cases():
    assert mean_score([{"a": 1.0, "b": 0.5}, {"a": 0.0, "b": None}]) == 0.5
    assert mean_score([{"a": None}]) is None


def mirrored(model):
    """Return a model that averages the views along two axes."""
    inference = model.configuration.inference.changed(mirroring=True, mirroring_axes=(0, 2))
    return model._replace(configuration=model.configuration.changed(inference=inference))


def test_folds_have_the_scores_of_one_and_their_own_costs(known):
    model = mirrored(load_model([known.fold], "cpu"))
    two = model._replace(networks=model.networks * 2, weight_hashes=model.weight_hashes * 2)
    grid = grid_of([two], ("torch",))
    assert grid.num_folds == (1, 2)
    notes = []
    for number in range(len(grid.scored)):
        notes.append(CaseNote(dsc={"a": 0.1 * number}, nsd={"a": None}, seconds=3.0, beside_s=2.0, shapes=()))
    costs = {}
    for (engine, precision, num_folds), _ in grid.costing.items():
        costs[engine, precision, num_folds] = CostNote(tile_s=(0.5,), peak_bytes=num_folds)
    sizes = case_sizes([two], [known.held_out[0].case])
    rows = rows_of([two], grid, found=Found(costs, [CaseNotes(megavoxels=4.0, notes=tuple(notes))], sizes))
    assert len(rows) == 2 * len(grid.scored) == 8
    best, second = rows[:2]
    assert best.setting == grid.scored[-1].changed(num_folds=2)
    assert second.setting == grid.scored[-1]
    assert (best.dsc, best.is_of_one_fold, best.peak_bytes) == (second.dsc, True, 2)
    beside_s = best.beside.of(sizes[0].megavoxels)
    assert best.seconds - beside_s == pytest.approx(2 * (second.seconds - beside_s))


def test_only_what_differs_is_measured(known):
    model = mirrored(load_model([known.fold], "cpu"))
    grid = grid_of([model], ("torch", "openvino"))
    assert grid == Grid((1,), (True, False), (0.25, 0.5), grid.precisions, ("torch", "openvino"))
    inference = model.configuration.inference.changed(mirroring=False, overlap=0.3, precision="fp32")
    planned = model._replace(configuration=model.configuration.changed(inference=inference))
    grid = grid_of([planned], ("torch",))
    assert grid == Grid((1,), (False,), (0.25, 0.3, 0.5), ("fp32",), ("torch",))
    assert grid.cheapest == Setting(num_folds=1, mirroring=False, overlap=0.25, precision="fp32", engine="torch")
    assert BesideSeconds().of(3.0) == 0
