import numpy as np
import pytest
import torch

from tumorseg.augmentation import axes
from tumorseg.augmentation.axes import Between, between, interpolate_axis


@pytest.mark.parametrize("shape", [(7, 5), (4, 6, 9), (2, 4, 6, 9)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_interpolation_along_an_axis_equals_numpys(shape, axis, monkeypatch):
    # So few that rows are looked up in several parts.
    monkeypatch.setattr(axes, "PART", 40)
    axis = axis % len(shape)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    size = shape[axis]
    places = torch.tensor([0.0, 0.25, 1.0, size - 1.5, size - 1.0])
    found = interpolate_axis(values, axis, between(places, size))
    expected = np.apply_along_axis(lambda row: np.interp(places.numpy(), np.arange(size), row), axis, values.numpy())
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    assert found.dtype == values.dtype


@pytest.mark.parametrize("axis", [0, 1])
def test_an_axis_of_one_voxel_gives_it_everywhere(axis):
    values = torch.arange(3.0).reshape(1, 3).movedim(0, axis).contiguous()
    found = interpolate_axis(values, axis, between(torch.zeros(4), 1))
    assert torch.equal(found, values.expand_as(found))


def test_places_may_lie_between_voxels_that_are_no_neighbours():
    values = torch.tensor([[0.0, 5.0, 10.0, 30.0]])
    places = Between(torch.tensor([0, 3]).int(), torch.tensor([3, 1]).int(), torch.tensor([0.5, 0.2]))
    assert interpolate_axis(values, 1, places).tolist() == [[15.0, 25.0]]
    assert interpolate_axis(values.double(), 1, places).dtype == torch.float64
