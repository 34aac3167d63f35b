"""The reference plans under plans/ are what the planner makes of the fingerprints beside them.

`make plans` rewrites them; the change then shows in review what a rule or a preset does to every kind of dataset.
"""

from pathlib import Path

import pytest

from tumorseg.errors import InputError
from tumorseg.planning.options import PlanOptions
from tumorseg.planning.planner import make_plan
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.base import to_json
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.storage.json_files import read_record

PLANS = Path(__file__).parents[2] / "plans"
FINGERPRINTS = ("BrainTumour", "CineHeart", "LiverCT", "Slices2D")
CHEAP = ("BrainTumour__fast_prototyping", "Slices2D__optimized")
"""Checked in every run of the tests; the others, whose memory takes a while to count, in slow ones."""
NAMES = (
    *(f"BrainTumour__{preset}" for preset in PRESETS if not preset.startswith("nnunet_")),
    *(f"{name}__optimized" for name in FINGERPRINTS[1:]),
)


def current_plan(name):
    dataset, _, preset = name.partition("__")
    measured = read_record(Fingerprint, PLANS / "fingerprints" / f"{dataset}.json", error=InputError)
    return to_json(make_plan(measured, name, PlanOptions(preset=PRESETS[preset])).plan)


@pytest.mark.parametrize(
    "name", [name if name in CHEAP else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_a_reference_plan_is_current(name):
    assert (PLANS / f"{name}.json").read_text("utf-8") == current_plan(name), "run make plans, and look at the change"


def test_every_reference_plan_and_fingerprint_is_checked():
    assert {path.stem for path in (PLANS / "fingerprints").glob("*.json")} == set(FINGERPRINTS)
    assert {path.stem for path in PLANS.glob("*.json")} >= set(NAMES)


if __name__ == "__main__":
    for reference in NAMES:
        (PLANS / f"{reference}.json").write_text(current_plan(reference), "utf-8")
