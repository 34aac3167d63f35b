import json

import pytest

from tests.stages.watching.folds import fold_of, gone, look, states
from tests.tracking.test_epochs import log_of
from tumorseg.tracking.epochs import append_epoch


def test_a_work_folder_may_be_called_as_a_fold_is(tmp_path):
    fold_of(tmp_path / "fold_work", "2")
    assert states(look(tmp_path / "fold_work")) == {"2": "stopped"}


def test_folders_of_the_same_name_that_hold_no_training_are_left_out(tmp_path):
    model = fold_of(tmp_path, "1").root.parent
    for folder, file in (
        (model / "fold_0", "checkpoint_final.pth"),
        (tmp_path / "predictions" / "fold_0", "predictions.json"),
    ):
        folder.mkdir(parents=True)
        (folder / file).write_text("{}")
    assert states(look(tmp_path)) == {"1": "stopped"}
    assert look(model / "fold_0").trainings == ()


@pytest.mark.parametrize("name", ["run", "log", "latest"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    folder = fold_of(tmp_path, phase="stopped", process=gone())
    path = getattr(folder, name)
    path.write_bytes(path.read_bytes()[:9])
    (found,) = look(tmp_path).trainings
    assert found.state == "broken"
    assert path.name in found.note


@pytest.mark.parametrize("content", [b'{"phase": "napping"}', b"{", b"\xff"])
def test_a_sign_that_cannot_be_read_breaks_no_training(tmp_path, content):
    folder = fold_of(tmp_path, epochs=4, has_scores=True, phase="finished")
    folder.alive.write_bytes(content)
    (found,) = look(tmp_path).trainings
    assert found.state == "finished"
    assert found.note.startswith("alive.json: ")
    folder.run.unlink()
    (found,) = look(tmp_path).trainings
    assert found.state == "broken"
    assert found.note.startswith("alive.json: ")


@pytest.mark.parametrize(
    "changed",
    [{}, {"dsc": None}, {"dsc": "none"}, {"iteration": 0}, {"epoch": -1}, {"train_loss": "x"}, {"train_loss": None}],
)
def test_a_log_whose_last_line_is_unsound_breaks_its_own_row_alone(tmp_path, changed):
    line = log_of(0).model_dump(mode="json") | changed if changed else {}
    fold_of(tmp_path, "0").log.write_text(json.dumps(line) + "\n")
    fold_of(tmp_path, "1")
    report = look(tmp_path)
    assert states(report) == {"0": "broken", "1": "stopped"}
    assert "log.jsonl" in report.trainings[0].note


@pytest.mark.parametrize("sign", [{}, {"phase": "preparing"}, {"phase": "stopped", "num_iterations": 200}])
def test_a_training_that_was_made_longer_is_not_at_its_end(tmp_path, sign):
    given = sign | ({"process": gone()} if sign else {})
    folder = fold_of(tmp_path, epochs=0, has_scores=True, **given)
    for epoch in range(4):
        append_epoch(folder.log, log_of(epoch).changed(num_iterations=200))
    folder.latest.write_bytes(fold_of(tmp_path, "1").latest.read_bytes())
    assert look(tmp_path).trainings[0].state == "finished"
    longer = {"epochs": 6, "iterations_per_epoch": 50, "extension": {"after_epochs": 4}}
    folder.plan.write_text(json.dumps({"training": longer}))
    found = look(tmp_path).trainings[0]
    assert found.state in ("stopped", "killed")
    assert (found.epoch, found.num_epochs, found.num_iterations) == (4, 6, 300)


def test_a_plan_without_a_length_is_broken(tmp_path):
    fold_of(tmp_path).plan.write_text("{}")
    fold_of(tmp_path, "1").plan.write_text('{"training": []}')
    assert [one.state for one in look(tmp_path).trainings] == ["broken", "broken"]


def test_a_folder_without_anything_is_no_training(tmp_path):
    (tmp_path / "Toy" / "models" / "toy" / "2d" / "fold_0").mkdir(parents=True)
    assert states(look(tmp_path)) == {}


def test_a_training_without_its_record_is_broken_and_nobody_is_told_to_remove_it(tmp_path):
    fold_of(tmp_path).run.unlink()
    (found,) = look(tmp_path).trainings
    assert (found.state, found.note.partition(";")[0]) == (
        "broken",
        "run.json is missing, and so is any sign of life",
    )
    assert "remove" not in found.note
