"""Facts that another program's dataset.json has no key for, kept under a key of our own, which it ignores."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field

from tumorseg.errors import InputError
from tumorseg.schema.base import parse_record
from tumorseg.schema.dataset import Case, DatasetDescription
from tumorseg.schema.targets import targets_of
from tumorseg.sources.folders import dataset_json

KEY = "tumorseg"
"""In dataset.json."""


class Kept(DatasetDescription):
    """A dataset as it was before it was written in another layout: its name, channels, label values and regions."""

    groups: dict[str, str] = Field(default_factory=dict)
    """Case id to group, of the cases that have one."""
    sites: dict[str, str] = Field(default_factory=dict)
    """Case id to site, of the cases that have one."""
    columns: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Case id to what else a table said of the case, of the cases that it said something of."""

    def description(self) -> DatasetDescription:
        """Return the dataset as it was."""
        return DatasetDescription(**{field: getattr(self, field) for field in DatasetDescription.model_fields})

    def complete(self, case: Case) -> Case:
        """Return a case with its group, site and columns."""
        known = {
            "group": self.groups.get(case.case_id),
            "site": self.sites.get(case.case_id),
            "columns": self.columns.get(case.case_id, {}),
        }
        return case.changed(**known)


def keep(description: DatasetDescription, cases: Iterable[Case]) -> dict[str, Any]:
    """Return what is to stand under the key, as JSON."""
    listed = list(cases)
    kept = Kept(
        **{name: getattr(description, name) for name in DatasetDescription.model_fields},
        groups={case.case_id: case.group for case in listed if case.group is not None},
        sites={case.case_id: case.site for case in listed if case.site is not None},
        columns={case.case_id: case.columns for case in listed if case.columns},
    )
    return kept.model_dump(mode="json")


def read_kept(folder: Path) -> Kept | None:
    """Return what a folder's dataset.json keeps, or None.

    Raises:
        InputError: it is malformed.
    """
    found = dataset_json(folder).get(KEY)
    if found is None:
        return None
    return parse_record(Kept, found, source=f"{folder / 'dataset.json'}: `{KEY}`", error=InputError)


def disagreement(folder: Path, what: str) -> InputError:
    """Return the error for a dataset.json of which only one side was edited."""
    return InputError(
        f"found {what} other than `{KEY}` says; edit both, or remove the key `{KEY}` to read it "
        "as any other such folder",
        file=folder / "dataset.json",
    )


def renumbered(description: DatasetDescription) -> DatasetDescription:
    """Return a description whose label values are 0, 1, 2, … in the order of the old ones, the ignore label last."""
    targets = targets_of(description)
    new = {value: index for index, value in enumerate(targets.label_values)}
    if targets.ignore_value is not None:
        new[targets.ignore_value] = targets.num_classes
    regions = []
    for region in description.regions:
        labels = tuple(new[value] for value in region.labels)
        regions.append(region.changed(labels=labels, value=new[region.value]))
    changed = {
        "labels": {name: new[value] for name, value in description.labels.items()},
        "regions": tuple(regions),
        "ignore_label": None if targets.ignore_value is None else new[targets.ignore_value],
    }
    same = {name: getattr(description, name) for name in ("name", "channels", "optional_labels", "reading", "codes")}
    return DatasetDescription(**same, **changed)


def ordered_json(content: dict[str, Any]) -> str:
    """Return JSON text whose keys stay in order: that of nnU-Net's regions is the order in which they are painted."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
