"""Forms of depthwise convolutions that the benchmark compares, against torch's own."""

import pytest
import torch
from torch.nn import functional as F

from benchmarks.networks_forms import FORMS, transposed

KERNEL, STRIDES = (3, 5, 1), ((1, 1, 1), (2, 1, 2))


def results(compute, features):
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(3, 1, *KERNEL, generator=generator)
    leaves = [one.clone().requires_grad_() for one in (features, weight, torch.ones(3))]
    found = compute(*leaves)
    found.square().sum().backward()
    return [found.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_both_ways(form, stride):
    features = torch.randn(2, 3, 4, 6, 4).contiguous(memory_format=torch.channels_last_3d)
    padding = tuple(edge // 2 for edge in KERNEL)
    for ours, own in (
        (lambda *given: FORMS[form](*given, stride), lambda *given: F.conv3d(*given, stride, padding, groups=3)),
        (
            lambda *given: transposed(FORMS[form], *given, stride),
            lambda *given: F.conv_transpose3d(*given, stride, padding, groups=3),
        ),
    ):
        torch.testing.assert_close(results(ours, features), results(own, features), rtol=1e-4, atol=1e-4)
