import warnings

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from tests.engine.phantoms import CLASSES, NUM_CHANNELS, batch_of, cases_of, configuration_of, training_of, weights_of
from tumorseg.engine.accumulation import backward_in_parts
from tumorseg.engine.batches import TRAINING
from tumorseg.engine.execution import peak_memory_bytes
from tumorseg.engine.feed import Data, Place, open_feeds
from tumorseg.engine.learner import Inputs, Learner
from tumorseg.errors import InputError
from tumorseg.losses.compound import LossValue
from tumorseg.schema.training import OnGpu, Precisions, Switches
from tumorseg.stages.inference.engines import chosen_engine
from tumorseg.storage.checkpoints import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.gpu


def learner_on(device, precision, execution=None, **changes):
    training = training_of(epochs=100, precision=Precisions(cuda=precision), **(execution or {}))
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


def test_what_layers_drop_follows_from_the_step_and_the_generators_stay(cuda):
    network, found = configuration_of().network.changed(dropout=0.5), []
    for state, number in ((1, 0), (2, 0), (1, 1)):
        learner = learner_on(cuda, "fp32", network=network)
        torch.manual_seed(state)
        before = torch.get_rng_state(), torch.cuda.get_rng_state(cuda)
        found += losses(learner, [number])
        after = torch.get_rng_state(), torch.cuda.get_rng_state(cuda)
        assert all(map(torch.equal, after, before))
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] != pytest.approx(found[0], rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_step_in_parts_is_that_of_the_whole_batch(cuda, precision):
    whole, parted = (learner_on(cuda, precision, gradient_accumulation=num_parts) for num_parts in (1, 2))
    assert losses(parted, range(3)) == pytest.approx(losses(whole, range(3)), rel=1e-2)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_step_with_channels_last_is_that_of_the_usual_order(cuda, precision):
    usual, last = learner_on(cuda, precision), learner_on(cuda, precision, {"channels_last": OnGpu(cuda=True)})
    (weight,) = (module.weight for module in last.network.modules() if isinstance(module, nn.ConvTranspose3d))
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert losses(last, range(3)) == pytest.approx(losses(usual, range(3)), rel=1e-2)


def test_a_compiled_step_is_that_of_the_network_itself(cuda):
    try:
        chosen_engine("compile", torch.device(cuda))
    except InputError as error:
        pytest.skip(error.reason)
    torch.compiler.reset()
    counters.clear()
    usual = learner_on(cuda, "fp32")
    with warnings.catch_warnings():
        # Of torch's own parts, which it hides from users; as errors they would end the compiler.
        warnings.simplefilter("ignore")
        fused = learner_on(cuda, "fp32", {"compile": Switches(cuda=True)})
        found = losses(fused, range(3))
    assert found == pytest.approx(losses(usual, range(3)), rel=1e-2)
    assert counters["stats"]["unique_graphs"] > 0
    assert usual.network.state_dict().keys() == fused.network.state_dict().keys()


def test_a_checkpoint_holds_the_scaler_and_goes_on(cuda, tmp_path):
    learner, other = learner_on(cuda, "fp16"), learner_on(cuda, "fp16")
    losses(learner, range(3))
    save_checkpoint(tmp_path / "a.ckpt", learner.state())
    other.restore(load_checkpoint(tmp_path / "a.ckpt"))
    assert other.state()["scaler"] == learner.state()["scaler"]
    assert losses(other, range(3, 5)) == pytest.approx(losses(learner, range(3, 5)), rel=1e-2)


def test_a_checkpoint_of_a_gpu_goes_on_on_the_cpu(cuda, tmp_path):
    learner, other = learner_on(cuda, "fp16"), learner_on("cpu", "fp16")
    losses(learner, range(3))
    save_checkpoint(tmp_path / "a.ckpt", learner.state())
    other.restore(load_checkpoint(tmp_path / "a.ckpt"))
    assert losses(other, [3]) == pytest.approx(losses(learner, [3]), rel=1e-2)


def test_both_passes_of_a_part_drop_the_same_features(cuda):
    network = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.Dropout(0.5), nn.Conv3d(4, 3, 1)).to(cuda)
    images, segmentations = (tensor.to(cuda) for tensor in batch_of())
    parts = images.tensor_split(2)

    def backward(logits):
        total = nn.functional.cross_entropy(logits, segmentations)
        total.backward()
        return LossValue(total.detach(), {})

    torch.manual_seed(5)
    expected = backward(torch.cat([network(part) for part in parts])).total
    gradients, drawn = [parameter.grad for parameter in network.parameters()], torch.rand(3, device=cuda)
    network.zero_grad()
    torch.manual_seed(5)
    found = backward_in_parts(network, parts, forward=network, backward=backward).total
    tolerance = {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(found, expected, **tolerance)
    torch.testing.assert_close([parameter.grad for parameter in network.parameters()], gradients, **tolerance)
    assert torch.equal(torch.rand(3, device=cuda), drawn)


def test_the_peak_is_what_torch_reserves(cuda):
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    learner = learner_on(cuda, "fp32")
    losses(learner, [0])
    assert 0 < peak_memory_bytes(learner.device) == torch.cuda.max_memory_reserved()


def num_waits(work):
    """Return how often a piece of work waits for the device."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Which itself warns that it is a prototype.
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing" in str(warning.message) for warning in caught)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_step_waits_for_the_device_once(cuda, precision):
    learner = learner_on(cuda, precision)
    feeds = open_feeds(Data(cases_of(1), None), configuration_of(), training_of(), learner)
    inputs = [batch.inputs for batch in feeds.batches(Place(TRAINING, number) for number in range(2))]
    learner.step(inputs[0], 0)
    assert num_waits(lambda: learner.step(inputs[1], 1)) == 1
