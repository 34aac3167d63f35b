"""The types that CUDA's autocast would choose, on the CPU."""

import pytest
import torch
from torch.nn import functional as F

from tumorseg.planning.memory.cuda_autocast import CudaRules
from tumorseg.planning.memory.fakes import FakeMode

HALF = torch.zeros(1, 4, 4, 4, 4, dtype=torch.float16)


def in_autocast(operation, dtype=torch.float16):
    with CudaRules(), torch.autocast("cpu", dtype=dtype):
        return operation().dtype


@pytest.mark.parametrize(
    "operation",
    [
        lambda: F.softmax(HALF, 1),
        lambda: torch.log_softmax(HALF, 1),
        lambda: F.layer_norm(HALF, (4,)),
        lambda: F.group_norm(HALF, 2),
    ],
)
def test_sums_over_many_values_are_taken_in_full_precision(operation):
    assert in_autocast(operation) == torch.float32


def test_pooling_and_padding_keep_the_type():
    with FakeMode():  # the CPU has no such kernel of its own
        features = torch.zeros(1, 4, 4, 4, 4, dtype=torch.float16)
        assert in_autocast(lambda: F.avg_pool3d(features, 2)) == torch.float16
    assert in_autocast(lambda: F.pad(HALF, (1, 1))) == torch.float16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_convolutions_are_taken_in_half_precision(dtype):
    weight = torch.zeros(2, 4, 1, 1, 1)
    assert in_autocast(lambda: F.conv3d(HALF.float(), weight), dtype) == dtype


def test_without_autocast_nothing_changes():
    with CudaRules():
        assert F.avg_pool3d(HALF.float(), 2).dtype == torch.float32
        assert F.softmax(HALF.double(), 1).dtype == torch.float64
