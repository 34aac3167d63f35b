from contextlib import nullcontext
from itertools import chain, combinations

import pytest
import torch
from torch import nn

from tumorseg.engine.averaging import NetworkForward

CPU = torch.device("cpu")


def conv(num_axes, kernel, seed=0):
    torch.manual_seed(seed)
    kind = nn.Conv2d if num_axes == 2 else nn.Conv3d
    return kind(2, 3, kernel, padding=kernel // 2).eval()


def average(networks, tile, axes=(), num_axes=3):
    return NetworkForward(networks, axes, num_axes, nullcontext(), CPU)(tile[None])[0]


@pytest.fixture
def tile():
    return torch.randn(2, 4, 5, 7, generator=torch.Generator().manual_seed(0))


def test_one_view_of_one_network_is_its_output(tile):
    network = conv(3, 3)
    assert torch.allclose(average([network], tile), network(tile[None])[0], atol=1e-6)


@pytest.mark.parametrize("num_axes", [2, 3])
def test_a_network_that_turns_with_its_input_gives_the_same_with_and_without_mirroring(tile, num_axes):
    network = conv(num_axes, 1)
    axes = tuple(range(num_axes))
    plain, mirrored = (average([network], tile, chosen, num_axes) for chosen in ((), axes))
    assert torch.allclose(plain, mirrored, atol=1e-6)


@pytest.mark.parametrize("axes", [(0,), (2,), (0, 1), (0, 1, 2)])
def test_logits_are_the_mean_over_all_mirrored_views(tile, axes):
    network = conv(3, 3)
    subsets = list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))
    assert len(subsets) == 2 ** len(axes)
    views = []
    for subset in subsets:
        dims = [2 + axis for axis in subset]
        views.append(network(tile[None].flip(dims)).flip(dims)[0])
    assert torch.allclose(average([network], tile, axes), torch.stack(views).mean(dim=0), atol=1e-5)


def test_logits_are_the_mean_over_the_networks(tile):
    networks = [conv(3, 3, seed) for seed in range(3)]
    expected = torch.stack([network(tile[None])[0] for network in networks]).mean(dim=0)
    assert torch.allclose(average(networks, tile), expected, atol=1e-6)


def test_a_network_of_two_axes_sees_slices(tile):
    network = conv(2, 3)
    expected = torch.stack([network(tile[None, :, z])[0] for z in range(4)], dim=1)
    assert torch.allclose(average([network], tile, num_axes=2), expected, atol=1e-5)
    flipped = torch.stack([network(tile[None, :, z].flip(-1)).flip(-1)[0] for z in range(4)], dim=1)
    mirrored = average([network], tile, (1,), num_axes=2)
    assert torch.allclose(mirrored, (expected + flipped) / 2, atol=1e-5)


def test_logits_are_float32_without_gradients_whatever_the_precision(tile):
    forward = NetworkForward([conv(3, 3)], (), 3, torch.autocast("cpu", dtype=torch.bfloat16), CPU)
    logits = forward(tile[None])
    assert logits.dtype == torch.float32
    assert not logits.requires_grad


@pytest.mark.parametrize("num_axes", [2, 3])
def test_a_batch_of_tiles_gives_what_each_tile_gives_alone(tile, num_axes):
    networks = [conv(num_axes, 3, seed) for seed in range(2)]
    forward = NetworkForward(networks, (0, 1), num_axes, nullcontext(), CPU)
    tiles = torch.stack([tile, -tile, 2 * tile])
    alone = torch.stack([average(networks, one, (0, 1), num_axes) for one in tiles])
    assert forward(tiles).shape == (3, 3, 4, 5, 7)
    assert torch.allclose(forward(tiles), alone, atol=1e-5)
