import warnings

import pytest
import torch

from tests.engine.phantoms import CLASSES, NUM_CHANNELS, batch_of, cases_of, configuration_of, training_of, weights_of
from tumorseg.engine.feed import Data, open_feeds
from tumorseg.engine.learner import Inputs, Learner
from tumorseg.schema.augmentation import AffineTransform, Contrast, GaussianNoise, MirrorTransform
from tumorseg.storage.checkpoints import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.gpu


def learner_on(device, precision, **changes):
    training = training_of(epochs=100, precision=precision)
    return Learner(configuration_of(**changes), training, num_channels=NUM_CHANNELS, targets=CLASSES, device=device)


def losses(learner, numbers):
    batch = Inputs(*(tensor.to(learner.device) for tensor in batch_of()))
    return [learner.step(batch, number).total for number in numbers]


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_mixed_precision_runs_the_network_in_the_plans_type_and_learns(cuda, precision, dtype):
    learner = learner_on(cuda, precision)
    found = losses(learner, [0] * 25)
    assert found[-1] < 0.5 * found[0]
    with learner.autocast():
        assert learner.network.eval()(batch_of()[0].to(cuda)).dtype is dtype
    assert all(parameter.dtype is torch.float32 for parameter in learner.network.parameters())


def test_one_fp32_step_is_that_of_the_cpu(cuda):
    assert losses(learner_on(cuda, "fp32"), range(3)) == pytest.approx(
        losses(learner_on("cpu", "fp32"), range(3)), rel=1e-2
    )


def test_an_overflow_in_fp16_skips_the_step_and_the_training_goes_on(cuda):
    learner = learner_on(cuda, "fp16")
    learner.optimisation.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**21)
    before, batch = weights_of(learner), Inputs(*(tensor.to(cuda) for tensor in batch_of()))
    assert not learner.step(batch, 0).has_stepped
    assert torch.equal(weights_of(learner), before)
    assert any(learner.step(batch, 0).has_stepped for _ in range(10))
    assert not torch.equal(weights_of(learner), before)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_step_in_parts_is_that_of_the_whole_batch(cuda, precision):
    whole, parted = (learner_on(cuda, precision, gradient_accumulation=num_parts) for num_parts in (1, 2))
    assert losses(parted, range(3)) == pytest.approx(losses(whole, range(3)), rel=1e-2)


def test_a_checkpoint_holds_the_scaler_and_goes_on(cuda, tmp_path):
    learner, other = learner_on(cuda, "fp16"), learner_on(cuda, "fp16")
    losses(learner, range(3))
    save_checkpoint(tmp_path / "a.ckpt", learner.state())
    other.restore(load_checkpoint(tmp_path / "a.ckpt"))
    assert other.state()["scaler"] == learner.state()["scaler"]
    assert losses(other, range(3, 5)) == pytest.approx(losses(learner, range(3, 5)), rel=1e-2)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_step_waits_for_the_device_once(cuda, precision):
    learner = learner_on(cuda, precision)
    configuration = configuration_of(
        transforms=(
            AffineTransform(rotation_deg=(30, 30, 30), rotation_probability=1),
            GaussianNoise(probability=1),
            Contrast(probability=1),
            MirrorTransform(axes=(0, 1, 2)),
        )
    )
    feed = open_feeds(Data(cases_of(1), None), configuration, training_of(), learner).training
    batch = feed.load(0)
    learner.step(feed.inputs(batch), 0)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            learner.step(feed.inputs(batch), 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([warning for warning in caught if "synchronizing" in str(warning.message)]) == 1
