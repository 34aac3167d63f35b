"""Strides and kernels."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumorseg.planning.families.topology import choose_topology


def test_isotropic_axes_are_halved_together_until_4_voxels_are_left():
    topology = choose_topology((1.0, 1.0, 1.0), (32, 32, 32))
    assert topology.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert topology.kernel_sizes == ((3, 3, 3),) * 4
    assert (topology.num_stages, topology.divisors, topology.patch_size) == (4, (8, 8, 8), (32, 32, 32))


def test_a_thick_slice_is_not_halved_nor_convolved_across_until_the_others_are_as_coarse():
    topology = choose_topology((10.0, 1.5625, 1.5625), (9, 256, 216))
    assert topology.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))
    assert topology.kernel_sizes == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    assert topology.patch_size == (10, 256, 224)


def test_a_kernel_stays_3_once_it_is_3():
    kernels = choose_topology((3.9, 1.0, 1.0), (6, 256, 256)).kernel_sizes
    across = [kernel[0] for kernel in kernels]
    assert across == [1, 3, 3, 3, 3, 3, 3]


def test_an_axis_that_is_halved_alone_keeps_6_voxels():
    assert choose_topology((1.0, 1.0), (11, 4)).num_stages == 1
    assert choose_topology((1.0, 1.0), (12, 4)).strides == ((1, 1), (2, 1))


def test_a_patch_of_7_voxels_is_not_halved():
    topology = choose_topology((1.0, 1.0, 1.0), (7, 7, 7))
    assert (topology.num_stages, topology.kernel_sizes, topology.patch_size) == (1, ((3, 3, 3),), (7, 7, 7))


@pytest.mark.parametrize(("size", "padded"), [((37, 50), (40, 56)), ((32, 33), (32, 40)), ((8, 9), (8, 10))])
def test_the_patch_is_padded_to_multiples_of_the_strides(size, padded):
    assert choose_topology((1.0, 1.0), size).patch_size == padded


EDGES = st.floats(0.2, 12.0)
SIZES = st.integers(1, 700)


@given(st.one_of(*(st.tuples(st.tuples(*[EDGES] * n), st.tuples(*[SIZES] * n)) for n in (2, 3))))
def test_padding_is_less_than_one_divisor_and_the_bottleneck_keeps_4_voxels(grid):
    spacing_mm, size = grid
    topology = choose_topology(spacing_mm, size)
    assert len(topology.kernel_sizes) == topology.num_stages
    for edge, asked, divisor in zip(topology.patch_size, size, topology.divisors, strict=True):
        assert edge % divisor == 0
        assert asked <= edge < asked + divisor
        assert edge // divisor >= min(4, asked)
    for axis in range(len(size)):
        kernels = [kernel[axis] for kernel in topology.kernel_sizes]
        assert kernels == sorted(kernels)
        assert kernels[-1] == 3
        assert math.prod(stride[axis] for stride in topology.strides) == topology.divisors[axis]
