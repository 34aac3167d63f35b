import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tumorseg.networks.layers import Activation, ChannelNorm
from tumorseg.networks.normalised import normalised
from tumorseg.networks.normalised import normalised_activation as normalised_by

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


def normalised_activation(norm, features, slope, added=None):
    return normalised_by(norm, features, Activation("leaky_relu", slope), added=added)


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


OTHERS = {
    "instance": lambda num_axes: norm_of(num_axes),
    "groups of one": lambda num_axes: nn.GroupNorm(SHAPES[num_axes][1], SHAPES[num_axes][1]),
    "layer": lambda num_axes: ChannelNorm(SHAPES[num_axes][1], 1e-5),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("num_axes", [2, 3])
def test_alone_it_gives_the_same_in_either_order_and_keeps_it(num_axes, name):
    norm, gradient, results = OTHERS[name](num_axes), torch.randn(SHAPES[num_axes]), []
    for run, order in ((nn.Module.__call__, "usual"), (normalised, "channels last")):
        memory_format = ORDERS[order][num_axes]
        features = inputs_of(num_axes, 1)[0].detach().contiguous(memory_format=memory_format).requires_grad_()
        norm.zero_grad()
        found = run(norm, features)
        assert found.is_contiguous(memory_format=memory_format)
        found.backward(gradient)
        results.append((found, features.grad, norm.weight.grad, norm.bias.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["leaky_relu", "relu", "gelu", "silu"])
def test_every_activation_follows_every_normalisation(name):
    activation, function = Activation(name, 0.2), getattr(F, name)
    options = {"negative_slope": 0.2} if name == "leaky_relu" else {}
    for norm in (norm_of(3), nn.GroupNorm(2, 4), nn.BatchNorm3d(4), nn.Identity()):
        features, added = inputs_of(3)
        found = normalised_by(norm, features, activation, added=added)
        torch.testing.assert_close(found, function(norm(features) + added, **options))
        alone = normalised_by(norm, features, activation)
        torch.testing.assert_close(alone, function(norm(features), **options))
        alone.sum().backward()
        with torch.no_grad():
            torch.testing.assert_close(normalised_by(norm, features, activation), alone)


def test_layer_normalisation_makes_each_voxel_alike_over_its_channels():
    (features,) = inputs_of(3, 1)
    found = ChannelNorm(4, 0.0)(features)
    torch.testing.assert_close(found.mean(1), torch.zeros(3, 5, 3, 6), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.var(1, correction=0), torch.ones(3, 5, 3, 6))
