import json
import logging
import math
import os
import time

import pytest

from tests.engine.phantoms import training_of
from tests.stages.training.test_observers import LOG
from tumorseg.engine.learner import StepResult
from tumorseg.engine.observers import Step
from tumorseg.errors import Stopped, TrainingError
from tumorseg.schema.alive import SignOfLife
from tumorseg.stages.training.observers import EpochLines
from tumorseg.stages.watching.signs import Signs
from tumorseg.storage.layout import FoldFolder
from tumorseg.tracking.epoch_lines import Bests
from tumorseg.tracking.pace import Pace


def read(folder):
    return SignOfLife.model_validate_json(folder.alive.read_text())


def wait_for(folder, is_there):
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        if folder.alive.is_file() and is_there(read(folder)):
            return read(folder)
        time.sleep(0.01)
    raise AssertionError("no such sign was given")


@pytest.fixture
def folder(tmp_path):
    return FoldFolder(tmp_path / "fold_0")


def step_of(iteration, loss=1.5):
    return Step(iteration, ("case",), StepResult(loss, {}, math.isfinite(loss)))


def test_a_training_gives_signs_from_its_first_phase_to_its_end(folder):
    with Signs(folder, has_validation=True, beat_s=0.02) as signs:
        assert not folder.alive.exists()
        signs.enter("preparing")
        first = wait_for(folder, lambda sign: sign.num_beats > 1)
        assert (first.phase, first.iteration, first.process.process_id) == ("preparing", None, os.getpid())
        signs.enter("finished")
    last = read(folder)
    assert last.phase == "finished"
    assert last.num_beats > first.num_beats
    assert last.began_at == first.began_at <= first.beat_at <= last.beat_at


def test_signs_tell_where_the_steps_stand(folder):
    pace, bests = Pace(20, 10, span=5, usual_s=2.0), Bests()
    bests.add(1.0, {"a": 0.5})
    with Signs(folder, has_validation=False, beat_s=0.02) as signs:
        signs.train(pace, bests, epoch_length=5)
        assert wait_for(folder, lambda sign: sign.phase == "training").seconds_left == pytest.approx(20, abs=1)
        lines = EpochLines(bests, pace, training_of())
        for iteration, loss in ((10, 1.25), (11, math.nan)):
            pace.step()
            if math.isnan(loss):
                signs.on_fault(step_of(iteration, loss))
            signs.on_step(step_of(iteration, loss))
        for observer in (lines, signs):
            observer.on_epoch(LOG.changed(dsc={"a": 0.6, "b": None}), {}, False)
        sign = wait_for(folder, lambda sign: sign.best_dsc == 0.6)
        signs.enter("finished")
    assert (sign.iteration, sign.num_iterations, sign.epoch, sign.num_epochs) == (12, 20, 3, 4)
    assert (sign.loss, sign.num_skipped, sign.best_dsc) == (None, 1, 0.6)
    assert read(folder).seconds_left is None


@pytest.mark.parametrize(
    ("error", "phase", "message"),
    [
        (KeyboardInterrupt(), "stopped", "interrupted"),
        (Stopped("a checkpoint after 3 of 9 steps is kept"), "stopped", "a checkpoint after 3 of 9 steps is kept"),
        (TrainingError("the loss is nan", lines=["case 1"]), "failed", "the loss is nan case 1"),
        (ZeroDivisionError("by 0"), "failed", "ZeroDivisionError: by 0"),
        (MemoryError(), "failed", "MemoryError: MemoryError"),
        (TrainingError("x" * 1000), "failed", "x" * 299 + "…"),
    ],
)
def test_the_last_sign_tells_how_it_ended(folder, error, phase, message):
    def end():
        with Signs(folder, has_validation=True, beat_s=60) as signs:
            signs.enter("preparing")
            raise error

    with pytest.raises(type(error)):
        end()
    assert (read(folder).phase, read(folder).message) == (phase, message)


def test_a_process_that_ends_itself_gives_its_last_sign_before(folder):
    with Signs(folder, has_validation=True, beat_s=60) as signs:
        signs.train(Pace(20), Bests(), epoch_length=5)
        signs.fail("process 1 failed: no room; the same command goes on")
        assert (read(folder).phase, read(folder).message.partition(":")[0]) == ("failed", "process 1 failed")


def test_the_last_sign_is_the_last(folder):
    with Signs(folder, has_validation=True, beat_s=60) as signs:
        signs.enter("preparing")
        signs.enter("finished")
    signs.fail("process 1 has given no sign")
    assert read(folder).phase == "finished"


def test_without_a_phase_there_is_no_sign(folder):
    with pytest.raises(TrainingError), Signs(folder, has_validation=True):
        raise TrainingError("the folder holds another training")
    assert not folder.root.exists()


def test_signs_that_cannot_be_written_are_told_once_and_hurt_nobody(tmp_path, caplog):
    (tmp_path / "fold_0").write_text("a file where the folder belongs")
    with (
        caplog.at_level(logging.WARNING),
        Signs(FoldFolder(tmp_path / "fold_0"), has_validation=True, beat_s=0.01) as signs,
    ):
        signs.enter("preparing")
        ends = time.monotonic() + 10
        while signs._num_beats < 4 and time.monotonic() < ends:
            time.sleep(0.01)
        signs.enter("finished")
    assert signs._num_beats >= 4
    assert len(caplog.records) == 1
    assert "no sign of life could be given" in caplog.text


def test_a_sign_is_json_that_people_can_read(folder):
    with Signs(folder, has_validation=True) as signs:
        signs.enter("preparing")
        signs.enter("finished")
    assert json.loads(folder.alive.read_text())["process"]["process_id"] == os.getpid()
