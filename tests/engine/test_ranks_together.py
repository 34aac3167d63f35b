"""Two processes over gloo train whatever a plan may ask for as one does."""

import multiprocessing

import numpy as np
import pytest
import torch
import torch.distributed

from tests.engine.phantoms import CLASSES, REGIONS, Cases, cases_of, configuration_of, fit_of, training_of
from tests.engine.test_cascade_channels import CORRUPTING, shown
from tests.engine.test_loss_in_training import SPATIAL, loss_spec
from tumorseg.engine.feed import Data
from tumorseg.engine.ranks import ALONE, ProcessRanks
from tumorseg.losses.presets import loss_preset
from tumorseg.schema.optimizers import Sgd
from tumorseg.schema.training import EarlyStop, Ema
from tumorseg.schema.weighting import AdaptiveWeighting, UncertaintyWeighting
from tumorseg.stages.training.calibrate import seconds_per_step

pytestmark = pytest.mark.slow
SIZE, SECONDS = 2, 120
PARTLY = CLASSES.model_copy(update={"ignore_value": 9})


def partly_ignored():
    """Return cases of which half is not supervised."""
    arrays = {}
    for case_id, (image, segmentation) in cases_of(3).arrays.items():
        known = np.arange(len(segmentation))[:, None, None] < len(segmentation) // 2
        arrays[case_id] = image, np.where(known, segmentation, -1).astype(np.int8)
    return Cases(arrays)


def fits(ranks):
    """Yield trainings by name; three patches do not divide by two."""
    plain = {"batch_size": 3, "optimizer": Sgd(lr=0.02, momentum=0.9, weight_decay=0), "transforms": SPATIAL}
    long = training_of(epochs=4)
    learnt = {"loss": loss_spec("loader", weighting=UncertaintyWeighting(lr=0.1)), "gradient_accumulation": 2}
    adaptive = {"loss": loss_spec("device", weighting=AdaptiveWeighting())}
    topk = loss_preset("dice_topk", has_regions=True, batch_dice=True, deep_supervision_weights=(1.0,))
    yield (
        "distances of the reader, learnt weights, accumulation",
        fit_of(configuration_of(**plain, **learnt), long, ranks=ranks),
    )
    shortened = training_of(epochs=6, ema=Ema(decay=0.9), early_stop=EarlyStop(patience=0.1, threshold=0.99))
    yield (
        "distances of the device, adaptive weights, a moving average, an early end",
        fit_of(configuration_of(**plain, **adaptive), shortened, ranks=ranks),
    )
    by_regions = configuration_of(**plain, targets=REGIONS, loss=topk)
    yield "regions, hard voxels", fit_of(by_regions, targets=REGIONS, ranks=ranks)
    partly = Data(partly_ignored(), None)
    yield "unsupervised voxels", fit_of(configuration_of(**plain), data=partly, targets=PARTLY, ranks=ranks)
    transforms = (*SPATIAL, *CORRUPTING)
    cascade = configuration_of(**plain | {"transforms": transforms}, previous_configuration="3d_lowres")
    yield "a cascade", fit_of(cascade, data=Data(shown(2), shown(1, seed=9)), targets=CLASSES, ranks=ranks)


def outcome(fit):
    logs = []
    fit.observers[0]._functions["epoch"] = lambda log, *_: logs.append(log.model_dump())
    fit.run()
    names = ("train_loss", "train_losses", "loss_weights", "validation_loss", "dsc", "lr")
    return fit.learner.state()["network"], [{name: log[name] for name in names} for log in logs]


def member(rank, folder):
    """Train everything as one of two, and leave the outcomes in a file."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/met", rank=rank, world_size=SIZE)
    ranks = ProcessRanks()
    found = {name: outcome(fit) for name, fit in fits(ranks)}
    seen = []
    stopped = fit_of(
        configuration_of(batch_size=3),
        training_of(epochs=3),
        should_stop=lambda: rank == 1 and len(seen) == 4,
        on_iteration=lambda *_: seen.append(0),
        ranks=ranks,
    )
    stopped.run()
    found["stopped"] = stopped.progress.iteration
    found["seconds"] = seconds_per_step(stopped.learner, stopped.feeds)
    broken = fit_of(
        configuration_of(batch_size=3),
        training_of(epochs=2, iterations_per_epoch=6),
        data=Data(cases_with_one_broken(), None),
        ranks=ranks,
    )
    skipped = []
    broken.observers[0]._functions["skip"] = lambda iteration, *_: skipped.append(iteration)
    broken.run()
    found["skipped"] = skipped
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def cases_with_one_broken():
    """Return cases of which one has an intensity that no step survives."""
    cases = cases_of(8)
    next(iter(cases.arrays.values()))[0][...] = np.inf
    return cases


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    context = multiprocessing.get_context("spawn")
    members = [context.Process(target=member, args=(rank, folder)) for rank in range(SIZE)]
    for process in members:
        process.start()
    for process in members:
        process.join(SECONDS)
        process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(SIZE)]


def test_whatever_a_plan_asks_for_ends_as_in_one_process(together):
    first, second = together
    for name, fit in fits(ALONE):
        weights, logs = outcome(fit)
        assert (len(logs) < fit.training.epochs) == ("early end" in name)
        for found in (first, second):
            torch.testing.assert_close(
                found[name][0], weights, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
            )
            for epoch, expected in zip(found[name][1], logs, strict=True):
                for field, value in expected.items():
                    assert epoch[field] == pytest.approx(value, abs=1e-3 if field == "dsc" else 1e-5), (name, field)


def test_all_stop_after_the_step_after_which_one_is_asked_to(together):
    assert [one["stopped"] for one in together] == [4, 4]


def test_all_agree_on_how_long_a_step_takes(together):
    first, second = (one["seconds"] for one in together)
    assert first == second


def test_a_step_that_is_not_finite_in_one_share_is_taken_by_none(together):
    first, second = (one["skipped"] for one in together)
    assert first == second
    assert 0 < len(first) < 12
