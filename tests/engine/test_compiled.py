import pytest
import torch
from torch import nn

from tests.engine.test_openvino_graphs import SHAPE, assert_alike, patches_of, unet
from tumorseg.engine.compiled import CompiledFor, cause_of, compiled_pass
from tumorseg.errors import InputError

TARGET = CompiledFor(SHAPE, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RuntimeError("the first line\nthe second"), "the first line"),
        (RuntimeError(), "RuntimeError"),
        (ValueError("x" * 999), "x" * 200),
    ],
)
def test_of_somebody_elses_error_the_first_line_is_kept(error, cause):
    assert cause_of(error) == cause


@pytest.mark.slow
def test_compiled_logits_are_those_of_torch_and_nothing_is_compiled_again():
    # Small, as the compiler's time grows with every stage.
    network, patches = unet(num_stages=2), patches_of(SHAPE)
    run = compiled_pass(network, TARGET)
    with torch.inference_mode():
        expected = network(patches)
    # Whatever the caller's modes, the number of patches and their order in memory.
    with torch.compiler.set_stance("fail_on_recompile"):
        assert_alike(run(patches), expected)
        assert_alike(run(patches[:1].transpose(-1, -2).contiguous().transpose(-1, -2)), expected[:1])
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            assert_alike(run(patches[1:].flip(2).flip(2)), expected[1:])


class Odd(nn.Module):
    def forward(self, images):
        return torch.full_like(images, 1.0).to("nowhere")


@pytest.mark.slow
def test_a_network_that_cannot_be_compiled_is_one_line():
    with pytest.raises(InputError, match="give --engine torch") as raised:
        compiled_pass(Odd(), TARGET)
    assert "\n" not in str(raised.value)
