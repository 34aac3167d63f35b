"""nnU-Net's estimate of memory."""

import pytest

from tumorseg.planning.families.base import Grid
from tumorseg.planning.families.registry import family_of
from tumorseg.planning.presets import PRESETS
from tumorseg.planning.search.patch import Candidate
from tumorseg.planning.search.published_rule import PublishedRule
from tumorseg.planning.search.relief import Relief


@pytest.mark.parametrize("preset", ["nnunet", "nnunet_resenc_m", "nnunet_resenc_l", "nnunet_resenc_xl"])
def test_the_published_estimate_scales_with_budget_and_patch(preset):
    chosen = PRESETS[preset]
    grid = Grid((1.0, 1.0, 1.0), (128.0, 128.0, 128.0), 1e9, 2)
    largest = next(family_of(chosen.network).networks(grid, chosen))
    candidate = Candidate(largest.network, largest.patch_size, 2, Relief())
    rule = PublishedRule(chosen.memory, chosen, 8, 1)
    needed = rule.needed_gb(candidate, grid, is_rough=False)
    assert PublishedRule(chosen.memory, chosen, needed, 1).fits(candidate, grid, is_rough=False)
    assert not PublishedRule(chosen.memory, chosen, 0.98 * needed, 1).fits(candidate, grid, is_rough=False)
    twice = PublishedRule(chosen.memory, chosen, 10 * needed, 2).largest_batch(candidate, grid, 1000)
    assert twice == 2 * PublishedRule(chosen.memory, chosen, 10 * needed, 1).largest_batch(candidate, grid, 1000)
