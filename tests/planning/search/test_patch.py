"""The search where no bound rules out what was not counted: of attention."""

import math

import pytest

from tests.planning.measured import RoughCounter, equal_cases, fingerprint
from tumorseg.planning.families.base import Grid
from tumorseg.planning.families.registry import FAMILIES
from tumorseg.planning.options import Machine, PlanOptions
from tumorseg.planning.planner import make_plan
from tumorseg.planning.presets import PRESETS
from tumorseg.planning.search.patch import search
from tumorseg.planning.search.relief import Relief

SHAPES = ((140, 170, 150), (300, 512, 512), (16, 256, 216))


class Recorder(RoughCounter):
    """Notes the patches of a 3D configuration that were counted."""

    def __init__(self):
        super().__init__()
        self.patches = []

    def count(self, configuration, setting, *, num_gpus=1):
        """Note the patch."""
        if configuration.num_axes == 3:
            self.patches.append(configuration.patch_size)
        return super().count(configuration, setting, num_gpus=num_gpus)


@pytest.mark.parametrize("vram_gb", [3.0, 8.0, 24.0])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["swin_unetr", "unetr"])
def test_the_largest_patch_that_fits_is_found_by_few_counts(name, shape, vram_gb):
    counter = Recorder()
    measured = fingerprint(equal_cases(30, (1.0, 1.0, 1.0), shape))
    options = PlanOptions(network=name, vram_gb=vram_gb, preset=PRESETS["optimized"].changed(cascade=False))
    plan = make_plan(measured, "Toy__plan", options, Machine(counter=counter)).plan
    found = plan.configurations["3d_fullres"]
    preset = options.preset.changed(network=name)
    grid = Grid((1.0, 1.0, 1.0), tuple(map(float, shape)), 1e9, 2)
    patches = [sized.patch_size for sized in FAMILIES[name].networks(grid, preset)]
    place = patches.index(found.patch_size)
    # It, the one before, which does not fit, and what led there.
    assert len(set(counter.patches)) <= 8
    if place and not found.activation_checkpointing:
        assert patches[place - 1] in counter.patches


class Straight:
    """A rule by the number of voxels alone, whose estimate is wrong by a factor."""

    reliefs, num_gpus, vram_gb = (Relief(keeps_patch=False),), 1, 1.0

    def __init__(self, most, factor):
        self.most, self.factor, self.tried = most, factor, []

    def fits(self, candidate, grid, *, is_rough):
        """Compare."""
        self.tried.append(candidate.patch_size)
        return math.prod(candidate.patch_size) <= self.most

    def largest_batch(self, candidate, grid, most):
        """Return the smallest."""
        return candidate.batch_size

    def needed_gb(self, candidate, grid, *, is_rough):
        """Return a share of what there is."""
        return self.factor * math.prod(candidate.patch_size) / self.most


@pytest.mark.parametrize("factor", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("edge", [64, 70, 100, 127, 160])
def test_a_wrong_estimate_costs_counts_and_no_patch(edge, factor):
    preset = PRESETS["optimized"].changed(network="unetr")
    grid = Grid((1.0, 1.0, 1.0), (150.0, 170.0, 160.0), 1e9, 2)
    rule = Straight(edge**3, factor)
    found = search(grid, preset, rule)
    patches = [sized.patch_size for sized in FAMILIES["unetr"].networks(grid, preset)]
    first = next(number for number, patch in enumerate(patches) if math.prod(patch) <= edge**3)
    assert found.candidate.patch_size == patches[first]
    assert found.larger.patch_size == patches[first - 1]
