"""`tumorseg plan` and its verbs."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.planning.measured import fingerprint
from tumorseg.cli.main import run
from tumorseg.cli.plan import VERBS
from tumorseg.storage.json_files import write_record


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    write_record(folder / "f.json", fingerprint())
    options = ["--preset", "fast_prototyping", "--set", "training.epochs=7", "-o", str(folder / "Toy__plan.json")]
    assert run(["plan", "--fingerprint", str(folder / "f.json"), *options]) == 0
    return folder / "Toy__plan.json"


@pytest.fixture
def path(made, tmp_path):
    return shutil.copy(made, tmp_path / made.name)


def result_of(capsys, *arguments, code=0):
    assert run(["--json", *map(str, arguments)]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_about_plans_explains_itself(verb, capsys):
    assert run(["plan", verb, "--help"]) == 0
    assert f"Usage: tumorseg plan {verb} " in capsys.readouterr().out


def test_help_lists_options_and_verbs(capsys):
    assert run(["plan", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--fingerprint" in shown
    assert all(f"\n  {verb} " in shown for verb in VERBS)


def test_options_of_planning_before_a_verb_are_wrong_usage(path, capsys):
    assert run(["plan", "-d", "Toy", "--jobs", "1", "explain", str(path)]) == 2
    assert "`plan explain` makes no plan and knows no --dataset, --jobs before it" in capsys.readouterr().err


def test_planning_works_as_without_verbs(tmp_path, capsys):
    write_record(tmp_path / "f.json", fingerprint())
    made = result_of(capsys, "plan", "--fingerprint", tmp_path / "f.json", "-o", tmp_path / "p.json")
    assert made["plan"] == json.loads((tmp_path / "p.json").read_text())
    assert run(["plan"]) == 1
    assert "no dataset: give -d DATASET" in capsys.readouterr().err


def test_a_network_that_a_rule_chose_is_told_with_its_reason(tmp_path, capsys):
    write_record(tmp_path / "f.json", fingerprint())
    options = [
        "--fingerprint",
        str(tmp_path / "f.json"),
        "--preset",
        "fast_prototyping",
        "-o",
        str(tmp_path / "p.json"),
    ]
    assert run(["plan", *options, "--network", "auto"]) == 0
    shown = capsys.readouterr().out
    assert "    network      plain_unet (--network auto: plain_unet, as 800 steps are a short training" in shown
    assert run(["plan", *options, "--force"]) == 0
    assert "    network      plain_unet\n" in capsys.readouterr().out


def test_explaining_prints_every_value_and_says_what_was_written(path, capsys, tmp_path):
    told = result_of(capsys, "plan", "explain", path)
    assert told["values"]["training.epochs"] == {
        "value": 7,
        "meaning": "Epochs; after each one there is a validation and a checkpoint.",
        "rule": "set by the user",
        "inputs": {"value": 7, "planned": 40},
        "alternative": None,
        "is_set_by_user": True,
    }
    assert told["networks"]["2d"]["stages"][0]["receptive_field"]["voxels"] == [5, 5]
    assert run(["plan", "explain", str(path), "--html", str(tmp_path / "p.html")]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith(f"written to {tmp_path / 'p.html'}\n")
    assert "because  set by the user" in shown


def test_a_difference_is_no_failure(path, capsys, tmp_path):
    document = json.loads(path.read_text())
    document["training"]["epochs"] = 8
    (tmp_path / "other.json").write_text(json.dumps(document))
    told = result_of(capsys, "plan", "diff", path, tmp_path / "other.json")
    assert (told["is_same"], told["before"], told["after"]) == (False, "Toy__plan", "other")
    assert [entry["field"] for entry in told["differences"]] == ["training.epochs"]
    assert result_of(capsys, "plan", "diff", path, path)["is_same"]
    assert run(["plan", "diff", str(path), str(path)]) == 0
    assert "the same in everything but their names" in capsys.readouterr().out


def test_validating_leaves_with_1_only_if_there_is_an_error(path, capsys):
    assert result_of(capsys, "plan", "validate", path, "--no-data")["findings"] == []
    document = json.loads(path.read_text())
    document["budget"]["vram_bytes"] = 2**29
    path.write_text(json.dumps(document))
    report = result_of(capsys, "plan", "validate", path, "--no-data", code=1)
    assert {found["kind"] for found in report["findings"]} == {"over_budget"}
    assert run(["plan", "validate", str(path), "--no-data"]) == 1
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["severity", "kind", "case", "file", "message"]
    assert shown.endswith(" errors, 0 warnings, 0 notes; compared with no dataset\n")


def test_no_data_and_a_dataset_are_wrong_usage(path, capsys):
    assert run(["plan", "validate", str(path), "--no-data", "-d", "Toy"]) == 2
    assert "leave out -d" in capsys.readouterr().err


def test_a_plan_that_is_not_there_is_one_line(tmp_path, capsys):
    for verb in (["explain"], ["diff", str(tmp_path / "a.json")], ["validate"]):
        assert run(["plan", *verb, str(tmp_path / "b.json")]) == 1
        assert "no such file" in capsys.readouterr().err


@pytest.mark.slow
def test_help_of_plan_loads_nothing_and_comparing_no_torch(path):
    code = "import sys; from tumorseg.cli.main import run; run({}); sys.exit(any(n in sys.modules for n in {}))"
    for arguments, heavy in (
        (["plan", "--help"], ("torch", "pydantic", "numpy", "matplotlib")),
        (["plan", "diff", str(path), str(path)], ("torch", "SimpleITK")),
        (["plan", "explain", str(path)], ("torch", "SimpleITK")),
        (["plan", "validate", str(path), "--no-data"], ("matplotlib",)),
    ):
        done = subprocess.run([sys.executable, "-c", code.format(arguments, heavy)], capture_output=True, check=False)
        assert done.returncode == 0, (arguments, done.stderr)
