"""Label maps on the network's grid, as nnunetv2 2.8.1 makes them: frozen by tests/nnunet/make_labels.py."""

from pathlib import Path

import numpy as np
import pytest

from tumorseg.ops.preprocessing import network_grid, prepare_segmentation
from tumorseg.schema.cases import Preprocessing
from tumorseg.schema.preprocessing import NoNormalization, ResamplingSpec
from tumorseg.schema.targets import IGNORE

FROZEN = np.load(Path(__file__).parents[1] / "nnunet" / "labels.npz")
NAMES = sorted({key.split(".")[0] for key in FROZEN.files})
IGNORED = 4


def known(name):
    return {key.split(".")[1]: FROZEN[key] for key in FROZEN.files if key.startswith(f"{name}.")}


def prepared(case, *, image=None):
    """Return label values on the grid of the case's image; `image` tells what lies outside the body."""
    own = case["image"][None].astype(np.float32)
    spec = Preprocessing(
        orientation="as_stored",
        transpose=(0, 1, 2),
        spacing_mm=tuple(case["target"].tolist()),
        normalization=(NoNormalization(),),
        resampling=ResamplingSpec(separate_axis_order=int(case["order_z"])),
    )
    grid = network_grid(own, tuple(case["spacing"].tolist()), spec)
    indices = np.where(case["label"] == IGNORED, IGNORE, case["label"]).astype(np.int8)
    found = prepare_segmentation(indices, grid, spec, image=own if image is None else image)
    return np.where(found == IGNORE, IGNORED, found)


@pytest.mark.parametrize("name", NAMES)
def test_every_voxel_has_nnunets_label(name):
    case = known(name)
    assert np.array_equal(prepared(case), case["found"])


def test_background_outside_the_body_is_a_label_of_its_own():
    case = known("finer")
    everywhere = np.ones((1, *case["image"].shape), np.float32)
    assert 0 < (prepared(case, image=everywhere) != case["found"]).sum() < 0.05 * case["found"].size
