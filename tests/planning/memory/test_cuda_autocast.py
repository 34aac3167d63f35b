"""The types that CUDA's autocast would choose, on the CPU."""

import pytest
import torch
from torch.nn import functional as F

from tumorseg.networks.attention import Cbam
from tumorseg.networks.mednext import GlobalResponseNorm
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
        lambda: HALF.softmax(1),
        lambda: HALF.sum((2, 3)),
        lambda: torch.sum(input=HALF),
        lambda: torch.linalg.vector_norm(HALF, dim=(2, 3)),
    ],
)
def test_sums_over_many_values_are_taken_in_full_precision(operation):
    assert in_autocast(operation) == torch.float32


def test_a_type_that_is_asked_for_and_numbers_that_are_not_half_stay():
    assert in_autocast(lambda: HALF.sum(0, dtype=torch.float16)) == torch.float16
    assert in_autocast(lambda: HALF.double().sum()) == torch.float64
    assert in_autocast(lambda: HALF.long().sum()) == torch.int64


@pytest.mark.parametrize("weigh", [lambda: Cbam(4, 2, 3), lambda: GlobalResponseNorm(4, 3)], ids=["cbam", "response"])
def test_features_weighted_by_sums_are_kept_in_half_precision(weigh):
    module, kept = weigh(), []
    features = HALF.clone().requires_grad_()

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        in_autocast(lambda: module(features))
    maps = [tensor for tensor in kept if tensor.numel() == features.numel()]
    assert {tensor.dtype for tensor in maps} == {torch.float16}


def test_pooling_and_padding_keep_the_type():
    with FakeMode():  # the CPU has no such kernel of its own
        features = torch.zeros(1, 4, 4, 4, 4, dtype=torch.float16)
        assert in_autocast(lambda: F.avg_pool3d(features, 2)) == torch.float16
    assert in_autocast(lambda: F.pad(HALF, (1, 1))) == torch.float16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_convolutions_are_taken_in_half_precision(dtype):
    weight = torch.zeros(2, 4, 1, 1, 1)
    assert in_autocast(lambda: F.conv3d(HALF.float(), weight), dtype) == dtype


@pytest.mark.parametrize("context", [torch.enable_grad, torch.inference_mode])
def test_sums_of_products_are_taken_in_half_precision_with_and_without_gradients(context):
    with FakeMode(), context():
        one, other = torch.zeros(2, 3, 4), torch.zeros(2, 4, 3, dtype=torch.float16)
        assert in_autocast(lambda: torch.einsum("bij,bjk->bik", one, other)) == torch.float16


def test_without_autocast_nothing_changes():
    with CudaRules():
        assert F.avg_pool3d(HALF.float(), 2).dtype == torch.float32
        assert F.softmax(HALF.double(), 1).dtype == torch.float64
