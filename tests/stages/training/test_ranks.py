"""What processes that train together check before they begin."""

import signal

import pytest

from tumorseg.engine.ranks import Ranks
from tumorseg.errors import PlanError
from tumorseg.stages.training.launching import _signal_name
from tumorseg.stages.training.ranks import check_shares, is_member, own_device


class Six(Ranks):
    size = 6


@pytest.fixture
def member(monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)


def test_a_batch_too_small_for_all_processes_is_refused():
    check_shares(6, Six())
    with pytest.raises(PlanError, match="a batch of 5 patches cannot be shared by 6 processes; start 5 at most"):
        check_shares(5, Six())


def test_a_process_is_one_of_several_only_where_there_are_more(monkeypatch):
    assert not is_member()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not is_member()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert is_member()


def test_one_gpu_is_not_named_for_several_processes(member):
    assert own_device("cpu") == "cpu"
    with pytest.raises(PlanError, match="--device cuda:1 names one GPU for several processes; give --device cuda"):
        own_device("cuda:1")


def test_a_machine_with_fewer_gpus_than_processes_is_refused(member, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(PlanError, match="process 1 has no GPU; this machine has 1"):
        own_device("cuda")


def test_every_signal_has_a_name():
    assert _signal_name(signal.SIGKILL) == "SIGKILL"
    assert _signal_name(signal.SIGRTMIN + 3) == f"signal {signal.SIGRTMIN + 3}"
