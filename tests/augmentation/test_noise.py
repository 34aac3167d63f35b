import numpy as np
import torch
from scipy import stats

from tumorseg.augmentation.noise import Noise

CPU = torch.device("cpu")


def drawn(*shape, seed=1):
    return Noise(seed, CPU).like(torch.empty(shape))


def test_noise_is_normal_and_one_value_says_nothing_of_the_next():
    noise = drawn(200_000)
    assert stats.kstest(noise.numpy(), "norm").statistic < 0.005
    assert stats.kurtosis(noise.numpy()) < 0.05
    for distance in (1, 2, 3, 4, 5):
        assert abs(np.corrcoef(noise[distance:], noise[:-distance])[0, 1]) < 0.01


def test_noise_is_symmetric_and_reaches_4_standard_deviations():
    noise = drawn(1_000_000)
    assert abs(noise.mean().item()) < 0.005
    assert 4 < noise.max() < 4.4
    assert -4.4 < noise.min() < -4


def test_a_seed_gives_the_same_noise_and_goes_on_with_other_noise():
    stream = Noise(1, CPU)
    first, second = (stream.like(torch.empty(3, 5)) for _ in range(2))
    assert torch.equal(first, drawn(3, 5))
    assert not torch.equal(first, second)
    assert not torch.equal(first, drawn(3, 5, seed=2))


def test_noise_has_the_type_and_shape_of_what_it_is_for():
    noise = Noise(1, CPU).like(torch.empty(3, 1, 7, dtype=torch.float64))
    assert (noise.shape, noise.dtype) == ((3, 1, 7), torch.float64)
