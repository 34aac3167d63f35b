import io

import numpy as np
import pytest
from PIL import Image

from tumorseg.ops.smears import picture_fault

HEIGHT, WIDTH = 83, 61
Y, X = np.mgrid[:HEIGHT, :WIDTH]


def mask(shape):
    inside = {
        "disc": (Y - 30) ** 2 + (X - 25) ** 2 < 15**2,
        "box": (abs(Y - 40) < 12) & (abs(X - 30) < 20),
        "two small discs": ((Y - 20) ** 2 + (X - 20) ** 2 < 16) | ((Y - 60) ** 2 + (X - 33) ** 2 < 30),
        "stripes": (X % 9 < 4) & (Y > 20),
        "hole": (Y - 30) ** 2 + (X - 25) ** 2 > 9**2,
    }[shape]
    return Image.fromarray((255 * inside).astype(np.uint8))


def jpeg(picture, quality):
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


SMEARS = {
    "halved": lambda picture: picture.resize((WIDTH // 2, HEIGHT // 2), Image.Resampling.BOX),
    "enlarged": lambda picture: picture.resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.BILINEAR),
    "bicubic": lambda picture: picture.resize((47, 101), Image.Resampling.BICUBIC),
    "turned": lambda picture: picture.rotate(13, Image.Resampling.BILINEAR),
    "JPEG 60": lambda picture: jpeg(picture, 60),
    "JPEG 90": lambda picture: jpeg(picture, 90),
}


@pytest.mark.parametrize("smear", SMEARS)
@pytest.mark.parametrize("shape", ["disc", "box", "two small discs", "stripes", "hole"])
def test_masks_with_smoothed_edges_are_told(shape, smear):
    array = np.asarray(SMEARS[smear](mask(shape)))[None].astype(np.int16)
    if len(np.unique(array)) > 4:  # a box that is halved at even pixels keeps its two values
        assert picture_fault(array) == "smeared"


@pytest.mark.parametrize("num_labels", [2, 3, 5, 8, 20, 60])
def test_label_maps_are_none(num_labels):
    rng = np.random.default_rng(num_labels)
    labels = np.zeros((1, HEIGHT, WIDTH), np.int16)
    for value in rng.permutation(num_labels) + 1:
        y, x, radius = rng.integers((0, 0, 3), (HEIGHT, WIDTH, 12))
        labels[0, (Y - y) ** 2 + (X - x) ** 2 < radius**2] = value
    assert picture_fault(labels) is None


def test_thin_layers_and_constant_pictures_are_label_maps():
    layers = np.clip((X - 20) // 3, 0, 8)[None].astype(np.int16)
    assert picture_fault(layers) is None
    assert picture_fault(np.full((1, 5, 7), 255, np.int16)) is None
    assert picture_fault(np.resize(np.array([0, 1, 2, 4], np.int16), (1, 5, 7))) is None


def test_landmarks_small_objects_and_lines_are_label_maps():
    landmarks, objects, lines = np.zeros((3, 1, HEIGHT, WIDTH), np.int16)
    for value in range(1, 31):
        y, x = 2 * value + 5, value * 17 % 53
        landmarks[0, y, x] = value
        objects[0, y : y + 2, x : x + 2] = value
    for value in range(1, 10):
        lines[0, (20 + 5 * value + 9 * np.sin(X[0] / 9)).astype(int), X[0]] = value
    assert [picture_fault(array) for array in (landmarks, objects, lines)] == [None] * 3


@pytest.mark.parametrize("smear", ["enlarged", "turned"])
def test_grey_levels_with_smoothed_edges_are_told(smear):
    radius = np.hypot(Y - 40, X - 30)
    levels = 85 * np.sum([radius < 28, radius < 20, radius < 10], axis=0, dtype=np.uint8)
    assert picture_fault(levels[None].astype(np.int16)) is None
    assert picture_fault(np.asarray(SMEARS[smear](Image.fromarray(levels)))[None].astype(np.int16)) == "smeared"


def test_intensities_are_told():
    noise = np.random.default_rng(0).normal(110, 30, (1, HEIGHT, WIDTH))
    assert picture_fault(np.clip(noise, 0, 255).astype(np.int16)) == "grainy"
    assert picture_fault((2 * X + Y)[None].astype(np.int16)) == "grainy"
    probability = 100 * np.exp(-((X - 30) ** 2 + (Y - 41) ** 2) / 200)
    assert picture_fault(probability[None].astype(np.int16)) is not None
