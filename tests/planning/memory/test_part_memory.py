"""Memory of networks with other parts, counted without a device, against what torch really does on the CPU."""

import pytest
import torch

from tests.networks.part_rows import NETWORKS, PARTS
from tests.networks.rows import SHAPES, with_parts
from tests.planning.measured import equal_cases, fingerprint, planned
from tests.planning.memory.test_counting import really_saved
from tumorseg.networks.registry import build_network
from tumorseg.planning.memory import counting
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.totals import plan_setting

SPACES = {"3d": "3d_fullres", "2d": "2d"}
WHOLE = ("all, layer", "all, batch")
"""What all parts at once are called."""
CASES = [
    *(pytest.param(name, "3d", part, False, id=f"{name}, {part}") for name in NETWORKS for part in WHOLE),
    *(
        pytest.param(
            name, shape, part, is_checkpointed, id=f"{name}, {shape}, {part}, {is_checkpointed}", marks=pytest.mark.slow
        )
        for name in NETWORKS
        for shape, is_checkpointed in (("2d", False), ("3d", True))
        for part in WHOLE
    ),
    *(
        pytest.param(name, "3d", part, False, id=f"{name}, {part}", marks=pytest.mark.slow)
        for name in NETWORKS
        for part in PARTS
        if part not in WHOLE
    ),
]


@pytest.fixture(scope="module")
def plan():
    """A plan whose networks do not matter."""
    return planned(fingerprint(equal_cases(4, (1.0, 1.0, 1.0), (21, 33, 26)), labels={"background": 0, "a": 1, "b": 2}))


def configured(plan, name, shape, part, **changes):
    """Return a configuration with a small network and its patch, and what it is trained for."""
    update = {
        "network": with_parts(name, shape, part, deep_supervision=False),
        "patch_size": SHAPES[shape][0],
        "batch_size": 2,
        **changes,
    }
    found = plan.configurations[SPACES[shape]].model_copy(update=update)
    return found, plan_setting(plan)._replace(precision="fp32")


@pytest.mark.parametrize(("name", "shape", "part", "is_checkpointed"), CASES)
def test_saved_activations_are_those_of_a_real_pass_to_the_byte(plan, name, shape, part, is_checkpointed):
    configuration, setting = configured(plan, name, shape, part, activation_checkpointing=is_checkpointed)
    counted = MemoryCounter().count(configuration, setting)
    assert counted.activations_bytes == really_saved(configuration, setting, 2) > 0


@pytest.mark.parametrize("part", WHOLE)
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_and_running_statistics_are_those_of_a_real_network(plan, name, part):
    configuration, setting = configured(plan, name, "3d", part)
    network = build_network(configuration.network, num_channels=setting.num_channels, num_outputs=3)
    tensors = (*network.parameters(), *network.buffers())
    blocks = sum(-(-tensor.nbytes // 512) * 512 for tensor in tensors)
    counted = MemoryCounter().count(configuration, setting)
    # Besides the weights, the loss has its table of regions.
    assert blocks <= counted.parameters_bytes <= blocks + 512
    assert ("batch" in part) == any(tensor.dtype == torch.int64 for tensor in tensors)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_no_part_needs_the_slow_fakes_of_torch(plan, name, monkeypatch):
    def refuse():
        raise AssertionError("the light ones failed")

    monkeypatch.setattr(counting, "_torchs_fakes", refuse)
    for part in WHOLE:
        configuration, setting = configured(plan, name, "3d", part)
        for precision in ("fp32", "fp16"):
            assert MemoryCounter().count(configuration, setting._replace(precision=precision)).inference_bytes > 0
