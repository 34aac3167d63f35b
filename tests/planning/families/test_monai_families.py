"""Families of networks through MONAI: sizes on falling patches."""

import math

import pytest

from tests.networks.monai.specs import ROWS
from tests.planning.families.test_families import check_falling
from tumorseg.errors import PlanError
from tumorseg.planning.families.base import Grid
from tumorseg.planning.families.registry import FAMILIES, converted
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.networks_monai import AttentionUnet, DynUNet

NAMES = tuple(dict.fromkeys(row.spec.name for row in ROWS.values()))
GRIDS = {
    "2d": Grid((0.7, 0.9), (301.0, 203.0), 1e7, 3),
    "3d": Grid((1.0, 1.0, 1.0), (36.0, 50.0, 35.0), 1e7, 3),
    "3d anisotropic": Grid((5.0, 0.8, 0.8), (24.0, 250.0, 180.0), 1e8, 2),
}


def preset_of(name, base="optimized"):
    return PRESETS[base].model_copy(update={"network": name})


@pytest.mark.parametrize("base", ["optimized", "fast_prototyping"])
@pytest.mark.parametrize(
    ("name", "grid"), [(name, grid) for name in NAMES for grid in GRIDS if (name, grid) != ("dints", "2d")]
)
class TestEveryFamily:
    def test_networks_run_from_the_largest_patch_down_and_take_theirs(self, name, grid, base):
        check_falling(name, GRIDS[grid], preset_of(name, base))

    def test_feature_maps_fall_with_the_patch(self, name, grid, base):
        found = list(FAMILIES[name].networks(GRIDS[grid], preset_of(name, base)))
        first, *_, last = (FAMILIES[name].feature_maps(*sized, 3) for sized in found)
        assert first > last >= 3 * math.prod(found[-1].patch_size)

    def test_the_reason_names_the_rival(self, name, grid, base):
        family = FAMILIES[name]
        sized = next(family.networks(GRIDS[grid], preset_of(name, base)))
        reason = family.reason(sized, GRIDS[grid], preset_of(name, base), rival=FAMILIES[family.rival])
        assert reason.rule
        assert reason.alternative == f"--network {family.rival}"


@pytest.mark.parametrize("name", ["swin_unetr", "segresnet", "dynunet", "attention_unet"])
def test_a_case_that_is_too_small_is_told_so(name):
    grid = Grid((1.0, 1.0, 1.0), (7.0, 7.0, 7.0), 1e6, 2)
    with pytest.raises(PlanError, match="too small"):
        next(FAMILIES[name].networks(grid, preset_of(name)))


def test_a_dynunet_needs_three_stages():
    grid = Grid((1.0, 1.0, 1.0), (12.0, 12.0, 12.0), 1e6, 2)
    with pytest.raises(PlanError, match="too small for the 3 stages of dynunet"):
        next(FAMILIES["dynunet"].networks(grid, preset_of("dynunet")))
    plain = next(FAMILIES["plain_unet"].networks(grid, preset_of("plain_unet"))).network
    with pytest.raises(PlanError, match="plain_unet has 2 stages, dynunet needs 3"):
        converted(plain, "dynunet")


@pytest.mark.parametrize("grid", GRIDS)
def test_u_nets_of_monai_take_the_stages_of_another(grid):
    plain, patch = next(FAMILIES["plain_unet"].networks(GRIDS[grid], preset_of("plain_unet")))
    dynunet, gated = converted(plain, "dynunet"), converted(plain, "attention_unet")
    assert isinstance(dynunet, DynUNet)
    assert isinstance(gated, AttentionUnet)
    assert dynunet.strides == gated.strides == plain.strides
    assert dynunet.num_supervised == plain.num_supervised
    assert [one.patch_problem(patch) for one in (dynunet, gated)] == [None, None]
    assert converted(dynunet, "plain_unet") == plain


@pytest.mark.parametrize("name", ["swin_unetr", "unetr", "segresnet"])
def test_others_take_nothing_over_from_a_u_net(name):
    plain = next(FAMILIES["plain_unet"].networks(GRIDS["3d"], preset_of("plain_unet"))).network
    with pytest.raises(PlanError, match=f"plan again with --network {name}"):
        converted(plain, name)


def test_a_u_net_takes_nothing_over_from_others():
    with pytest.raises(PlanError, match="attention_unet has no stages that dynunet could take over"):
        converted(ROWS["attention_unet"].spec, "dynunet")


def test_width_goes_by_the_preset():
    wide, narrow = (
        [next(FAMILIES[name].networks(GRIDS["3d"], preset_of(name, base))).network for name in ("swin_unetr", "unetr")]
        for base in ("optimized", "fast_prototyping")
    )
    assert [network.features for network in (*wide, *narrow)] == [48, 16, 24, 8]
    assert (wide[1].heads, wide[1].hidden, wide[1].hidden_between) == (12, 768, 3072)


def test_fine_axes_are_halved_first_where_slices_are_thick():
    network = next(FAMILIES["segresnet"].networks(GRIDS["3d anisotropic"], preset_of("segresnet"))).network
    assert network.halved_first == (0, 2, 2)
    assert network.divisors == (2, 8, 8)
