"""A GPU's work beside that of the steps."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tumorseg.engine.learner import Inputs


class SideStream:
    """A stream of a GPU for one thread that brings batches while another one takes steps; without effect on a CPU."""

    def __init__(self, device: torch.device) -> None:
        """Make a stream of a device."""
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    @contextmanager
    def work(self) -> Iterator[None]:
        """Have what this thread asks of the device done on the stream."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield

    def wait(self) -> None:
        """Wait until all that was asked is done, without keeping a core or the interpreter from others.

        A batch is handed over complete: otherwise the device would wait for it within a step, and nobody could tell.
        """
        if self._stream is None:
            return
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self._stream)
        event.synchronize()

    def hand_over(self, inputs: Inputs) -> None:
        """Give a batch to the stream of the thread that calls."""
        if self._stream is None:
            return
        steps = torch.cuda.current_stream(self._stream.device)
        steps.wait_stream(self._stream)
        for part in inputs:
            if isinstance(part, torch.Tensor):
                # Its memory is the side stream's, which would use it again as soon as Python lets go of the batch.
                part.record_stream(steps)
