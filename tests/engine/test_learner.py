import math

import pytest
import torch

from tests.engine.phantoms import batch_of, configuration_of, learner_of, training_of, weights_of
from tests.engine.waiting import CountWaits
from tumorseg.engine.learner import Inputs
from tumorseg.errors import TrainingError
from tumorseg.losses.presets import loss_preset
from tumorseg.schema.optimizers import PlateauSchedule, PolySchedule, RAdam, Sgd
from tumorseg.schema.training import Ema, Precisions, Switches
from tumorseg.schema.weighting import AdaptiveWeighting, FixedWeighting, UncertaintyWeighting
from tumorseg.storage.checkpoints import load_checkpoint, save_checkpoint


def steps(learner, numbers):
    return [learner.step(Inputs(*batch_of(number)), number).total for number in numbers]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    first, again = learner_of(), learner_of()
    assert torch.equal(weights_of(first), weights_of(again))
    assert not torch.equal(weights_of(first), weights_of(learner_of(training=training_of(seed=1))))


def test_building_a_learner_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    learner_of()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("num_axes", [2, 3])
def test_steps_lower_the_loss(num_axes):
    learner = learner_of(configuration_of(num_axes), training_of(epochs=100))
    batch = Inputs(*batch_of(num_axes=num_axes))
    losses = [learner.step(batch, 0).total for _ in range(25)]
    assert losses[-1] < 0.5 * losses[0]


def test_a_step_returns_the_components_of_the_loss():
    result = learner_of().step(Inputs(*batch_of()), 0)
    assert set(result.components) == {"dice", "cross_entropy"}
    assert result.total == pytest.approx(sum(result.components.values()), rel=1e-5)


def test_the_schedule_decides_the_lr_of_a_step():
    learner = learner_of(configuration_of(schedule=PolySchedule(exponent=1)))
    learner.step(Inputs(*batch_of()), 0)
    assert learner.optimisation.optimizer.param_groups[0]["lr"] == 1e-2
    learner.step(Inputs(*batch_of()), 4)
    assert learner.optimisation.optimizer.param_groups[0]["lr"] == pytest.approx(0.5e-2)


@pytest.mark.parametrize("clip", [1e-3, 0.1])
def test_gradients_are_clipped_to_the_plans_norm(clip):
    optimizer = Sgd(lr=1.0, momentum=0, weight_decay=0)
    learner = learner_of(configuration_of(optimizer=optimizer), training_of(gradient_clip_norm=clip))
    before = weights_of(learner)
    learner.step(Inputs(*batch_of()), 0)
    assert float((weights_of(learner) - before).norm()) == pytest.approx(clip, rel=1e-2)


@pytest.mark.parametrize(
    "changes",
    [{}, {"optimizer": Sgd()}, {"optimizer": RAdam()}, {"gradient_accumulation": 2}],
    ids=["adamw", "sgd", "radam", "parts"],
)
def test_a_learner_restored_from_a_checkpoint_goes_on_bit_for_bit(tmp_path, changes):
    configuration = configuration_of(schedule=PlateauSchedule(), **changes)
    learner = learner_of(configuration, training_of(4))
    steps(learner, range(3))
    learner.optimisation.schedule.end_epoch(1.0)
    learner.optimisation.schedule.end_epoch(1.0)
    assert learner.optimisation.schedule.state()["scale"] < 1
    save_checkpoint(tmp_path / "a.ckpt", learner.state())
    restored = learner_of(configuration, training_of(4, seed=77))
    restored.restore(load_checkpoint(tmp_path / "a.ckpt"))
    assert steps(restored, range(3, 6)) == steps(learner, range(3, 6))
    assert torch.equal(weights_of(restored), weights_of(learner))


def test_a_scaler_skips_the_steps_that_overflow_and_lowers_its_scale():
    learner = learner_of(training=training_of(epochs=100))
    learner.execution = learner.execution._replace(precision="fp16")
    learner.optimisation.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**21)
    before, weights, taken = weights_of(learner), [], []
    while not any(taken):
        result = learner.step(Inputs(*batch_of()), 0)
        taken.append(result.has_stepped)
        weights.append(weights_of(learner))
        assert math.isfinite(result.total)
    assert 1 < len(taken) < 10
    assert all(torch.equal(found, before) for found in weights[:-1])
    assert not torch.equal(weights[-1], before)
    assert learner.state()["scaler"]["scale"] == 2.0 ** (22 - len(taken))


def test_a_loss_that_is_not_finite_changes_neither_weights_nor_their_weighting():
    loss = configuration_of().loss.model_copy(update={"weighting": AdaptiveWeighting()})
    learner = learner_of(configuration_of(loss=loss))
    images, segmentations = batch_of()
    learner.step(Inputs(images, segmentations), 0)
    before, weighting = weights_of(learner), learner.loss.weights()
    broken = images.index_fill(0, torch.tensor(1), torch.inf)
    result = learner.step(Inputs(broken, segmentations), 1)
    assert not result.has_stepped
    assert torch.equal(weights_of(learner), before)
    assert learner.loss.weights() == weighting


def test_a_state_of_another_network_is_refused():
    other = learner_of(configuration_of(features=(4, 8)))
    with pytest.raises(TrainingError, match="the checkpoint does not fit the plan's network: "):
        learner_of().restore(other.state())


@pytest.mark.parametrize(
    ("training", "dtype"),
    [
        ({}, torch.float32),
        ({"precision": Precisions(cpu="fp32", cuda="fp16")}, torch.float32),
        ({"precision": Precisions(cpu="bf16")}, torch.bfloat16),
    ],
)
def test_the_cpu_computes_in_the_precision_that_is_planned_for_it(training, dtype):
    learner = learner_of(training=training_of(**training))
    with learner.autocast():
        assert learner.network.eval()(batch_of()[0]).dtype == dtype


def test_steps_in_bf16_learn_what_steps_in_fp32_do():
    exact, rounded = (learner_of(training=training_of(precision=Precisions(cpu=name))) for name in ("fp32", "bf16"))
    losses = []
    for learner in (exact, rounded):
        losses.append([learner.step(Inputs(*batch_of()), number).total for number in range(4)])
    assert losses[0][-1] < losses[0][0]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]
    # Weights and gradients stay in full precision.
    assert {weight.dtype for weight in rounded.network.parameters()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of the compiler's import, by the test itself
@pytest.mark.parametrize("has_compiler", [True, False])
def test_a_compiled_network_or_one_that_cannot_be_compiled_trains_alike(has_compiler, monkeypatch, tmp_path):
    # What an earlier run compiled would do without a compiler.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    if not has_compiler:
        monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/nowhere/c++",))
    usual, fused = learner_of(), learner_of(training=training_of(compile=Switches(cpu=True)))
    for number in range(2):
        results = [learner.step(Inputs(*batch_of()), number).total for learner in (usual, fused)]
        assert results[1] == pytest.approx(results[0], rel=1e-4)
    assert usual.network.state_dict().keys() == fused.network.state_dict().keys()
    assert bool(list(tmp_path.rglob("*.so"))) == has_compiler
    assert not torch._dynamo.config.suppress_errors  # compilers of predictions have to say what went wrong


def test_a_state_of_steps_without_a_scaler_is_taken_up_by_one_with():
    state = learner_of().state()
    assert state["scaler"] == {}
    other = learner_of()
    other.optimisation.scaler = torch.amp.GradScaler("cpu", enabled=True)
    other.restore(state)
    assert torch.equal(weights_of(other), weights_of(learner_of()))


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda values: values.tolist(), 1),
        (lambda values: float(values[0]), 1),
        (lambda values: values.any() and values.isfinite().all().item(), 2),
        (lambda values: values.sum() * 2, 0),
    ],
)
def test_values_that_come_to_python_are_counted(read, expected):
    with CountWaits() as waits:
        read(torch.ones(3))
    assert waits.count == expected


@pytest.mark.parametrize("weighting", [FixedWeighting(), UncertaintyWeighting(), AdaptiveWeighting()])
@pytest.mark.parametrize("preset", ["dice_ce", "dice_topk", "focal_tversky"])
def test_a_step_waits_for_the_device_once(preset, weighting):
    loss = loss_preset(preset, has_regions=False, batch_dice=True, deep_supervision_weights=(1.0,))
    spec = loss.model_copy(update={"weighting": weighting})
    # AdamW counts its steps in tensors that stay on the CPU, even where the weights do not.
    learner = learner_of(configuration_of(loss=spec, optimizer=Sgd()))
    assert waits_of_a_step(learner) == 1


def waits_of_a_step(learner):
    inputs = Inputs(*batch_of(), has_ignored=True)
    learner.step(inputs, 0)
    with CountWaits() as waits:
        learner.step(inputs, 1)
    return waits.count


def test_a_step_waits_once_with_a_moving_average_too_and_without_a_clip():
    training = training_of(ema=Ema(), gradient_clip_norm=None)
    assert waits_of_a_step(learner_of(configuration_of(optimizer=Sgd()), training)) == 1
