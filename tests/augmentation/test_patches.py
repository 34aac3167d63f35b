"""Which rotation suits a patch."""

import pytest

from tests.augmentation.patches import patch_of
from tumorseg.augmentation.patches import AugmentedPatch, is_thick, suited_spatial
from tumorseg.errors import PlanError
from tumorseg.schema.base import parse_record


@pytest.mark.parametrize(
    ("patch_size", "rotation_deg", "in_plane"),
    [
        ((128, 128, 128), (30.0, 30.0, 30.0), False),
        ((40, 120, 96), (30.0, 30.0, 30.0), False),
        ((40, 121, 96), (180.0, 0.0, 0.0), True),
        ((160, 40, 40), (30.0, 30.0, 30.0), False),
        ((64, 64), (180.0,), False),
        ((96, 64), (180.0,), False),
        ((97, 64), (15.0,), False),
        ((64, 97), (15.0,), False),
    ],
)
def test_the_patch_decides_the_rotation(patch_size, rotation_deg, in_plane):
    spatial = suited_spatial(patch_of(patch_size))
    assert (spatial.rotation_deg, spatial.in_plane) == (rotation_deg, in_plane)
    assert is_thick(patch_size) == in_plane


@pytest.mark.parametrize(
    ("patch_size", "axes", "largest"),
    [
        ((64, 64), (0,), 15.0),
        ((64, 64), (), 180.0),  # a half turn alone is no mirror
        ((10, 64, 64), (0, 1), 30.0),
        ((10, 64, 64), (), 180.0),
        ((64, 64, 64), (0, 1), 30.0),
    ],
)
def test_where_sides_are_kept_a_half_turn_does_not_complete_a_flip_to_a_mirror_image(patch_size, axes, largest):
    assert suited_spatial(patch_of(patch_size, axes=axes)).rotation_deg[0] == largest


def test_channels_without_normalization_are_refused_in_one_line():
    fields = patch_of((8, 8), "mr", "mr").model_dump(mode="json") | {"normalization": [{"name": "none"}]}
    with pytest.raises(PlanError, match="images have 2 channels, but normalization 1") as refused:
        parse_record(AugmentedPatch, fields, source="x", error=PlanError)
    assert "\n" not in str(refused.value)
