import numpy as np
import pytest

from tumorseg.ops.duplicates import (
    ROWS,
    content_digest,
    equal_groups,
    joined_groups,
    near_pairs,
    signature,
)
from tumorseg.ops.outliers import find_outliers


def image(number, shape=(9, 23, 17)):
    rng = np.random.default_rng(number)
    return (100 + rng.normal(0, 20, shape)).astype(np.float32)


def whole(array):
    return tuple((0, size) for size in array.shape)


def sign(array):
    return signature(array, whole(array))


def test_a_digest_is_of_values_shape_and_type():
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert content_digest(array) == content_digest(np.asfortranarray(array))
    others = [array.reshape(3, 2, 4), array.astype(np.int32), array + 1]
    assert content_digest(array) not in [content_digest(other) for other in others]


def test_a_signature_does_not_depend_on_unit_or_empty_margin():
    array = image(0)
    likeness = sign(array).astype(np.float64) @ sign(3.5 * array + 70).astype(np.float64)
    assert likeness == pytest.approx(1, abs=1e-3)
    padded = np.pad(array, ((2, 1), (0, 3), (4, 0)))
    found = signature(padded, ((2, 11), (0, 23), (4, 21)))
    np.testing.assert_array_equal(found, sign(array))


@pytest.mark.parametrize("shape", [(1, 30, 50), (1, 7, 9), (3, 40, 40), (40, 41, 42)])
def test_signatures_of_volumes_and_of_flat_images_each_have_one_length(shape):
    assert sign(image(1, shape)).size == (1600 if shape[0] == 1 else 1728)


def test_a_flat_image_has_no_signature():
    assert sign(np.full((5, 6, 7), 3.0, np.float32)) is None


def test_block_means_are_those_of_a_plain_loop():
    array = image(2, (24, 13, 12))
    blocks = np.empty((12, 12, 12))
    edges = [(np.arange(13) * size) // 12 for size in array.shape]
    for z, y, x in np.ndindex(12, 12, 12):
        block = [slice(edge[i], edge[i + 1]) for edge, i in zip(edges, (z, y, x), strict=True)]
        blocks[z, y, x] = array[tuple(block)].mean()
    blocks -= blocks.mean()
    np.testing.assert_allclose(sign(array), (blocks / np.linalg.norm(blocks)).ravel(), atol=1e-3)


def test_noisy_copies_are_found_among_images_that_all_look_alike():
    common = 40 * image(99)
    alike = [common + 2 * image(number) for number in range(9)]
    alike.append(1.1 * alike[4] + np.random.default_rng(0).normal(0, 3, common.shape).astype(np.float32))
    assert list(near_pairs([sign(array) for array in alike])) == [(4, 9)]


def test_noisy_copies_are_found_among_few_and_when_all_are_copies():
    noise = np.random.default_rng(0)
    copies = [image(0) + noise.normal(0, 0.1, image(0).shape).astype(np.float32) for _ in range(7)]
    assert list(near_pairs([sign(copies[0]), sign(image(3)), sign(copies[1])])) == [(0, 2)]
    assert len(list(near_pairs([sign(array) for array in copies]))) == 21


def test_pairs_are_found_across_blocks_and_once():
    rng = np.random.default_rng(0)
    signatures = rng.normal(size=(2 * ROWS + 10, 300))
    signatures[ROWS + 3] = signatures[5]
    signatures[2 * ROWS + 9] = signatures[2 * ROWS + 1]
    signatures /= np.linalg.norm(signatures, axis=1, keepdims=True)
    found = list(near_pairs(list(signatures.astype(np.float16))))
    assert found == [(5, ROWS + 3), (2 * ROWS + 1, 2 * ROWS + 9)]


def test_groups_are_joined_by_way_of_others():
    assert joined_groups([("d", "a"), ("b", "c"), ("a", "c"), ("x", "y"), ("a", "b")]) == [
        ("a", "b", "c", "d"),
        ("x", "y"),
    ]
    assert equal_groups({"a": 1, "b": None, "c": 1, "d": 2, "e": None}) == [("a", "c")]


def test_outliers_are_far_from_the_median_in_units_of_the_spread():
    values = [1.0, 1.1, 0.9, 1.05, 0.95, np.nan, 3.0]
    assert find_outliers(values, least_spread=0.01).tolist() == [False] * 6 + [True]
    assert not find_outliers(values, least_spread=1.0).any()
    assert find_outliers([2.0] * 9 + [2.1], least_spread=0.01).tolist() == [False] * 9 + [True]


def test_among_fewer_than_five_there_is_no_outlier():
    assert not find_outliers([1.0, 1.0, 1.0, 9.0, np.nan], least_spread=0.1).any()


def heads(count, *, rim, noise=2.0):
    """Return heads of different shapes, every other one of a site where the scalp is bright."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 24)] * 3, indexing="ij"))
    found = []
    for number in range(count):
        rng = np.random.default_rng(number)
        depth = np.linalg.norm(grid / rng.uniform(0.8, 0.9, 3)[:, None, None, None], axis=0)
        head = np.where(depth < 1, 100 + rng.normal(0, noise, depth.shape), 0)
        found.append((head + np.where((depth > 0.8) & (depth < 1), rim * (number % 2), 0)).astype(np.float32))
    return found


def test_images_of_two_sites_are_not_all_alike():
    images = heads(40, rim=300, noise=12)
    signatures = [sign(image) for image in images]
    assert list(near_pairs(signatures)) == []
    rng = np.random.default_rng(0)
    copy = images[6] + rng.normal(0, 3, images[6].shape).astype(np.float32)
    assert list(near_pairs([*signatures, sign(copy)])) == [(6, 40)]
