"""Transforms that change labels, in a plan."""

import copy

import pytest
from pydantic import ValidationError

from tests.planning.measured import fingerprint, planned
from tumorseg.schema.plan import Plan

DOCUMENT = planned(fingerprint(channels=("T1", "T2"))).model_dump(mode="json")


def with_transforms(*transforms):
    document = copy.deepcopy(DOCUMENT)
    document["configurations"]["2d"]["augmentation"]["transforms"] = list(transforms)
    return document


def with_boundary_loss(document, distance_maps):
    boundary = {"name": "boundary", "weight": 0.1, "distance_maps": distance_maps}
    document["configurations"]["2d"]["loss"]["components"].append(boundary)
    return document


@pytest.mark.parametrize(("name", "fields"), [("reduced_fov", {}), ("copy_paste", {"labels": [1]})])
def test_they_are_refused_where_the_loader_measures_distances(name, fields):
    document = with_transforms({"name": name, **fields})
    message = f'augmentation: {name} changes labels after .* set "distance_maps": "device" in the loss, or leave {name}'
    with pytest.raises(ValidationError, match=message):
        Plan.model_validate(with_boundary_loss(copy.deepcopy(document), "loader"))
    assert Plan.model_validate(with_boundary_loss(copy.deepcopy(document), "device"))
    assert Plan.model_validate(document)


def test_others_go_with_distances_of_the_loader():
    assert Plan.model_validate(with_boundary_loss(with_transforms({"name": "missing_channel"}), "loader"))


def test_classes_that_the_dataset_does_not_have_are_refused():
    num_labels = len([value for value in DOCUMENT["dataset"]["labels"].values() if value])
    last, beyond = ({"name": "copy_paste", "labels": [index]} for index in (num_labels, num_labels + 1))
    assert Plan.model_validate(with_transforms(last))
    message = rf"2d\.augmentation: copy_paste names the class indices \[0, {num_labels + 1}\]; the dataset has 0 to {num_labels}"
    with pytest.raises(ValidationError, match=message):
        Plan.model_validate(with_transforms(beyond))
