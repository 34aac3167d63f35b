import logging
import math

import pytest

from tests.engine.phantoms import configuration_of, fit_of, training_of
from tests.engine.test_ending import ALIKE, STALLING, STANDING
from tumorseg.engine.learner import StepResult
from tumorseg.engine.observers import Step
from tumorseg.schema.logs import EpochLog
from tumorseg.schema.optimizers import ConstantSchedule
from tumorseg.stages.training import observers
from tumorseg.stages.training.observers import Checkpoints, EpochLines, LogFile, Messages, StepBar, StopCheckpoint
from tumorseg.storage.checkpoints import load_checkpoint
from tumorseg.storage.layout import FoldFolder
from tumorseg.storage.weight_files import OWN_NAME, WRITER
from tumorseg.tracking.epoch_lines import Bests
from tumorseg.tracking.epochs import read_epochs
from tumorseg.tracking.pace import Pace

LOG = EpochLog(
    epoch=0,
    iteration=7,
    train_loss=1.0,
    train_losses={},
    loss_weights={},
    validation_loss=None,
    dsc={},
    lr=0.1,
    seconds=1.0,
    data_wait_fraction=0.0,
    memory_bytes=1,
)


@pytest.mark.parametrize(
    ("loss", "level", "message"),
    [
        (math.nan, logging.WARNING, "iteration 4: step not taken, as the loss became nan on cases one, two"),
        (1.0, logging.DEBUG, "iteration 4: step not taken, as the gradient is not finite"),
    ],
)
def test_a_loss_that_is_not_finite_is_a_warning_and_a_gradient_alone_is_not(caplog, loss, level, message):
    with caplog.at_level(logging.DEBUG, logger="tumorseg.stages.training.observers"):
        Messages().on_fault(Step(4, ("one", "two"), StepResult(loss, {}, False)))
    assert [(record.levelno, record.message) for record in caplog.records] == [(level, message)]


def test_the_best_weights_are_kept_apart_from_the_latest_state(tmp_path):
    folder, checkpoints = FoldFolder(tmp_path), Checkpoints(FoldFolder(tmp_path))
    checkpoints.on_epoch(LOG, {"network": {}, "progress": {"iteration": 7}}, is_best=True)
    checkpoints.on_epoch(LOG, {"network": {}, "progress": {"iteration": 9}}, is_best=False)
    assert load_checkpoint(folder.best) == {"network": {}, "iteration": 7, WRITER: OWN_NAME}
    assert load_checkpoint(folder.latest)["progress"] == {"iteration": 9}
    checkpoints.on_stop({"progress": {"iteration": 10}})
    assert load_checkpoint(folder.latest) == {"progress": {"iteration": 10}, WRITER: OWN_NAME}


def test_what_an_interrupted_trial_keeps_is_marked_too(tmp_path):
    folder, keeper = FoldFolder(tmp_path), StopCheckpoint(FoldFolder(tmp_path), 7)
    keeper.on_epoch(LOG.changed(iteration=6), {}, is_best=True)
    assert not folder.latest.exists()
    keeper.on_epoch(LOG, {"network": {}}, is_best=True)
    assert load_checkpoint(folder.latest) == {"network": {}, WRITER: OWN_NAME}
    keeper.on_stop({"network": {"a": 1}})
    assert load_checkpoint(folder.latest) == {"network": {"a": 1}, WRITER: OWN_NAME}


def test_pictures_are_drawn_now_and_then_and_in_the_end(tmp_path, monkeypatch):
    # What a picture shows is tested elsewhere, and takes a second to be drawn.
    monkeypatch.setattr(observers, "progress_png", lambda log, num_epochs, **_: f"{len(log)}/{num_epochs}".encode())
    folder = FoldFolder(tmp_path)
    keeper = LogFile(folder, pace=Pace(21))
    keeper.on_epoch(LOG, {}, False)
    keeper.on_epoch(LOG.changed(epoch=1, iteration=14), {}, False)
    assert folder.progress.read_bytes() == b"1/3"
    keeper.draw()
    assert folder.progress.read_bytes() == b"2/3"
    folder.progress.unlink()
    keeper.draw()  # nothing was logged since
    assert not folder.progress.exists()
    assert len(read_epochs(folder.log)) == 2


def test_a_picture_that_cannot_be_written_does_not_end_a_training(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(observers, "progress_png", lambda *_, **__: b"png")
    (tmp_path / "progress.png").mkdir()
    LogFile(FoldFolder(tmp_path)).on_epoch(LOG, {}, False)
    assert "the picture cannot be drawn" in caplog.text


def test_every_epoch_is_a_line_with_the_best_so_far(caplog):
    pace = Pace(14)
    lines = EpochLines(Bests(), pace, training_of(epochs=2, iterations_per_epoch=7))
    with caplog.at_level(logging.INFO):
        lines.on_epoch(LOG, {}, False)
        pace.total = 21  # the end has moved
        lines.on_epoch(LOG.changed(epoch=1, train_loss=2.0), {}, False)
    first, second = (record.message for record in caplog.records)
    assert first.startswith("epoch 1/2  loss 1.000 (best 1.000)")
    assert second.startswith("epoch 2/3  loss 2.000 (best 1.000)")


def test_the_bar_ends_where_a_training_that_stalls_does():
    texts, configuration = [], configuration_of(2, optimizer=STANDING, schedule=ConstantSchedule())
    fit = fit_of(configuration, STALLING, ALIKE)
    pace = Pace(fit.num_iterations)
    length = fit.learner.optimisation.length
    fit.observers = (StepBar(texts.append, pace, length=length, iterations_per_epoch=2),)
    assert pace.total == 20
    assert fit.run()
    assert pace.total == 6
    assert [text.split(",")[0] for text in texts] == ["epoch 1/10"] * 2 + ["epoch 2/10"] * 2 + ["epoch 3/3"] * 2
