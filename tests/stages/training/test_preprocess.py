import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.stages.conftest import plan_toy
from tests.toys import save, toy_arrays, write_toy
from tumorseg.planning.overrides import Override
from tumorseg.schema.cases import Preprocessing
from tumorseg.schema.dataset import Case, ImageFile
from tumorseg.schema.preprocessing import NoNormalization, ResamplingSpec
from tumorseg.schema.targets import Targets
from tumorseg.stages.opening.loaded import Roots, open_planned_dataset
from tumorseg.stages.planning.fingerprint import fingerprint
from tumorseg.stages.planning.plan import PlanRequest, plan
from tumorseg.stages.training import preprocess as preprocessing_stage
from tumorseg.stages.training.preprocess import (
    PreprocessRequest,
    PreprocessTask,
    StoredCases,
    preprocess,
    preprocess_case,
)
from tumorseg.storage.cases import CaseStore
from tumorseg.storage.layout import work_folder

NUM_CASES = 60


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    root = tmp_path_factory.mktemp("many")
    return plan_toy(root, write_toy(root / "data" / "Toy", num_cases=NUM_CASES))


def preprocessed(toy, roots=None, **overrides):
    """Preprocess the toy by a plan with other values, and return the keys by case_id and when each case was written."""
    given = tuple(Override(field=field, value=value) for field, value in overrides.items())
    made = toy.plan
    if given:
        request = PlanRequest(roots=toy.roots, dataset=str(toy.data), preset="fast_prototyping", overrides=given)
        made = plan(request.model_copy(update={"output": toy.roots.work / "other.json", "jobs": 1})).plan
    request = PreprocessRequest(roots=roots or toy.roots, plan=made, configurations=("3d_fullres",), jobs=1)
    stored = preprocess(request)["3d_fullres"]
    times = {case_id: (stored.folder / key).stat().st_mtime_ns for case_id, key in stored.keys.items()}
    return stored.keys, times


def start(toy, work, *verb):
    command = [sys.executable, "-m", "tumorseg", "-q", "--data-root", str(toy.roots.data_root), "--work", str(work)]
    return subprocess.Popen([*command, *verb], stdout=subprocess.DEVNULL, start_new_session=True)


def start_preprocess(toy, work):
    place = ("-p", str(toy.plan_path), "-d", str(toy.data))
    return start(toy, work, "preprocess", *place, "--configuration", "3d_fullres", "--jobs", "2")


def kill(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def contents(cases, keys):
    """Return everything that the store holds of the cases of these keys (a frame's bytes differ from run to run)."""
    store, found = CaseStore(cases, keys), {}
    for case_id in store.case_ids:
        image, segmentation = store.read(case_id, tuple((0, size) for size in store.shape(case_id)))
        numbers = [store.num_locations(case_id, index) for index in (1, 2)]
        places = [store.location(case_id, index + 1, number - 1) for index, number in enumerate(numbers) if number]
        found[case_id] = (image.tobytes(), segmentation.tobytes(), numbers, places)
    return found


def finished(cases):
    return {path.parent.name: path.stat().st_mtime_ns for path in cases.glob("[!.]*/case.json")}


def wait_for(condition, process, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def test_a_second_run_redoes_nothing_nor_does_another_patch_size(toy):
    _, first = preprocessed(toy)
    assert preprocessed(toy)[1] == first
    assert (
        preprocessed(toy, **{"configurations.3d_fullres.patch_size": [16, 16, 16], "loss.preset": "nnunet"})[1] == first
    )


def test_what_shapes_a_case_gives_it_another_place(toy):
    keys, _ = preprocessed(toy)
    other, _ = preprocessed(toy, **{"configurations.3d_fullres.spacing_mm": [1.5, 1.5, 1.5]})
    assert set(keys.values()).isdisjoint(other.values())


def test_only_the_case_that_changed_is_redone(tmp_path):
    toy = plan_toy(tmp_path, write_toy(tmp_path / "data" / "Toy", num_cases=3))
    keys, times = preprocessed(toy)
    shutil.copy(toy.data / "case_1" / "T2.nii.gz", toy.data / "case_1" / "T1.nii.gz")
    again = plan_toy(tmp_path, toy.data)
    # z-score needs no figures of the dataset, so that a change of one case leaves the others as they are
    new_keys, new_times = preprocessed(again)
    assert {case_id for case_id in keys if keys[case_id] != new_keys[case_id]} == {"case_1"}
    assert all(new_times[case_id] == times[case_id] for case_id in ("case_0", "case_2"))


def test_with_an_ignore_label_the_store_knows_where_background_is_annotated(tmp_path):
    channels, labels = toy_arrays(0)
    labels[:, :, 3:] = 9
    image = ImageFile(path=str(save(channels[..., 0], np.eye(4), tmp_path / "image.nii.gz")))
    case = Case(case_id="a", images=(image,), label=str(save(labels, np.eye(4), tmp_path / "label.nii.gz")))
    spec = Preprocessing(
        orientation="RAS",
        transpose=(0, 1, 2),
        spacing_mm=(1, 1, 1),
        normalization=(NoNormalization(),),
        resampling=ResamplingSpec(),
    )
    targets = Targets(label_values=(0, 2, 7), label_names=("background", "shell", "core"), ignore_value=9)
    preprocess_case(PreprocessTask(case, spec, targets, tmp_path, "key", {}))
    store = CaseStore(tmp_path, {"a": "key"})
    assert store.supervised_classes("a") == (0, 1, 2)
    assert store.num_locations("a", 0) == store.num_voxels("a", 0) == (labels == 0).sum() > 0
    assert store.location("a", 0, 0)[0] < 3


def test_a_case_of_which_a_bit_has_changed_is_made_anew_with_a_word(toy, caplog):
    keys, times = preprocessed(toy)
    cases = work_folder(toy.roots.work, "Toy").cases
    expected, image = contents(cases, keys), cases / keys["case_1"] / "image.b2nd"
    raw = bytearray(image.read_bytes())
    raw[len(raw) // 2] ^= 0x40
    image.write_bytes(raw)
    with caplog.at_level("WARNING", "tumorseg"):
        _, again = preprocessed(toy)
    assert f"case case_1: {image.parent} is damaged, and made anew" in caplog.text
    assert {case_id for case_id in keys if again[case_id] != times[case_id]} == {"case_1"}
    assert contents(cases, keys) == expected


@pytest.mark.slow
def test_a_killed_preprocess_goes_on_with_what_was_not_finished(many, tmp_path):
    expected, _ = preprocessed(many)
    cases = work_folder(tmp_path, "Toy").cases
    kept = {}
    for share in (0.2, 0.7):
        process = start_preprocess(many, tmp_path)
        wait_for(lambda share=share: len(finished(cases)) >= share * NUM_CASES, process)
        kill(process)
        assert kept.items() <= finished(cases).items()
        kept = finished(cases)
        assert len(kept) < NUM_CASES
    assert start_preprocess(many, tmp_path).wait(120) == 0
    assert kept.items() <= finished(cases).items()
    assert contents(cases, expected) == contents(work_folder(many.roots.work, "Toy").cases, expected)
    assert finished(cases).keys() == set(expected.values())


@pytest.mark.slow
def test_two_runs_at_once_on_one_store_corrupt_nothing(many, tmp_path):
    expected, _ = preprocessed(many)
    runs = [start_preprocess(many, tmp_path) for _ in range(2)]
    assert [run.wait(240) for run in runs] == [0, 0]
    cases = work_folder(tmp_path, "Toy").cases
    assert contents(cases, expected) == contents(work_folder(many.roots.work, "Toy").cases, expected)
    assert not list(cases.glob(".partial*"))


@pytest.mark.slow
def test_a_killed_fingerprint_measures_no_case_again(many, tmp_path):
    measurements = work_folder(tmp_path, "Toy").measurements
    process = start(many, tmp_path, "fingerprint", "-d", str(many.data), "--jobs", "2")
    wait_for(lambda: len(list(measurements.glob("*.json"))) >= NUM_CASES // 3, process)
    kill(process)
    kept = {path: path.stat().st_mtime_ns for path in measurements.glob("*.json")}
    assert len(kept) < NUM_CASES
    roots = Roots(data_root=many.roots.data_root, work=tmp_path)
    found = fingerprint(open_planned_dataset(many.plan, roots, str(many.data)), roots, jobs=1)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert found == fingerprint(open_planned_dataset(many.plan, many.roots), many.roots, jobs=1)


def test_comparing_in_full_tells_how_far_it_is_and_names_what_is_whole(tmp_path, monkeypatch, capsys):
    whole = {"a": True, "b": False, "c": True}
    monkeypatch.setattr(preprocessing_stage, "is_stored", lambda _cases, key, in_full=False: whole[key] or not in_full)
    stored = StoredCases(tmp_path, {"case 1": "a", "case 2": "b", "case 3": "c"})
    assert preprocessing_stage._stored_keys(stored, in_full=True) == {"a", "c"}
    assert "compare" in capsys.readouterr().err
    assert preprocessing_stage._stored_keys(stored, in_full=False) == {"a", "b", "c"}
    assert capsys.readouterr().err == ""
