import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tumorseg.networks.normalised import normalised_activation

SHAPES = {2: (2, 3, 5, 7), 3: (3, 4, 5, 3, 6)}


def norm_of(num_axes):
    norm = (nn.InstanceNorm2d if num_axes == 2 else nn.InstanceNorm3d)(SHAPES[num_axes][1], affine=True)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-1, 2, len(norm.weight)))
        norm.bias.copy_(torch.linspace(1, -1, len(norm.bias)))
    return norm


def inputs_of(num_axes, count=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(num_axes)
    made = [torch.randn(SHAPES[num_axes], generator=generator, dtype=dtype) for _ in range(count)]
    return [one.requires_grad_() for one in made]


def plain(norm, features, slope, added=None):
    found = norm(features)
    return F.leaky_relu(found if added is None else found + added, slope)


ORDERS = {
    "usual": {2: torch.contiguous_format, 3: torch.contiguous_format},
    "channels last": {2: torch.channels_last, 3: torch.channels_last_3d},
}


@pytest.mark.parametrize("slope", [0.01, 0.0])
@pytest.mark.parametrize("is_sum", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("num_axes", [2, 3])
def test_result_and_gradients_are_those_of_the_operations_one_by_one(num_axes, order, is_sum, slope):
    norm = norm_of(num_axes)
    memory_format = ORDERS[order][num_axes]
    gradient = torch.randn(SHAPES[num_axes])
    results = []
    for run in (plain, normalised_activation):
        features, added = (
            one.detach().contiguous(memory_format=memory_format).requires_grad_() for one in inputs_of(num_axes)
        )
        norm.zero_grad()
        found = run(norm, features, slope, added=added if is_sum else None)
        found.backward(gradient)
        results.append((found, features.grad, norm.weight.grad, norm.bias.grad, added.grad))
    assert results[1][0].is_contiguous(memory_format=memory_format)  # nothing was copied into another order
    for ours, theirs in zip(results[1], results[0], strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("order", ORDERS)
def test_half_precision_features_are_normalised_by_weights_in_full_precision(order):
    norm = norm_of(3)
    (exact,) = inputs_of(3, 1)
    features = exact.detach().bfloat16().contiguous(memory_format=ORDERS[order][3]).requires_grad_()
    found = normalised_activation(norm, features, 0.01)
    found.float().sum().backward()
    assert (found.dtype, features.grad.dtype, norm.weight.grad.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    torch.testing.assert_close(found.float(), plain(norm, exact, 0.01), atol=0.05, rtol=0.02)


def test_a_large_batch_takes_the_usual_order():
    norm = norm_of(2)
    features = torch.randn(40, 3, 5, 7).contiguous(memory_format=torch.channels_last).requires_grad_()
    torch.testing.assert_close(normalised_activation(norm, features, 0.01), plain(norm, features, 0.01))


def test_its_gradient_is_that_of_finite_differences():
    norm = norm_of(2).double()
    features, added = inputs_of(2, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda *both: normalised_activation(norm, both[0], 0.1, added=both[1]), (features, added)
    )


@pytest.mark.parametrize("num_axes", [2, 3])
def test_features_with_their_channels_innermost_give_the_same(num_axes):
    norm = norm_of(num_axes)
    order = torch.channels_last if num_axes == 2 else torch.channels_last_3d
    usual, last = (normalised_activation(norm, one, 0.01) for one in _both_orders(num_axes, order))
    torch.testing.assert_close(last, usual)


def _both_orders(num_axes, order):
    (features,) = inputs_of(num_axes, 1)
    return features, features.detach().contiguous(memory_format=order).requires_grad_()


def test_without_gradients_and_with_them_the_result_is_the_same():
    norm = norm_of(3)
    features, added = inputs_of(3)
    with torch.no_grad():
        expected = normalised_activation(norm, features, 0.01, added=added)
    torch.testing.assert_close(normalised_activation(norm, features, 0.01, added=added), expected)


def test_another_normalisation_runs_as_it_is():
    features, added = inputs_of(3)
    found = normalised_activation(nn.Identity(), features, 0.1, added=added)
    torch.testing.assert_close(found, F.leaky_relu(features + added, 0.1))
    found.sum().backward()
    assert features.grad is not None


def test_no_more_is_kept_for_the_backward_pass_than_what_went_in_and_what_came_out():
    norm = norm_of(3)
    (features,) = inputs_of(3, 1)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        normalised_activation(norm, features, 0.01)
    assert sum(one.numel() for one in kept if one.numel() >= features.numel()) == 2 * features.numel()


@pytest.mark.gpu
def test_a_gpu_gives_the_same_as_the_cpu(cuda):
    norm, (features, added) = norm_of(3), inputs_of(3)
    expected = normalised_activation(norm, features, 0.01, added=added)
    found = normalised_activation(
        norm_of(3).to(cuda), features.detach().to(cuda).requires_grad_(), 0.01, added=added.to(cuda)
    )
    torch.testing.assert_close(found.cpu(), expected, atol=1e-5, rtol=1e-5)
