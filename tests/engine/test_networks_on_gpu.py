"""Networks on a GPU: how they are validated and compiled, and how their logits come back."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.engine.phantoms import CLASSES, NUM_CHANNELS, cases_of, configuration_of, training_of
from tests.engine.test_openvino_graphs import SHAPE, patches_of, unet
from tumorseg.engine.averaging import NetworkForward
from tumorseg.engine.batches import VALIDATION
from tumorseg.engine.compiled import CompiledFor, compiled_pass
from tumorseg.engine.execution import mixed_precision
from tumorseg.engine.feed import Data, Place, open_feeds
from tumorseg.engine.learner import Learner
from tumorseg.engine.sliding_window import Tiling, predict_slabs
from tumorseg.engine.validation import validate
from tumorseg.errors import InputError
from tumorseg.networks.normalised import normalised_activation
from tumorseg.schema.training import Precisions
from tumorseg.stages.inference.engines import chosen_engine

pytestmark = pytest.mark.gpu


def validation_on(device):
    training = training_of(precision=Precisions(cuda="fp32"))
    learner = Learner(configuration_of(), training, num_channels=NUM_CHANNELS, targets=CLASSES, device=device)
    feeds = open_feeds(Data(cases_of(1), cases_of(2)), configuration_of(), training, learner)
    return validate(learner, feeds.batches(Place(VALIDATION, number) for number in range(3)), iteration=0)


def test_a_validation_is_that_of_the_cpu(cuda):
    found, expected = validation_on(cuda), validation_on("cpu")
    assert found.loss == pytest.approx(expected.loss, rel=1e-2)
    assert found.dsc == pytest.approx(expected.dsc, abs=1e-2)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float16, 5e-3), (torch.bfloat16, 5e-2)])
def test_normalisation_and_activation_in_one_step_have_the_gradients_of_both(cuda, dtype, tolerance, order):
    norm = nn.InstanceNorm3d(6, affine=True).to(cuda)
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randn(2, 6, 5, 7, 9, generator=generator).to(cuda, dtype) for _ in range(3)]
    gradient = drawn.pop()
    found = []
    for as_one in (True, False):
        leaves = [one.clone(memory_format=order).requires_grad_() for one in drawn]
        features, added = leaves
        if as_one:
            made = normalised_activation(norm, features, 0.01, added=added)
        else:
            made = F.leaky_relu(norm(features) + added, 0.01)
        norm.zero_grad()
        made.backward(gradient)
        found.append([made.detach(), *(leaf.grad for leaf in leaves), norm.weight.grad, norm.bias.grad])
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).abs().max() <= tolerance * other.abs().max()


def compiled_on(cuda, dtype):
    """Return a network and what torch compiles of it."""
    try:
        chosen_engine("compile", torch.device(cuda))
    except InputError as error:
        pytest.skip(error.reason)
    network = unet().to(cuda)
    return network, compiled_pass(network, CompiledFor(SHAPE, torch.device(cuda), dtype))


@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 5e-3), (torch.float16, 5e-2)])
def test_compiled_logits_are_those_of_torch_for_one_patch_and_for_several(cuda, dtype, share):
    network, run = compiled_on(cuda, dtype)
    patches = patches_of(SHAPE).to(cuda)
    with torch.inference_mode():
        expected = network(patches)
    for count in (1, 3):
        found = run(patches[:count])
        assert found.dtype == torch.float32
        assert (found - expected[:count]).abs().max() < share * expected.abs().max()


@pytest.mark.parametrize("keeps_on_device", [True, False])
def test_an_image_in_mirrored_views_has_the_logits_of_the_cpu(cuda, keeps_on_device):
    image = torch.randn(3, 13, 31, 22, generator=torch.Generator().manual_seed(2))
    tiling = Tiling(SHAPE[1:], 0.5, 0.125, is_planar=False, batch_size=2)

    def logits_on(device):
        place = torch.device(device)
        autocast = partial(mixed_precision, place, torch.float32)
        networks = [unet(seed=seed).to(place) for seed in (0, 1)]
        forward = NetworkForward(networks, (0, 2), 3, autocast, place, keeps_on_device, views_per_pass=3)
        return [slab.logits for slab in predict_slabs(image, forward, tiling, num_outputs=5)]

    found, expected = (torch.cat(logits_on(device), dim=1) for device in (cuda, "cpu"))
    assert found.is_cuda == keeps_on_device
    assert (found.cpu() - expected).abs().max() < 5e-3 * expected.abs().max()
