import signal
import subprocess
import sys

import pytest

from tumorseg.errors import TrainingError
from tumorseg.stages.opening.stopping import Wish
from tumorseg.stages.training.launching import CHECKPOINTED, _outcome


def ending(code):
    return subprocess.Popen([sys.executable, "-c", code])


DIES = "import os, signal; os.kill(os.getpid(), signal.{})"


@pytest.mark.parametrize("number", ["SIGTERM", "SIGUSR1"])
def test_a_process_that_a_signal_ends_before_it_could_catch_it_was_stopped(number):
    processes = [ending("pass"), ending(DIES.format(number))]
    for process in processes:
        process.wait()
    assert _outcome(processes, Wish(is_asked=True)) == CHECKPOINTED
    with pytest.raises(TrainingError, match=f"process 1 .* was killed by {number}"):
        _outcome(processes, Wish())


def test_any_other_end_counts_even_after_the_wish_to_stop():
    failed, killed = ending("raise SystemExit(1)"), ending(DIES.format("SIGKILL"))
    stopped = ending(f"raise SystemExit({CHECKPOINTED})")
    for process in (failed, killed, stopped):
        process.wait()
    assert killed.returncode == -signal.SIGKILL
    assert _outcome([stopped, stopped], Wish(is_asked=True)) == CHECKPOINTED
    assert _outcome([stopped, failed], Wish(is_asked=True)) == 1
    with pytest.raises(TrainingError, match="SIGKILL"):
        _outcome([stopped, killed], Wish(is_asked=True))
