"""Batches that go through the network in parts; every loss by itself: tests/losses/test_losses_contract.py."""

import pytest
import torch
from torch import nn

from tests.engine.phantoms import CLASSES, REGIONS, configuration_of, learner_of
from tumorseg.engine.accumulation import backward_in_parts
from tumorseg.engine.learner import Inputs
from tumorseg.losses.compound import LossValue
from tumorseg.losses.presets import loss_preset
from tumorseg.networks.registry import build_network
from tumorseg.planning.memory.allocations import AllocationTracker
from tumorseg.schema.networks import PlainUNet
from tumorseg.schema.optimizers import Sgd
from tumorseg.schema.weighting import AdaptiveWeighting, UncertaintyWeighting

NETWORK = PlainUNet(
    features_per_stage=(4, 6, 8),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    kernel_sizes=((3, 3, 3),) * 3,
    decoder_convs_per_stage=(1, 1),
    convs_per_stage=(1, 1, 1),
)


def batch_of(count=3, shape=(4, 8, 12)):
    """Return images and class indices; the first patch is hardly supervised, the last almost empty."""
    generator = torch.Generator().manual_seed(1)
    segmentations = torch.randint(0, 3, (count, *shape), generator=generator)
    segmentations[0, 1:], segmentations[-1, 1:] = -1, 0
    return torch.randn(count, 2, *shape, generator=generator), segmentations


def stepped(num_parts, targets=CLASSES, level_weights=(1.0, 0.5), weighting=None):
    """Return a learner after one step of three patches, and the loss."""
    loss = loss_preset(
        "dice_topk", has_regions=targets.has_regions, batch_dice=True, deep_supervision_weights=level_weights
    )
    configuration = configuration_of(
        network=NETWORK,
        loss=loss if weighting is None else loss.model_copy(update={"weighting": weighting}),
        optimizer=Sgd(lr=0.1, momentum=0, weight_decay=0),
        gradient_accumulation=num_parts,
        patch_size=(4, 8, 12),
        batch_size=3,
    )
    learner = learner_of(configuration, targets=targets)
    return learner, learner.step(Inputs(*batch_of()), 0)


@pytest.mark.parametrize(
    ("num_parts", "changes"),
    [
        (2, {"weighting": UncertaintyWeighting(lr=0.1)}),
        (5, {"weighting": AdaptiveWeighting()}),
        (2, {"targets": REGIONS, "level_weights": (1.0, 0.0)}),
    ],
    ids=["uneven parts", "more parts than patches", "regions, and a resolution without weight"],
)
def test_a_step_in_parts_is_that_of_the_whole_batch(num_parts, changes):
    (whole, expected), (parted, found) = stepped(1, **changes), stepped(num_parts, **changes)
    torch.testing.assert_close(found.total, expected.total)
    torch.testing.assert_close(found.components, expected.components)
    torch.testing.assert_close(parted.state()["network"], whole.state()["network"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(parted.state()["loss"], whole.state()["loss"])


def test_both_passes_draw_the_same_and_count_once():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.Dropout(0.5), nn.Conv3d(4, 3, 1))
    images, segmentations = batch_of()
    parts = images.tensor_split(2)
    before = {name: value.clone() for name, value in network.state_dict().items()}

    def backward(logits):
        total = nn.functional.cross_entropy(logits, segmentations, ignore_index=-1)
        total.backward()
        return LossValue(total.detach(), {})

    torch.manual_seed(5)
    expected = backward(torch.cat([network(part) for part in parts]))
    gradients, buffers = [parameter.grad for parameter in network.parameters()], dict(network.named_buffers())
    drawn, buffers = torch.rand(3), {name: value.clone() for name, value in buffers.items()}
    network.load_state_dict(before)
    network.zero_grad()
    torch.manual_seed(5)
    found = backward_in_parts(network, parts, forward=network, backward=backward)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close([parameter.grad for parameter in network.parameters()], gradients)
    torch.testing.assert_close(dict(network.named_buffers()), buffers)
    assert torch.equal(torch.rand(3), drawn)


def test_memory_is_that_of_a_part_and_of_all_logits():
    images, _ = batch_of(8)
    network, peaks = build_network(NETWORK, num_channels=2, num_outputs=3), []
    for num_parts in (1, 8):
        parts = images.tensor_split(num_parts)
        with AllocationTracker() as tracker:
            backward_in_parts(
                network,
                parts,
                forward=network,
                backward=lambda logits: LossValue(sum(level.sum() for level in logits).backward(), {}),
            )
        network.zero_grad()
        peaks.append(tracker.peak_bytes)
    whole, parted = peaks
    assert parted < whole / 3  # an eighth of the activations, beside the logits of all and the weights' gradients
