"""Memory counted without a device, against what torch really does on the CPU."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.networks.rows import OWN
from tests.planning.measured import equal_cases, fingerprint, made
from tumorseg.engine.accumulation import backward_in_parts
from tumorseg.engine.ema import MovingAverage
from tumorseg.engine.optimizers import build_optimizer, optimizer_memory
from tumorseg.engine.parameter_groups import parameter_groups
from tumorseg.errors import PlanError
from tumorseg.losses.compound import LossValue
from tumorseg.losses.registry import build_loss
from tumorseg.networks.registry import BUILDERS, build_network
from tumorseg.planning.memory import counting, rehearsal
from tumorseg.planning.memory.allocations import AllocationTracker
from tumorseg.planning.memory.budgets import allocatable_bytes, needed_bytes, part_size, reserved_bytes
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.fakes import FakeMode
from tumorseg.planning.memory.rehearsal import setting_of
from tumorseg.planning.memory.totals import plan_setting, predict_memory
from tumorseg.planning.options import PlanOptions
from tumorseg.planning.overrides import apply_overrides, parse_override
from tumorseg.planning.presets import PRESETS
from tumorseg.planning.search.counted_rule import with_sums_on_cpu
from tumorseg.schema.optimizers import AdamW, RAdam, Sgd
from tumorseg.schema.plan import MemoryCount
from tumorseg.schema.quantities import GB
from tumorseg.schema.training import Ema

COUNTER = MemoryCounter()
"""A real one, unlike that of other tests."""
REFERENCE = Path(__file__).parents[3] / "plans"
MANY = {"label_values": tuple(range(30)), "label_names": ("x",) * 30}
REGIONS = [{"name": "whole", "labels": [1, 2], "value": 1}, {"name": "core", "labels": [2], "value": 2}]


@pytest.fixture(scope="module")
def plans():
    """Small plans: plain and residual, labels and regions."""
    small = PRESETS["fast_prototyping"].model_copy(
        update={"base_features": 4, "initial_edge_3d": 32, "initial_edge_2d": 32}
    )
    labels = {"background": 0, "a": 1, "b": 2}
    measured = {
        "labels": fingerprint(equal_cases(4, (1.0, 1.0, 1.0), (21, 33, 26)), channels=("A", "B"), labels=labels),
        "regions": fingerprint(equal_cases(4, (1.0, 1.0, 1.0), (21, 33, 26)), labels=labels, regions=REGIONS),
        "ignore": fingerprint(
            equal_cases(4, (3.0, 1.0, 1.0), (12, 33, 26)), labels=labels | {"ignore": 3}, ignore_label=3
        ),
    }
    return {
        (network, name): made(one, PlanOptions(preset=small.model_copy(update={"network": network}))).plan
        for network in OWN
        for name, one in measured.items()
    }


def really_saved(configuration, setting, part):
    """Return the bytes that a real forward pass of network and loss keeps, by address in memory."""
    network = build_network(
        configuration.network,
        num_channels=setting.num_channels,
        num_outputs=setting.targets.num_outputs,
        activation_checkpointing=configuration.activation_checkpointing,
    ).train()
    loss = build_loss(configuration.loss, setting.targets, configuration.spacing_mm)
    parameters = {parameter.data_ptr() for parameter in network.parameters()}
    kept, sizes = [], {}

    def pack(tensor):
        kept.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.randn(part, setting.num_channels, *configuration.patch_size)
    target = torch.randint(-1 if setting.targets.ignore_value is not None else 0, 2, (part, *configuration.patch_size))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss(network(images), target)
    return sum(sizes.values())


@pytest.mark.parametrize(
    ("name", "configuration", "checkpointing"),
    [
        ("labels", "3d_fullres", False),
        ("labels", "3d_fullres", True),
        ("labels", "2d", False),
        ("regions", "3d_fullres", False),
        ("ignore", "3d_fullres", False),
    ],
)
@pytest.mark.parametrize("network", OWN)
def test_saved_activations_are_those_of_a_real_pass_to_the_byte(plans, network, name, configuration, checkpointing):
    plan = plans[network, name]
    setting = plan_setting(plan)._replace(precision="fp32")
    update = {"activation_checkpointing": checkpointing}
    changed = plan.configurations[configuration].model_copy(update=update)
    saved = COUNTER.count(changed, setting).activations_bytes
    assert saved == really_saved(changed, setting, part_size(changed, 1)) > 0


@pytest.mark.parametrize("network", OWN)
def test_weights_gradients_and_optimizer_are_those_of_real_ones(plans, network):
    plan = plans[network, "labels"]
    setting = plan_setting(plan)._replace(precision="fp32")
    configuration = plan.configurations["3d_fullres"]
    assert isinstance(configuration.optimizer, AdamW)
    count = COUNTER.count(configuration, setting)
    real = build_network(configuration.network, num_channels=2, num_outputs=3).train()
    loss = build_loss(configuration.loss, setting.targets, configuration.spacing_mm)
    optimizer = build_optimizer(configuration.optimizer, parameter_groups(real, configuration.optimizer, None))
    loss(
        real(torch.randn(2, 2, *configuration.patch_size)), torch.zeros(2, *configuration.patch_size, dtype=torch.long)
    ).total.backward()
    optimizer.step()
    sizes = [parameter.numel() * 4 for parameter in real.parameters()]
    blocks = sum(-(-size // 512) * 512 for size in sizes)
    # Besides the weights, the loss has its table of regions.
    assert blocks <= count.parameters_bytes <= blocks + 512
    with_gradient = [parameter.numel() * 4 for parameter in real.parameters() if parameter.grad is not None]
    assert count.gradients_bytes == sum(with_gradient) < sum(sizes)
    moments = sum(tensor.numel() * 4 for state in optimizer.state.values() for tensor in state.values())
    assert moments <= count.optimizer_bytes <= moments + 3 * 512 * len(sizes)


@pytest.mark.parametrize(
    "spec",
    [
        Sgd(),
        Sgd(momentum=0, nesterov=False),
        Sgd(weight_decay=0),
        AdamW(),
        AdamW(weight_decay=0),
        RAdam(),
        RAdam(weight_decay=0),
    ],
)
def test_what_an_optimizer_takes_is_what_a_real_step_does(spec):
    sizes = (1000, 5, 700, 128 * 9)
    with AllocationTracker() as tracker:
        network = torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(size)) for size in sizes)
        parameters = list(network)
        copy = tracker.live_bytes
        optimizer = build_optimizer(spec, parameter_groups(network, spec, None))
        for group in optimizer.param_groups:
            group["foreach"] = True  # what torch does on a GPU
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
        peak = tracker.peak_bytes
        optimizer.zero_grad(set_to_none=True)
        kept = tracker.live_bytes
    takes = optimizer_memory(spec)
    assert kept == copy * (1 + takes.kept) + 512 * takes.counters * len(sizes)
    assert peak == kept + copy * (1 + takes.scratch)


def test_a_moving_average_takes_as_much_as_the_weights_and_nothing_in_a_step(plans):
    plan = plans["plain_unet", "labels"]
    configuration = plan.configurations["3d_fullres"]
    plain, averaged = (plan_setting(plan)._replace(has_average=has_average) for has_average in (False, True))
    without, counted = COUNTER.count(configuration, plain), COUNTER.count(configuration, averaged)
    assert counted.optimizer_bytes - without.optimizer_bytes == counted.parameters_bytes
    assert counted.peak_bytes - without.peak_bytes == counted.parameters_bytes
    with AllocationTracker() as tracker:
        network = torch.nn.Linear(1000, 10)
        weights = tracker.live_bytes
        average = MovingAverage(network, Ema())
        assert tracker.live_bytes == 2 * weights
        average.update()
    assert tracker.peak_bytes == 2 * weights


def test_a_plan_says_whether_there_is_a_moving_average(plans):
    plan = plans["plain_unet", "labels"]
    with_one = apply_overrides(plan, [parse_override("training.ema={}")])
    assert [plan_setting(one).has_average for one in (plan, with_one)] == [False, True]


@pytest.mark.slow  # a process of its own that imports all of it
def test_counting_loads_no_compiler():
    """Torch's takes longer to load than a plan to make."""
    code = """
import sys
from pathlib import Path
from tumorseg.losses.presets import LOSS_PRESETS
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.totals import predict_memory
from tumorseg.planning.overrides import apply_overrides, parse_override
from tumorseg.schema.plan import Plan
nnunet, plan = (Plan.model_validate_json(Path(name).read_text()) for name in sys.argv[1:])
assert predict_memory(nnunet, MemoryCounter()).budget == nnunet.budget
for name in LOSS_PRESETS:
    predict_memory(apply_overrides(plan, [parse_override(f"loss.preset={name}")]), MemoryCounter())
print(sorted({"torch._dynamo", "sympy"} & set(sys.modules)))
"""
    plans = [str(REFERENCE / f"{name}.json") for name in ("BrainTumour__nnunet", "Slices2D__optimized")]
    done = subprocess.run([sys.executable, "-c", code, *plans], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


class OddLoss(torch.nn.Module):
    """Does what light fakes do not follow, as a loss of another package may."""

    def forward(self, logits, target):
        scale = torch.tensor(0.5).item()
        squeezed = logits[:, :1].clone().squeeze_(1)
        return scale * (squeezed - target).square().mean()


def test_what_light_fakes_lack_is_counted_on_torchs(plans, monkeypatch):
    plan = plans["plain_unet", "labels"]
    setting, configuration = plan_setting(plan), plan.configurations["2d"]
    counts = []
    for make in (FakeMode, FakeTensorMode):
        monkeypatch.setattr(rehearsal, "build_loss", lambda *_: CompoundLossOf(OddLoss()))
        monkeypatch.setattr(counting, "FakeMode", make)
        counts.append(MemoryCounter().count(configuration, setting))
    assert counts[0] == counts[1]


class CompoundLossOf:
    """As much of a compound loss as a rehearsal asks for."""

    def __init__(self, loss):
        self.loss = loss

    def pair(self, outputs):
        return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs), (1.0,)

    def value(self, outputs, weights, segmentations, *, has_ignored):
        return LossValue(self.loss(outputs[0], segmentations), {})


def test_the_peak_holds_weights_state_and_activations_and_grows_with_patch_and_batch(plans):
    plan = plans["residual_unet", "labels"]
    setting, configuration = plan_setting(plan), plan.configurations["3d_fullres"]
    count = COUNTER.count(configuration, setting)
    assert count.peak_bytes >= count.parameters_bytes + count.optimizer_bytes + count.activations_bytes
    larger = configuration.model_copy(update={"batch_size": 4})
    assert COUNTER.count(larger, setting).activations_bytes == pytest.approx(2 * count.activations_bytes, rel=0.2)
    assert COUNTER.count(larger, setting).peak_bytes > count.peak_bytes
    divided = larger.model_copy(update={"gradient_accumulation": 2})
    # Of a batch in parts the activations of one are kept, and the gradients of all logits instead of the loss's tensors.
    assert COUNTER.count(divided, setting).activations_bytes == pytest.approx(count.activations_bytes, rel=0.1)
    assert COUNTER.count(divided, setting).peak_bytes < 0.7 * COUNTER.count(larger, setting).peak_bytes
    assert COUNTER.count(larger, setting, num_gpus=2).activations_bytes == count.activations_bytes


def test_the_peak_of_a_batch_in_parts_is_that_of_a_real_step(plans):
    plan = plans["plain_unet", "labels"]
    setting = plan_setting(plan)._replace(precision="fp32")
    update = {"batch_size": 4, "gradient_accumulation": 4}
    configuration = plan.configurations["3d_fullres"].model_copy(update=update)
    count = COUNTER.count(configuration, setting)
    network = build_network(configuration.network, num_channels=2, num_outputs=3).train()
    loss = build_loss(configuration.loss, setting.targets, configuration.spacing_mm)

    def backward(logits):
        value = loss(logits, segmentations)
        value.total.backward()
        return LossValue(value.total.detach(), value.components)

    with AllocationTracker() as tracker:
        images = torch.randn(4, 2, *configuration.patch_size)
        segmentations = torch.zeros(4, *configuration.patch_size, dtype=torch.int64)
        backward_in_parts(network, images.tensor_split(4), forward=network, backward=backward)
    real = count.parameters_bytes + count.optimizer_bytes + tracker.peak_bytes
    assert count.peak_bytes == pytest.approx(real, rel=0.01)  # gradients of earlier parts are counted without rounding


def test_half_precision_saves_activations_but_not_weights(plans):
    plan = plans["residual_unet", "labels"]
    setting, configuration = plan_setting(plan), plan.configurations["3d_fullres"]
    half = COUNTER.count(configuration, setting)
    full = COUNTER.count(configuration, setting._replace(precision="fp32"))
    assert half.parameters_bytes == full.parameters_bytes
    assert 0.5 * full.activations_bytes < half.activations_bytes < 0.8 * full.activations_bytes
    assert COUNTER.count(configuration, setting._replace(precision="bf16")).peak_bytes == half.peak_bytes


def test_checkpointing_keeps_less_and_counts_the_stage_that_is_recomputed(plans):
    plan = plans["residual_unet", "labels"]
    setting, configuration = plan_setting(plan), plan.configurations["3d_fullres"]
    less = COUNTER.count(configuration.model_copy(update={"activation_checkpointing": True}), setting)
    count = COUNTER.count(configuration, setting)
    assert less.activations_bytes < 0.5 * count.activations_bytes
    assert less.activations_bytes < less.peak_bytes - less.parameters_bytes - less.optimizer_bytes
    assert less.peak_bytes < count.peak_bytes


def test_inference_grows_with_classes_and_case_unless_summed_on_the_cpu(plans):
    plan = plans["plain_unet", "labels"]
    setting, configuration = plan_setting(plan), plan.configurations["3d_fullres"]
    wide = configuration.model_copy(update={"median_shape": (21, 512, 512)})
    summed = wide.model_copy(update={"inference": wide.inference.model_copy(update={"accumulate_on": "cpu"})})
    small, large, elsewhere = (COUNTER.count(one, setting).inference_bytes for one in (configuration, wide, summed))
    depth = configuration.patch_size[0]
    assert large - small > 3 * 4 * depth * (512 * 512 - 33 * 26)
    assert elsewhere <= small
    many = setting._replace(targets=setting.targets.model_copy(update=MANY))
    assert COUNTER.count(wide, many).inference_bytes > 5 * large


def test_a_cascade_takes_a_channel_for_each_foreground_label(plans):
    plan = plans["plain_unet", "labels"]
    setting, configuration = plan_setting(plan), plan.configurations["3d_fullres"]
    assert setting_of(setting, configuration).num_channels == 2
    cascade = configuration.model_copy(update={"previous_configuration": "3d_lowres"})
    assert setting_of(setting, cascade).num_channels == 2 + 2


def test_reserved_bytes_and_their_inverse():
    for budget in (GB, 8 * GB, 80 * GB):
        assert reserved_bytes(allocatable_bytes(budget)) <= budget < reserved_bytes(allocatable_bytes(budget) + 2)
    parts = dict.fromkeys(("parameters", "gradients", "optimizer", "activations", "workspace"), 0)
    count = MemoryCount(**{f"{name}_bytes": 0 for name in parts}, peak_bytes=5, inference_bytes=GB)
    assert needed_bytes(count) == reserved_bytes(GB)


class NumOperations(TorchDispatchMode):
    """Counts torch's operations."""

    number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += 1
        return func(*args, **(kwargs or {}))


def test_what_was_counted_before_costs_nothing(plans):
    plan = plans["plain_unet", "labels"]
    counter, configuration = MemoryCounter(), plan.configurations["2d"]

    def num_operations(configuration, **changes):
        with NumOperations() as operations:
            counter.count(configuration, plan_setting(plan)._replace(**changes))
        return operations.number

    first = num_operations(configuration)
    assert num_operations(configuration) == 0
    assert 0 < num_operations(with_sums_on_cpu(configuration)) < first / 2  # the step is the same
    assert num_operations(configuration, precision="fp32") > first / 2


def test_a_network_that_cannot_checkpoint_is_refused():
    class Spec:
        name = "plain_unet"

    BUILDERS["without"] = lambda spec, *, num_channels, num_outputs: torch.nn.Identity()
    try:
        spec = Spec()
        spec.name = "without"
        with pytest.raises(PlanError, match="has no attribute activation_checkpointing"):
            build_network(spec, num_channels=1, num_outputs=2, activation_checkpointing=True)
    finally:
        del BUILDERS["without"]


def test_a_plan_is_counted_configuration_by_configuration(plans):
    plan = predict_memory(plans["residual_unet", "labels"], COUNTER)
    assert set(plan.budget.counts) == set(plan.configurations)
    assert plan.budget.predicted_bytes == max(map(needed_bytes, plan.budget.counts.values()))
