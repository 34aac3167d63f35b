"""Maps no larger than a kernel are convolved in full precision while a processor trains in bf16, all else in bf16."""

import pytest
import torch
from torch import nn

from tests.networks.rows import FAMILY_ROWS, OWN, Subject
from tumorseg.networks.depthwise import by_planes
from tumorseg.networks.small_maps import WIDENED, widened

KERNEL = (3, 3, 1)
SMALL, LARGE = ((2, 5, 4), (5, 3, 1)), ((4, 4, 1), (4, 5, 6))


def convolution(axes=3, kernel=KERNEL):
    torch.manual_seed(0)
    kind = nn.Conv3d if axes == 3 else nn.Conv2d
    return kind(4, 5, kernel, padding=[edge // 2 for edge in kernel])


def run(module, space, *, is_half=True):
    """Return what a convolution makes of noise, and the gradients of noise, weights and bias."""
    module.zero_grad()
    images = torch.randn((2, 4, *space), generator=torch.Generator().manual_seed(1)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
        found = module(images)
    found.float().square().sum().backward()
    return [found.detach(), images.grad, *(one.grad.clone() for one in module.parameters())]


@pytest.mark.parametrize("space", SMALL)
def test_a_small_map_is_convolved_in_float32_and_handed_on_in_bf16(space):
    found, exact = run(widened(convolution()), space), run(convolution(), space, is_half=False)
    assert found[0].dtype == torch.bfloat16
    assert torch.equal(found[0], exact[0].bfloat16())
    # Only the result was rounded, so that gradients differ by as much.
    for one, other in zip(found[1:], exact[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02 * float(other.abs().max()))


@pytest.mark.parametrize("space", LARGE)
def test_a_map_larger_than_the_kernel_is_convolved_in_bf16(space):
    for one, other in zip(run(widened(convolution()), space), run(convolution(), space), strict=True):
        assert torch.equal(one, other)


def test_two_axes_are_looked_at_alike():
    kernel = (3, 5)
    found, exact = run(widened(convolution(2, kernel)), (3, 4)), run(convolution(2, kernel), (3, 4), is_half=False)
    assert torch.equal(found[0], exact[0].bfloat16())
    assert torch.equal(run(widened(convolution(2, kernel)), (4, 6))[0], run(convolution(2, kernel), (4, 6))[0])


@pytest.mark.parametrize(("space", "is_small"), [((1, 3, 3), True), ((2, 3, 3), True), ((3, 3, 3), False)])
def test_a_transposed_convolution_is_judged_by_its_result(space, is_small):
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        made.append(nn.ConvTranspose3d(4, 5, (3, 2, 1), (2, 2, 1), (1, 0, 0), output_padding=(0, 1, 0)))
    found, plain, exact = run(widened(made[0]), space), run(made[1], space), run(made[1], space, is_half=False)
    assert found[0].shape[2:] == (2 * space[0] - 1, 7, 3)
    assert torch.equal(found[0], exact[0].bfloat16()) == is_small
    assert torch.equal(found[0], plain[0]) != is_small


def test_dilation_counts_and_sizes_may_be_given():
    torch.manual_seed(0)
    dilated = nn.Conv2d(4, 5, 3, padding=2, dilation=2)
    exact = run(dilated, (5, 9), is_half=False)
    assert torch.equal(run(widened(dilated), (5, 9))[0], exact[0].bfloat16())
    transposed = widened(nn.ConvTranspose2d(4, 5, 3, 2, 1))
    with torch.autocast("cpu", torch.bfloat16):
        assert transposed(torch.randn(1, 4, 1, 5), output_size=[2, 10]).shape == (1, 5, 2, 10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_of_other_types_and_images_without_a_batch_are_left_to_torch(dtype):
    module, plain, images = widened(convolution().to(dtype)), convolution().to(dtype), torch.randn(4, *SMALL[0])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(images.to(dtype)), plain(images.to(dtype)))
        assert widened(convolution())(images).shape == (5, *SMALL[0])


def test_predictions_and_full_precision_are_left_alone():
    module, plain, images = widened(convolution()), convolution(), torch.randn(1, 4, *SMALL[0])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(images), plain(images))
    assert module(images).dtype == torch.float32
    assert torch.equal(module(images), plain(images))
    assert list(module.state_dict()) == list(plain.state_dict())
    assert isinstance(module, nn.Conv3d)


@pytest.mark.parametrize(("space", "is_small"), [((5, 4, 3), True), ((2, 4, 4), False)])
def test_planes_of_depthwise_convolutions_are_looked_at_by_themselves(space, is_small):
    generator = torch.Generator().manual_seed(2)
    features, weight, bias = (torch.randn(one, generator=generator) for one in ((2, 3, *space), (3, 1, 3, 3, 3), (3,)))
    features = features.contiguous(memory_format=torch.channels_last_3d)
    found = [one.clone().requires_grad_() for one in (features, weight, bias)]
    exact = [one.clone().requires_grad_() for one in (features, weight, bias)]
    with torch.autocast("cpu", torch.bfloat16):
        result = by_planes(*found, (1, 1, 1))
    expected = by_planes(*exact, (1, 1, 1))
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, expected.bfloat16()) == is_small
    result.float().sum().backward()
    expected.sum().backward()
    assert torch.equal(found[1].grad, exact[1].grad) == is_small
    torch.testing.assert_close(found[1].grad, exact[1].grad, rtol=0.05, atol=0.2)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in OWN else (pytest.mark.slow,)) for name in FAMILY_ROWS]
)
def test_every_network_is_built_of_such_convolutions(name):
    modules = list(Subject(FAMILY_ROWS[name]).build().modules())
    assert not [module for module in modules if type(module) in WIDENED]
    assert any(type(module) in WIDENED.values() for module in modules)
