"""How a network runs in training steps on a device: in which type of numbers, in which order of memory, compiled or not."""

import resource
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from tumorseg.networks.channels_last import memory_format
from tumorseg.schema.training import Training

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Execution(NamedTuple):
    """What a training's plan says of one kind of device."""

    precision: str
    """`fp32`, `fp16` or `bf16`."""
    channels_last: bool
    compiles: bool

    @property
    def dtype(self) -> torch.dtype:
        """Return the type in which convolutions are computed."""
        return PRECISIONS[self.precision]

    def ordered(self, images: Tensor) -> Tensor:
        """Return images (B, C, *space) in the order of memory in which the network takes them."""
        return images.contiguous(memory_format=memory_format(images)) if self.channels_last else images


def execution_on(device: torch.device, training: Training) -> Execution:
    """Return what a training's plan says of a device; what is neither a processor nor a CUDA device runs as the former."""
    if device.type == "cuda":
        return Execution(training.precision.cuda, training.channels_last.cuda, training.compile.cuda)
    return Execution(training.precision.cpu, False, training.compile.cpu)


def mixed_precision(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Return the context of forward passes in a type; without effect for float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)


def compiled(network: nn.Module) -> Callable[[Tensor], Tensor | list[Tensor]]:
    """Return a network whose operations are fused; where torch cannot compile them, they run one by one as before.

    Weights stay those of the network, so that checkpoints do not know of it.
    """
    with _quiet():
        fused = torch.compile(network, dynamic=False)

    def run(images: Tensor) -> Tensor | list[Tensor]:
        with _quiet():
            return cast(Tensor | list[Tensor], fused(images))

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what torch's compiler meets inside itself, of which a user cannot make anything."""
    # Without a compiler, or with an operation that it does not know, a training must go on all the same.
    with warnings.catch_warnings(), torch._dynamo.config.patch(suppress_errors=True):
        warnings.simplefilter("ignore")
        yield


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak of memory so far: reserved on a CUDA device, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    # Linux counts in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
