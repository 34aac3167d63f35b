"""Bringing a configuration within what a device really reserves; the device is a formula here."""

import itertools
import math

import pytest

from tests.planning.measured import equal_cases, fingerprint, planned
from tumorseg.errors import PlanError
from tumorseg.planning.memory.budgets import CONTEXT_BYTES
from tumorseg.planning.memory.on_device import fit_to_device, smaller_patches
from tumorseg.schema.quantities import GB

VRAM = 4 * GB


@pytest.fixture(scope="module")
def configuration():
    plan = planned(fingerprint(equal_cases(40, (1.0, 1.0, 1.0), (90, 130, 110))), vram_gb=6.0)
    return plan.configurations["3d_fullres"].model_copy(update={"batch_size": 7})


def device(bytes_per_voxel, asked):
    """Return a device that reserves so much for each voxel of a batch, and has 16 GB."""

    def measure(tried):
        asked.append((tried.batch_size, tried.patch_size))
        reserved = bytes_per_voxel * tried.batch_size * math.prod(tried.patch_size)
        return None if reserved > 16 * GB else round(reserved)

    return measure


def per_voxel(configuration, batch_size, share=1.0):
    """Return the bytes a voxel at which a batch just fits the budget."""
    return share * (VRAM - CONTEXT_BYTES) / (batch_size * math.prod(configuration.patch_size))


def test_what_fits_is_left_alone_after_one_measurement(configuration):
    asked = []
    found = fit_to_device(configuration, device(per_voxel(configuration, 7), asked), vram_bytes=VRAM, num_gpus=1)
    assert found.configuration == configuration
    assert found.measured_bytes == pytest.approx(VRAM - CONTEXT_BYTES, rel=1e-3)
    assert len(asked) == 1


@pytest.mark.parametrize("fits", [2, 3, 5, 6])
def test_the_largest_batch_that_fits_is_found_by_bisection(configuration, fits):
    asked = []
    measure = device(per_voxel(configuration, fits, 0.99), asked)
    found = fit_to_device(configuration, measure, vram_bytes=VRAM, num_gpus=1)
    assert found.configuration.batch_size == fits
    assert found.configuration.patch_size == configuration.patch_size
    assert found.measured_bytes <= VRAM - CONTEXT_BYTES
    assert len(asked) <= 4


def test_a_batch_stays_a_multiple_of_the_gpus(configuration):
    even = configuration.model_copy(update={"batch_size": 8})
    measure = device(per_voxel(configuration, 7, 0.99), [])
    assert fit_to_device(even, measure, vram_bytes=VRAM, num_gpus=4).configuration.batch_size == 4


def test_a_device_that_runs_out_of_memory_is_over_budget_too(configuration):
    asked = []
    measure = device(per_voxel(configuration, 2, 0.99), asked)
    found = fit_to_device(configuration, measure, vram_bytes=VRAM, num_gpus=1)
    assert asked[0][0] == 7
    assert found.configuration.batch_size == 2


def test_then_the_largest_patch_of_the_same_network_is_found(configuration):
    measure = device(per_voxel(configuration, 1, 0.6), [])
    found = fit_to_device(configuration, measure, vram_bytes=VRAM, num_gpus=1).configuration
    assert found.batch_size == 2
    assert found.network == configuration.network
    patches = smaller_patches(configuration)
    position = patches.index(found.patch_size)
    limit = (VRAM - CONTEXT_BYTES) / per_voxel(configuration, 1, 0.6) / 2
    assert math.prod(found.patch_size) <= limit
    assert position == 0 or math.prod(patches[position - 1]) > limit


def test_smaller_patches_suit_the_network_and_shrink_one_axis_at_a_time(configuration):
    divisors = configuration.network.divisors
    patches = [configuration.patch_size, *smaller_patches(configuration)]
    assert len(patches) > 3
    for larger, smaller in itertools.pairwise(patches):
        assert sum(a != b for a, b in zip(larger, smaller, strict=True)) == 1
        assert all(size % divisor == 0 for size, divisor in zip(smaller, divisors, strict=True))
        assert math.prod(smaller) > math.prod(divisors)
        type(configuration).model_validate(configuration.model_copy(update={"patch_size": smaller}).model_dump())


def test_a_device_too_small_for_any_is_refused_in_one_line(configuration):
    with pytest.raises(PlanError, match=r"not even a patch of \[\d+, \d+, \d+\] voxels fits the budget of 4.0 GB"):
        fit_to_device(configuration, lambda _: None, vram_bytes=VRAM, num_gpus=1)
