import json

import pytest

from tumorseg.errors import PlanError, StorageError
from tumorseg.schema.training import EarlyStop, Extension
from tumorseg.stages.inference.folds import is_finished, known_weights
from tumorseg.stages.opening.extending import check_epochs, make_longer, reached
from tumorseg.stages.opening.fold_folders import (
    TrainOptions,
    begin_run,
    check_begun,
    fold_plan,
    resolve_options,
    write_run,
)
from tumorseg.stages.opening.loaded import read_plan
from tumorseg.stages.training.request import TrainRequest
from tumorseg.stages.training.train import train
from tumorseg.storage.checkpoints import load_checkpoint, save_checkpoint
from tumorseg.storage.layout import FoldFolder
from tumorseg.tracking.events import read_events

WATCH = {"sum": 0.0, "first": None, "last": None}
BASE = TrainOptions(epochs=2, iterations=2)


def request_of(toy, fold="0", **changes):
    fields = {"configuration": "2d", "has_validation": False, "options": BASE, "num_workers": 0} | changes
    return TrainRequest(roots=toy.roots, plan=toy.plan, device="cpu", jobs=1, fold=fold, **fields)


def run_of(toy, epochs=None, **options):
    return begin_run(toy.plan, "2d", "0", TrainOptions(epochs=epochs, **options))


def log_of(folder):
    return [json.loads(line) for line in folder.log.read_text().splitlines()]


@pytest.fixture
def finished(toy, tmp_path):
    """The folder of a training that has taken its two epochs of two steps."""
    folder = FoldFolder(tmp_path / "fold_0")
    write_run(folder, resolve_options(toy.plan, BASE), run_of(toy, 2, iterations=2))
    progress, length = {"iteration": 4, "losses": []}, {"tail": None, "watch": None}
    save_checkpoint(folder.latest, {"network": {}, "progress": progress, "length": length})
    return folder


@pytest.mark.slow  # three short trainings
def test_a_larger_number_of_epochs_makes_a_finished_training_longer_by_a_tail(toy):
    folder = train(request_of(toy, "1")).folder
    before, log = load_checkpoint(folder.latest), log_of(folder)
    done = train(request_of(toy, "1", options=TrainOptions(epochs=4)))
    assert done.is_finished
    resolved = read_plan(folder.plan)
    assert (resolved.training.epochs, resolved.training.extension) == (4, Extension(after_epochs=2))
    assert resolved.reasons["training.epochs"].source == "user"
    longer = log_of(folder)
    assert longer[:2] == log
    assert [line["iteration"] for line in longer] == [2, 4, 6, 8]
    lr = toy.plan.configurations["2d"].optimizer.lr
    # Half of the way from a tenth to a thousandth after two of four steps.
    assert [line["lr"] for line in longer[2:]] == pytest.approx([lr * (0.1 + 0.001) / 2, lr * 0.001])
    after = load_checkpoint(folder.latest)
    assert after["progress"]["iteration"] == 8
    assert any((after["network"][name] != value).any() for name, value in before["network"].items())
    (event,) = read_events(folder.events)
    assert (event.kind, event.iteration) == ("extended", 4)
    assert "longer from 2 to 4 epochs" in event.message
    state = folder.latest.read_bytes()
    assert train(request_of(toy, "1", options=TrainOptions(epochs=4))).is_finished
    assert folder.latest.read_bytes() == state
    with pytest.raises(PlanError, match="made longer to 4 epochs and is finished after 4 epochs, now --epochs 2"):
        train(request_of(toy, "1"))


def test_a_training_killed_while_it_was_made_longer_goes_on_with_the_same_command_or_none(toy, finished):
    make_longer(finished, run_of(toy, 5))
    written = finished.plan.read_bytes()
    assert not is_finished(finished)
    assert reached(finished, fold_plan(finished).training) == (4, 10, False)
    # No word of it is in the file of options, and nothing has been trained.
    for run in (run_of(toy, 5), run_of(toy)):
        check_begun(finished, run)
        make_longer(finished, run)
    assert finished.plan.read_bytes() == written
    assert len(read_events(finished.events)) == 1
    with pytest.raises(
        PlanError, match="made longer to 5 epochs and has been trained for 2 of 5 epochs, now --epochs 6"
    ):
        check_epochs(finished, run_of(toy, 6))


@pytest.mark.parametrize("epochs", [1, 2])
def test_no_more_epochs_than_there_are_make_nothing_longer(toy, finished, epochs):
    run = json.loads(finished.run.read_text())
    run["options"]["epochs"] = None
    finished.run.write_text(json.dumps(run))
    with pytest.raises(
        PlanError, match=rf"with --iterations 2 and is finished after 2 epochs, now --epochs {epochs} is"
    ):
        check_epochs(finished, run_of(toy, epochs))


def test_a_training_that_is_not_finished_cannot_be_made_longer(toy, finished):
    state = load_checkpoint(finished.latest)
    state["progress"]["iteration"] -= 1
    save_checkpoint(finished.latest, state)
    for expected in ("trained for 1 of 2", "trained for 0 of 2"):
        with pytest.raises(PlanError, match=rf"{expected} epochs, now --epochs 3 is asked for; leave it out"):
            check_epochs(finished, run_of(toy, 3))
        finished.latest.unlink(missing_ok=True)


def test_an_epoch_whose_validation_is_still_to_come_is_no_end(finished):
    state = load_checkpoint(finished.latest)
    assert reached(finished, fold_plan(finished).training).is_end
    state["progress"]["losses"] = [1.0]
    save_checkpoint(finished.latest, state)
    assert not reached(finished, fold_plan(finished).training).is_end


@pytest.mark.parametrize(
    ("length", "problem"),
    [
        ({"tail": None, "watch": None}, "watch is missing"),
        ({"tail": {"start": 3, "end": 3, "lr_from": 0.1, "lr_to": 0.01}, "watch": WATCH}, "tail is not within the 4"),
        ({"tail": {"start": 1, "end": 9, "lr_from": 0.1, "lr_to": 0.01}, "watch": WATCH}, "tail is not within the 4"),
    ],
)
def test_a_checkpoint_that_cannot_be_of_the_plan_is_told(finished, length, problem):
    training = fold_plan(finished).training.changed(early_stop=EarlyStop())
    save_checkpoint(finished.latest, {"progress": {"iteration": 4, "losses": []}, "length": length})
    with pytest.raises(StorageError, match=rf"latest\.ckpt: is no checkpoint of a training: length\.{problem}"):
        reached(finished, training)


def test_a_folder_in_the_place_of_a_checkpoint_is_no_beginning(finished):
    finished.latest.unlink()
    finished.latest.mkdir()
    with pytest.raises(StorageError, match=r"latest\.ckpt: is a folder"):
        reached(finished, fold_plan(finished).training)


def test_other_options_than_epochs_still_need_a_restart(toy, finished):
    with pytest.raises(PlanError, match="was begun with --epochs 2, --iterations 2, now --epochs 4, --seed 3"):
        check_begun(finished, run_of(toy, 4, seed=3))


@pytest.mark.parametrize("options", [{"epochs": 2}, {"max_hours": 1.0}])
def test_a_training_that_begins_with_a_length_of_its_own_has_no_extension(toy, finished, options):
    make_longer(finished, run_of(toy, 5))
    begun = resolve_options(fold_plan(finished), TrainOptions(**options))
    assert begun.training.extension is None
    kept = resolve_options(fold_plan(finished), TrainOptions(iterations=7)).training
    assert (kept.extension, kept.iterations_per_epoch) == (Extension(after_epochs=2), 7)


def test_a_folder_without_a_training_has_nothing_to_be_made_longer(toy, tmp_path):
    make_longer(FoldFolder(tmp_path), run_of(toy, 4))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # four short trainings
def test_a_training_that_stalls_is_finished_sooner_and_can_be_made_longer(toy):
    training = toy.plan.training.changed(early_stop=EarlyStop(patience=0.1, anneal_fraction=0.5, threshold=0.9))
    # Of steps this small no loss falls.
    two = toy.plan.configurations["2d"]
    optimizer = two.optimizer.changed(lr=1e-12)
    plan = toy.plan.changed(
        name="stalls",
        training=training,
        configurations=toy.plan.configurations | {"2d": two.changed(optimizer=optimizer)},
    )
    request = request_of(toy, "all", options=TrainOptions(epochs=10, iterations=1)).changed(plan=plan)
    done = train(request)
    assert done.is_finished
    assert is_finished(done.folder)
    assert known_weights(done.folder) == done.folder.latest
    log = log_of(done.folder)
    assert 3 <= len(log) < 10
    assert [line["num_iterations"] for line in log[-2:]] == [len(log)] * 2
    (event,) = read_events(done.folder.events)
    assert event.kind == "ends_early"
    state = done.folder.latest.read_bytes()
    assert train(request).is_finished
    assert done.folder.latest.read_bytes() == state
    longer = len(log) + 1
    train(request.changed(options=TrainOptions(epochs=longer)))
    assert len(log_of(done.folder)) == longer
    assert fold_plan(done.folder).training.extension == Extension(after_epochs=len(log))
