import json
from typing import Any, NamedTuple

import numpy as np
import pytest

from tumorseg.reports.augmentation_words import draw_json, draw_text, settings_text
from tumorseg.schema.extensions import External
from tumorseg.schema.transforms.acquisition import CopyPaste
from tumorseg.schema.transforms.base import Range
from tumorseg.schema.transforms.cascade import PreviousRemoval
from tumorseg.schema.transforms.intensity import GaussianNoise
from tumorseg.schema.transforms.spatial import SpatialTransform

CHANNELS = ("T1", "T2", "FLAIR")


class Inner(NamedTuple):
    axis: int
    shift_mm: tuple[float, ...]


class Draw(NamedTuple):
    values: Any


class Turned(NamedTuple):
    angles_deg: tuple[float, ...]
    scaling: float
    inner: Inner | None
    in_plane: bool
    seed: int


class Each(NamedTuple):
    channels: tuple[int, ...]
    gammas: tuple[float, ...]


class Seeded(NamedTuple):
    transform: PreviousRemoval
    seed: int


class WithImage(NamedTuple):
    image: np.ndarray
    count: int


def test_a_draw_is_told_in_words_with_units():
    draw = Turned((12.34, -8.0, 27.06), 1.2345, None, False, 2**62)
    assert draw_text(draw, CHANNELS) == "angles 12.3, -8, 27.1 deg; scaling 1.23"


def test_what_is_true_and_what_is_inside_is_told_too():
    draw = Turned((0.0,), 1.0, Inner(2, (0.5, -0.0)), True, 7)
    assert draw_text(draw, CHANNELS) == "angles 0 deg; scaling 1; inner axis 2; inner shift 0.5, 0 mm; in plane"


@pytest.mark.parametrize(
    ("channels", "text"),
    [((0, 1, 2), "gammas 0.8, 1.1, 1.4"), ((2,), "FLAIR; gammas 0.8"), ((0, 2), "T1, FLAIR; gammas 0.8, 1.1")],
)
def test_channels_are_named_unless_all_are_changed(channels, text):
    assert draw_text(Each(channels, (0.8, 1.1, 1.4)[: len(channels)]), CHANNELS) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (3, "values 3"),
        ("dilate", "values dilate"),
        (1234.5, "values 1234"),
        (tuple(range(20)), "values 20 from 0 to 19"),
        (((1, 0.5),) * 9, "values (1, 0.5) (1, 0.5) (1, 0.5) and 6 more"),
        ((0.001234, 0.5), "values 0.00123, 0.5"),
        (((1, 0.25), (2, 0.5)), "values (1, 0.25) (2, 0.5)"),
        ((), ""),
        (None, ""),
        ((Inner(0, (1.0,)),) * 2, "values (axis 0; shift 1 mm) (axis 0; shift 1 mm)"),
        (((Inner(0, (1.0,)),) * 4, (Inner(1, (2.0,)),)), "values " + "(axis 0; shift 1 mm) " * 3 + "and 2 more"),
    ],
)
def test_numbers_are_short_and_long_lists_are_ranges(values, text):
    assert draw_text(Draw(values), CHANNELS) == text


def test_a_seed_is_told_where_there_is_nothing_else():
    assert draw_text(Seeded(PreviousRemoval(), 17), CHANNELS) == "seed 17"


def test_as_json_everything_is_told_but_records_and_images():
    assert draw_json(Seeded(PreviousRemoval(), 2**62)) == {"seed": 2**62}
    draw = Turned((12.34, -8.0), 1.5, Inner(2, (0.5,)), False, 7)
    told = draw_json(draw)
    assert told == {
        "angles_deg": [12.34, -8.0],
        "scaling": 1.5,
        "inner": {"axis": 2, "shift_mm": [0.5]},
        "in_plane": False,
        "seed": 7,
    }
    assert json.loads(json.dumps(told)) == told
    assert draw_json(None) is None


def test_images_that_were_drawn_are_left_out():
    draw = WithImage(np.zeros(3), 2)
    assert draw_text(draw, CHANNELS) == "count 2"
    assert draw_json(draw) == {"count": 2}
    assert draw_json(Draw(Draw(np.zeros(3)))) == {}


def test_settings_are_the_records_fields():
    noise = GaussianNoise(probability=0.1, channels=(0, 2), std=Range(low=0.0, high=0.1))
    assert settings_text(noise, CHANNELS) == (
        "probability 0.1; channels T1, FLAIR; channel probability 1; per channel no; std 0 to 0.1"
    )
    text = settings_text(SpatialTransform(rotation_deg=(30.0, 30.0, 30.0)), CHANNELS)
    assert "rotation probability 0.2; rotation 30, 30, 30 deg; " in text
    assert "scaling 0.7 to 1.4" in text
    assert settings_text(CopyPaste(labels=(1,)), CHANNELS).endswith("largest share 0.25; mirror axes none")


def test_another_packages_settings_are_its_parameters():
    other = External(name="warp", parameters={"strength": 2}, distribution="warps", version="1.0")
    assert settings_text(other, CHANNELS) == "of warps 1.0; strength 2"
