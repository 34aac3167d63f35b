"""Which augmentation suits the kinds of channels, and what a cascade adds."""

from typing import get_args

import pytest

from tests.augmentation.patches import patch_of
from tests.planning.measured import CT, fingerprint, planned
from tumorseg.augmentation.presets import AUGMENTATION_PRESETS, augmentation_preset
from tumorseg.planning.choices.augmentation import (
    ALTERNATIVES,
    PRESET_OF_KIND,
    PRESET_OF_SEVERAL,
    cascade_augmentation,
    cascade_reasons,
    choose_augmentation_preset,
    rotation_reasons,
)
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.dataset import ChannelKind


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["ct"], "ct"),
        (["ct", "ct"], "ct"),
        (["mr"], "nnunet"),
        (["mr", "pet"], "nnunet"),
        (["ct", "pet"], "ct"),
        (["rgb"] * 3, "nnunet"),
        (["other"], "nnunet"),
    ],
)
@pytest.mark.parametrize("preset", ["optimized", "large_gpu"])
def test_kinds_decide_where_the_preset_leaves_it_open(kinds, expected, preset):
    found = choose_augmentation_preset(kinds, PRESETS[preset])
    assert found.preset == expected
    assert found.reason.source == "rule"
    assert found.reason.inputs == {"channel_kinds": kinds}
    assert found.reason.rule.startswith(f"augmentation preset {expected} (")
    assert found.reason.rule.endswith(f"channels are of kind {' and '.join(sorted(set(kinds)))}")
    assert found.reason.alternative


@pytest.mark.parametrize("kind", ["ct", "mr"])
def test_published_presets_have_nnunets_and_the_fast_one_what_costs_little(kind):
    for name, preset in PRESETS.items():
        if preset.augmentation is not None:
            expected = "basic" if name == "fast_prototyping" else "nnunet"
            found = choose_augmentation_preset([kind], preset)
            assert (found.preset, found.reason.source) == (expected, "preset")
            assert found.reason.rule.endswith(f"that of preset {name}")
    by_kind = {name for name, preset in PRESETS.items() if preset.augmentation is None}
    assert by_kind == {"optimized", "large_gpu", "mednext", "transformer"}


def test_a_preset_of_ones_own_may_name_another():
    found = choose_augmentation_preset(["ct"], PRESETS["optimized"].changed(augmentation="strong"))
    assert (found.preset, found.reason.alternative[:7]) == ("strong", "nnunet:")


def test_the_table_names_presets_for_every_kind():
    assert set(PRESET_OF_KIND) == set(get_args(ChannelKind))
    assert {*PRESET_OF_KIND.values(), PRESET_OF_SEVERAL, *ALTERNATIVES} <= set(AUGMENTATION_PRESETS)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(("CT",), "ct"), (("T1", "T2"), "nnunet"), (("CT", "PET"), "ct")],
)
def test_a_plan_holds_preset_and_strength_with_their_reasons(channels, expected):
    plan = planned(fingerprint(channels=channels, intensities=CT))
    for name, configuration in plan.configurations.items():
        found = configuration.augmentation
        patch = patch_of(
            configuration.patch_size,
            *[channel.kind for channel in plan.dataset.channels],
            normalization=configuration.normalization,
        )
        assert found == augmentation_preset(expected, patch, strength=1.5)
        reason, strength = (plan.reasons[f"configurations.{name}.augmentation{part}"] for part in ("", ".strength"))
        assert f"preset {expected} (" in reason.rule
        assert strength.inputs == {"independent_cases": 10}
        assert "1.5 times as likely" in strength.rule


def test_a_cascade_has_corruptions_at_the_end_with_a_reason():
    plain = augmentation_preset("ct", patch_of((24, 32, 28), "ct"), strength=1.5)
    cascade = cascade_augmentation(plain)
    assert cascade.transforms[: len(plain.transforms)] == plain.transforms
    assert [one.name for one in cascade.transforms[len(plain.transforms) :]] == [
        "previous_morphology",
        "previous_removal",
    ]
    assert (cascade.preset, cascade.strength) == ("ct", 1.5)
    numbers = range(len(plain.transforms), len(cascade.transforms))
    assert list(cascade_reasons(cascade)) == [f"augmentation.transforms.{number}" for number in numbers]


def test_without_any_augmentation_a_cascade_has_no_corruptions_either():
    nothing = augmentation_preset("none", patch_of())
    assert cascade_augmentation(nothing) == nothing
    assert cascade_reasons(nothing) == rotation_reasons(nothing, (24, 32, 28)) == {}
