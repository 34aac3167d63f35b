import json

import pytest

from tests.planning.measured import fingerprint
from tumorseg.cli.main import run
from tumorseg.losses.presets import LOSS_PRESETS
from tumorseg.schema.base import to_json
from tumorseg.schema.losses import COMPONENTS


def test_losses_list_names_every_preset_loss_and_parameter(capsys):
    assert run(["losses", "list"]) == 0
    text = capsys.readouterr().out
    for name in (*LOSS_PRESETS, *COMPONENTS):
        assert f"  {name}" in text
    assert "max_distance_mm = 20.0: Distances are cut off here; null for none." in text
    assert "1→0.5 dice + cross_entropy + 0→0.5 boundary" in text


def test_losses_list_as_json_has_parameters_with_defaults(capsys):
    assert run(["--json", "losses", "list"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [preset["name"] for preset in found["presets"]] == list(LOSS_PRESETS)
    focal = next(loss for loss in found["losses"] if loss["name"] == "focal")
    assert focal["parameters"]["gamma"]["default"] == 2.0
    assert focal["targets"] == "labels or regions"


@pytest.fixture
def measured(tmp_path):
    path = tmp_path / "fingerprint.json"
    path.write_text(to_json(fingerprint()))
    return path


def plan(tmp_path, measured, setting):
    output = tmp_path / "plan.json"
    options = ["--preset", "fast_prototyping", "--set", setting, "-o", str(output)]
    return run(["plan", "--fingerprint", str(measured), *options]), output


def test_a_loss_preset_may_be_a_file(tmp_path, measured):
    path = tmp_path / "thin_vessels.json"
    path.write_text(
        '{"components": [{"name": "jaccard"}, {"name": "focal", "gamma": {"name": "warm_up", "value": 2}}]}'
    )
    code, output = plan(tmp_path, measured, f"loss.preset={path}")
    assert code == 0
    loss = json.loads(output.read_text())["configurations"]["2d"]["loss"]
    assert loss["preset"] == "thin_vessels"
    assert loss["components"][1]["gamma"] == {"name": "warm_up", "value": 2.0, "until": 0.1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "expected a JSON object with components"),
        ('{"components": []}', "components"),
        ("{", "JSON"),
        (None, "no such"),
    ],
)
def test_a_loss_file_that_makes_no_sense_is_one_line(tmp_path, measured, capsys, content, message):
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_text(content)
    code, output = plan(tmp_path, measured, f"loss.preset={path}")
    assert (code, output.exists()) == (1, False)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert "mine.json" in error
