"""Faults that befall two processes which train together: both do the same about them."""

import multiprocessing
import os
import socket
from typing import NamedTuple

import pytest

from tests.stages.conftest import Toy, plan_toy
from tests.stages.training.test_faults import blind_to_the_core, folder_in, lose_losses
from tests.toys import write_toy
from tumorseg.engine.faults import next_seed
from tumorseg.errors import Stopped
from tumorseg.stages.opening.fold_folders import TrainOptions, fold_plan
from tumorseg.stages.training import train as training
from tumorseg.stages.training.preprocess import PreprocessRequest, preprocess
from tumorseg.stages.training.request import TrainRequest
from tumorseg.storage.checkpoints import load_checkpoint
from tumorseg.tracking.epochs import read_epochs
from tumorseg.tracking.events import read_events

pytestmark = pytest.mark.slow
SIZE, SECONDS = 2, 120
LENGTH = {"training.epochs": 3, "training.iterations_per_epoch": 4}


class Together(NamedTuple):
    """What two processes are to do."""

    toy: Toy
    ports: tuple[int, ...]
    """One for each training, as the first process keeps a store at each."""


def run(together, number, options=None):
    """Train as one of two, in the environment that torchrun makes."""
    os.environ["MASTER_PORT"] = str(together.ports[number])
    fields = {"roots": together.toy.roots, "plan": together.toy.plan, "fold": "0", "device": "cpu", "jobs": 1}
    request = TrainRequest(**fields, options=options or TrainOptions(), has_validation=False, num_workers=0)
    return training.train(request).is_finished


def stopped(*_arguments):
    raise Stopped("0 of 6 cases of this run are done and kept")


def member(rank, together, told):
    """Train three times as one of two."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(SIZE), "MASTER_ADDR": "127.0.0.1"}
    ends = []
    with pytest.MonkeyPatch.context() as patched:
        if rank == 1:
            # It sees none of the cases yet, and a signal comes while it makes them.
            patched.setattr(training, "open_fold_data", stopped)
        ends.append(run(together, 0))
    with pytest.MonkeyPatch.context() as patched:
        blind_to_the_core(patched, {0})
        lose_losses(patched, {1})
        ends.append(run(together, 1))
    ends.append(run(together, 2, TrainOptions(epochs=4)))
    told.put((rank, ends))


def free_ports(number):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = tuple(one.getsockname()[1] for one in sockets)
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Return the plan, and whether the trainings ended, by process."""
    root = tmp_path_factory.mktemp("together")
    toy = plan_toy(root, write_toy(root / "data" / "Toy"), **LENGTH)
    preprocess(PreprocessRequest(roots=toy.roots, plan=toy.plan, configurations=("3d_fullres",), jobs=1))
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    asked = Together(toy, free_ports(3))
    members = [context.Process(target=member, args=(rank, asked, told)) for rank in range(SIZE)]
    for process in members:
        process.start()
    for process in members:
        process.join(SECONDS)
        process.kill()
    return toy, dict(told.get(timeout=1) for _ in members)


def test_one_that_is_stopped_before_its_first_step_stops_all_and_they_go_on_together(together):
    _, ends = together
    assert ends == {rank: [False, True, True] for rank in range(SIZE)}


def test_a_lost_loss_a_collapse_and_further_epochs_befall_both_alike(together):
    toy, _ = together
    folder = folder_in(toy.roots.work, toy.plan)
    found = [(event.kind, event.iteration) for event in read_events(folder.events)]
    assert found == [("skipped", 2), ("restarted", 8), ("extended", 12)]
    assert fold_plan(folder).training.seed == next_seed(0)
    assert load_checkpoint(folder.latest)["progress"]["iteration"] == 16
    assert [epoch["epoch"] for epoch in read_epochs(folder.log)] == [0, 1, 2, 3]
