import multiprocessing
import threading
from typing import Any

import pytest

from tests.workers import jobs
from tumorseg.workers.child import READY, VALUE, encode, serve
from tumorseg.workers.outcomes import Failure


@pytest.fixture
def served() -> Any:
    here, there = multiprocessing.Pipe()
    thread = threading.Thread(target=serve, args=(there, jobs.misbehave))
    thread.start()
    yield here
    here.close()
    thread.join(10)
    assert not thread.is_alive(), "a worker ends when its parent hangs up"


def test_a_worker_says_that_it_is_ready_and_answers_each_case(served: Any) -> None:
    assert served.recv() == READY
    served.send(("a", 5))
    assert (served.recv(), served.recv()) == (VALUE, 5)
    served.send(("b", "user"))
    assert served.recv() == Failure("b", "file a.nii.gz is truncated")


def test_what_cannot_be_sent_is_named() -> None:
    with pytest.raises(TypeError, match="the result cannot be sent between processes"):
        encode(threading.Lock(), "the result")
