"""`tumorseg cross-evaluate`."""

import pytest

from tumorseg.cli.main import run
from tumorseg.cli.measures import lesions_of
from tumorseg.schema.score_rules import LESION_PRESETS


@pytest.mark.parametrize("shard", ["3/2", "0/2", "1", "a/b", "1/0"])
def test_a_share_that_is_none_is_wrong_usage(shard, tmp_path, capsys):
    assert run(["cross-evaluate", "-m", "m", "-d", "d", "--shard", shard, "-o", str(tmp_path)]) == 2
    assert f"{shard!r} is no share; expected i/n" in capsys.readouterr().err


def test_nothing_to_cross_is_one_line_of_advice(tmp_path, capsys):
    assert run(["cross-evaluate", "-d", "Toy", "-o", str(tmp_path)]) == 1
    shown = capsys.readouterr().err.strip()
    assert shown.count("\n") == 0
    assert "found 0 times -m and 1 times -d" in shown
    assert "--leave-out site -p PLAN" in shown


def test_somebody_elses_file_is_not_written_over(tmp_path, capsys):
    (tmp_path / "cross.json").write_text('{"mine": 1}')
    assert run(["cross-evaluate", "-m", "m", "-d", "d", "-o", str(tmp_path)]) == 1
    assert "cross.json" in capsys.readouterr().err
    assert (tmp_path / "cross.json").read_text() == '{"mine": 1}'


def test_no_model_is_told_with_its_place(tmp_path, capsys):
    assert run(["cross-evaluate", "-m", str(tmp_path / "none"), "-d", "d", "-o", str(tmp_path / "out")]) == 1
    assert "is no model" in capsys.readouterr().err


def test_rules_for_lesions_are_those_of_evaluate(tmp_path, capsys):
    command = ["cross-evaluate", "-m", str(tmp_path / "none"), "-d", "d", "-o", str(tmp_path), "--metrics", "lesions"]
    assert run([*command, "--lesions", "nobody"]) == 2
    assert "there are no rules for lesions called 'nobody'" in capsys.readouterr().err
    assert run([*command, "--lesions", "brats_met"]) == 1
    assert "is no model" in capsys.readouterr().err
    assert lesions_of("brats_met")["lesions"] == LESION_PRESETS["brats_met"].rules
    assert lesions_of(None) == {}
