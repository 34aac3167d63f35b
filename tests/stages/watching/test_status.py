import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.stages.watching.folds import age, elsewhere, fold_of, gone, here, look, sign_of, states
from tumorseg.cli import status as verb
from tumorseg.cli.main import run
from tumorseg.errors import InputError
from tumorseg.reports.status_table import status_text
from tumorseg.stages.watching.status import watch_trainings


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Return a work folder with trainings in every state; nobody writes into it."""
    tmp_path = tmp_path_factory.mktemp("runs")
    fold_of(tmp_path, "0", epochs=4, has_scores=True, phase="finished", best_dsc=0.8)
    fold_of(
        tmp_path,
        "1",
        phase="training",
        iteration=120,
        num_iterations=200,
        epoch=3,
        num_epochs=4,
        seconds_left=75.0,
    )
    fold_of(tmp_path, "2", phase="stopped", message="a checkpoint is kept", process=gone())
    fold_of(tmp_path, "3", phase="training", process=gone())
    fold_of(tmp_path, "4", phase="failed", message="case 3: no such file", process=gone())
    fold_of(tmp_path, "5", epochs=4, phase="validating", process=gone())
    fold_of(tmp_path, "6", phase="training", process=elsewhere())
    silent = fold_of(tmp_path, "7", phase="training", process=elsewhere())
    age(silent.alive, 600)
    damaged = fold_of(tmp_path, "8")
    damaged.plan.write_text("{")
    fold_of(tmp_path, "10", epochs=0, phase="preparing").run.unlink()
    fold_of(tmp_path, "all", epochs=4, phase="finished", has_validation=False)
    fold_of(tmp_path, "0.20260101-101010")
    return tmp_path


def test_every_training_is_told_by_its_state(work):
    report = look(work)
    assert states(report) == {
        "all": "finished",
        "0": "finished",
        "1": "training",
        "2": "stopped",
        "3": "killed",
        "4": "failed",
        "5": "not validated",
        "6": "training",
        "7": "silent",
        "8": "broken",
        "10": "preparing",
    }
    assert report.num_aside == 1


def test_a_row_has_epoch_scores_time_left_and_what_to_do(work):
    found = {one.fold: one for one in look(work).trainings}
    assert (found["1"].epoch, found["1"].num_epochs, found["1"].seconds_left) == (3, 4, 75.0)
    assert (found["0"].epoch, found["0"].num_epochs, found["0"].dsc, found["0"].best_dsc) == (4, 4, 0.8, 0.8)
    assert found["3"].epoch == 2
    assert found["4"].note == "case 3: no such file"
    assert "plan.json" in found["8"].note
    assert 590 < found["7"].seconds_silent < 700
    assert {one.dataset for one in found.values()} == {"Toy"}


def test_the_table_names_what_is_common_once(work):
    text = status_text(look(work))
    assert text.startswith("dataset Toy, plan toy, configuration 3d_fullres\n\nfold")
    (row,) = (line for line in text.splitlines() if line.startswith("1 "))
    assert row.split()[:6] == ["1", "training", "3/4", "0.600", "(0.600)", "1:15"]
    assert text.endswith("1 moved aside by --restart are not listed")
    assert "11 trainings: " in text


@pytest.mark.parametrize("depth", range(5))
def test_any_folder_may_be_given_down_to_one_fold(work, depth):
    below = ("Toy", "models", "toy", "3d_fullres", "fold_1")
    places = list(itertools.accumulate(below, lambda folder, name: folder / name, initial=work))
    report = look(places[depth + 1])
    assert "1" in states(report)
    assert {one.dataset for one in report.trainings} == {"Toy"}


def test_a_folder_given_twice_is_looked_at_once(work):
    assert len(look(work, work / "Toy").trainings) == 11


def test_a_fold_is_looked_at_from_inside_it(work, monkeypatch):
    monkeypatch.chdir(work / "Toy" / "models" / "toy" / "3d_fullres" / "fold_1")
    assert states(look(Path())) == {"1": "training"}
    assert len(look(Path(), work).trainings) == 11


def test_an_end_on_a_plateau_is_an_end(tmp_path):
    fold_of(tmp_path, epochs=3, has_scores=True, phase="finished", num_iterations=150)
    assert states(look(tmp_path)) == {"0": "finished"}


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        look(tmp_path / "runs")


def test_nothing_is_written(work):
    before = sorted(work.rglob("*"))
    look(work)
    assert sorted(work.rglob("*")) == before


def test_the_next_look_sees_what_changed(tmp_path):
    folder = fold_of(tmp_path, "1", phase="training")
    reports = watch_trainings((tmp_path,))
    assert states(next(reports)) == {"1": "training"}
    folder.alive.write_text(sign_of("stopped", message="a checkpoint is kept").model_dump_json())
    fold_of(tmp_path, "2", epochs=0, phase="preparing")
    assert states(next(reports)) == {"1": "stopped", "2": "preparing"}


def test_the_best_is_no_less_than_what_is_logged(tmp_path):
    fold_of(tmp_path, epochs=2, phase="training", best_dsc=0.5, process=gone())
    (found,) = look(tmp_path).trainings
    assert found.best_dsc == found.dsc == 0.6


def test_a_process_that_ends_is_seen_to_be_killed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    fold_of(tmp_path, phase="training", process=here(process.pid))
    reports = watch_trainings((tmp_path,))
    assert states(next(reports)) == {"0": "training"}
    process.kill()
    process.wait()
    assert states(next(reports)) == {"0": "killed"}
    process.stdin.close()


def test_many_trainings_take_a_moment_and_a_second_look_less(tmp_path):
    for number in range(100):
        fold_of(tmp_path, str(number % 5), plan=f"plan_{number // 5}", epochs=0, phase="stopped", process=gone())
    reports = watch_trainings((tmp_path,))
    started = time.process_time()
    assert len(next(reports).trainings) == 100
    first = time.process_time() - started
    next(reports)
    assert first < 1
    assert time.process_time() - started - first < first


def test_status_loads_no_torch():
    code = (
        "import sys, tumorseg.stages.watching.status, tumorseg.reports.status_table, tumorseg.cli.status;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'mlflow', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_the_verb_prints_a_table_or_one_json_object(work, capsys):
    assert run(["--work", str(work), "status"]) == 0
    assert "not validated" in capsys.readouterr().out
    assert run(["--work", str(work), "--json", "status", str(work / "Toy")]) == 0
    assert len(json.loads(capsys.readouterr().out)["trainings"]) == 11
    assert run(["--work", str(work / "none"), "status"]) == 1
    assert run(["--json", "--work", str(work), "status", "--watch"]) == 2


def test_an_empty_work_folder_has_no_training(tmp_path, capsys):
    assert run(["--work", str(tmp_path), "status"]) == 0
    assert capsys.readouterr().out == f"no training below {tmp_path}\n"


class _Clock:
    """Ends a watch after so many looks, by Ctrl-C."""

    def __init__(self, looks, meanwhile):
        self.looks, self.meanwhile = looks, meanwhile

    def __call__(self, _seconds):
        self.looks -= 1
        self.meanwhile()
        if not self.looks:
            raise KeyboardInterrupt


def test_where_there_is_no_terminal_watching_prints_what_changed_until_ctrl_c(tmp_path, capsys, monkeypatch):
    folder = fold_of(tmp_path, "1", phase="training", iteration=1, epoch=3, num_epochs=4)
    phases = iter(["training", "stopped", "stopped"])

    def go_on():
        folder.alive.write_text(sign_of(next(phases), iteration=1, epoch=3, num_epochs=4).model_dump_json())

    monkeypatch.setattr(verb.time, "sleep", _Clock(3, go_on))
    assert run(["--work", str(tmp_path), "status", "--watch"]) == 130
    assert capsys.readouterr().out.count("1 training: ") == 2


def test_on_a_terminal_watching_draws_over_what_it_drew(work, capsys, monkeypatch):
    monkeypatch.setattr(verb.time, "sleep", _Clock(2, lambda: None))
    monkeypatch.setattr(verb.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "10")
    assert run(["--work", str(work), "status", "--watch"]) == 130
    first, second = capsys.readouterr().out.removeprefix("\x1b[H").split("\x1b[H")
    assert first == second
    lines = first.removesuffix("\x1b[J").split("\x1b[K\n")[:-1]
    assert len(lines) < 10
    assert max(map(len, lines)) <= 40
    assert lines[-1].startswith("11 trainings: ")


def wait_until(is_so, seconds=120):
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.1)


@pytest.mark.slow
def test_a_real_training_is_seen_to_train_and_to_be_killed(toy, tmp_path):
    command = [sys.executable, "-m", "tumorseg", "-q", "--data-root", str(toy.roots.data_root), "--work", str(tmp_path)]
    options = ["train", "-p", str(toy.plan_path), "--fold", "1", "--epochs", "500", "--device", "cpu", "--no-mlflow"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    reports = watch_trainings((tmp_path,))
    # Before the first sign there may be no folder at all.
    wait_until(lambda: [one.state for one in next(reports).trainings if one.seconds_left] == ["training"])
    (running,) = next(reports).trainings
    assert (running.process_id, running.fold, running.num_epochs) == (process.pid, "1", 500)
    process.kill()
    process.wait()
    (killed,) = next(reports).trainings
    assert (killed.state, killed.note) == ("killed", "while training; the same command goes on")


def test_a_real_training_is_finished(trained, toy):
    (found,) = (one for one in look(toy.roots.work).trainings if one.folder == str(trained.folder.root))
    assert (found.state, found.epoch, found.num_epochs, found.iteration) == ("finished", 2, 2, 6)
    assert found.dataset == toy.plan.dataset.name
    assert (found.fold, found.plan, found.configuration) == ("0", toy.plan.name, "3d_fullres")
