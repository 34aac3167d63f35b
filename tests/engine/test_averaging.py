from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import chain, combinations
from threading import Event

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from tumorseg.engine.averaging import NetworkForward
from tumorseg.errors import TumorsegError

CPU = torch.device("cpu")


def conv(num_axes, kernel, seed=0):
    torch.manual_seed(seed)
    kind = nn.Conv2d if num_axes == 2 else nn.Conv3d
    return kind(2, 3, kernel, padding=kernel // 2).eval()


def average(networks, tile, axes=(), num_axes=3):
    return NetworkForward(networks, axes, num_axes, nullcontext, CPU)(tile[None])[0]


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
    forward = NetworkForward([conv(3, 3)], (), 3, lambda: torch.autocast("cpu", dtype=torch.bfloat16), CPU)
    logits = forward(tile[None])
    assert logits.dtype == torch.float32
    assert not logits.requires_grad


@pytest.mark.parametrize("num_axes", [2, 3])
def test_a_batch_of_tiles_gives_what_each_tile_gives_alone(tile, num_axes):
    networks = [conv(num_axes, 3, seed) for seed in range(2)]
    forward = NetworkForward(networks, (0, 1), num_axes, nullcontext, CPU)
    tiles = torch.stack([tile, -tile, 2 * tile])
    alone = torch.stack([average(networks, one, (0, 1), num_axes) for one in tiles])
    assert forward(tiles).shape == (3, 3, 4, 5, 7)
    assert torch.allclose(forward(tiles), alone, atol=1e-5)


def test_views_that_go_through_a_network_together_give_what_each_gives_alone(tile):
    networks = [conv(3, 3, seed) for seed in range(2)]
    expected = average(networks, tile, (0, 1, 2))
    for together in (2, 3, 8):
        forward = NetworkForward(networks, (0, 1, 2), 3, nullcontext, CPU, views_per_pass=together)
        assert torch.allclose(forward(tile[None])[0], expected, atol=1e-6)


def test_a_network_gets_no_more_views_at_once_than_allowed(tile):
    sizes = []

    def network(batch):
        sizes.append(len(batch))
        return batch

    NetworkForward([network], (0, 1, 2), 3, nullcontext, CPU, views_per_pass=3)(tile[None])
    assert sizes == [3, 3, 2]


def test_the_output_that_a_network_keeps_is_left_as_it_is(tile):
    kept = torch.ones(1, 3, *tile.shape[1:])
    forward = NetworkForward([lambda batch: kept], (0, 1), 3, nullcontext, CPU)
    assert torch.equal(forward(tile[None]), torch.ones_like(kept))
    assert torch.equal(kept, torch.ones_like(kept))


def test_in_the_background_the_bits_are_the_same_and_a_batch_is_begun_ahead(tile):
    networks = [conv(3, 3, seed) for seed in range(2)]
    with ThreadPoolExecutor(1) as thread:
        forward = NetworkForward(networks, (0, 2), 3, nullcontext, CPU, background=thread)
        assert forward.num_ahead == 1
        finish = [forward.begin(one[None]) for one in (tile, -tile)]
        found = [one()[0] for one in finish]
    for logits, one in zip(found, (tile, -tile), strict=True):
        assert torch.equal(logits, average(networks, one, (0, 2)))


def test_an_error_in_the_background_reaches_whoever_asks_for_the_logits(tile):
    def broken(batch):
        raise ValueError("no such kernel")

    with ThreadPoolExecutor(1) as thread:
        finish = NetworkForward([broken], (), 3, nullcontext, CPU, background=thread).begin(tile[None])
        with pytest.raises(ValueError, match="no such kernel"):
            finish()


def test_once_it_is_stopped_no_further_view_is_computed(tile):
    stopped, seen = Event(), []

    def network(batch):
        seen.append(1)
        stopped.set()
        return batch

    forward = NetworkForward([network], (0, 1), 3, nullcontext, CPU, stopped=stopped)
    with pytest.raises(TumorsegError, match="stopped"):
        forward(tile[None])
    assert len(seen) == 1


@pytest.mark.parametrize("kind", ["labels", "regions"])
def test_votes_are_the_shares_of_folds_and_views_that_decide_for_each_output(tile, kind):
    networks = [conv(3, 3, seed) for seed in range(3)]
    forward = NetworkForward(networks, (1,), 3, nullcontext, CPU, votes=kind, views_per_pass=2)
    logits, votes = forward(tile[None])[0].split(3)
    assert torch.allclose(logits, average(networks, tile, (1,)), atol=1e-6)
    expected = torch.zeros_like(votes)
    for network in networks:
        for dims in ([], [3]):
            member = network(tile[None].flip(dims)).flip(dims)[0]
            chosen = member > 0 if kind == "regions" else one_hot(member.argmax(0), 3).movedim(-1, 0)
            expected += chosen / 6
    assert torch.allclose(votes, expected, atol=1e-6)
    assert len(torch.unique(votes)) > 2


def test_tiles_that_hold_one_value_go_through_the_network_once(tile):
    seen = []
    network = conv(3, 3)

    def counted(batch):
        seen.append(float(batch.flatten()[0]))
        return network(batch)

    forward = NetworkForward([counted], (), 3, nullcontext, CPU)
    air, water = torch.full_like(tile, -1.0)[None], torch.zeros_like(tile)[None]
    speck = air.clone()
    speck[0, 1, -1, -1, -1] = 5.0
    tiles = [air, air.clone(), speck, air, water, water, air]
    found = [forward(one) for one in tiles]
    for one, logits in zip(tiles, found, strict=True):
        assert torch.equal(logits, network(one))
    # One value at a time is remembered; a tile with a single other voxel is none of them.
    assert seen == [-1.0, -1.0, 0.0, -1.0]


def test_constant_channels_of_different_values_are_no_constant_tile_of_another(tile):
    network = conv(3, 3)
    forward = NetworkForward([network], (), 3, nullcontext, CPU)
    first = torch.stack([torch.full_like(tile[0], value) for value in (1.0, 2.0)])[None]
    assert torch.equal(forward(first), network(first))
    assert torch.equal(forward(first.flip(1)), network(first.flip(1)))
    shorter = first[:, :, :2]
    assert torch.equal(forward(first.flip(1)[:, :, :2]), network(shorter.flip(1)))
