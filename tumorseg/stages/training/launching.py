"""Starting the processes of a training on one machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from tumorseg.errors import TrainingError
from tumorseg.stages.opening.stopping import SIGNALS, Wish, handled

CHECKPOINTED = 75
"""Exit code of a training that a signal stopped after a checkpoint."""
GRACE_S = 8.0
"""For the others to end by themselves once one has failed."""


def launch(arguments: Sequence[str], num_processes: int) -> int:
    """Run a command in several processes of this machine, and end all if one is lost.

    Args:
        arguments: of the command `tumorseg`.
        num_processes: how many.

    Returns:
        The exit code of a process that failed, else of process 0.

    Raises:
        TrainingError: a process was killed, or failed.
    """
    processes: list[subprocess.Popen[bytes]] = []
    wish = Wish()

    def pass_on(number: int) -> None:
        wish.ask()
        _pass_on(processes, number)

    try:
        with handled(pass_on):
            for process in _started(arguments, num_processes):
                processes.append(process)
            if wish.is_asked:
                # For those that were started after the signal.
                _pass_on(processes, SIGNALS[0])
            return _outcome(processes, wish)
    finally:
        _end(processes)


def _started(arguments: Sequence[str], num_processes: int) -> "Iterator[subprocess.Popen[bytes]]":
    """Yield the processes, each as it is started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = str(max(1, (os.cpu_count() or 1) // num_processes))
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(num_processes)}
    for rank in range(num_processes):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        # Without torch's own lines of where in C++ a connection broke; what it means is said in words.
        quiet = {"TORCH_CPP_LOG_LEVEL": "ERROR"}
        environment = {"OMP_NUM_THREADS": threads, **quiet, **os.environ, **common, **own}
        command = [sys.executable, "-m", "tumorseg", *arguments]
        # The others have nothing to print: what went wrong they say on stderr.
        output = None if rank == 0 else subprocess.DEVNULL
        yield subprocess.Popen(command, env=environment, stdout=output)


def _outcome(processes: "Sequence[subprocess.Popen[bytes]]", wish: Wish) -> int:
    """Wait for all processes, or for the first that fails."""
    while True:
        codes = [process.poll() for process in processes]
        if wish.is_asked and any(-code in SIGNALS for code in codes if code is not None):
            # So early that it could not catch the signal: nothing was begun.
            return CHECKPOINTED
        for rank, code in enumerate(codes):
            if code is not None and code < 0:
                raise TrainingError(
                    f"process {rank} (id {processes[rank].pid}) was killed by {_signal_name(-code)}; the training ends "
                    "here; the same command goes on from its checkpoint"
                )
            # Its own words are on stderr.
            if code not in (None, 0, CHECKPOINTED):
                return code
        if None not in codes:
            return codes[0] or 0
        time.sleep(0.2)


def _signal_name(number: int) -> str:
    """Return the name of a signal; real-time ones between the first and the last have none."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _pass_on(processes: "Sequence[subprocess.Popen[bytes]]", number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _end(processes: "Sequence[subprocess.Popen[bytes]]") -> None:
    """Give the others time to end by themselves, then end them."""
    ends = time.monotonic() + GRACE_S
    while any(process.poll() is None for process in processes) and time.monotonic() < ends:
        time.sleep(0.1)
    _pass_on(processes, signal.SIGKILL)
    for process in processes:
        process.wait()
