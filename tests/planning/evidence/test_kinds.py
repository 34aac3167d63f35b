"""Kinds of channels."""

import re

import pytest

from tests.planning.measured import CT, MR, case, fingerprint, planned
from tumorseg.planning.evidence.kinds import decide_kind, kind_from_intensities, kind_from_name
from tumorseg.schema.dataset import Channel
from tumorseg.schema.preprocessing import CtNormalization, ZScoreNormalization

KINDS = {
    "ct": ["CT", "ct", "CTA", "cect", "abdomen_CT", "CT_portal", "low-dose ct"],
    "pet": ["PET", "FDG-PET", "SUV", "pt", "PT_suv"],
    "rgb": ["R", "green", "b", "RGB", "rgb_to_0_1"],
    "mr": [
        "MRI",
        "MR",
        "T1",
        "T1w",
        "T1gd",
        "t1ce",
        "T2",
        "T2w",
        "FLAIR",
        "ADC",
        "DWI",
        "cineMRI",
        "SWI",
        "PD",
        "ceT1",
    ],
}
UNKNOWN = ["0", "image", "channel_0", "SPECT", "OCT", "US", "xray", "fundus", "octet", "captain", "nonorm"]


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for kind, names in KINDS.items() for name in names])
def test_a_name_states_its_kind(name, kind):
    assert kind_from_name(name) == kind


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_names_state_none(name):
    assert kind_from_name(name) is None


@pytest.mark.parametrize("name", ["input1", "input_t2b", "part2"])
def test_t1_within_a_word_is_no_mr_contrast(name):
    assert kind_from_name(name) is None


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "ct"),
        ({"min": -500.0}, "ct"),
        ({"min": -3024.0}, "ct"),
        ({"min": -499.0}, None),
        ({"min": -32768.0}, None),
        ({"max": 4e9}, None),
        ({"std": 0.5}, None),
        ({"percentile_00_5": -1500.0}, None),
        ({"percentile_99_5": 5000.0}, None),
        ({"median": 1800.0}, None),
    ],
)
def test_hounsfield_units_are_recognised_by_foreground_that_reaches_into_gas(changes, kind):
    assert kind_from_intensities(CT.model_copy(update=changes)) == kind


@pytest.mark.parametrize(
    ("minima", "kind"),
    [
        ([-1024.0] * 9 + [-140.0], "ct"),
        ([-1000.0, -1024.0, -2000.0, -2048.0, -3024.0, -1151.3, -2071.8, -3000.0, -997.0, -1047.0], "ct"),
        ([-1024.0] * 8 + [-140.0] * 2, None),
        ([-212.0, -87.5, -1004.0, -450.0, -730.0], None),
        ([0.0] * 10, None),
        ([-32768.0] * 10, None),
    ],
    ids=["one crop", "air and padding", "two crops", "MR that goes below zero", "MR", "unsigned read as signed"],
)
def test_whole_images_tell_more_than_their_foreground(minima, kind):
    for least in (-983.0, 20.0):
        assert kind_from_intensities(CT.model_copy(update={"min": least}), minima) == kind


@pytest.mark.parametrize(
    "changes",
    [
        {"min": -300.0},
        {"min": -940.0, "median": 3100.0, "percentile_99_5": 9000.0, "max": 12000.0},
        {"min": -4096.0, "median": -3.0, "percentile_00_5": -4000.0, "percentile_99_5": 4001.0, "max": 4095.0},
    ],
    ids=["interpolated", "large numbers", "phase"],
)
def test_mr_with_negative_values_is_not_taken_for_ct(changes):
    decision = decide_kind(Channel(name="image"), MR.model_copy(update=changes))
    assert (decision.kind, decision.warning) == ("other", None)
    assert decide_kind(Channel(name="T1"), MR.model_copy(update=changes)).warning is None


def test_contrast_in_an_organ_is_no_disagreement_where_whole_images_were_measured():
    bright = MR.model_copy(update={"min": 12.0, "max": 251.0})
    assert decide_kind(Channel(name="CT"), bright).warning is not None
    assert decide_kind(Channel(name="CT"), bright, [-1024.0] * 5).warning is None


def test_the_planner_looks_at_whole_images():
    cases = [case(f"case_{n:02}", channel_minima={"0": least}) for n, least in enumerate([-800.0, -650.0, -90.0] * 4)]
    normalizations = planned(fingerprint(cases, channels=("0",), intensities=CT)).configurations["2d"].normalization
    assert normalizations == (ZScoreNormalization(masked=False),)
    air = [measured.model_copy(update={"channel_minima": {"0": -1024.0}}) for measured in cases]
    normalizations = planned(fingerprint(air, channels=("0",), intensities=CT)).configurations["2d"].normalization
    assert isinstance(normalizations[0], CtNormalization)


@pytest.mark.parametrize(
    ("channel", "intensities", "kind", "rule"),
    [
        (Channel(name="0"), CT, "ct", "Hounsfield"),
        (Channel(name="0"), MR, "other", "neither name nor intensities"),
        (Channel(name="CT"), CT, "ct", "is called CT"),
        (Channel(name="T2", kind="pet"), MR, "pet", "stated by the dataset"),
    ],
)
def test_a_statement_counts_before_the_name_and_the_name_before_intensities(channel, intensities, kind, rule):
    decision = decide_kind(channel, intensities)
    assert (decision.kind, decision.warning) == (kind, None)
    assert rule in decision.rule


@pytest.mark.parametrize(
    ("channel", "intensities", "kind", "warning"),
    [
        (Channel(name="T1"), CT, "mr", r"T1 is taken for mr, but has foreground intensities from -983 to 5420, as CT"),
        (Channel(name="CT"), MR.model_copy(update={"max": 255.0}), "ct", r"from 0 to 255; is it in Hounsfield units\?"),
        (Channel(name="x", kind="pet"), MR.model_copy(update={"min": -5.0}), "pet", r"uptake is not negative"),
        (Channel(name="x", kind="pet"), CT, "pet", r"say so with kind: ct"),
    ],
)
def test_a_disagreement_is_told_and_changes_nothing(channel, intensities, kind, warning):
    decision = decide_kind(channel, intensities)
    assert decision.kind == kind
    assert re.search(warning, decision.warning)
