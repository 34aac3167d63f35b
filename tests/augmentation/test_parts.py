import pytest
import torch

from tumorseg.augmentation import parts as module
from tumorseg.augmentation.parts import add_sums, mean_and_std, parts


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("space", [(9, 14), (7, 12, 9), (1, 1), (0, 4)])
def test_parts_are_views_of_all_planes_across_an_axis(space, axis, monkeypatch):
    monkeypatch.setattr(module, "PART", 120)
    values = torch.arange(float(torch.tensor(space).prod())).reshape(space)
    found = parts(values, axis)
    assert torch.equal(torch.cat(found, axis), values)
    assert len(found) == {9 * 14: 2, 7 * 12 * 9: 7 if axis == 0 else 12}.get(values.numel(), 1)
    for part in found:
        part += 1
    assert torch.equal(torch.cat(parts(values, axis), axis), values)


def test_a_plane_that_is_larger_than_a_part_is_one(monkeypatch):
    monkeypatch.setattr(module, "PART", 10)
    assert [part.shape[0] for part in parts(torch.zeros(3, 40))] == [1, 1, 1]


def test_elsewhere_than_on_the_cpu_there_is_one_part():
    assert len(parts(torch.zeros(300, 300, 300, device="meta"))) == 1


def test_mean_and_deviation_come_from_sums_of_parts():
    values = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1)) + 1000
    sums = torch.zeros(2, dtype=torch.float64)
    for part in values:
        add_sums(part, sums)
    mean, std = mean_and_std(values.numel(), *sums)
    torch.testing.assert_close(mean, values.double().mean())
    torch.testing.assert_close(std, values.double().std())


def test_one_value_has_no_deviation():
    mean, std = mean_and_std(1, torch.tensor(3.0), torch.tensor(9.0))
    assert (mean.item(), std.item()) == (3.0, 0.0)
