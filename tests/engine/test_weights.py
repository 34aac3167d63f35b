import pytest
import torch

from tests.engine.phantoms import batch_of, configuration_of
from tumorseg.engine.weights import place
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
