"""The type in which networks predict on a device."""

import torch

from tumorseg.engine.execution import PRECISIONS

NO_BF16 = (
    "this processor does not compute in bf16 (AVX512-BF16 or AMX): the network runs in fp32, in twice the time or more"
)
"""What is told where bf16 was planned and cannot be had."""


def has_bf16() -> bool:
    """Return whether the processor multiplies in bfloat16; one that only emulates it is slower than in float32."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    found = (getattr(torch.cpu, name, None) for name in checks)
    return any(check is not None and check() for check in found)


def inference_dtype(device: torch.device, requested: str, trained: str) -> torch.dtype:
    """Return the type in which convolutions are computed; sums over tiles, views and folds are float32 always.

    Args:
        device: where.
        requested: `auto` or `fp32`.
        trained: precision of the training, which a GPU keeps.
    """
    if requested == "fp32":
        return torch.float32
    if device.type == "cuda":
        return PRECISIONS[trained]
    return torch.bfloat16 if device.type == "cpu" and has_bf16() else torch.float32
