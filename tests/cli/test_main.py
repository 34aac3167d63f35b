import json
import subprocess
import sys

import pytest

import tumorseg
from tests.sources import layouts
from tests.toys import write_toy
from tumorseg.cli.data import VERBS as DATA_VERBS
from tumorseg.cli.main import VERBS, run, share_cores

SET = [
    "--set",
    "training.epochs=1",
    "--set",
    "training.iterations_per_epoch=2",
    "--set",
    "training.validation_iterations=1",
]


def test_importing_and_helping_load_no_torch():
    code = (
        "import sys, tumorseg; from tumorseg.cli.main import run; run(['--help']);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'monai', 'pydantic', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_measuring_and_preprocessing_load_no_torch():
    code = (
        "import sys, tumorseg.stages.planning.fingerprint, tumorseg.stages.training.preprocess;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'monai', 'mlflow')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
    assert run([verb, "--help"]) == 0
    assert "Usage: tumorseg" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["plan", "--nothing"], ["plan", "nothing"], ["plan", "explain"], ["train"]]
)
def test_wrong_usage_exits_2(arguments, capsys):
    assert run(arguments) == 2
    assert "Usage" in capsys.readouterr().err


@pytest.mark.parametrize("name", tumorseg.__all__)
def test_every_public_name_is_there(name):
    assert getattr(tumorseg, name) is not None


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tumorseg.nothing


def test_the_chain_prints_one_json_object_per_verb(tmp_path, capsys):
    write_toy(tmp_path / "Toy", num_cases=3)
    plan = str(tmp_path / "toy.json")

    def call(*arguments):
        before = ["-q", "--json", "--data-root", str(tmp_path), "--work", str(tmp_path / "runs")]
        assert run([*before, *arguments]) == 0
        return json.loads(capsys.readouterr().out)

    assert call("fingerprint", "-d", "Toy", "--jobs", "1", "-o", str(tmp_path / "f.json"))["num_cases"] == 3
    made = call("plan", "-d", "Toy", "--preset", "fast_prototyping", *SET, "--jobs", "1", "-o", plan)
    assert made["plan"]["training"]["epochs"] == 1
    assert call("preprocess", "-p", plan, "--configuration", "3d_fullres", "--jobs", "1")["cases"] == {"3d_fullres": 3}
    trained = call("train", "-p", plan, "--fold", "0", "--device", "cpu")
    assert trained["is_finished"]
    assert call("validate", "-m", trained["folder"]) == trained["metrics"]
    predicted = call("predict", "-m", trained["folder"], "-i", str(tmp_path / "Toy"), "-o", str(tmp_path / "out"))
    assert len(predicted["files"]) == 3
    scores = call(
        "evaluate", "-i", str(tmp_path / "out"), "-r", str(tmp_path / "Toy"), "-d", "Toy", "-o", str(tmp_path / "s")
    )
    assert set(scores["summary"]) == {"shell", "core"}


def test_the_chain_prints_tables_for_people(tmp_path, capsys):
    write_toy(tmp_path / "Toy", num_cases=2)
    plan = str(tmp_path / "toy.json")
    before = ["-v", "--data-root", str(tmp_path), "--work", str(tmp_path / "runs")]
    assert run([*before, "plan", "-d", "Toy", "--preset", "fast_prototyping", *SET, "--jobs", "1", "-o", plan]) == 0
    shown = capsys.readouterr()
    assert "3d_fullres (default)" in shown.out
    assert "fingerprint: 2/2" in shown.err
    training = ["train", "-p", plan, "--fold", "0", "--device", "cpu", "--jobs", "1", "--num-workers"]
    assert run([*before, *training, "-1"]) == 2
    assert run([*before, *training, "0"]) == 0
    shown = capsys.readouterr()
    assert "dsc" in shown.out
    assert "patches are read by 0 workers, 0 batches ahead" in shown.err


@pytest.mark.parametrize("verb", DATA_VERBS)
def test_every_verb_about_data_explains_itself(verb, capsys):
    assert run(["data", verb, "--help"]) == 0
    assert "Usage: tumorseg data" in capsys.readouterr().out


def test_known_datasets_are_listed_with_their_place(tmp_path, capsys):
    layouts.write_msd(tmp_path / "Task04_Hippocampus")
    layouts.edit_json(layouts.write_msd(tmp_path / "Task02_Heart"), training=[])
    assert run(["--data-root", str(tmp_path), "--json", "data", "list"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["datasets"]}
    there, missing = listed["MSD_Hippocampus"], listed["BraTS2021"]
    assert (there["path"], there["num_cases"], there["can_fetch"]) == (str(tmp_path / "Task04_Hippocampus"), 3, True)
    assert (missing["path"], missing["num_cases"], missing["can_fetch"]) == (None, None, False)
    assert "synapse.org" in missing["how_to_get"]
    assert run(["--data-root", str(tmp_path), "data", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["MSD_Hippocampus"] == f"MSD_Hippocampus    {tmp_path / 'Task04_Hippocampus'}, 3 cases"
    assert "cannot be opened: " in lines["MSD_Heart"]
    assert lines["MSD_Colon"].endswith("not there; `tumorseg data fetch MSD_Colon` gets it")
    assert lines["BraTS2021"].endswith(
        "not there; `tumorseg data fetch BraTS2021` says how to get it (registration needed)"
    )


@pytest.mark.parametrize("stated", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "5"}])
def test_threads_that_wait_share_the_cores_unless_the_user_says_otherwise(stated):
    environment: dict[str, str] = {}
    share_cores(environment)
    assert environment == {"GOMP_SPINCOUNT": "10000"}
    environment = dict(stated)
    share_cores(environment)
    assert environment == stated
