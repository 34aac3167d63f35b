import pytest
import torch

from tests.engine.phantoms import batch_of, configuration_of
from tumorseg.engine.weights import place, weights_problem
from tumorseg.networks.registry import build_network


@pytest.mark.parametrize(("num_axes", "order"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
def test_weights_on_the_cpu_lie_channels_last_and_mean_the_same(num_axes, order):
    spec = configuration_of(num_axes).network
    torch.manual_seed(0)
    network = build_network(spec, num_channels=2, num_outputs=3).eval()
    images = batch_of(num_axes=num_axes)[0]
    expected = network(images)
    placed = place(network, torch.device("cpu"))
    weights = [parameter for parameter in placed.parameters() if parameter.ndim == num_axes + 2]
    assert weights
    assert all(weight.is_contiguous(memory_format=order) for weight in weights)
    assert torch.allclose(placed(images), expected, atol=1e-5)


class Extra(torch.nn.Module):
    """Keeps a number beside weights that are complex."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.complex64))

    def get_extra_state(self):
        return {"level": 1}

    def set_extra_state(self, state):
        pass


def test_complex_weights_and_what_modules_keep_beside_them_are_those_of_a_network():
    own = Extra().state_dict()
    assert weights_problem(Extra().state_dict(), own) is None
    assert "of type torch.float32" in weights_problem(own | {"weight": torch.zeros(3)}, own)
    assert weights_problem({"weight": own["weight"]}, own) == "_extra_state is missing"
