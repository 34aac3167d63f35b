import threading
from contextlib import closing

import pytest
import torch

from tests.engine.phantoms import CLASSES, NUM_CHANNELS, Heard, cases_of, configuration_of, training_of, weights_of
from tumorseg.engine.batches import TRAINING, VALIDATION
from tumorseg.engine.feed import Data, Place, open_feeds
from tumorseg.engine.learner import Learner
from tumorseg.engine.loop import Fit
from tumorseg.schema.transforms.intensity import Brightness, Contrast
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform

pytestmark = pytest.mark.gpu

AUGMENTED = configuration_of(
    transforms=(
        SpatialTransform(rotation_deg=(30, 30, 30), rotation_probability=0.7, scaling_probability=0.7),
        Brightness(probability=0.5),
        Contrast(probability=0.5),
        MirrorTransform(axes=(0, 1, 2)),
    ),
    edge=16,
    batch_size=3,
)
PLACES = [*(Place(TRAINING, number) for number in range(12)), Place(VALIDATION, 0)]
DATA = Data(cases_of(3, shape=(25, 27, 26)), cases_of(1, seed=9))


def learner_on(device):
    training = training_of(epochs=3, iterations_per_epoch=4)
    return Learner(AUGMENTED, training, num_channels=NUM_CHANNELS, targets=CLASSES, device=device)


def feeds_on(device, num_workers):
    return open_feeds(DATA, AUGMENTED, training_of(), learner_on(device), num_workers=num_workers)


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_batches_that_a_gpu_augments_are_those_of_the_cpu(cuda, num_workers):
    on_gpu, on_cpu = feeds_on(cuda, num_workers), feeds_on("cpu", 1)
    with closing(on_gpu.batches(PLACES)) as found, closing(on_cpu.batches(PLACES)) as expected:
        for one, other in zip(found, expected, strict=True):
            assert one[:2] == other[:2]
            assert one.inputs.images.device.type == "cuda"
            torch.testing.assert_close(one.inputs.images.cpu(), other.inputs.images, atol=1e-4, rtol=0)
            is_same = one.inputs.segmentations.cpu() == other.inputs.segmentations
            assert is_same.float().mean() >= 0.9999


def test_a_batch_keeps_its_memory_while_the_next_ones_are_placed(cuda):
    feeds = feeds_on(cuda, 3)
    with closing(feeds.batches(PLACES[:-1])) as batches:
        kept = list(batches)
    torch.cuda.synchronize()
    for batch in kept:
        loaded = feeds.training.load(batch.number)
        expected = feeds.training.inputs(loaded)
        assert torch.equal(batch.inputs.segmentations, expected.segmentations)
        torch.testing.assert_close(batch.inputs.images, expected.images, atol=1e-5, rtol=0)


def test_memory_of_batches_is_used_again(cuda):
    feeds = feeds_on(cuda, 2)
    with closing(feeds.batches(Place(TRAINING, number) for number in range(60))) as batches:
        for _ in range(10):
            next(batches)
        torch.cuda.synchronize()
        before = torch.cuda.memory_reserved()
        for batch in batches:
            batch.inputs.images.mean().item()
    assert torch.cuda.memory_reserved() <= 1.5 * before


def test_patches_wait_in_pinned_memory(cuda):
    sample = feeds_on(cuda, 1).training.load(0)[0].sample
    assert sample.image.is_pinned()
    assert sample.segmentation.is_pinned()


def test_a_training_on_a_gpu_logs_its_transfers_and_leaves_no_thread(cuda):
    logs, training = [], training_of(epochs=2, iterations_per_epoch=4)
    learner = Learner(AUGMENTED, training, num_channels=NUM_CHANNELS, targets=CLASSES, device=cuda)
    feeds = open_feeds(DATA, AUGMENTED, training, learner, num_workers=2)
    before = weights_of(learner)
    assert Fit(learner, training, feeds, (Heard(on_epoch=lambda log, *_: logs.append(log.seconds_by_part)),)).run()
    assert not torch.equal(weights_of(learner), before)
    for seconds in logs:
        assert min(seconds.transfer, seconds.augmentation, seconds.reading) > 0
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(("reader", "feeder"))] == []
