"""Which augmentation suits a patch."""

import pytest

from tumorseg.planning.choices.augmentation import choose_augmentation, is_thick


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
    affine = choose_augmentation(patch_size, tuple(range(len(patch_size)))).transforms[0]
    assert (affine.name, affine.rotation_deg, affine.in_plane) == ("affine", rotation_deg, in_plane)
    assert is_thick(patch_size) == in_plane


def test_transforms_have_nnunets_probabilities_and_order():
    transforms = choose_augmentation((32, 32, 32), (0, 1, 2)).transforms
    assert [transform.name for transform in transforms] == [
        "affine",
        "gaussian_noise",
        "brightness",
        "contrast",
        "mirror",
    ]
    assert (transforms[0].rotation_probability, transforms[0].scaling_probability) == (0.2, 0.2)
    assert [transform.probability for transform in transforms[1:]] == [0.1, 0.15, 0.15, 0.5]


def test_mirroring_is_along_the_axes_given_or_left_out():
    assert choose_augmentation((32, 32, 32), (0, 1)).transforms[-1].axes == (0, 1)
    assert "mirror" not in {transform.name for transform in choose_augmentation((32, 32, 32), ()).transforms}


def probabilities(transforms):
    return {
        (transform.name, name): value
        for transform in transforms
        for name, value in transform
        if name.endswith("probability")
    }


def test_strength_multiplies_the_probabilities_but_that_of_mirroring():
    plain = probabilities(choose_augmentation((32, 48, 32), (0, 1, 2)).transforms)
    strong = probabilities(choose_augmentation((32, 48, 32), (0, 1, 2), strength=1.5).transforms)
    assert plain.keys() == strong.keys()
    for key, value in plain.items():
        assert strong[key] == (value if key[0] == "mirror" else pytest.approx(1.5 * value))
    assert max(probabilities(choose_augmentation((64, 64), (), strength=9.0).transforms).values()) == 1.0


def test_strength_changes_no_range_and_the_default_is_nnunets():
    plain, strong = (choose_augmentation((8, 48, 32), (0,), strength=strength) for strength in (1.0, 2.0))
    assert plain == choose_augmentation((8, 48, 32), (0,))
    for before, after in zip(plain.transforms, strong.transforms, strict=True):
        ranges = {name: value for name, value in before if not name.endswith("probability")}
        assert ranges == {name: value for name, value in after if not name.endswith("probability")}
