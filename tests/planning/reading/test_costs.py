"""What networks cost, held to networks that are built."""

import pytest

from tests.networks.rows import spec_of
from tests.planning.reading.test_anatomy import plan_with
from tumorseg.errors import PlanError
from tumorseg.losses.presets import deep_supervision_weights
from tumorseg.networks.registry import build_network
from tumorseg.planning.memory.budgets import needed_bytes
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.rehearsal import setting_of
from tumorseg.planning.memory.totals import plan_setting
from tumorseg.planning.presets import PRESETS
from tumorseg.planning.reading.costs import plan_costs, with_network
from tumorseg.schema.extensions import External

COUNTER = MemoryCounter()
MODULE = """
from torch import nn

def build(parameters, *, num_channels, num_outputs):
    return nn.Conv2d(num_channels, num_outputs, 3, padding=1)
"""


def plan_of(spec, patch, num_supervised=1):
    plan = plan_with(spec, patch)
    (name, configuration), *_ = plan.configurations.items()
    loss = configuration.loss.changed(deep_supervision_weights=deep_supervision_weights(num_supervised))
    changed = configuration.model_copy(update={"loss": loss})
    return plan.model_copy(update={"configurations": {name: changed}}), name


def test_costs_are_those_of_the_network_in_its_step():
    spec = spec_of("residual_unet", "2d", deep_supervision=False)
    plan, name = plan_of(spec, (16, 24))
    costs = plan_costs(plan, name, COUNTER)
    network = build_network(spec, num_channels=2, num_outputs=3)
    count = COUNTER.count(plan.configurations[name], setting_of(plan_setting(plan), plan.configurations[name]))
    assert costs.parameters == sum(weight.numel() for weight in network.parameters())
    assert (costs.activations_bytes, costs.memory_bytes) == (count.activations_bytes, needed_bytes(count))
    assert (costs.network, costs.patch_size, costs.precision) == ("residual_unet", (16, 24), "fp16")
    assert costs.sight.whole is None
    assert costs.step_s is costs.tile_s is costs.device is None


def test_another_packages_network_is_counted_but_nobody_knows_how_far_it_sees(tmp_path, monkeypatch):
    (tmp_path / "small_net_module.py").write_text(MODULE)
    info = tmp_path / "Small_Net-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Small_Net\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tumorseg.networks]\nsmall = small_net_module:build\n")
    monkeypatch.syspath_prepend(tmp_path)
    plan, name = plan_of(External(name="small", distribution="small-net", version="1.0"), (16, 16))
    costs = plan_costs(plan, name, COUNTER)
    assert costs.parameters == 2 * 3 * 9 + 3
    # Nine weights for each of two channels, a multiplication and an addition each, at each voxel of three outputs.
    assert costs.flops == 2 * 9 * 2 * 3 * 16 * 16
    assert costs.sight.voxels is costs.sight.whole is None


@pytest.mark.parametrize("name", ["plain_unet", "mednext"])
def test_another_network_takes_a_plans_place_on_a_patch(name):
    plan, _ = plan_of(spec_of("plain_unet", "2d", deep_supervision=False), (16, 24))
    changed = with_network(plan, name, patch_size=(32, 32), preset=PRESETS["fast_prototyping"])
    (configuration,) = changed.configurations.values()
    assert (configuration.network.name, configuration.patch_size) == (name, (32, 32))
    assert len(configuration.loss.deep_supervision_weights) == configuration.network.num_supervised


def test_a_patch_that_a_family_has_no_network_for_is_refused():
    plan, _ = plan_of(spec_of("plain_unet", "2d", deep_supervision=False), (16, 24))
    message = r"the patch of \[4, 4\] voxels is too small for a U-Net, .*; give a larger one$"
    with pytest.raises(PlanError, match=message):
        with_network(plan, "plain_unet", patch_size=(4, 4), preset=PRESETS["fast_prototyping"])


def test_a_patch_may_be_larger_than_what_a_presets_search_begins_with():
    plan, _ = plan_of(spec_of("plain_unet", "3d", deep_supervision=False), (8, 8, 16))
    preset = PRESETS["fast_prototyping"]
    assert preset.initial_edge_3d == 64
    changed = with_network(plan, "segresnet", patch_size=(128, 96, 32), preset=preset)
    assert [one.patch_size for one in changed.configurations.values()] == [(128, 96, 32)]
