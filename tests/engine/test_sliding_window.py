import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tumorseg.engine import sliding_window
from tumorseg.engine.sliding_window import (
    BegunForward,
    Tiling,
    gaussian_weights,
    num_patches,
    predict_slabs,
    tile_starts,
)

VOLUME = Tiling((6, 8, 5), 0.5, 0.125, is_planar=False)
PLANES = Tiling((4, 8, 5), 0.5, 0.125, is_planar=True)
SHAPES = [(13, 17, 11), (6, 8, 5), (7, 8, 5), (3, 20, 9), (2, 3, 4), (1, 1, 1), (1, 19, 7), (25, 5, 13), (9, 1, 30)]


class LargestTensor(TorchDispatchMode):
    """Watches the elements of every tensor that any operation makes."""

    largest = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        results = operation(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, torch.Tensor):
                self.largest = max(self.largest, result.untyped_storage().nbytes() // 4)
        return results


def image_of(shape, channels=2, seed=0):
    return torch.randn(channels, *shape, generator=torch.Generator().manual_seed(seed))


def gathered(image, forward, tiling, num_outputs):
    """Return the logits of the whole image, and see that slabs follow each other without a gap."""
    slabs = list(predict_slabs(image, forward, tiling, num_outputs=num_outputs))
    assert slabs[0].start == 0
    for before, after in pairwise(slabs):
        assert after.start == before.start + before.logits.shape[1]
    logits = torch.cat([slab.logits for slab in slabs], dim=1)
    assert logits.shape == (num_outputs, *image.shape[1:])
    assert logits.dtype == torch.float32
    return logits


def published_starts(size, tile, step_size):
    """Return nnU-Net's steps, as its `compute_steps_for_sliding_window` computes them."""
    if size <= tile:
        return [0]
    num_steps = int(np.ceil((size - tile) / (tile * step_size))) + 1
    actual = (size - tile) / (num_steps - 1)
    return [int(np.round(actual * step)) for step in range(num_steps)]


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "expected"),
    [
        (128, 128, 0.5, [0]),
        (100, 128, 0.5, [0]),
        (129, 128, 0.5, [0, 1]),
        (128, 110, 0.5, [0, 18]),
        (256, 128, 0.5, [0, 64, 128]),
        (224, 128, 0.5, [0, 48, 96]),
        (155, 64, 0.5, [0, 30, 61, 91]),
        (10, 3, 0.0, [0, 2, 5, 7]),
        (7, 4, 0.75, [0, 1, 2, 3]),
        (3, 1, 0.5, [0, 0, 1, 2, 2]),
    ],
)
def test_tiles_begin_where_nnunets_do(size, tile, overlap, expected):
    assert tile_starts(size, tile, overlap) == published_starts(size, tile, 1 - overlap) == expected


@given(st.integers(1, 300), st.integers(1, 130), st.sampled_from([0, 0.25, 0.5, 0.75]))
def test_tiles_cover_every_voxel_and_never_leave_the_image(size, tile, overlap):
    starts = tile_starts(size, tile, overlap)
    assert starts == published_starts(size, tile, 1 - overlap)
    assert starts[0] == 0
    assert starts[-1] == max(size - tile, 0)
    assert all(0 <= after - before <= tile for before, after in pairwise(starts))


@pytest.mark.parametrize("tile", [(6, 8, 5), (1, 1, 1), (9,), (40, 4)])
def test_weights_are_nnunets_gaussian(tile):
    """Its `compute_gaussian` smooths a single voxel."""
    weights = gaussian_weights(tile, 0.125)
    point = np.zeros(tile)
    point[tuple(size // 2 for size in tile)] = 1
    expected = ndimage.gaussian_filter(point, [size / 8 for size in tile], mode="constant")
    assert weights.shape == tile
    assert weights.max() == 1
    assert weights.min() > 0
    assert np.allclose(weights, expected / expected.max(), atol=1e-6)


@pytest.mark.parametrize("tiling", [VOLUME, PLANES], ids=["3d", "planes"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_network_that_returns_its_input_gives_the_image_back(shape, tiling):
    image = image_of(shape)
    assert torch.allclose(gathered(image, lambda tile: tile, tiling, 2), image, atol=1e-5)


@given(
    st.tuples(*[st.integers(1, 15)] * 3),
    st.tuples(*[st.integers(1, 7)] * 3),
    st.sampled_from([0.0, 0.5, 0.7]),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_no_shape_leaves_a_gap(shape, tile, overlap, is_planar):
    image = image_of(shape, channels=1)
    tiling = Tiling(tile, overlap, 0.125, is_planar)
    assert torch.allclose(gathered(image, lambda part: part, tiling, 1), image, atol=1e-5)


@pytest.mark.parametrize("shape", [(13, 17, 11), (4, 20, 9)])
def test_logits_are_the_weighted_mean_of_all_tiles(shape):
    kernel = torch.randn(3, 2, 3, 3, 3, generator=torch.Generator().manual_seed(1))

    def forward(tiles):
        return torch.nn.functional.conv3d(tiles, kernel, padding=1)  # differs at a tile's rim

    image = image_of(shape)
    size = VOLUME.patch_size
    missing = [max(edge - found, 0) for edge, found in zip(size, shape, strict=True)]
    padded = torch.nn.functional.pad(image, [0, 0, 0, 0, missing[0] // 2, missing[0] - missing[0] // 2])
    sums, norm = torch.zeros(3, *padded.shape[1:]), torch.zeros(padded.shape[1:])
    weights = gaussian_weights(size, 0.125)
    starts = [tile_starts(found, edge, 0.5) for found, edge in zip(padded.shape[1:], size, strict=True)]
    for corner in product(*starts):
        window = tuple(slice(low, low + edge) for low, edge in zip(corner, size, strict=True))
        sums[(slice(None), *window)] += forward(padded[(slice(None), *window)][None])[0] * weights
        norm[window] += weights
    first = missing[0] // 2
    expected = (sums / norm)[:, first : first + shape[0]]
    assert torch.allclose(gathered(image, forward, VOLUME, 3), expected, atol=1e-4)


def test_every_tile_has_the_size_that_the_network_was_trained_on():
    seen = set()
    for shape in SHAPES:
        gathered(image_of(shape), lambda tile: seen.add(tuple(tile.shape)) or tile, VOLUME, 2)
    assert seen == {(1, 2, 6, 8, 5)}


def test_planes_are_seen_whole_and_stacks_are_never_padded():
    seen = []
    gathered(image_of((3, 20, 9)), lambda tile: seen.append(tuple(tile.shape)) or tile, PLANES, 2)
    assert {shape[2:] for shape in seen} == {(3, 8, 5)}


def test_a_small_image_is_padded_with_0_evenly_on_both_sides():
    seen = []
    gathered(torch.ones(1, 3, 4, 2), lambda tile: seen.append(tile.clone()) or tile, VOLUME, 1)
    (tile,) = seen
    assert tile.sum() == 24
    assert torch.equal(tile[0, 0, 1:4, 2:6, 1:3], torch.ones(3, 4, 2))


@pytest.mark.parametrize("tiling", [VOLUME, PLANES], ids=["3d", "planes"])
def test_no_tensor_grows_with_classes_times_the_volume(tiling):
    num_outputs, shape = 12, (96, 16, 15)
    image = image_of(shape, channels=1)
    with LargestTensor() as watched:
        for slab in predict_slabs(
            image, lambda tiles: tiles.expand(-1, num_outputs, *tiles.shape[2:]), tiling, num_outputs=num_outputs
        ):
            assert slab.logits.shape[1] <= tiling.patch_size[0]
    deepest = num_outputs * tiling.patch_size[0] * shape[1] * shape[2]
    assert watched.largest <= max(deepest, image.numel())
    assert watched.largest < num_outputs * math.prod(shape) / 8


def test_slabs_come_while_later_tiles_are_still_to_be_seen():
    seen = []
    slabs = predict_slabs(image_of((30, 8, 5)), lambda tile: seen.append(1) or tile, VOLUME, num_outputs=2)
    next(slabs)
    assert len(seen) == 1


@pytest.mark.parametrize("tiling", [VOLUME, PLANES], ids=["3d", "planes"])
@pytest.mark.parametrize("batch_size", [2, 7, 1000])
def test_how_many_tiles_are_seen_at_once_does_not_matter(tiling, batch_size):
    kernel = torch.randn(3, 2, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    seen = []

    def forward(tiles):
        seen.append(len(tiles))
        return torch.nn.functional.conv3d(tiles, kernel, padding=1)

    image = image_of((13, 17, 11))
    one_by_one = gathered(image, forward, tiling, 3)
    num_tiles = sum(seen)
    seen.clear()
    logits = gathered(image, forward, tiling._replace(batch_size=batch_size), 3)
    assert sum(seen) == num_tiles
    assert max(seen) == min(batch_size, num_tiles)
    assert torch.allclose(logits, one_by_one, atol=1e-5)
    assert torch.equal(logits.argmax(0), one_by_one.argmax(0))


class Ahead(BegunForward):
    """Counts the batches that are begun and not yet asked for."""

    num_ahead = 2

    def __init__(self):
        self.open, self.most = 0, 0

    def __call__(self, tiles):
        return self.begin(tiles)()

    def begin(self, tiles):
        self.open += 1
        self.most = max(self.most, self.open)

        def finish():
            self.open -= 1
            return tiles * 2

        return finish


def test_tiles_are_begun_ahead_and_added_up_in_the_same_order():
    image = image_of((13, 17, 11))
    forward = Ahead()
    assert torch.equal(gathered(image, forward, VOLUME, 2), gathered(image, lambda tiles: tiles * 2, VOLUME, 2))
    assert forward.most == forward.num_ahead + 1
    assert forward.open == 0


def test_sums_move_on_in_place_and_slabs_are_a_few_slices(monkeypatch):
    monkeypatch.setattr(sliding_window, "BYTES_PER_SLAB", 5 * 16 * 16 * 4 * 3)
    tiling, image = Tiling((24, 8, 8), 0.5, 0.125, is_planar=False), torch.zeros(1, 100, 16, 16)
    depths = []
    with LargestTensor() as watched:
        for slab in predict_slabs(image, lambda tiles: tiles.expand(-1, 5, -1, -1, -1), tiling, num_outputs=5):
            depths.append(slab.logits.shape[1])
    assert max(depths) == 3
    assert sum(depths) == 100
    # Nothing is larger than the sums of one row of tiles.
    assert watched.largest <= 5 * 24 * 16 * 16


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_large_sums_are_held_as_means_in_half_precision(monkeypatch, scale):
    kernel = torch.randn(11, 2, 3, 3, 3, generator=torch.Generator().manual_seed(1)) * scale
    image = image_of((13, 17, 11))

    def forward(tiles):
        return torch.nn.functional.conv3d(tiles, kernel, padding=1)

    exact = gathered(image, forward, VOLUME, 11)
    monkeypatch.setattr(sliding_window, "LARGE_SUMS_BYTES", 0)
    halved = gathered(image, forward, VOLUME, 11)
    assert halved.dtype == torch.float32
    assert not torch.equal(halved, exact)
    # Half precision has 11 binary digits, and a voxel lies in at most 8 tiles; corners with tiny weights are no worse.
    assert ((halved - exact).abs() <= 8 * 2**-11 * exact.abs().amax(0)).all()


def test_a_logit_beyond_half_precision_stays_finite(monkeypatch):
    monkeypatch.setattr(sliding_window, "LARGE_SUMS_BYTES", 0)
    logits = gathered(image_of((7, 9, 6)), lambda tiles: torch.sign(tiles) * 1e7, VOLUME, 2)
    assert torch.equal(logits, torch.sign(image_of((7, 9, 6))) * 65504)


def test_a_logit_that_is_not_a_number_stays_one_in_half_precision(monkeypatch):
    monkeypatch.setattr(sliding_window, "LARGE_SUMS_BYTES", 0)
    logits = gathered(image_of((7, 9, 6)), lambda tiles: tiles * torch.nan, VOLUME, 2)
    assert logits.isnan().all()


@pytest.mark.parametrize("tiling", [VOLUME, VOLUME._replace(overlap=0.25), PLANES, PLANES._replace(overlap=0.0)])
@pytest.mark.parametrize("shape", SHAPES)
def test_as_many_patches_are_counted_as_networks_see(shape, tiling):
    seen = []

    def forward(tiles):
        seen.append(tiles.shape[0] * (tiles.shape[2] if tiling.is_planar else 1))
        return tiles[:, :1]

    gathered(image_of(shape), forward, tiling, 1)
    assert sum(seen) == num_patches(shape, tiling)


def test_patches_of_any_image_are_counted_without_a_list_of_them():
    tiling = Tiling((4, 4, 4), 0.5, 0.125, is_planar=False)
    assert num_patches((400_004, 400_004, 400_004), tiling) == 200_001**3
