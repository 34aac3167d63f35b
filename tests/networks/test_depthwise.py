"""Depthwise convolutions plane by plane, against torch's own."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tumorseg.networks import depthwise as module
from tumorseg.networks.depthwise import by_planes, depthwise

CASES = {
    "3": ((3, 3, 3), (1, 1, 1), (4, 5, 6)),
    "5": ((5, 5, 5), (1, 1, 1), (4, 6, 5)),
    "flat": ((1, 3, 3), (1, 1, 1), (3, 5, 4)),
    "larger than the volume": ((7, 3, 3), (1, 1, 1), (2, 4, 4)),
    "strided": ((3, 3, 3), (2, 2, 2), (6, 4, 8)),
    "strided, 5": ((5, 5, 5), (2, 2, 2), (8, 6, 4)),
    "strided along some axes": ((3, 3, 3), (1, 2, 2), (5, 4, 6)),
    "strided by 3": ((3, 5, 3), (3, 3, 1), (6, 9, 4)),
    "flat and strided": ((1, 3, 3), (2, 2, 2), (6, 4, 4)),
}


def tensors(case, batch=2, channels=3):
    kernel, _, space = CASES[case]
    generator = torch.Generator().manual_seed(3)
    shapes = ((batch, channels, *space), (channels, 1, *kernel), (channels,))
    features, weight, bias = (torch.randn(shape, generator=generator) for shape in shapes)
    return features.contiguous(memory_format=torch.channels_last_3d), weight, bias


def with_gradients(compute, *inputs):
    """Return what is computed, and the gradients of all inputs for a gradient that differs from voxel to voxel."""
    leaves = [one.detach().clone().requires_grad_() for one in inputs]
    found = compute(*leaves)
    generator = torch.Generator().manual_seed(4)
    found.backward(torch.randn(found.shape, generator=generator))
    return [found.detach(), *(leaf.grad for leaf in leaves)]


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def by_torch(kernel, stride):
    """Return torch's convolution with half the kernel of padding."""
    padding = tuple(edge // 2 for edge in kernel)
    return lambda *given: F.conv3d(*given, stride, padding, groups=3)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_planes_give_torchs_result_and_gradients(case, batch):
    (kernel, stride, _), inputs = CASES[case], tensors(case, batch)
    found = with_gradients(lambda *given: by_planes(*given, stride), *inputs)
    assert_close(found, with_gradients(by_torch(kernel, stride), *inputs))


@pytest.mark.parametrize("case", [case for case in CASES if "stride" in case])
def test_planes_turned_round_give_a_transposed_convolution(case):
    kernel, stride, _ = CASES[case]
    features, weight, bias = tensors(case)
    padding = tuple(edge // 2 for edge in kernel)
    convolution = nn.ConvTranspose3d(3, 3, kernel, stride, padding, groups=3)
    with torch.no_grad():
        convolution.weight.copy_(weight)
        convolution.bias.copy_(bias)
    found = with_gradients(lambda given: depthwise(convolution, given), features)
    found += [convolution.weight.grad, convolution.bias.grad]
    own = with_gradients(lambda *given: F.conv_transpose3d(*given, stride, padding, groups=3), features, weight, bias)
    assert_close(found, own)


def test_only_wanted_gradients_are_computed():
    features, weight, bias = tensors("3")
    weight.requires_grad_()
    by_planes(features, weight, bias, (1, 1, 1)).sum().backward()
    assert features.grad is None
    assert weight.grad.abs().max() > 0


def test_autocast_gives_what_it_would_give_a_convolution():
    inputs = tensors("3")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = with_gradients(lambda *given: by_planes(*given, (1, 1, 1)), *inputs)
    assert found[0].dtype == torch.bfloat16
    assert {gradient.dtype for gradient in found[1:]} == {torch.float32}
    exact = with_gradients(by_torch((3, 3, 3), 1), *inputs)
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one.float(), other, rtol=0.05, atol=0.3)


@pytest.mark.parametrize("kind", [nn.Conv3d, nn.ConvTranspose3d])
@pytest.mark.parametrize("stride", [1, 2])
def test_only_features_that_lie_channels_last_are_convolved_by_planes(kind, stride, monkeypatch):
    convolution, used = kind(3, 3, 3, stride, 1, groups=3), []

    def noted(*given):
        used.append(given[0].shape)
        return by_planes(*given)

    monkeypatch.setattr(module, "by_planes", noted)
    features = tensors("strided")[0]
    expected = convolution(features)
    torch.testing.assert_close(depthwise(convolution, features.contiguous()), expected)
    assert used == []
    torch.testing.assert_close(depthwise(convolution, features), expected, rtol=1e-5, atol=1e-5)
    assert len(used) == 1
