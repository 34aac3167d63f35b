import itertools

import pytest
import torch
from torch.nn import functional as F

from tumorseg.networks.transfer.merging import MERGED, MERGED_BEFORE, with_distinct_tokens

NAMES = [f"swinViT.layers1.0.downsample.{part}" for part in ("reduction.weight", "norm.weight", "norm.bias")]
"""Of the matrix, the scale and the shift."""
CHANNELS = 4


@pytest.fixture
def weights():
    generator = torch.Generator().manual_seed(1)
    matrix, *others = (torch.randn(size, generator=generator) for size in ((8, 8 * CHANNELS), (32,), (32,)))
    return dict(zip(NAMES, (matrix, *others), strict=True))


def tokens():
    """Return eight tokens that lie next to each other, by place."""
    places = map("".join, itertools.product("01", repeat=3))
    drawn = torch.randn(8, CHANNELS, generator=torch.Generator().manual_seed(2))
    return dict(zip(places, drawn, strict=True))


def merged(own, places, weights):
    matrix, scale, shift = (weights[name] for name in NAMES)
    features = torch.cat([own[place] for place in places])
    return matrix @ F.layer_norm(features, scale.shape, scale, shift)


def test_where_the_norm_sees_the_same_tokens_twice_nothing_differs(weights):
    own = tokens()
    # Those that were taken twice lie where nothing was taken, too.
    own |= {"110": own["010"], "011": own["001"]}
    found = merged(own, MERGED[3], with_distinct_tokens(weights))
    torch.testing.assert_close(found, merged(own, MERGED_BEFORE, weights), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(merged(own, MERGED[3], weights), found, atol=0.1)


def test_tokens_that_were_never_taken_have_no_weight(weights):
    matrix = with_distinct_tokens(weights)[NAMES[0]].unflatten(1, (8, CHANNELS))
    unseen = [MERGED[3].index(place) for place in ("110", "011")]
    assert not matrix[:, unseen].any()
    assert matrix.any(2).any(0).sum() == 6


def test_other_weights_and_mergings_that_are_not_whole_or_not_finite_stay(weights):
    other = {"swinViT.layers1.0.blocks.0.norm1.weight": torch.ones(4)}
    incomplete = {NAMES[0]: weights[NAMES[0]], NAMES[1]: weights[NAMES[1]]}
    infinite = weights | {NAMES[2]: torch.full((32,), torch.nan)}
    planes = {NAMES[0]: torch.ones(8, 4), NAMES[1]: torch.ones(4), NAMES[2]: torch.ones(4)}
    for given in (other, incomplete, infinite, planes):
        found = with_distinct_tokens(given)
        assert all(found[name] is tensor for name, tensor in given.items())


def test_half_precision_stays_half_precision(weights):
    half = {name: tensor.half() for name, tensor in weights.items()}
    assert {tensor.dtype for tensor in with_distinct_tokens(half).values()} == {torch.float16}
