"""Operations of modules, by hand, and of networks, from those of their convolutions."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tumorseg.networks.registry import build_network
from tumorseg.planning.families.base import Grid
from tumorseg.planning.families.registry import FAMILIES
from tumorseg.planning.flops import module_flops, network_flops
from tumorseg.planning.memory.fakes import META
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.networks import PlainUNet

CONVOLUTIONS = {
    # Twice the multiplications: places of the result x channels in, of a group, x channels out x places of the kernel.
    "2d": (lambda: nn.Conv2d(3, 8, (3, 5), padding=(1, 2)), (3, 10, 12), 2 * 120 * 3 * 8 * 15),
    "3d": (lambda: nn.Conv3d(2, 5, 3, padding=1), (2, 4, 6, 7), 2 * 168 * 2 * 5 * 27),
    "strided": (lambda: nn.Conv3d(2, 5, 3, (1, 2, 2), padding=1), (2, 4, 6, 7), 2 * (4 * 3 * 4) * 2 * 5 * 27),
    # Each voxel that goes in meets each place of the kernel.
    "transposed": (lambda: nn.ConvTranspose3d(6, 4, 2, 2), (6, 3, 4, 5), 2 * 60 * 6 * 4 * 8),
    "depthwise": (lambda: nn.Conv3d(6, 6, 3, padding=1, groups=6), (6, 4, 5, 6), 2 * 120 * 6 * 27),
    "depthwise transposed": (lambda: nn.ConvTranspose3d(6, 6, 3, 2, 1, groups=6), (6, 4, 5, 6), 2 * 120 * 6 * 27),
    "grouped": (lambda: nn.Conv2d(6, 9, 3, padding=1, groups=3), (6, 5, 5), 2 * 25 * 2 * 9 * 9),
    "linear": (lambda: nn.Linear(7, 4, bias=False), (3, 7), 2 * 3 * 7 * 4),
    "one by one": (lambda: nn.Sequential(nn.Conv2d(1, 2, 1), nn.GELU(), nn.Conv2d(2, 1, 1)), (1, 4, 4), 2 * 16 * 4),
}

IN_CI = ("mednext", "unetr")
"""Of convolutions and of attention; torch's own mode takes seconds."""


class Attention(nn.Module):
    """Of two heads of three channels each."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 18, bias=False)

    def forward(self, tokens):
        """Map tokens (B, N, 6)."""
        queries, keys, values = self.inner(tokens).unflatten(-1, (3, 2, 3)).permute(2, 0, 3, 1, 4)
        return torch.softmax(queries @ keys.mT, -1) @ values


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_operations_are_those_counted_by_hand(name):
    build, shape, expected = CONVOLUTIONS[name]
    assert module_flops(build, shape) == expected


@pytest.mark.parametrize("context", [torch.enable_grad, torch.inference_mode])
def test_attention_is_the_products_of_its_matrices(context):
    num_tokens, heads, width = 10, 2, 3
    products = 2 * heads * num_tokens**2 * width
    # In inference mode, products of matrices arrive as a whole.
    with context():
        assert module_flops(Attention, (num_tokens, 6)) == 2 * num_tokens * 6 * 18 + 2 * products


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_a_u_net_computes_what_its_convolutions_do(deep_supervision):
    spec = PlainUNet(
        features_per_stage=(4, 6),
        strides=((1, 1), (2, 1)),
        kernel_sizes=((1, 3), (3, 3)),
        convs_per_stage=(2, 1),
        decoder_convs_per_stage=(1,),
        deep_supervision=deep_supervision,
    )
    fine, coarse = 8 * 6, 4 * 6
    encoder = fine * 3 * (2 * 4 + 4 * 4) + coarse * 9 * 4 * 6
    # Up by a kernel of the stride; then a convolution of both halves, and the head.
    decoder = coarse * 2 * 6 * 4 + fine * 3 * 8 * 4 + fine * 4 * 5
    assert network_flops(spec, (8, 6), num_channels=2, num_outputs=5) == 2 * (encoder + decoder)
    twice = network_flops(spec, (8, 12), num_channels=2, num_outputs=5)
    assert twice == 4 * (encoder + decoder)


def test_counting_draws_no_numbers():
    before = torch.get_rng_state()
    module_flops(lambda: nn.Conv2d(1, 4, 3), (1, 9, 9))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.empty(1).device.type == "cpu"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in IN_CI else pytest.mark.long) for name in FAMILIES]
)
def test_torchs_own_mode_counts_the_same(name):
    preset = PRESETS["fast_prototyping"].model_copy(update={"network": name})
    network, patch = next(FAMILIES[name].networks(Grid((2.0, 1.0, 1.0), (32.0, 60.0, 64.0), 1e7, 3), preset))
    counted = network_flops(network, patch, num_channels=2, num_outputs=3)
    with META, torch.no_grad(), FlopCounterMode(display=False) as counter:
        build_network(network, num_channels=2, num_outputs=3).eval()(torch.empty(1, 2, *patch))
    assert counted == counter.get_total_flops() > 0
