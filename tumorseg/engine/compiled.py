"""Networks compiled by torch for the machine that they run on."""

import warnings
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tumorseg.engine.averaging import Pass
from tumorseg.engine.execution import mixed_precision
from tumorseg.errors import InputError

CAUSE_CHARACTERS = 200
"""Of the compiler's own words in a message; the rest are its listings."""


class CompiledFor(NamedTuple):
    """What a network is compiled for."""

    shape: tuple[int, ...]
    """(C, *patch) of one input."""
    device: torch.device
    """Where the network is."""
    dtype: torch.dtype
    """Of convolutions."""


def compiled_pass(network: nn.Module, target: CompiledFor) -> Pass:
    """Compile a network, or take from torch's own cache what it compiled before.

    On a processor patches go through one by one: a batch is no faster there, and one graph serves batches of all sizes. On a GPU
    torch compiles for one patch, and once more for any number when the first batch of several comes.

    Args:
        network: in eval mode.
        target: what it is to run on.

    Returns:
        Logits (B, K, *patch), float32.

    Raises:
        InputError: the compiler failed.
    """
    with warnings.catch_warnings():
        # Of torch's own deprecated parts, of which a user cannot make anything.
        warnings.simplefilter("ignore")
        # A second network's shape is none to prepare for: code for any would be slower, and torch warns while it makes it.
        is_dynamic = False if target.device.type == "cpu" else None
        run = partial(_run, torch.compile(network, dynamic=is_dynamic), target)
        try:
            # Now rather than with the first tile, so that no case fails of the compiler or takes its time.
            run(torch.zeros(1, *target.shape, device=target.device))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # all of torch's compilers' errors are
            raise InputError(f"torch cannot compile the network ({cause_of(error)}); give --engine torch") from error
    return run


def _run(graph: Pass, target: CompiledFor, batch: Tensor) -> Tensor:
    # Compiled code holds for the modes, the kind of tensor and the order in memory that it was compiled for: whatever the caller's
    # are, they become the same here (a copy that is made outside inference mode is a plain tensor).
    with torch.inference_mode(False), torch.no_grad(), mixed_precision(target.device, target.dtype):
        batch = batch.clone(memory_format=torch.contiguous_format)
        if target.device.type == "cpu" and len(batch) > 1:
            return torch.cat([graph(patch[None]).float() for patch in batch])
        return graph(batch).float()


def cause_of(error: Exception) -> str:
    """Return the first line of somebody else's error, which may fill pages, cut to a length that fits a message."""
    lines = str(error).strip().splitlines()
    return lines[0].strip()[:CAUSE_CHARACTERS] if lines else type(error).__name__
