"""What takes the place of a planned network when another family is named in a plan (`--set network.name=…`)."""

import itertools

import pytest

from tests.planning.measured import equal_cases, fingerprint, planned
from tumorseg.errors import PlanError
from tumorseg.planning.families.base import Grid
from tumorseg.planning.families.registry import FAMILIES, converted
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.networks import NETWORKS, StagedNetwork

GRID = Grid((3.0, 1.0, 1.0), (40.0, 120.0, 100.0), 1e8, 3)
FROM_STAGES = ("plain_unet", "residual_unet", "mednext", "dynunet", "attention_unet")
"""Families that take the stages of another network over."""
PAIRS = list(itertools.permutations(FAMILIES, 2))


def first(name):
    return next(FAMILIES[name].networks(GRID, PRESETS["optimized"].model_copy(update={"network": name})))


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=map("-".join, PAIRS))
def test_another_familys_network_fits_the_patch_or_none_is_made(before, after):
    network, patch = first(before)
    if isinstance(network, StagedNetwork) and after in FROM_STAGES:
        other = converted(network, after)
        assert isinstance(other, NETWORKS[after])
        assert other.patch_problem(patch) is None
    else:
        with pytest.raises(PlanError, match=f"plan again with --network {after}") as refused:
            converted(network, after)
        assert "\n" not in str(refused.value)


def test_naming_a_family_in_a_plan_fits_the_loss_to_its_outputs():
    measured = fingerprint(equal_cases(30, (3.0, 1.0, 1.0), (40, 120, 100)))
    for name in ("mednext", "attention_unet"):
        plan = planned(measured, f"network.name={name}")
        for configuration in plan.configurations.values():
            assert configuration.network.name == name
            assert len(configuration.loss.deep_supervision_weights) == configuration.network.num_supervised
