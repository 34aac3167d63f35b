import json
import logging
import shutil

import nibabel
import numpy as np
import pytest

from tests.stages.selection.conftest import CONFIGURATION
from tumorseg.cli.main import run
from tumorseg.errors import InputError, StorageError
from tumorseg.schema.selection import Selection
from tumorseg.stages.inference.ensemble_folder import read_ensemble
from tumorseg.stages.inference.predict import PredictRequest, predict
from tumorseg.stages.selection.measure_settings import Limit
from tumorseg.stages.selection.select import Rules, SelectRequest, select
from tumorseg.storage.ensemble_layout import EnsembleFolder
from tumorseg.storage.json_files import read_record
from tumorseg.storage.layout import work_folder
from tumorseg.storage.locks import hold_folder

QUICKLY = Rules(limit=Limit(most_cases=1, seconds=0.0, engines=("torch",)), in_processes=False)

# The whole command, with all that it measures.
pytestmark = pytest.mark.slow


def request_of(study, output, **fields):
    return SelectRequest(roots=study.roots, plans=study.plans, device="cpu", output=output, **fields)


@pytest.fixture(scope="module")
def selected(study, tmp_path_factory):
    return select(request_of(study, tmp_path_factory.mktemp("selected") / "best"), QUICKLY)


def written(folder):
    """Return what a model folder holds, but for what was measured on the machine."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("settings.json", "report.html"):
            files[path.relative_to(folder).as_posix()] = path.read_bytes()
    return files


def test_one_folder_holds_the_members_and_what_is_known_of_them(selected):
    folder = EnsembleFolder(selected.output)
    document = read_ensemble(selected.output)
    assert selected.is_new
    assert all(path.is_file() for path in (folder.trust, folder.settings, folder.selection, folder.report))
    assert document.combination == selected.selection.combination
    names = [f"{member.plan}/{member.configuration}" for member in document.members]
    assert names == list(selected.selection.choice.members)
    assert all(member.folds == ("0", "1", "2") for member in document.members)


def test_the_document_tells_every_case_every_trial_and_an_honest_gain(selected):
    found = read_record(Selection, EnsembleFolder(selected.output).selection)
    assert found == selected.selection
    assert [case.case_id for case in found.cases] == [f"case_{number}" for number in range(6)]
    assert {one.name for one in found.candidates} == {f"first/{CONFIGURATION}", f"second/{CONFIGURATION}"}
    assert [gain.name for gain in found.gains] == [None, "shell", "core"]
    assert len(found.by_part) == 3
    mean = np.mean([case.selected for case in found.cases]) - np.mean([case.baseline for case in found.cases])
    assert found.gain.gain == pytest.approx(mean)
    assert ("may be claimed" in found.claim) is not found.gain.is_claimed


def test_predict_takes_the_folder_from_anywhere(selected, study, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(selected.output, moved)
    images = tmp_path / "in"
    images.mkdir()
    for number, name in enumerate(("T1", "T2")):
        shutil.copy(study.toy.data / "case_1" / f"{name}.nii.gz", images / f"case_{number:04d}.nii.gz")
    made = predict(PredictRequest(models=(moved,), inputs=(images,), output=tmp_path / "out", device="cpu"))
    mask = np.asanyarray(nibabel.load(made.files["case"]).dataobj)
    assert mask.shape == nibabel.load(images / "case_0000.nii.gz").shape


def test_a_second_run_does_nothing_and_says_so(selected, study, caplog):
    caplog.set_level(logging.INFO, "tumorseg")
    before = {path: path.stat().st_mtime_ns for path in selected.output.rglob("*")}
    again = select(request_of(study, selected.output), QUICKLY)
    assert not again.is_new
    assert again.selection == selected.selection
    assert {path: path.stat().st_mtime_ns for path in selected.output.rglob("*")} == before
    assert "there is nothing to do" in caplog.text


def test_a_folder_that_holds_another_selection_or_anything_else_is_left_alone(selected, study, tmp_path):
    with pytest.raises(InputError, match="chosen from other trainings or cases; move it elsewhere"):
        select(SelectRequest(roots=study.roots, plans=study.plans[:1], device="cpu", output=selected.output), QUICKLY)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("kept")
    with pytest.raises(InputError, match="is there already, and no ensemble"):
        select(request_of(study, tmp_path / "mine"), QUICKLY)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "kept"


def test_what_is_kept_makes_another_folder_of_the_same_content_without_a_pass(selected, study, tmp_path):
    work = work_folder(study.roots.work, "Toy")
    before = sorted(path.name for path in work.probabilities.iterdir())
    again = select(request_of(study, tmp_path / "best"), QUICKLY)
    assert again.selection == selected.selection
    assert written(again.output) == written(selected.output)
    assert sorted(path.name for path in work.probabilities.iterdir()) == before


def test_without_a_cache_the_same_is_chosen(selected, study, tmp_path):
    roots = study.roots.changed(work=tmp_path / "runs")
    ignored = shutil.ignore_patterns("probabilities", "selections")
    shutil.copytree(study.roots.work, roots.work, ignore=ignored)
    again = select(request_of(study._replace(roots=roots), tmp_path / "best", cache_gb=0.0), QUICKLY)
    assert written(again.output) == written(selected.output)
    assert list((roots.work / "Toy" / "probabilities").iterdir()) == []


def test_two_at_once_on_one_dataset_are_refused(study, tmp_path):
    folder = work_folder(study.roots.work, "Toy").probabilities
    with (
        hold_folder(folder.resolve(), doing="filled", error=StorageError),
        pytest.raises(StorageError, match="being filled by another process"),
    ):
        select(request_of(study, tmp_path / "best"), QUICKLY)
    assert not (tmp_path / "best").exists()


def test_the_command_tells_the_gain_the_choice_and_the_folder(selected, study, tmp_path, capsys):
    paths = []
    for plan in study.plans:
        paths += ["-p", str(tmp_path / f"{plan.name}.json")]
        (tmp_path / f"{plan.name}.json").write_text(plan.model_dump_json())
    roots = ["--data-root", str(study.roots.data_root), "--work", str(study.roots.work)]
    arguments = ["select", *paths, "--device", "cpu", "-o", str(selected.output)]
    assert run(["-q", *roots, "--json", *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["output"] == str(selected.output)
    assert told["is_new"] is False
    assert told["gain"]["gain"] == selected.selection.gain.gain
    assert told["combination"] == selected.selection.combination.model_dump(mode="json")
    assert run(["-q", *roots, *arguments]) == 0
    shown = capsys.readouterr().out
    assert selected.selection.claim in shown
    assert selected.selection.choice.text in shown
