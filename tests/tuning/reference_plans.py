"""Plans of all kinds of datasets: those under plans/, and one with regions."""

from functools import cache
from pathlib import Path

from tests.planning.measured import equal_cases, fingerprint, planned
from tumorseg.errors import PlanError
from tumorseg.schema.plan import Plan
from tumorseg.storage.json_files import read_record
from tumorseg.tuning.spaces import read_space, resolved

FOLDER = Path(__file__).parents[2] / "plans"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
REGIONS = "regions"
"""Name of a plan whose network has a sigmoid for each region."""


@cache
def reference_plan(name):
    if name == REGIONS:
        regions = [{"name": "whole", "labels": [1, 2], "value": 1}, {"name": "core", "labels": [2], "value": 2}]
        labels = {"background": 0, "a": 1, "b": 2}
        return planned(fingerprint(equal_cases(12), labels=labels, regions=regions))
    return read_record(Plan, FOLDER / f"{name}.json", error=PlanError)


def tunable(name):
    """Return the names of a plan's configurations that are no cascades."""
    found = reference_plan(name).configurations
    return [key for key, configuration in found.items() if configuration.previous_configuration is None]


EACH = [(name, configuration) for name in (*NAMES, REGIONS) for configuration in tunable(name)]
"""Every configuration that can be tuned, of every plan."""
ALL_FAMILIES = "loss,optimizer,augmentation,network,sampling"


def families_of(name):
    """Return what a plan's space may be named by: networks through MONAI have nothing to tune."""
    return ALL_FAMILIES.replace("network,", "") if name.endswith("__transformer") else ALL_FAMILIES


SOME = [
    ("BrainTumour__fast_prototyping", "2d"),
    ("BrainTumour__nnunet", "3d_fullres"),
    ("LiverCT__optimized", "3d_fullres"),
    (REGIONS, "3d_fullres"),
]
"""Both networks and optimizers, 2D and 3D, MR and CT, labels and regions."""


@cache
def space_of(name, configuration="3d_fullres", families=ALL_FAMILIES):
    plan = reference_plan(name)
    return resolved(read_space(families, plan, configuration), plan, configuration)
