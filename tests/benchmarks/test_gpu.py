"""What `make gpu` does on a machine without a GPU, with packages missing, and with parts that take too long."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import tests
from benchmarks.gpu.environment import packages
from benchmarks.gpu.parts import MOST_S, PARTS, Outcome, Part, run_part
from benchmarks.gpu.sizes import MissingError, Size, Timing, attempt, median_seconds
from benchmarks.gpu.tables import condensed, shown, table

ROOT = Path(__file__).parents[2]
TRIED = Size("cpu", is_tiny=True)


@pytest.fixture
def without(tmp_path, monkeypatch):
    """Return what hides a package from all processes that are started."""

    def hide(name):
        lines = (
            "import sys",
            "class Hidden:",
            "    def find_spec(self, name, path=None, target=None):",
            f"        if name.partition('.')[0] == {name!r}:",
            "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)",
            "sys.meta_path.insert(0, Hidden())",
        )
        (tmp_path / "sitecustomize.py").write_text("\n".join(lines))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return hide


def run(monkeypatch, *arguments):
    """Run the command in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["gpu", "--dry-run", "--device", "cpu", *arguments])
    return command.main()


def test_all_parts_together_take_less_than_ten_minutes():
    assert sum(part.limit_s for part in PARTS) <= MOST_S < 600


def test_a_part_over_its_limit_is_told_as_that_and_the_others_go_on(tmp_path, monkeypatch, capsys, without):
    without("torch")  # which takes seconds to begin
    monkeypatch.setattr(command, "PARTS", (Part("losses", 0.005), Part("environment", 60)))
    assert run(monkeypatch, "--result", str(tmp_path / "gpu.json")) == 1
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert {name: part["status"] for name, part in parts.items()} == {
        "losses": "over its limit",
        "environment": "done",
    }
    assert {"what": "python", "found": sys.version.split()[0]} in parts["environment"]["rows"]
    assert parts["environment"]["rows"][-1] == {"skipped": "torch is not installed"}
    assert "== losses: over its limit" in capsys.readouterr().out


def test_no_part_begins_once_the_time_of_all_is_over(tmp_path, monkeypatch):
    assert run(monkeypatch, "--minutes", "0", "--result", str(tmp_path / "gpu.json")) == 1
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert list(parts) == [part.name for part in PARTS]
    assert {part["status"] for part in parts.values()} == {"over its limit"}


def test_a_dry_run_leaves_the_committed_result_alone(monkeypatch):
    written = {file: file.stat().st_mtime_ns for file in command.RESULT.parent.iterdir()}
    run(monkeypatch, "--minutes", "0")
    assert {file: file.stat().st_mtime_ns for file in command.RESULT.parent.iterdir()} == written


def test_a_part_whose_package_is_not_installed_is_skipped_by_its_name(without):
    without("torch")
    outcome = run_part("losses", TRIED, 60)
    assert (outcome.status, outcome.note, outcome.rows) == ("skipped", "torch is not installed", [])
    assert outcome.is_sound


def test_tests_are_told_one_by_one_and_what_they_lack_by_name(tmp_path, without):
    without("nowhere")
    (tmp_path / "test_odd.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('value', [1, 2])\n"
        "def test_passes(value): assert value\n"
        "def test_fails(): assert 1 == 2\n"
        "@pytest.mark.skip(reason='not today')\n"
        "def test_waits(): pass\n"
        "def test_lacks(): import nowhere.else_where\n"
    )
    (tmp_path / "test_broken.py").write_text("import nowhere\n")
    (tmp_path / "test_wrong.py").write_text("import benchmarks.gpu.nothing\n")
    script = "import sys, json, pytest; from benchmarks.gpu.tests import Recorder; rows = []\n"
    script += "pytest.main(['-q', '-p', 'no:cacheprovider', '--continue-on-collection-errors', '--rootdir', *sys.argv[1:]], plugins=[Recorder(rows.append)])\n"
    script += "print('ROWS' + json.dumps(rows))"
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(done.stdout.partition("ROWS")[2])
    found = {row["test"].rpartition("::")[2] or row["test"]: row for row in rows}
    assert {name: row["outcome"] for name, row in found.items()} == {
        "test_broken.py": "skipped",
        "test_wrong.py": "failed",
        "test_passes[1]": "passed",
        "test_passes[2]": "passed",
        "test_fails": "failed",
        "test_waits": "skipped",
        "test_lacks": "skipped",
    }
    assert found["test_lacks"]["skipped"] == found["test_broken.py"]["skipped"] == "nowhere is not installed"
    assert found["test_waits"]["skipped"] == "Skipped: not today"
    assert "assert 1 == 2" in found["test_fails"]["failed"]
    kept = condensed(rows)
    assert [(row["passed"], row["failed"], row["skipped"]) for row in kept[:3]] == [(0, 0, 1), (0, 1, 0), (2, 1, 2)]
    assert {row["test"] for row in kept[3:5]} == {"test_wrong.py", found["test_fails"]["test"]}
    assert [(row["skipped"], row["tests"]) for row in kept[5:8]] == [
        ("nowhere is not installed", 1),
        ("Skipped: not today", 1),
        ("nowhere is not installed", 1),
    ]
    assert [row["outcome"] for row in kept[8:]] == ["passed", "passed"]
    assert not Outcome("done", 1.0, "", kept).is_sound
    assert Outcome("done", 1.0, "", [row for row in kept if not row.get("failed")]).is_sound


def test_files_below_a_conftest_that_lacks_a_package_are_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    for name in ("tests.toys", "tests.stages.conftest"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    file = "tests/stages/test_main_job_on_gpu.py"
    monkeypatch.setattr(tests, "files_with_gpu_tests", lambda: [ROOT / file])
    rows = []
    tests.measure(TRIED, rows.append)
    assert rows == [{"test": file, "outcome": "skipped", "skipped": "nibabel is not installed"}]


def test_a_row_that_cannot_be_measured_says_why_and_faults_of_ours_come_through():
    def fails(error):
        def measure():
            raise error

        return measure

    rows = []
    for error in (
        torch.OutOfMemoryError("CUDA out of memory"),
        ValueError("first\nsecond"),
        MissingError("no compiler"),
        ModuleNotFoundError("No module named 'triton'", name="triton.language"),
    ):
        attempt(rows.append, {"number": len(rows)}, fails(error), size=TRIED)
    assert rows == [
        {"number": 0, "failed": "OutOfMemoryError: CUDA out of memory"},
        {"number": 1, "failed": "ValueError: first"},
        {"number": 2, "skipped": "no compiler"},
        {"number": 3, "skipped": "triton is not installed"},
    ]
    assert not Outcome("done", 1.0, "", rows).is_sound
    assert Outcome("done", 1.0, "", rows[2:]).is_sound
    with pytest.raises(ModuleNotFoundError):
        attempt(
            rows.append, {}, fails(ModuleNotFoundError("No module named 'tumorseg.x'", name="tumorseg.x")), size=TRIED
        )


def test_what_would_not_end_in_time_is_not_begun():
    rows = []
    size = Size("cpu", is_tiny=True, ends_at=time.monotonic() + 20)
    for takes_s in (10.0, 30.0):
        attempt(rows.append, {"takes": takes_s}, lambda: {"ran": True}, size=size, takes_s=takes_s)
    assert rows == [
        {"takes": 10.0, "ran": True},
        {"takes": 30.0, "skipped": "no time is left for what takes some 30 s"},
    ]


def test_work_is_run_as_often_as_the_timing_says():
    ran = []
    median_seconds(lambda: ran.append(0), "cpu", Timing(warm_up=2, least_runs=3, most_runs=9, most_s=0.0))
    assert len(ran) == 5
    median_seconds(lambda: ran.append(0), "cpu", Timing(warm_up=0, least_runs=1, most_runs=4, most_s=60.0))
    assert len(ran) == 9


def test_rows_of_the_same_columns_stand_in_one_table():
    rows = [{"a": 1, "b": 0.123456}, {"a": 22, "b": True}, {"a": 3, "failed": "one\ntwo"}]
    assert table(rows) == ["", "a   b", "1   0.1235", "22  yes", "", "a  failed", "3  two"]
    assert shown("losses", Outcome("failed", 2.5, "why\nnot", [])).splitlines() == [
        "== losses: failed, 2.5 s, 0 rows",
        "   why",
        "   not",
    ]


def test_every_dependency_is_looked_for():
    found = packages()
    assert {"torch", "pydantic", "pytest", "psycopg", "openvino", "triton"} <= set(found)
    assert not any(set("<>=![;, ") & set(name) for name in found)


def test_every_file_with_a_gpu_test_is_run_the_slow_ones_last():
    names = [file.name for file in tests.files_with_gpu_tests()]
    assert {"test_learner_on_gpu.py", "test_losses_on_gpu.py", "test_on_gpu.py"} <= set(names)
    assert names[-1] == "test_rehearse.py"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize(
    ("arguments", "message"), [([], "no CUDA device that torch sees"), (["--device", "cpu"], "goes with --dry-run")]
)
def test_without_a_gpu_nothing_is_begun(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments])
    assert command.main() == 1
    assert message in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_target_installs_nothing():
    done = subprocess.run(["make", "-n", "gpu"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "python -m benchmarks.gpu" in done.stdout
    assert "pip" not in done.stdout


@pytest.mark.slow
def test_every_part_runs_on_the_processor(tmp_path, monkeypatch, capsys):
    code = run(monkeypatch, "--result", str(tmp_path / "gpu.json"))
    result = json.loads((tmp_path / "gpu.json").read_text())
    told = capsys.readouterr().out
    assert code == 0, told
    assert result["machine"]["python"] == sys.version.split()[0]
    assert result["dry_run"]
    for part in PARTS:
        found = result["parts"][part.name]
        assert found["status"] == "done", told
        assert found["rows"], told
        assert f"== {part.name}: done" in told


@pytest.mark.slow
def test_plans_and_variants_of_a_full_run_are_there():
    from benchmarks.gpu.reference_plans import planned
    from benchmarks.gpu.training import jobs

    size = Size("cuda", is_tiny=False)
    found = [(planned(*name, size), variant.training("cuda")) for name, variant in jobs(size)]
    assert {one.plan.name for one, _ in found} >= {"BrainTumour__nnunet", "LiverCT__optimized", "CineHeart__optimized"}
    assert {training.precision.cuda for _, training in found} == {"fp16", "bf16", "fp32"}
    assert any(training.channels_last.cuda for _, training in found)
    assert found[-1][1].compile.cuda
