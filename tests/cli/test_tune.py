"""`tumorseg tune`: what can be known before anything is trained."""

import json

import pytest

from tests.toys import write_toy
from tumorseg.cli.main import run
from tumorseg.schema.tuning import TuningResult
from tumorseg.stages.opening.loaded import Roots, read_plan
from tumorseg.stages.tuning.opening import open_study, study_folder
from tumorseg.stages.tuning.request import TuneRequest
from tumorseg.storage.json_files import write_record


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Global options of a data root with a toy dataset, and of a work folder."""
    folder = tmp_path_factory.mktemp("tune")
    write_toy(folder / "Toy", num_cases=6)
    return ["-q", "--data-root", folder, "--work", folder / "runs"]


@pytest.fixture(scope="module")
def plan_path(roots):
    path = roots[2] / "Toy__plan.json"
    options = ["--preset", "fast_prototyping", "--jobs", "1", "-o", path]
    assert run(list(map(str, [*roots, "plan", "-d", "Toy", *options]))) == 0
    return path


def told_by(capsys, *arguments, code=1):
    """Return the only line that a refused command tells."""
    assert run(list(map(str, arguments))) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith(("error: ", "Error: "))]
    return line


def test_a_study_needs_a_plan_and_a_limit(plan_path, capsys):
    assert "give -p PLAN, or --worker STUDY_FOLDER" in told_by(capsys, "tune", "--trials", 3, code=2)
    assert "give --trials or --hours, or both" in told_by(capsys, "tune", "-p", plan_path, code=2)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--objectives", "dsc,dice", "expected some of dsc, nsd, hd95, seconds, each once"),
        ("--objectives", "dsc,dsc", "each once"),
        ("--objectives", "", "expected some of dsc"),
        ("--folds", "one", "expected numbers of folds"),
        ("--folds", "1,1", "each once"),
        ("--spare", "-1", "expected numbers of folds"),
        ("--sampler", "cmaes", "'cmaes' is not one of"),
        ("--pruner", "asha", "'asha' is not one of"),
        ("--trials", "0", "0 is not in the range x>=1"),
        ("--hours", "nan", "nan is not a finite number"),
        ("--jobs", "0", "0 is not in the range"),
        ("--seed", "-1", "-1 is not in the range"),
    ],
)
def test_values_that_make_no_sense_are_wrong_usage(plan_path, option, value, words, capsys):
    assert words in told_by(capsys, "tune", "-p", plan_path, "--trials", 2, option, value, code=2)


def test_a_worker_takes_the_study_as_it_is(plan_path, tmp_path, capsys):
    told = told_by(capsys, "tune", "--worker", tmp_path, "-p", plan_path, "--sampler", "gp", "--folds", "0", code=2)
    assert "leave out --plan, --sampler, --folds" in told


def test_a_worker_of_a_folder_that_is_no_study_is_refused_in_one_line(tmp_path, capsys):
    told = told_by(capsys, "tune", "--worker", tmp_path)
    assert "is no study's folder" in told
    assert list(tmp_path.iterdir()) == []


def test_a_plan_that_is_not_there_is_refused_in_one_line(tmp_path, capsys):
    assert "none.json: no such file" in told_by(capsys, "tune", "-p", tmp_path / "none.json", "--trials", 2)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"parameters": [{"name": "real", "field": "optimizer.lrr", "low": 0.1, "high": 0.2}]}, "did you mean lr?"),
        (
            {"parameters": [{"name": "real", "field": "optimizer.lr", "low": 0.2, "high": 0.2}]},
            "the range of optimizer.lr is empty",
        ),
        (
            {"parameters": [{"name": "real", "field": "optimizer.lr", "low": 0, "high": 1, "scale": "log"}]},
            "must begin above 0",
        ),
        ({"parameters": []}, "parameters"),
        ({"fields": []}, "fields"),
    ],
)
def test_an_unsound_space_is_refused_in_one_line(roots, plan_path, tmp_path, space, words, capsys):
    (tmp_path / "space.json").write_text(json.dumps(space))
    before = sorted(plan_path.parent.iterdir())
    arguments = [*roots, "tune", "-p", plan_path, "--trials", 2, "--space", tmp_path / "space.json"]
    assert words in told_by(capsys, *arguments)
    assert sorted(plan_path.parent.iterdir()) == before
    assert not list(plan_path.parent.glob("runs/*/studies/*/study.json"))


def test_a_space_that_is_no_json_or_no_family_is_refused_in_one_line(roots, plan_path, tmp_path, capsys):
    (tmp_path / "space.json").write_text("{")
    arguments = [*roots, "tune", "-p", plan_path, "--trials", 2, "--space"]
    assert "space.json: is not JSON" in told_by(capsys, *arguments, tmp_path / "space.json")
    assert "none.json: no such file" in told_by(capsys, *arguments, tmp_path / "none.json")
    assert "losss" in told_by(capsys, *arguments, "losss")


@pytest.fixture
def begun(roots, plan_path, tmp_path):
    """Return a function that begins a study of the plan, of two trials, and returns its folder."""

    def begin(name):
        own = Roots(data_root=roots[2], work=roots[4])
        output = tmp_path / "child.json"
        request = TuneRequest(roots=own, plan=read_plan(plan_path), trials=2, study=name, output=output)
        folder = study_folder(request)
        open_study(request, folder, "cpu")
        return folder

    return begin


def files_in(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def finish(folder):
    """Write what a study found: nothing that is better than the plan."""
    study = json.loads(folder.study.read_text())
    found = {"trials": (), "pareto": (), "importances": {}, "judged": (), "verdicts": (), "chosen": None}
    told = {"claim": "No candidate was shown to be better.", "seconds": 1.0, "worker_seconds": 1.0}
    write_record(folder.result, TuningResult(study=study, **found, **told))


def test_a_study_of_another_plan_is_refused_in_one_line(roots, plan_path, begun, tmp_path, capsys):
    folder = begun("of_another_plan")
    document = json.loads(plan_path.read_text())
    document["training"]["seed"] += 1
    (tmp_path / "other.json").write_text(json.dumps(document))
    before = files_in(folder.root)
    told = told_by(capsys, *roots, "tune", "-p", tmp_path / "other.json", "--trials", 2, "--study", "of_another_plan")
    assert "holds a study of plan Toy__plan" in told
    assert "begin another study with --study NAME" in told
    assert files_in(folder.root) == before
    assert not (tmp_path / "other__tuned.json").exists()


def test_a_worker_of_another_version_is_refused_in_one_line(roots, begun, capsys):
    folder = begun("of_another_version")
    study = json.loads(folder.study.read_text()) | {"tumorseg_version": "0.0.0"}
    folder.study.write_text(json.dumps(study))
    before = files_in(folder.root)
    told = told_by(capsys, *roots, "tune", "--worker", folder.root)
    assert "was written by tumorseg 0.0.0" in told
    assert "use that one, or begin another study" in told
    assert files_in(folder.root) == before


def test_a_storage_that_does_not_answer_is_refused_in_one_line_without_its_password(roots, plan_path, begun, capsys):
    pytest.importorskip("psycopg")
    folder = begun("unreachable")
    before = files_in(folder.root)
    storage = ["--storage", "postgresql://user:secret@127.0.0.1:1/x"]
    arguments = [*roots, "tune", "-p", plan_path, "--trials", 2, "--study", "unreachable", *storage]
    assert run(list(map(str, arguments))) == 1
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: postgresql://")
    assert "127.0.0.1:1/x does not answer" in line
    assert "secret" not in err
    assert files_in(folder.root) == before


def test_an_edited_child_plan_is_refused_before_any_work(roots, plan_path, tmp_path, capsys):
    output = tmp_path / "edited.json"
    output.write_text("{}")
    before = files_in(roots[4])
    arguments = [*roots, "tune", "-p", plan_path, "--trials", 2, "--study", "never_begun", "-o", output]
    assert "give another -o, or --force to replace it" in told_by(capsys, *arguments)
    assert output.read_text() == "{}"
    assert files_in(roots[4]) == before


def test_an_edited_child_plan_is_replaced_with_force(roots, plan_path, begun, tmp_path, capsys):
    finish(begun("forced"))
    output = tmp_path / "edited.json"
    arguments = [*roots, "tune", "-p", plan_path, "--trials", 2, "--study", "forced", "-o", output]
    assert run(list(map(str, arguments))) == 0
    written = output.read_text()
    edited = json.loads(written)
    edited["training"]["seed"] += 1
    output.write_text(json.dumps(edited))
    capsys.readouterr()
    assert "was edited" in told_by(capsys, *arguments)
    assert run(list(map(str, [*arguments, "--force"]))) == 0
    assert output.read_text() == written
