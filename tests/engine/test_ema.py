import numpy as np
import pytest
import torch
from torch import nn

from tests.engine.phantoms import batch_of, configuration_of, fit_of, learner_of, training_of, weights_of
from tumorseg.engine.ema import MovingAverage
from tumorseg.engine.learner import Inputs
from tumorseg.schema.training import Ema
from tumorseg.storage.checkpoints import load_checkpoint, save_checkpoint


def averaged(learner):
    return torch.cat([value.flatten() for value in learner.predictor.state_dict().values()]).clone()


def steps(learner, numbers):
    return [learner.step(Inputs(*batch_of(number, num_axes=2)), number).total for number in numbers]


def averaging(decay=0.9, **changes):
    return learner_of(configuration_of(2), training_of(ema=Ema(decay=decay), **changes))


@pytest.mark.parametrize("decay", [0.05, 0.3, 0.999])
def test_the_average_follows_the_weights_by_its_decay_which_is_less_at_first(decay):
    network = nn.Linear(1, 1, bias=False)
    average, values = MovingAverage(network, Ema(decay=decay)), np.random.default_rng(0).normal(size=20)
    expected = network.weight.item()
    for number, value in enumerate(values):
        nn.init.constant_(network.weight, value)
        average.update()
        kept = min(decay, (1 + number) / (10 + number))
        expected = kept * expected + (1 - kept) * value
        assert average.network.weight.item() == pytest.approx(expected, abs=1e-6)
        assert network.weight.item() == pytest.approx(value)


def test_running_statistics_are_averaged_as_the_weights_are_and_other_buffers_copied():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    network.register_buffer("constant", torch.tensor([0.1, 3e7]))
    average = MovingAverage(network, Ema())
    network(torch.randn(5, 2))
    average.update()
    # The first update keeps a tenth of what there was.
    torch.testing.assert_close(average.network[1].running_mean, 0.9 * network[1].running_mean)
    torch.testing.assert_close(average.network[1].running_var, 0.1 + 0.9 * network[1].running_var)
    assert int(average.network[1].num_batches_tracked) == 1
    assert torch.equal(average.network.constant, network.constant)


def test_the_average_lies_in_memory_as_the_network_does_and_has_no_gradient():
    learner = averaging()
    steps(learner, range(2))
    assert learner.predictor is not learner.network
    for one, other in zip(learner.network.parameters(), learner.predictor.parameters(), strict=True):
        assert one.stride() == other.stride()
        assert other.grad is None
        assert not other.requires_grad


def test_the_trained_weights_are_the_same_with_an_average_and_without():
    plain, with_average = learner_of(configuration_of(2)), averaging()
    assert steps(plain, range(4)) == steps(with_average, range(4))
    assert torch.equal(weights_of(plain), weights_of(with_average))
    assert not torch.equal(averaged(with_average), weights_of(plain))
    assert torch.equal(averaged(plain), weights_of(plain))


def test_a_step_that_is_not_taken_does_not_count():
    learner = averaging()
    steps(learner, range(2))
    before, number = averaged(learner), learner.state()["average"]["updates"]
    images, segmentations = batch_of(num_axes=2)
    assert not learner.step(Inputs(images * torch.inf, segmentations), 2).has_stepped
    assert torch.equal(averaged(learner), before)
    assert learner.state()["average"]["updates"] == number == 2


def test_the_average_begins_again_with_weights_that_were_replaced():
    learner = averaging()
    steps(learner, range(2))
    for parameter in learner.network.parameters():
        nn.init.constant_(parameter, 0.5)
    learner.average.begin_again()
    assert torch.equal(averaged(learner), weights_of(learner))
    assert learner.state()["average"]["updates"] == 0


def test_a_training_with_an_average_goes_on_bit_for_bit(tmp_path):
    whole, first, second = averaging(), averaging(), averaging(seed=7)
    losses = steps(whole, range(6))
    steps(first, range(3))
    save_checkpoint(tmp_path / "a.ckpt", first.state())
    second.restore(load_checkpoint(tmp_path / "a.ckpt"))
    assert torch.equal(averaged(second), averaged(first))
    assert steps(second, range(3, 6)) == losses[3:]
    assert torch.equal(weights_of(second), weights_of(whole))
    assert torch.equal(averaged(second), averaged(whole))


def test_the_average_is_what_a_checkpoint_predicts_with_and_what_is_validated():
    seen, logs = [], []
    training = training_of(2, 3, ema=Ema(decay=0.5))
    fit = fit_of(
        configuration_of(2),
        training,
        on_epoch=lambda log, state, is_best: (logs.append(log), seen.append(state["network"])),
    )
    fit.learner.predictor.register_forward_hook(lambda *_: seen.append("validated"))
    fit.run()
    assert seen.count("validated") == 2 * training.validation_iterations
    kept = torch.cat([value.flatten() for value in seen[-1].values()])
    assert torch.equal(kept, averaged(fit.learner))
    assert not torch.equal(kept, weights_of(fit.learner))
    plain = []
    fit_of(configuration_of(2), training_of(2, 3), on_epoch=lambda log, *_: plain.append(log)).run()
    assert [log.train_loss for log in logs] == [log.train_loss for log in plain]
    assert [log.validation_loss for log in logs] != [log.validation_loss for log in plain]
