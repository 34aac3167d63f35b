"""Normalisation of channels, by kind or by name."""

import pytest

from tests.planning.measured import CT, MR
from tumorseg.planning.choices.normalization import choose_normalization
from tumorseg.planning.evidence.kinds import KindDecision
from tumorseg.schema.dataset import Channel
from tumorseg.schema.preprocessing import (
    CtNormalization,
    NoNormalization,
    RescaleNormalization,
    RgbNormalization,
    ZScoreNormalization,
)


def decided(kind):
    return KindDecision(kind, "stated by the dataset", None)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("CT", "ct", CtNormalization(lower_hu=-17.0, upper_hu=201.0, mean_hu=99.5, std_hu=39.4)),
        ("R", "rgb", RgbNormalization()),
        ("T1", "mr", ZScoreNormalization(masked=False)),
        ("PET", "pet", ZScoreNormalization(masked=False)),
        ("x", "other", ZScoreNormalization(masked=False)),
        ("noNorm", "ct", NoNormalization()),
        ("rescale_to_0_1", "mr", RescaleNormalization()),
        ("rgb_to_0_1", "rgb", RgbNormalization()),
    ],
)
def test_the_kind_decides_the_normalisation(name, kind, expected):
    assert choose_normalization(Channel(name=name), decided(kind), CT, 1.0).spec == expected


@pytest.mark.parametrize(("relative_size", "masked"), [(0.74, True), (0.75, False)])
def test_z_scores_are_masked_where_cropping_takes_much_away(relative_size, masked):
    found = choose_normalization(Channel(name="T1"), decided("mr"), MR, relative_size)
    assert found.spec == ZScoreNormalization(masked=masked)
    assert ("inside the non-zero mask" in found.rule) == masked
    assert ("over the whole image" in found.alternative) == masked
