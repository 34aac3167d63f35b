"""Memory of networks through MONAI, counted on fakes, against what a real pass keeps."""

import pytest
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.networks.monai.specs import PARAMETERS
from tests.planning.measured import planned
from tests.planning.memory.test_counting import really_saved
from tumorseg.losses.presets import deep_supervision_weights
from tumorseg.networks.registry import build_network
from tumorseg.planning.memory import counting
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.fakes import FakeMode
from tumorseg.planning.memory.totals import plan_setting

COUNTER = MemoryCounter()
OF_ATTENTION = ("swin_unetr", "unetr")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def plan():
    return planned(network="plain_unet")


def configuration_of(plan, row, *, checkpointing=False):
    """Return a plan's configuration with another network and patch."""
    found = plan.configurations["2d" if len(row.patch) == 2 else "3d_fullres"]
    weights = deep_supervision_weights(row.spec.num_supervised)
    update = {
        "network": row.spec,
        "patch_size": row.patch,
        "batch_size": 2,
        "loss": found.loss.model_copy(update={"deep_supervision_weights": weights}),
        "activation_checkpointing": checkpointing,
    }
    return found.model_copy(update=update)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("row", PARAMETERS)
def test_saved_activations_are_those_of_a_real_pass(plan, row, checkpointing):
    configuration = configuration_of(plan, row, checkpointing=checkpointing)
    setting = plan_setting(plan)._replace(precision="fp32")
    saved = COUNTER.count(configuration, setting).activations_bytes
    really = really_saved(configuration, setting, 2)
    # To the byte, but for attention.
    assert saved == (pytest.approx(really, rel=0.01) if row.spec.name in OF_ATTENTION else really)


@pytest.mark.parametrize("row", PARAMETERS)
def test_weights_and_gradients_are_those_of_real_ones(plan, row):
    configuration = configuration_of(plan, row)
    count = COUNTER.count(configuration, plan_setting(plan)._replace(precision="fp32"))
    real = build_network(row.spec, num_channels=1, num_outputs=2)
    weights = [tensor.numel() * 4 for tensor in real.parameters()]
    buffers = [tensor.numel() * tensor.element_size() for tensor in real.buffers()]
    assert count.gradients_bytes <= sum(weights)
    assert sum(weights) + sum(buffers) <= count.parameters_bytes
    # Besides, each tensor takes whole blocks, and building leaves nothing else behind.
    assert count.parameters_bytes <= sum(weights) + sum(buffers) + 512 * (len(weights) + len(buffers))


@pytest.mark.parametrize("row", PARAMETERS)
def test_light_fakes_count_what_torchs_own_do(plan, row, monkeypatch):
    configuration = configuration_of(plan, row)
    setting = plan_setting(plan)._replace(precision="fp16")
    counts = []
    for make in (FakeMode, FakeTensorMode):
        # What the first cannot follow would be counted with the second, in many times the time.
        monkeypatch.setattr(counting, "_torchs_fakes", lambda: pytest.fail("light fakes lack something"))
        monkeypatch.setattr(counting, "FakeMode", make)
        counts.append(MemoryCounter().count(configuration, setting))
    assert counts[0] == counts[1]
