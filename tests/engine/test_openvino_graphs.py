from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from tumorseg.engine.openvino_graphs import GraphSettings, check_graph, convert_network, graph_pass
from tumorseg.errors import InputError
from tumorseg.networks.registry import build_network
from tumorseg.schema.networks import PlainUNet, ResidualUNet

pytestmark = pytest.mark.slow

# Of a cascade: more channels than one, and an anisotropic patch.
SHAPE = (3, 6, 20, 12)


def topology(num_axes, num_stages):
    strides = ((1, 1, 1), (1, 2, 2), (2, 2, 1))
    kernels = ((1, 3, 3), (3, 3, 3), (3, 3, 3))
    return {
        "features_per_stage": (4, 6, 8)[:num_stages],
        "strides": tuple(axes[-num_axes:] for axes in strides[:num_stages]),
        "kernel_sizes": tuple(axes[-num_axes:] for axes in kernels[:num_stages]),
        "decoder_convs_per_stage": (1, 2)[: num_stages - 1],
    }


def unet(num_channels=3, num_axes=3, kind="plain", seed=0, num_stages=3):
    depth = {"plain": "convs_per_stage", "residual": "blocks_per_stage"}[kind]
    spec = {"plain": PlainUNet, "residual": ResidualUNet}[kind](
        **{depth: (2, 1, 2)[:num_stages]}, **topology(num_axes, num_stages)
    )
    torch.manual_seed(seed)
    network = build_network(spec, num_channels=num_channels, num_outputs=5).eval()
    for parameter in network.parameters():
        # Scales of 1 and shifts of 0 would not show whether they are used.
        parameter.data += 0.2 * torch.rand_like(parameter)
    return network


def patches_of(shape, count=3):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


def settings_of(shape):
    return GraphSettings(shape, torch.float32, num_threads=1)


@pytest.fixture(scope="module")
def network():
    return unet()


@pytest.fixture(scope="module")
def graph(network):
    return convert_network(network, SHAPE)


@pytest.fixture(scope="module")
def run(graph):
    return graph_pass(graph, settings_of(SHAPE))


def assert_alike(found, expected):
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("count", [1, 3])
def test_logits_are_those_of_torch_for_any_number_of_patches(network, run, count):
    patches = patches_of(SHAPE, count)
    with torch.inference_mode():
        assert_alike(run(patches), network(patches))


def test_a_patch_that_is_cut_out_of_an_image_without_a_copy_gives_the_same(run):
    image = patches_of((3, 9, 33, 17), count=1)
    window = image[:, :, 2:8, 5:25, 3:15]
    assert torch.equal(run(window), run(window.contiguous()))


def test_a_patch_has_the_same_bits_in_whatever_batch_it_comes(run):
    patches = patches_of(SHAPE)
    assert torch.equal(run(patches)[1:2], run(patches[1:2]))


def test_a_later_pass_leaves_earlier_logits_alone(run):
    patches = patches_of(SHAPE)
    first = run(patches[:1])
    kept = first.clone()
    run(patches[1:])
    assert torch.equal(first, kept)


def test_threads_at_once_get_each_their_own_logits(run):
    patches = patches_of(SHAPE, count=8).split(1)
    expected = [run(patch) for patch in patches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, patches))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_graph_of_other_weights_is_noticed(graph, network):
    check_graph(graph, network, SHAPE)
    with pytest.raises(InputError, match="other logits than torch"):
        check_graph(graph, unet(seed=1), SHAPE)


class Undecided(nn.Module):
    def forward(self, images):
        return images if images.sum() > 0 else -images


class Pair(nn.Module):
    def forward(self, images):
        return images, -images


def test_a_network_that_cannot_be_exported_is_one_line():
    with pytest.raises(InputError, match="give --engine torch") as raised:
        convert_network(Undecided(), SHAPE)
    assert "\n" not in str(raised.value)


def test_a_network_of_several_outputs_is_refused():
    with pytest.raises(InputError, match="one output, and this has 2"):
        convert_network(Pair(), SHAPE)


@pytest.mark.parametrize(("kind", "num_axes", "num_channels"), [("plain", 2, 4), ("residual", 3, 1), ("plain", 3, 4)])
def test_every_kind_of_network_gives_what_torch_gives(kind, num_axes, num_channels):
    shape = (num_channels, 8, 20, 12)[: 1 + num_axes]
    network, patches = unet(num_channels, num_axes, kind), patches_of(shape, count=17)
    with torch.inference_mode():
        assert_alike(graph_pass(convert_network(network, shape), settings_of(shape))(patches), network(patches))
