"""Presets are sound for every patch and kind of channel, and what they are named after."""

import subprocess
import sys
from itertools import product

import pytest
import torch

from tests.augmentation.patches import USUAL, patch_of
from tests.augmentation.seeded import sample_of
from tumorseg.augmentation.pipeline import Augmentation
from tumorseg.augmentation.presets import AUGMENTATION_PRESETS, SCALED, augmentation_preset
from tumorseg.errors import PlanError
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.preprocessing import ZScoreNormalization
from tumorseg.schema.transforms.base import Range
from tumorseg.schema.transforms.spatial import MirrorTransform

PATCHES = {"plane": (24, 20), "volume": (12, 16, 13), "thick": (5, 18, 16)}
CHANNELS = {
    "ct": ("ct",),
    "mr": ("mr", "mr", "mr"),
    "pet and ct": ("ct", "pet"),
    "mr and ct": ("mr", "ct"),
    "rgb": ("rgb", "rgb", "rgb"),
    "other": ("other",),
}
MASKED = ZScoreNormalization(masked=True)
OF_CT, OF_MR = (
    {"hu_shift", "streaks"},
    {"bias_field", "motion", "ghosting", "spikes", "gibbs", "slice_jumps", "rician_noise"},
)
TABLE = [
    ("spatial", {"rotation_probability": 0.2, "scaling_probability": 0.2, "scaling": (0.7, 1.4)}),
    ("gaussian_noise", {"probability": 0.1, "std": (0, 0.1), "per_channel": False}),
    ("gaussian_blur", {"probability": 0.2, "sigma": (0.5, 1)}),
    ("brightness", {"probability": 0.15, "factor": (0.75, 1.25)}),
    ("contrast", {"probability": 0.15, "factor": (0.75, 1.25)}),
    ("low_resolution", {"probability": 0.25, "zoom": (0.5, 1), "in_plane": False}),
    ("gamma", {"probability": 0.1, "gamma": (0.7, 1.5), "inverted": True}),
    ("gamma", {"probability": 0.3, "gamma": (0.7, 1.5), "inverted": False}),
    ("mirror", {"probability": 0.5, "axes": (0, 1, 2)}),
    ("zero_outside", {}),
]
"""nnU-Net's table for a volume whose channels are normalised within a mask."""
CHANNEL_PROBABILITIES = {"gaussian_blur": 0.5, "low_resolution": 0.5}
"""Of channels that do not all change where a sample does."""


def named(spec):
    """Return the transforms by name; of those that stand twice, the last."""
    return {transform.name: transform for transform in spec.transforms}


def names(spec):
    return [transform.name for transform in spec.transforms]


def value_of(transform, field):
    value = getattr(transform, field)
    return (value.low, value.high) if isinstance(value, Range) else value


def probabilities(spec):
    return {
        (number, name): value
        for number, transform in enumerate(spec.transforms)
        for name, value in transform
        if name.endswith("probability")
    }


def test_presets_need_no_torch():
    code = "import sys, tumorseg.augmentation.presets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_these_presets_are_there_each_with_its_use():
    assert set(AUGMENTATION_PRESETS) == {"none", "light", "basic", "nnunet", "mri", "ct", "strong"}
    for name, preset in AUGMENTATION_PRESETS.items():
        assert (preset.name, preset.when[-1]) == (name, ".")
        assert preset.holds


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(PlanError, match="no augmentation preset 'nnunett'; known are none, light, basic, nnunet, mri"):
        augmentation_preset("nnunett", patch_of())


@pytest.mark.parametrize("patch_size", PATCHES.values(), ids=PATCHES)
@pytest.mark.parametrize("kinds", CHANNELS.values(), ids=CHANNELS)
@pytest.mark.parametrize("name", AUGMENTATION_PRESETS)
def test_every_preset_fits_every_patch_and_every_kind(name, kinds, patch_size):
    for normalization in (None, (MASKED,) * len(kinds)):
        patch = patch_of(patch_size, *kinds, normalization=normalization)
        spec = augmentation_preset(name, patch)
        assert list(spec.misfits(patch.facts)) == []
        assert AugmentationSpec.model_validate_json(spec.model_dump_json()) == spec
        assert (spec.preset, spec.strength) == (name, 1.0)


@pytest.mark.parametrize("patch_size", PATCHES.values(), ids=PATCHES)
@pytest.mark.parametrize("name", AUGMENTATION_PRESETS)
def test_every_preset_can_be_applied(name, patch_size):
    patch = patch_of(patch_size, "ct", "mr")
    # Ten times as likely, most of it happens.
    augmentation = Augmentation(augmentation_preset(name, patch, strength=10), patch.facts)
    image = torch.randn(2, *(3 * size for size in patch_size), generator=torch.Generator().manual_seed(3))
    labels = (image[0] > 0).to(torch.int16)
    sample = augmentation.apply(sample_of(image, labels), augmentation.draw(1))
    assert sample.image.shape == (2, *patch_size)
    assert sample.image.isfinite().all()


def test_nnunets_table_is_complete_in_its_order_with_its_numbers():
    spec = augmentation_preset("nnunet", patch_of((32, 40, 36), "mr", "mr", normalization=(MASKED, MASKED)))
    assert names(spec) == [name for name, _ in TABLE]
    for transform, (_, expected) in zip(spec.transforms, TABLE, strict=True):
        assert {field: value_of(transform, field) for field in expected} == expected
        if hasattr(transform, "channel_probability"):
            assert transform.channel_probability == CHANNEL_PROBABILITIES.get(transform.name, 1.0)
            assert transform.per_channel == (transform.name != "gaussian_noise")
            assert transform.channels is None
    spatial = spec.transforms[0]
    assert (spatial.rotation_deg, spatial.elastic_probability, spatial.in_plane) == ((30.0,) * 3, 0, False)


def test_nnunets_table_of_a_thick_patch_stays_in_its_planes():
    found = named(augmentation_preset("nnunet", patch_of((10, 64, 64))))
    assert (found["spatial"].rotation_deg, found["spatial"].in_plane) == ((180.0, 0, 0), True)
    assert found["low_resolution"].in_plane
    plane = named(augmentation_preset("nnunet", patch_of((64, 64))))
    assert (plane["spatial"].rotation_deg, plane["spatial"].in_plane) == ((180.0,), False)
    assert not plane["low_resolution"].in_plane


@pytest.mark.parametrize("kinds", CHANNELS.values(), ids=CHANNELS)
@pytest.mark.parametrize("patch_size", PATCHES.values(), ids=PATCHES)
def test_nnunets_table_is_the_same_for_all_kinds(kinds, patch_size):
    expected = augmentation_preset("nnunet", patch_of(patch_size, *["mr"] * len(kinds)))
    assert augmentation_preset("nnunet", patch_of(patch_size, *kinds)) == expected


def test_none_changes_nothing_at_all():
    assert augmentation_preset("none", patch_of((8, 9, 10), "mr", normalization=(MASKED,))).transforms == ()


def test_light_is_half_as_likely_as_nnunets_and_turns_little():
    light, whole = (named(augmentation_preset(name, patch_of())) for name in ("light", "nnunet"))
    assert list(light) == ["spatial", "gaussian_noise", "brightness", "contrast", "mirror"]
    for name in ("gaussian_noise", "brightness", "contrast"):
        assert light[name].probability == whole[name].probability / 2
    assert light["spatial"].rotation_probability == 0.1
    assert light["spatial"].rotation_deg == (10.0, 10.0, 10.0)
    thick = named(augmentation_preset("light", patch_of((10, 64, 64))))["spatial"]
    assert (thick.rotation_deg, thick.in_plane) == ((10.0, 0.0, 0.0), True)


def test_basic_is_nnunets_table_without_what_takes_most_of_the_time():
    left_out = {"gaussian_blur", "low_resolution", "gamma"}
    whole = augmentation_preset("nnunet", patch_of()).transforms
    kept = tuple(transform for transform in whole if transform.name not in left_out)
    assert augmentation_preset("basic", patch_of()).transforms == kept


def test_strong_is_likelier_and_wider_than_nnunets_table_everywhere():
    strong, whole = (augmentation_preset(name, patch_of()) for name in ("strong", "nnunet"))
    assert names(strong) == names(whole)
    for mine, theirs in zip(strong.transforms, whole.transforms, strict=True):
        for name, value in theirs:
            if name in SCALED:
                assert getattr(mine, name) > value or isinstance(mine, MirrorTransform)
            elif isinstance(value, Range) and not name.startswith("elastic"):
                wider = getattr(mine, name)
                assert wider.low <= value.low <= value.high <= wider.high


@pytest.mark.parametrize("patch_size", [(24, 32, 26), (8, 40, 36), (56, 40)])
def test_strong_folds_no_image_over_itself(patch_size):
    num_axes = len(patch_size)
    patch = patch_of(patch_size, *["mr"] * num_axes)
    spatial = named(augmentation_preset("strong", patch))["spatial"]
    narrowest, farthest = spatial.elastic_width.low, spatial.elastic_magnitude.high
    elastic = spatial.changed(
        rotation_probability=0,
        scaling_probability=0,
        elastic_probability=1,
        elastic_width=Range(low=narrowest, high=narrowest),
        elastic_magnitude=Range(low=farthest, high=farthest),
    )
    augmentation = Augmentation(AugmentationSpec(transforms=(elastic,)), patch.facts)
    for seed in range(5):
        draws = augmentation.draw(seed)
        edges = [torch.arange(size, dtype=torch.float32) for size in augmentation.source_size(draws)]
        places = torch.stack(torch.meshgrid(*edges, indexing="ij"))
        labels = torch.zeros(places.shape[1:], dtype=torch.int16)
        looked_at = augmentation.apply(sample_of(places, labels), draws).image
        steps = [looked_at[axis].diff(dim=axis) for axis in range(num_axes)]
        assert min(step.min() for step in steps) > 0.2
        assert max(step.max() for step in steps) > 1.1


@pytest.mark.parametrize("name", ["mri", "ct"])
@pytest.mark.parametrize("patch_size", PATCHES.values(), ids=PATCHES)
def test_each_channel_gets_the_artefacts_of_its_kind(name, patch_size):
    spec = augmentation_preset(name, patch_of(patch_size, "pet", "mr", "ct", "mr"))
    found = named(spec)
    of_mr = OF_MR - {"slice_jumps"} if len(patch_size) == 2 else OF_MR
    assert (OF_CT | of_mr) <= set(found)
    assert {found[transform].channels for transform in OF_CT} == {(2,)}
    assert {found[transform].channels for transform in of_mr} == {(1, 3)}
    assert found["gaussian_noise"].channels == (0, 2)
    inverted = [one.channels for one in spec.transforms if one.name == "gamma" and one.inverted]
    assert inverted == [(0, 1, 3)]


def test_images_of_ct_alone_are_never_inverted_but_in_nnunets_own_lists():
    for name in AUGMENTATION_PRESETS:
        spec = augmentation_preset(name, patch_of((24, 32, 28), "ct", "ct"))
        inverts = any(one.name == "gamma" and one.inverted for one in spec.transforms)
        assert inverts == (name in ("nnunet", "strong"))


def test_one_kind_alone_names_no_channels_and_has_no_artefacts_of_others():
    ct = augmentation_preset("ct", patch_of((24, 32, 28), "ct", "ct"))
    assert set(names(ct)) >= OF_CT
    assert not OF_MR & set(names(ct))
    mr = augmentation_preset("mri", patch_of((24, 32, 28), "mr", "mr"))
    assert set(names(mr)) >= OF_MR
    assert not (OF_CT | {"gaussian_noise"}) & set(names(mr))
    for transform in (*ct.transforms, *mr.transforms):
        assert getattr(transform, "channels", None) is None


def test_a_channel_of_unknown_kind_is_what_the_preset_is_named_after():
    unknown = patch_of((24, 32, 28), "other", normalization=(USUAL["mr"],))
    assert names(augmentation_preset("mri", unknown)) == names(augmentation_preset("mri", patch_of()))
    # Without Hounsfield units nothing can be done to them, but nothing is inverted either.
    assert not (OF_MR | OF_CT) & set(names(augmentation_preset("ct", unknown)))
    assert names(augmentation_preset("ct", unknown)).count("gamma") == 1


def test_slices_are_made_thicker_only_where_there_are_many():
    for name, patch_size in product(("mri", "ct"), PATCHES.values()):
        found = names(augmentation_preset(name, patch_of(patch_size, "ct")))
        assert ("thick_slices" in found) == (patch_size == PATCHES["volume"])


def test_thick_slices_ring_and_move_in_their_planes():
    found = named(augmentation_preset("mri", patch_of(PATCHES["thick"])))
    for name in ("motion", "ghosting", "gibbs", "spikes"):
        assert found[name].axes == (1, 2)
    assert found["slice_jumps"].axes == (0,)


@pytest.mark.parametrize("name", [name for name in AUGMENTATION_PRESETS if name != "none"])
def test_flips_and_the_zero_outside_end_every_list(name):
    masked = (MASKED, ZScoreNormalization(masked=False))
    spec = augmentation_preset(name, patch_of((24, 32, 28), "mr", "mr", normalization=masked))
    assert names(spec)[-2:] == ["mirror", "zero_outside"]
    assert "zero_outside" not in names(augmentation_preset(name, patch_of()))
    assert "mirror" not in names(augmentation_preset(name, patch_of(axes=())))
    assert named(augmentation_preset(name, patch_of(axes=(0, 2))))["mirror"].axes == (0, 2)


@pytest.mark.parametrize("name", [name for name in AUGMENTATION_PRESETS if name != "none"])
def test_no_preset_turns_left_into_right(name):
    for patch_size in ((64, 64), (10, 64, 64)):
        found = named(augmentation_preset(name, patch_of(patch_size, axes=tuple(range(len(patch_size) - 1)))))
        assert len(patch_size) - 1 not in found["mirror"].axes
        assert max(found["spatial"].rotation_deg) < 90


@pytest.mark.parametrize("name", AUGMENTATION_PRESETS)
def test_strength_multiplies_probabilities_of_samples_but_no_flip_no_range_and_no_share_of_channels(name):
    patch = patch_of((24, 32, 28), "mr", "ct")
    plain, stronger = (augmentation_preset(name, patch, strength=strength) for strength in (1, 1.5))
    assert (plain.strength, stronger.strength) == (1, 1.5)
    for before, after in zip(plain.transforms, stronger.transforms, strict=True):
        for field, value in before:
            is_scaled = field in SCALED and not isinstance(before, MirrorTransform)
            assert getattr(after, field) == (pytest.approx(1.5 * value, abs=1e-4) if is_scaled else value)
    assert max([0, *probabilities(augmentation_preset(name, patch, strength=10)).values()]) <= 1
