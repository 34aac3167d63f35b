"""Memory that runs out in a step: the batch goes through the network in more parts, now and from then on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from tumorseg.engine.faults import more_parts
from tumorseg.engine.moments import Moment
from tumorseg.engine.ranks import Ranks
from tumorseg.errors import TrainingError

T = TypeVar("T")

IN_STEP = "in a training step"
"""When memory runs out most often."""


class TooLarge(Exception):  # noqa: N818 (caught where it is raised)
    """A step takes more memory than there is, here or in another process."""


class Meeting:
    """Where processes tell each other, in the middle of a step, whether what each did by itself has fitted its memory."""

    def __init__(self, ranks: Ranks, *, is_held: bool) -> None:
        """Prepare the meetings of one step.

        Args:
            ranks: the processes.
            is_held: whether they meet; only where memory may run out for one of them.
        """
        self._ranks, self._is_held = ranks, is_held
        self.is_transferring = False
        """Whether the others wait in a transfer, so that nobody may leave it."""

    def meet(self) -> None:
        """Hear from all, as one whose memory was enough.

        Raises:
            TooLarge: another one's was not.
        """
        if self._is_held and self._ranks.any(False):
            raise TooLarge

    def tell(self) -> None:
        """Tell the others, in place of the meeting that they come to next, that memory has run out here."""
        if self._is_held:
            self._ranks.any(True)

    @contextmanager
    def transfer(self) -> Iterator[None]:
        """Take part in transfers, once all are known to come to them."""
        self.meet()
        self.is_transferring = True
        yield
        self.is_transferring = False


class Division:
    """In how many parts a batch goes through the network."""

    def __init__(self, num_parts: int, batch_size: int, ranks: Ranks, device: torch.device) -> None:
        """Begin as planned.

        Args:
            num_parts: parts that are planned.
            batch_size: patches of a batch, which the processes share.
            ranks: the processes.
            device: where the network runs.
        """
        self.num_parts = self._planned = num_parts
        self._most, self._ranks, self._device = -(-batch_size // ranks.size), ranks, device
        self.meets = device.type == "cuda" and ranks.size > 1
        """Whether memory may run out in one process alone. On a processor it is the machine's, and nothing is tried again."""

    @property
    def factor(self) -> int:
        """Return how many times the planned number of parts there are; rounded up."""
        return -(-self.num_parts // self._planned)

    def resume(self, factor: int) -> None:
        """Begin with this many times the planned number of parts."""
        self.num_parts = max(self.num_parts, min(factor * self._planned, self._most))

    def fitted(self, network: nn.Module, attempt: Callable[[Meeting], T]) -> T:
        """Do a step's passes in as few parts as fit the memory; each further try begins as the first one did.

        Args:
            network: whose buffers the passes may change.
            attempt: does them, forgetting first what an earlier try has left in gradients.

        Raises:
            TrainingError: not even one patch fits.
        """
        while True:
            # Before the first pass, which draws random numbers and changes buffers.
            moment = Moment(network, self._device)
            try:
                return self._tried(attempt)
            except TooLarge:
                pass
            # Only here, as the error holds on to all that the passes had in memory.
            self._divide()
            moment.restore()

    def _tried(self, attempt: Callable[[Meeting], T]) -> T:
        meeting = Meeting(self._ranks, is_held=self.meets)
        try:
            result = attempt(meeting)
        except torch.OutOfMemoryError as error:
            if meeting.is_transferring:
                raise out_of_memory(IN_STEP) from error
            meeting.tell()
            raise TooLarge from None
        meeting.meet()
        return result

    def _divide(self) -> None:
        number = more_parts(self.num_parts, self._most)
        if number is None:
            raise TrainingError(
                f"memory ran out with a batch in {self.num_parts} parts, so that not even one patch of it fits beside the network; end other "
                "processes on this GPU, or plan for less memory (tumorseg plan --vram)"
            )
        self.num_parts = number
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def memory_explained(when: str) -> Iterator[None]:
    """Say in a line that memory ran out where no division helps: for the optimizer's state, or for held-out patches.

    Args:
        when: it did, in words.

    Raises:
        TrainingError: it did.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise out_of_memory(when) from error
    except RuntimeError as error:
        if not is_cpu_memory(error):
            raise
        raise out_of_memory(when) from error


def out_of_memory(when: str) -> TrainingError:
    """Return the error where nothing can be divided any further."""
    return TrainingError(
        f"memory ran out {when}; end other processes, or plan for less memory (tumorseg plan --vram); earlier checkpoints are "
        "untouched"
    )


def is_cpu_memory(error: RuntimeError) -> bool:
    """Tell whether memory of the machine ran out, which torch raises as a plain error."""
    return "DefaultCPUAllocator" in str(error) and "allocate memory" in str(error)
