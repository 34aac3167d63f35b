import logging
import math

import pytest

from tumorseg.engine.learner import StepResult
from tumorseg.engine.observers import Step
from tumorseg.schema.logs import EpochLog
from tumorseg.stages.training.observers import Checkpoints, Messages
from tumorseg.storage.checkpoints import load_checkpoint
from tumorseg.storage.layout import FoldFolder

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
    assert load_checkpoint(folder.best) == {"network": {}, "iteration": 7}
    assert load_checkpoint(folder.latest)["progress"] == {"iteration": 9}
    checkpoints.on_stop({"progress": {"iteration": 10}})
    assert load_checkpoint(folder.latest) == {"progress": {"iteration": 10}}
