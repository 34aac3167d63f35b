"""Rules for shapes and types, against torch's own on fake tensors of the CPU."""

import itertools

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from tumorseg.planning.memory import shape_rules
from tumorseg.planning.memory.fakes import Fake, FakeMode
from tumorseg.planning.memory.shape_rules import ATEN, RULES

HALF, WIDE, WHOLE = torch.float16, torch.float64, torch.int64


def new(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype)


def calls():
    """Yield calls of every operation that has a rule: operation and arguments."""
    maps, flat = (2, 3, 9, 8, 7), (2, 3, 9, 8)
    usual = ([2, 1, 2], [1, 0, 1], [1, 2, 1])
    wanted = [True, False, True]
    norm = (None, None, None, None, True, 0.1, 1e-5)
    yield ATEN.convolution.default, (new(*maps), new(5, 3, 3, 2, 3), new(5), *usual, False, [0, 0, 0], 1)
    yield (
        ATEN.convolution.default,
        (new(2, 4, 9, 8), new(4, 1, 3, 3), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 4),
    )
    yield (
        ATEN.convolution.default,
        (new(*maps), new(3, 2, 2, 2, 2), None, [2] * 3, [0] * 3, [1] * 3, True, [1, 0, 0], 1),
    )
    yield (
        ATEN.convolution.default,
        (
            new(9, 2, 8, 3).transpose(0, 1).permute(0, 3, 1, 2),
            new(4, 3, 1, 1),
            None,
            [1, 1],
            [0, 0],
            [1, 1],
            False,
            [0, 0],
            1,
        ),
    )
    last = new(2, 3, 9, 8).to(memory_format=torch.channels_last)
    yield ATEN.convolution.default, (last, new(4, 3, 3, 3), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    for flags in itertools.product((True, False), repeat=3):
        backward = (new(2, 5, 5, 7, 4), new(*maps), new(5, 3, 3, 2, 3), [5], *usual, False, [0, 0, 0], 1, list(flags))
        yield ATEN.convolution_backward.default, backward
    for dtype in (torch.float32, HALF):
        yield ATEN.native_batch_norm.default, (new(*maps, dtype=dtype), new(3), new(3), *norm[2:])
        yield (
            ATEN.native_batch_norm.default,
            (new(*maps, dtype=dtype), new(3), new(3), new(3), new(3), False, 0.1, 1e-5),
        )
        statistics = (new(3, dtype=dtype), new(3, dtype=dtype))
        rest = (None, None, *statistics, True, 1e-5, wanted)
        yield (
            ATEN.native_batch_norm_backward.default,
            (new(*maps, dtype=dtype), new(*maps, dtype=dtype), new(3), *rest),
        )
    yield ATEN.amax.default, (new(*maps), [2, 3, 4])
    yield ATEN.amax.default, (new(*maps), [1], True)
    yield ATEN.avg_pool3d.default, (new(*maps), [2, 2, 1])
    yield ATEN.avg_pool3d.default, (new(*maps), [3, 2, 3], [2, 1, 2], [1, 0, 1], True)
    yield ATEN.avg_pool2d.default, (new(*flat), [2, 2], [], [1, 1])
    yield (
        ATEN.avg_pool3d_backward.default,
        (new(2, 3, 4, 4, 3), new(*maps), [2, 2, 2], [2, 2, 2], [0, 0, 0], False, True, None),
    )
    yield (
        ATEN.avg_pool2d_backward.default,
        (new(2, 3, 4, 4), new(*flat), [2, 2], [2, 2], [0, 0], False, True, None),
    )
    for like in (ATEN.empty_like, ATEN.zeros_like, ATEN.ones_like):
        yield like.default, (new(*flat, dtype=HALF)[:, 1:],)
    yield ATEN.flip.default, (new(*flat).transpose(0, 1), [2, 3])
    yield ATEN.flip.default, (new(*flat)[..., ::2], [1])
    yield ATEN.repeat.default, (new(3, 4), [2, 1, 5])
    yield ATEN.cat.default, ([new(2, 3, 4), new(2, 5, 4, dtype=HALF)], -2)
    yield ATEN.stack.default, ([new(2, 3), new(2, 3, dtype=WIDE)], -1)
    yield ATEN.sum.dim_IntList, (new(*flat, dtype=torch.bool), [1, -1], True)
    yield ATEN.sum.dim_IntList, (new(*flat, dtype=HALF), [0])
    yield ATEN.sum.dim_IntList, (new(*flat), None)
    yield ATEN.any.dims, (new(*flat, dtype=torch.bool), [2, 3], True)
    yield ATEN.any.dims, (new(*flat), None)
    yield ATEN.any.dims, (new(*flat, dtype=torch.bool).movedim(-1, 1), [2, 3])
    yield ATEN.any.dims, (new(*flat, dtype=torch.bool).movedim(-1, 1), [2], True)
    yield ATEN.amin.default, (new(*flat, dtype=HALF), [1])
    yield ATEN.index.Tensor, (new(5, 3, dtype=HALF), [new(2, 7, dtype=WHOLE)])
    yield ATEN.index.Tensor, (new(5, 3, dtype=torch.bool), [None, new(2, 7, dtype=WHOLE)])
    yield ATEN._softmax.default, (new(*flat), 1, False)
    yield ATEN.native_layer_norm.default, (new(2, 5, 6), [6], new(6), new(6), 1e-5)
    yield ATEN.native_layer_norm.default, (new(2, 5, 6), [5, 6], None, None, 1e-5)
    statistics = (new(2, 5, 1), new(2, 5, 1))
    for flags in ([True] * 3, [True, False, True]):
        backward = (new(2, 5, 6), new(2, 5, 6), [6], *statistics, new(6), new(6), flags)
        yield ATEN.native_layer_norm_backward.default, backward
    yield ATEN.roll.default, (new(2, 5, 6), [-1, 2], [1, 2])
    yield ATEN.native_group_norm.default, (new(*maps), new(3), new(3), 2, 3, 504, 3, 1e-5)
    yield ATEN.native_group_norm.default, (new(2, 4, 9, 8), None, None, 2, 4, 72, 2, 1e-5)
    for flags in ([True] * 3, [True, False, True]):
        backward = (new(*maps), new(*maps), new(2, 3), new(2, 3), new(3), 2, 3, 504, 3, flags)
        yield ATEN.native_group_norm_backward.default, backward
    yield ATEN.bitwise_not.default, (new(3, dtype=torch.bool),)
    moved = new(*flat, dtype=torch.bool).movedim(-1, 1)
    yield ATEN.bitwise_not.default, (moved,)
    yield ATEN.bitwise_and.Tensor, (moved, moved.clone())
    yield ATEN.bitwise_and.Tensor, (moved, new(2, 1, 3, 9, dtype=torch.bool))
    yield ATEN.mul.Tensor, (new(4, 3).t(), new(3, 1))
    yield ATEN.bitwise_and.Tensor, (new(4, 3, dtype=torch.bool), new(3, dtype=torch.bool))
    yield ATEN.mean.default, (new(*flat, dtype=HALF),)
    yield ATEN.arange.default, (7,)
    yield ATEN.arange.start, (2, 7)
    yield ATEN.slice_backward.default, (new(2, 3), [2, 9], 1, 0, 3, 1)
    yield ATEN.leaky_relu_backward.default, (new(*flat, dtype=HALF), new(*flat, dtype=HALF), 0.01, True)


def pointwise():
    """Yield calls whose values depend on one value of each tensor, of types and shapes that have to be joined."""
    kinds = [(4, 3), (1, 3), (3,), ()]
    types = [HALF, torch.float32, WHOLE, torch.bool]
    shapes = [(first, second, torch.float32, HALF) for first, second in itertools.product(kinds, repeat=2)]
    joined = [((4, 3), second, *pair) for second in ((3,), ()) for pair in itertools.product(types, repeat=2)]
    for first, second, one, other in shapes + joined:
        for func in (ATEN.add.Tensor, ATEN.div.Tensor, ATEN.gt.Tensor):
            yield func, (new(*first, dtype=one), new(*second, dtype=other))
    for func in (ATEN.exp, ATEN.neg, ATEN.sigmoid, ATEN.clone):
        for dtype in types[:3]:
            yield func.default, (new(4, 3, dtype=dtype),)
    for dtype, number in itertools.product(types[:3], (2, 0.5)):
        for func in (ATEN.div.Scalar, ATEN.pow.Tensor_Scalar, ATEN.rsub.Scalar, ATEN.ge.Scalar):
            yield func, (new(4, 0, dtype=dtype), number)
    yield ATEN.where.self, (new(4, 1, dtype=torch.bool), new(3, dtype=HALF), new(dtype=WIDE))
    yield ATEN.clamp.default, (new(4, 3).expand(2, 4, 3), 0, 1)
    yield ATEN.floor_divide.default, (new(4, dtype=WHOLE), new(1, dtype=WHOLE))


def looks(result):
    """Return shape, type and order of all tensors of a result."""
    results = result if isinstance(result, tuple | list) else (result,)
    return [None if one is None else (tuple(one.shape), one.dtype, one.stride()) for one in results]


def test_every_rule_returns_what_torchs_own_does():
    results = []
    for mode in (FakeTensorMode, FakeMode):
        with mode():
            results.append([(func, looks(func(*args))) for func, args in (*calls(), *pointwise())])
    assert results[1] == results[0]
    assert {func for func, _ in results[1]} >= set(RULES)


def test_tensors_in_another_order_are_left_to_torch():
    channels_last = torch.empty(2, 3, 8, 8, device="meta").to(memory_format=torch.channels_last)
    doubled = shape_rules.run(ATEN.mul.Tensor, (channels_last, channels_last), {})
    assert doubled.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "call",
    [
        lambda: new(2, 3) + new(2, 4),
        lambda: new(2, 3).add_(new(2, 4)),
        lambda: torch.cat([new(2, 3), new(3, 3)], 1),
        lambda: torch.stack([new(2, 3), new(3, 3)]),
        lambda: F.conv3d(new(1, 4, 8, 8, 8), new(2, 3, 3, 3, 3)),
        lambda: F.conv3d(new(1, 3, 2, 8, 8), new(2, 3, 3, 3, 3)),
        lambda: F.avg_pool2d(new(1, 1, 3, 3), 4),
        lambda: new(2, 3).sum((0, 0)),
        lambda: new(2, 3).flip(2),
        lambda: new(3, dtype=WHOLE).mean(),
    ],
)
def test_what_does_not_fit_is_an_error_as_torchs(call):
    with FakeMode(), pytest.raises((RuntimeError, ValueError, IndexError, TypeError)):
        call()


def test_windows_that_are_cut_off_are_counted_by_torch():
    with FakeMode():
        assert F.avg_pool2d(new(1, 1, 5, 5), 1, 3, ceil_mode=True).shape == (1, 1, 2, 2)


@pytest.mark.parametrize("change", [lambda x: x.squeeze_(1), lambda x: x.t_(), lambda x: x.unsqueeze_(0)])
def test_a_change_of_shape_in_place_is_refused_rather_than_forgotten(change):
    with FakeMode(), pytest.raises(NotImplementedError):
        change(new(2, 1)).sum()


def test_a_fake_lies_on_the_cpu_and_keeps_who_it_is():
    with FakeMode():
        features = torch.ones(2, 3)
        again = features.add_(1)
        view = features.view(-1)
        drawn = torch.randn(2, 3).normal_()
    assert isinstance(features, Fake)
    assert features.device == torch.device("cpu")
    assert again is features
    assert view.meta.untyped_storage()._cdata == features.meta.untyped_storage()._cdata
    assert drawn.shape == (2, 3)
