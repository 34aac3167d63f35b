"""Masks and label maps to score, the same on every machine, so that values of other packages can be frozen."""

import numpy as np

SHAPE = (23, 38, 31)
ANISOTROPIC = (3.0, 0.8, 1.25)
NUM_PAIRS = 8
NUM_MAPS = 6


def ball(centre, radius, shape=SHAPE):
    """Return a ball (Z, Y, X), bool."""
    grid = np.indices(shape) - np.reshape(centre, (-1, 1, 1, 1))
    return (grid**2).sum(axis=0) <= radius**2


def drawn_centre(rng):
    return [int(rng.integers(2, size - 2)) for size in SHAPE]


def pair(number):
    """Return a prediction and a reference (Z, Y, X), bool: lesions, some missed, some invented, and specks."""
    rng = np.random.default_rng(number)
    prediction, reference = np.zeros((2, *SHAPE), dtype=bool)
    for _ in range(int(rng.integers(2, 7))):
        centre, radius = drawn_centre(rng), float(rng.integers(2, 13)) / 2
        reference |= ball(centre, radius)
        if rng.random() < 0.7:
            moved = [place + int(rng.integers(-2, 3)) for place in centre]
            prediction |= ball(moved, radius * 0.9)
    for _ in range(int(rng.integers(0, 4))):
        prediction |= ball(drawn_centre(rng), float(rng.integers(2, 6)) / 2)
    prediction[tuple(drawn_centre(rng))] = True
    reference[tuple(drawn_centre(rng))] = True
    return prediction, reference


def label_map(rng, centres):
    """Return labels (Z, Y, X), int16, of BraTS: 1 necrotic core, 2 oedema, 3 enhancing tumour, 4 resection cavity."""
    labels = np.zeros(SHAPE, dtype=np.int16)
    for centre, radius in centres:
        for label, share in ((2, 1.0), (3, 0.7), (1, 0.4)):
            # Moved apart, so that some cores have no rim, and some rims no core.
            moved = [place + int(rng.integers(-1, 2)) for place in centre]
            labels[ball(moved, radius * share)] = label
    labels[ball(drawn_centre(rng), 2.5)] = 4
    for label in (1, 2, 3, 4):
        for _ in range(3):
            labels[ball(drawn_centre(rng), float(rng.integers(0, 4)) / 2)] = label
    return labels


def label_maps(number):
    """Return a prediction and a reference (Z, Y, X), int16, of lesions with BraTS's labels."""
    rng = np.random.default_rng(100 + number)
    centres = [(drawn_centre(rng), float(rng.integers(4, 15)) / 2) for _ in range(int(rng.integers(2, 6)))]
    reference = label_map(rng, centres)
    seen = [(centre, radius * 0.9) for centre, radius in centres if rng.random() < 0.75]
    prediction = label_map(rng, seen)
    # The last two: one structure is in one of the two alone.
    if number == NUM_MAPS - 2:
        prediction[prediction == 3] = 0
    if number == NUM_MAPS - 1:
        reference[reference > 0] = 0
    return prediction, reference
