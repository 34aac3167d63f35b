import json

import pytest

from tumorseg.errors import StorageError
from tumorseg.schema.logs import EpochLog
from tumorseg.tracking.epochs import append_epoch, last_epoch, read_epochs, truncate_epochs


def log_of(epoch):
    return EpochLog(
        epoch=epoch,
        iteration=(epoch + 1) * 50,
        train_loss=1 / (epoch + 1),
        train_losses={"dice": 0.5, "cross_entropy": 0.25},
        loss_weights={"dice": 1.0, "cross_entropy": 1.0},
        validation_loss=None,
        dsc={"ödem": None, "core": 0.1 + 0.2},
        lr=0.01,
        seconds=1.5,
        data_wait_fraction=0.0,
        memory_bytes=2**31,
    )


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "fold_0" / "log.jsonl"
    for epoch in range(3):
        append_epoch(path, log_of(epoch))
    return path


def test_an_epoch_is_one_line_of_json_with_sorted_keys(path):
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) == 3
    for epoch, line in enumerate(lines):
        assert EpochLog.model_validate_json(line) == log_of(epoch)
        assert list(json.loads(line)) == sorted(json.loads(line))


def test_epochs_are_read_in_their_order(path):
    assert [epoch["epoch"] for epoch in read_epochs(path)] == [0, 1, 2]
    assert read_epochs(path)[2]["dsc"] == {"ödem": None, "core": 0.1 + 0.2}


def test_a_training_without_a_log_has_no_epochs(tmp_path):
    assert read_epochs(tmp_path / "log.jsonl") == []
    truncate_epochs(tmp_path / "log.jsonl", 2)
    assert not (tmp_path / "log.jsonl").exists()


@pytest.mark.parametrize(("keep", "left"), [(0, 0), (1, 1), (3, 3), (9, 3)])
def test_epochs_beyond_a_checkpoint_are_forgotten_and_the_others_untouched(path, keep, left):
    before = path.read_text("utf-8").splitlines(keepends=True)
    truncate_epochs(path, keep)
    assert path.read_text("utf-8") == "".join(before[:left])
    append_epoch(path, log_of(left))
    assert len(read_epochs(path)) == left + 1


def test_a_damaged_log_is_a_storage_error(tmp_path):
    (tmp_path / "log.jsonl").write_text("{")
    with pytest.raises(StorageError, match="the log is damaged"):
        read_epochs(tmp_path / "log.jsonl")


def test_the_last_epoch_of_a_long_log_is_read_from_its_end(path):
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("x" * 2**20 + "\n" + lines[2], "utf-8")
    assert last_epoch(path) == json.loads(lines[2])


def test_a_log_without_epochs_has_no_last_one(tmp_path):
    assert last_epoch(tmp_path / "log.jsonl") is None
    (tmp_path / "log.jsonl").write_text("")
    assert last_epoch(tmp_path / "log.jsonl") is None


@pytest.mark.parametrize("text", ["{", "[1]\n"])
def test_an_end_that_is_damaged_is_a_storage_error(tmp_path, text):
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(StorageError, match=r"log\.jsonl"):
        last_epoch(tmp_path / "log.jsonl")
