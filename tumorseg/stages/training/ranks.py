"""Processes that train together: joining them, watching that none is lost, and starting them on one machine."""

import functools
import json
import logging
import os
import platform
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch.distributed.rendezvous import rendezvous

from tumorseg.engine.ranks import ALONE, ProcessRanks, Ranks
from tumorseg.errors import PlanError, Stopped, TrainingError, TumorsegError
from tumorseg.schema.base import load_json

logger = logging.getLogger(__name__)

BEAT_S = 1.0
"""Between two signs of life."""
SILENCE_S = 15.0
"""Without a sign of life for so long, a process is lost: it was stopped or killed, or its machine is gone."""
JOINING = timedelta(minutes=5)
"""Most that the processes wait for each other in the beginning."""
TRANSFER = timedelta(minutes=60)
"""Most that a process waits in a transfer; the others' signs of life say sooner that one is lost."""
STOPPED = "stopped"
"""What the first process tells the others where a signal ends it before they are needed."""


class Watch:
    """Signs of life among the processes, over the store through which they met; and words of the first to the others."""

    def __init__(self, store: Any, rank: int, size: int) -> None:
        """Begin to give signs and to look for those of the others.

        Args:
            store: torch's; a connection of its own is made, as one that waits blocks all who use it.
            rank: number of this process.
            size: how many there are.
        """
        self._store, self._rank, self._size = store.clone(), rank, size
        self._words = store.clone()
        self._seen: dict[int, tuple[str, float]] = {}
        self._ends = threading.Event()
        self._answered = time.monotonic()
        """When the store answered last."""
        self._parent = os.getppid()
        self.on_loss: Callable[[str], None] = _unheard
        """Told why this process is about to end, since one of the others or the store is lost."""
        self._leaving = threading.Lock()
        for task in (self._beat, self._judge):
            threading.Thread(target=task, daemon=True).start()

    def tell(self, word: str) -> None:
        """Say something to the others, as the first process."""
        self._words.set("first", word)

    def hear(self) -> str:
        """Wait for what the first process says, however long it takes."""
        while not self._words.check(["first"]):
            time.sleep(0.2)
        told: bytes = self._words.get("first")
        return told.decode()

    def end(self, failure: str = "") -> None:
        """Stop giving signs: this process is done, or has failed."""
        # Whoever keeps the store may be gone already.
        with suppress(Exception):
            self._words.set(f"end/{self._rank}", failure or "done")
        self._ends.set()
        if failure and self._rank == 0:
            # The others read it from the store that goes with this process.
            time.sleep(3 * BEAT_S)

    def wait_for_others(self) -> None:
        """Stay, as the keeper of the store, until the others have said that they are done."""
        ends = time.monotonic() + SILENCE_S
        names = [f"end/{rank}" for rank in range(self._size)]
        with suppress(Exception):
            while self._rank == 0 and time.monotonic() < ends and not self._words.check(names):
                time.sleep(0.2)

    def _beat(self) -> None:
        """Give signs of life, and look for those of the others."""
        count = 0
        while not self._ends.wait(BEAT_S):
            count += 1
            try:
                self._store.set(f"beat/{self._rank}", json.dumps([count, platform.node(), os.getpid(), _machine()]))
                lost = next(filter(None, map(self._loss_of, range(self._size))), "")
            except Exception as error:
                reason = str(error).partition("\n")[0]
                lost = f"{_keeper()}, through which all meet, is gone ({reason})"
            self._answered = time.monotonic()
            if os.getppid() != self._parent:
                lost = f"the command that started process {self._rank} was killed"
            if lost:
                self._leave(lost)

    def _judge(self) -> None:
        """Notice that the store itself is silent: who keeps it was stopped, and a question to it waits for ever."""
        while not self._ends.wait(BEAT_S):
            if time.monotonic() - self._answered > SILENCE_S:
                beat, _ = self._seen.get(0, ("", 0.0))
                is_known = beat and not _has_agent()
                self._leave(
                    _describe_loss(0, beat) if is_known else f"{_keeper()}, through which all meet, gives no sign"
                )

    def _leave(self, lost: str) -> None:
        # Not an exception: the main thread waits in a transfer that nobody will end.
        # Whichever thread is second waits for the end that the first one makes.
        with self._leaving:
            if self._ends.is_set():
                return
            sys.stderr.write(f"error: {lost}; the training ends here; the same command goes on from its checkpoint\n")
            sys.stderr.flush()
            try:
                self.on_loss(f"{lost}; the same command goes on")
            finally:
                os._exit(1)

    def _loss_of(self, rank: int) -> str:
        """Return what befell a process, if something did."""
        if rank == self._rank:
            return ""
        if self._store.check([f"end/{rank}"]):
            told = self._store.get(f"end/{rank}").decode()
            return "" if told == "done" else f"process {rank} failed: {told}"
        now = time.monotonic()
        beat = self._store.get(f"beat/{rank}").decode() if self._store.check([f"beat/{rank}"]) else ""
        before, since = self._seen.get(rank, ("", now))
        if beat != before or rank not in self._seen:
            self._seen[rank] = (beat, now)
            return ""
        # One that has not begun yet may still be loading.
        if now - since < (SILENCE_S if beat else JOINING.total_seconds()):
            return ""
        return _describe_loss(rank, beat) if beat else f"process {rank} has not begun"


def _unheard(_lost: str) -> None:
    """Tell nobody: the first process alone keeps files."""


def _has_agent() -> bool:
    """Return whether torchrun keeps the store, and not process 0."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)


def _keeper() -> str:
    return "torchrun on the first machine" if _has_agent() else "process 0"


@functools.cache
def _machine() -> str:
    """Return what tells one running system, and the process numbers that are seen in it, from another."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 (no file that is there)
    except OSError:  # not Linux: no process is ended from outside
        return f"{uuid.uuid4()}"


def _describe_loss(rank: int, beat: str) -> str:
    """Return that a process is lost; on this machine it is ended, as a stopped one would hold its memory for ever."""
    _, host, process, machine = load_json(beat)
    if machine == _machine():
        with suppress(OSError):  # it is gone, or another user's
            os.kill(process, signal.SIGKILL)
    return f"process {rank} ({host}, id {process}) has given no sign for {SILENCE_S:.0f} s: it was stopped or killed"


@contextmanager
def joined(device: str) -> Iterator[tuple[Ranks, Watch | None]]:
    """Join the processes that torchrun or `--num-gpus` started, if it was one of them; alone otherwise.

    Args:
        device: of this process.

    Raises:
        TrainingError: one of the others is lost, or the processes do not find each other.
    """
    if not is_member():
        yield ALONE, None
        return
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=JOINING)))
        # Before the first transfer, so that one that is lost on the way there is noticed too.
        watch = Watch(store, rank, size)
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TRANSFER)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"the processes of this training do not find each other: {error}") from error
    try:
        yield ProcessRanks(), watch
    except Stopped:
        if rank == 0:
            watch.tell(STOPPED)
        _part(watch)
        raise
    except TumorsegError as error:
        watch.end(str(error))
        raise
    except Exception as error:
        if not _is_of_transfer(error):
            watch.end(str(error).partition("\n")[0] or type(error).__name__)
            raise
        # A transfer broke off: whoever watches says in a moment which process is lost, and ends this one.
        time.sleep(SILENCE_S + 3 * BEAT_S)
        raise TrainingError(f"a transfer between the processes of this training failed: {error}") from error
    else:
        _part(watch)


def _part(watch: Watch) -> None:
    """Take leave of the others, who are done as well or come to know of it."""
    watch.end()
    watch.wait_for_others()
    torch.distributed.destroy_process_group()


def _is_of_transfer(error: Exception) -> bool:
    """Tell whether a transfer between processes failed: gloo and NCCL raise plain errors too."""
    if isinstance(error, torch.distributed.DistBackendError):
        return True
    kinds = ("gloo", "Connection closed by peer", "Connection reset", "Broken pipe", "NCCL")
    return isinstance(error, RuntimeError) and any(kind in str(error) for kind in kinds)


def own_device(device: str) -> str:
    """Return this process's device: one GPU for each process of a machine.

    Raises:
        PlanError: the machine has fewer GPUs than processes, or one GPU is named for all of them.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if not is_member() or not device.startswith("cuda"):
        return device
    if ":" in device:
        raise PlanError(
            f"--device {device} names one GPU for several processes; give --device cuda, and choose GPUs by "
            "CUDA_VISIBLE_DEVICES"
        )
    if local >= torch.cuda.device_count():
        raise PlanError(
            f"process {local} has no GPU; this machine has {torch.cuda.device_count()}; give a lower --num-gpus"
        )
    torch.cuda.set_device(local)
    return f"cuda:{local}"


def check_shares(batch_size: int, ranks: Ranks) -> None:
    """Check that each process has something to do.

    Raises:
        PlanError: a batch has fewer patches than there are processes.
    """
    if batch_size < ranks.size:
        raise PlanError(
            f"a batch of {batch_size} patches cannot be shared by {ranks.size} processes; start {batch_size} at most, or plan "
            "with --num-gpus for larger batches"
        )


def is_member() -> bool:
    """Return whether this process was started as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1
