"""Write a plan as nnU-Net v2's plans."""

import logging
import re
from pathlib import Path
from typing import Any

from tumorseg.errors import PlanError
from tumorseg.planning.nnunet.export_plan import WRITERS, export_plan, export_splits
from tumorseg.schema.base import Record, json_text
from tumorseg.schema.plan import Plan
from tumorseg.sources.kept import ordered_json
from tumorseg.sources.nnunet import nnunet_keys
from tumorseg.stages.opening.loaded import read_plan
from tumorseg.storage.atomic import write_text
from tumorseg.storage.json_files import read_json
from tumorseg.storage.layout import NnunetPlanFolder

logger = logging.getLogger(__name__)

NAME = re.compile(r"Dataset\d{3}_.+")
"""What nnU-Net wants a dataset's folder to be called."""
COMPARED = ("channel_names", "labels", "regions_class_order")
"""Keys of dataset.json that decide a network's channels and outputs."""


class PlanExportRequest(Record):
    """Options of `plan export`."""

    plan: Path
    """The plan."""
    output: Path
    """nnU-Net's folder of the dataset, `nnUNet_preprocessed/DatasetNNN_Name`."""


def export_nnunet_plan(request: PlanExportRequest) -> NnunetPlanFolder:
    """Write `nnUNetPlans.json`, the folds as `splits_final.json`, and dataset.json unless one that agrees is there.

    Raises:
        PlanError: nnU-Net cannot express the plan, or the folder holds other plans, other folds or another dataset.
    """
    plan, folder = read_plan(request.plan), NnunetPlanFolder(request.output)
    name = request.output.resolve().name
    plans, dataset, splits = export_plan(plan, name), _dataset_keys(plan), export_splits(plan)
    _check_free(folder, plans, dataset)
    _check_splits(folder, splits)
    _warn_of_unused(plan)
    if not NAME.fullmatch(name):
        logger.warning("nnU-Net wants the folder called DatasetNNN_Name, found %s", name)
    # The plans come last, so that they never stand there without the labels and folds that they are for.
    if not folder.dataset.is_file():
        write_text(folder.dataset, ordered_json(dataset))
    if splits:
        write_text(folder.splits, json_text(splits))
    write_text(folder.plans, ordered_json(plans))
    return folder


def _check_splits(folder: NnunetPlanFolder, splits: list[dict[str, list[str]]]) -> None:
    """Refuse to replace other folds."""
    if splits and folder.splits.is_file() and read_json(folder.splits, PlanError) != splits:
        raise PlanError(f"{folder.splits}: other folds are there already; move them away, or give another -o")


def _warn_of_unused(plan: Plan) -> None:
    """Tell of cases that nnU-Net would use all the same."""
    if unused := [*plan.dataset.excluded, *plan.dataset.kept_back]:
        logger.warning(
            "the plan does not use %d cases (%s); nnU-Net trains on them with `-f all`, or without splits_final.json: leave them out of "
            "its raw dataset",
            len(unused),
            ", ".join(unused[:5]),
        )


def _dataset_keys(plan: Plan) -> dict[str, Any]:
    """Return dataset.json, with the reader that orients images as the plan says."""
    keys = nnunet_keys(plan.dataset, plan.fingerprint.num_cases)
    return keys | {"overwrite_image_reader_writer": WRITERS[plan.orientation]}


def _check_free(folder: NnunetPlanFolder, plans: dict[str, Any], dataset: dict[str, Any]) -> None:
    """Refuse to replace other plans, or to stand beside another dataset."""
    if folder.plans.is_file() and read_json(folder.plans, PlanError) != plans:
        raise PlanError(f"{folder.plans}: other plans are there already; move them away, or give another -o")
    if not folder.dataset.is_file():
        return
    found = read_json(folder.dataset, PlanError)
    differing = [key for key in COMPARED if not isinstance(found, dict) or found.get(key) != dataset.get(key)]
    # Equal objects may list their keys in another order, by which nnU-Net numbers the outputs for regions.
    order = differing or list(found["labels"]) == list(dataset["labels"])
    if differing or not order:
        raise PlanError(
            f"{folder.dataset}: {', '.join(differing) or 'the order of labels'} is not what the plan's dataset has; "
            "export the dataset with `tumorseg data import`, or give another -o"
        )
