"""Arithmetic of a budget: bytes of tensors against GPU memory, and patches of a batch on each GPU."""

import math

from tumorseg.schema.plan import Configuration, MemoryCount

CONTEXT_BYTES = 600 * 2**20
"""What a process needs on a GPU before its first tensor: CUDA's context and the code of torch's kernels."""
MARGIN = 0.10
"""Reserved beyond what is allocated, because free blocks do not always fit."""


def reserved_bytes(allocated: int) -> int:
    """Return the GPU memory that a process holds whose tensors need so much at their peak."""
    return math.ceil(allocated * (1 + MARGIN)) + CONTEXT_BYTES


def needed_bytes(count: MemoryCount) -> int:
    """Return the GPU memory that training and inference need, context and margin included."""
    return reserved_bytes(max(count.peak_bytes, count.inference_bytes))


def allocatable_bytes(vram_bytes: int) -> int:
    """Return the most that tensors may need at once within a budget; it may be negative."""
    # The inverse of `reserved_bytes`; rounded down, so that what is allocatable never reserves more than the budget.
    return math.floor((vram_bytes - CONTEXT_BYTES) / (1 + MARGIN))


def part_size(configuration: Configuration, num_gpus: int) -> int:
    """Return the patches that go through the network at once on one GPU."""
    # Parts may differ by a patch; the larger one needs the memory.
    return math.ceil(configuration.batch_size / (configuration.gradient_accumulation * num_gpus))
