import logging
import math

import torch

from tumorseg.engine.learner import Inputs, StepResult
from tumorseg.engine.observers import Step
from tumorseg.schema.logs import TrainingEvent
from tumorseg.stages.training.fault_observers import EventFile, FaultyBatches
from tumorseg.storage.fault_files import read_batch
from tumorseg.storage.layout import FoldFolder
from tumorseg.tracking.events import read_events

BATCH = Inputs(torch.full((2, 1, 2, 2, 2), math.inf), torch.ones(2, 2, 2, 2, dtype=torch.int64))
LOST = Step(4, ("a", "b"), StepResult(math.nan, {}, False), BATCH)


def test_a_batch_whose_loss_is_not_finite_is_kept_and_its_file_told(tmp_path, caplog):
    folder = FoldFolder(tmp_path)
    FaultyBatches(folder).on_fault(LOST)
    FaultyBatches(folder).on_fault(LOST._replace(inputs=None))
    (path,) = folder.faults.iterdir()
    arrays, facts = read_batch(path)
    assert torch.equal(torch.from_numpy(arrays["images"]), BATCH.images)
    assert torch.equal(torch.from_numpy(arrays["segmentations"]), BATCH.segmentations)
    assert facts == {"iteration": 4, "case_ids": ["a", "b"], "loss": "nan"}
    assert str(path) in caplog.text


def test_a_batch_that_cannot_be_kept_is_no_end_of_a_training(tmp_path, caplog):
    (tmp_path / "faults").write_text("a file")
    FaultyBatches(FoldFolder(tmp_path)).on_fault(LOST)
    assert "the batch cannot be kept" in caplog.text


def test_events_are_kept_and_told_but_for_those_that_are_told_elsewhere(tmp_path, caplog):
    folder = FoldFolder(tmp_path)
    events = [TrainingEvent(kind=kind, iteration=3, message=f"it was {kind}") for kind in ("skipped", "divided")]
    with caplog.at_level(logging.INFO, logger="tumorseg"):
        for event in events:
            EventFile(folder).on_event(event)
    assert read_events(folder.events) == events
    assert [record.message for record in caplog.records] == ["iteration 3: it was divided"]
