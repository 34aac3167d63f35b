"""Small datasets of every layout to convert, and what must stay the same."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.sources import layouts
from tests.toys import write_toy
from tumorseg.ops.labels import to_indices
from tumorseg.schema.targets import targets_of
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.datasets.convert import ConvertRequest, convert
from tumorseg.storage.images import read_images, read_segmentation

GLIOMA_IDS = ("BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-GLI-00002-000")


def write_nnunet_regions(folder):
    labels = {"background": 0, "whole": [1, 2, 4], "core": [2, 4], "edge": 4, "ignore": 7}
    return layouts.write_nnunet(folder, labels=labels, regions_class_order=[1, 2, 4])


def write_awkward_manifest(folder):
    """A gap, a negative value, an ignore label in between, a label outside the regions, names that nnU-Net keeps for itself."""
    return layouts.write_json_manifest(
        folder,
        name="Awkward set",
        channels=[{"name": "T1", "kind": "ct"}, {"name": "T2", "kind": "rgb"}],
        labels={"clear": 0, "ignore": -3, "unsure": 5, "edema": 9, "core": 300, "stray": 2},
        regions=[
            {"name": "background", "labels": [9, 300], "value": 9},
            {"name": "stray", "labels": [300], "value": 300},
        ],
        ignore_label=5,
    )


class Source(NamedTuple):
    write: object
    arguments: tuple = ()


SOURCES = {
    "msd": Source(layouts.write_msd),
    "msd of one channel": Source(layouts.write_msd, (layouts.IDS, ("CT",))),
    "nnunet": Source(layouts.write_nnunet),
    "nnunet listed": Source(layouts.write_nnunet_listed),
    "nnunet with regions": Source(write_nnunet_regions),
    "brats": Source(layouts.write_brats),
    "brats 2018": Source(layouts.write_brats_2018),
    "brats 2023": Source(layouts.write_brats_2023, (GLIOMA_IDS,)),
    "hecktor": Source(layouts.write_hecktor, (("CHUM-001", "MDA-001", "MDA-002"),)),
    "hecktor 2021": Source(layouts.write_hecktor_2021),
    "pairs": Source(layouts.write_pairs),
    "pairs beside": Source(layouts.write_pairs_beside),
    "csv": Source(layouts.write_csv),
    "json": Source(layouts.write_json_manifest),
    "awkward": Source(write_awkward_manifest),
    "toy": Source(write_toy),
}


def write_source(name, folder):
    """Write a source whose label files hold every value that the dataset knows."""
    source = SOURCES[name]
    source.write(folder, *source.arguments)
    if name != "toy":
        dataset = open_dataset(str(folder), folder)
        values = {0, *dataset.labels.values()} | ({dataset.ignore_label} - {None})
        for number, case in enumerate(dataset.cases):
            layouts.save(Path(case.label), np.resize(np.roll(sorted(values), number).astype(np.int16), layouts.SHAPE))
    return folder


def named(description, name):
    """Return a description under another name: a folder's datasets are called like the folder."""
    return description.model_copy(update={"name": name})


def convert_to(source, output, to="nnunet", jobs=1):
    convert(ConvertRequest(dataset=str(source), output=output, to=to, jobs=jobs))
    return open_dataset(str(output), output)


def assert_same_cases(found, expected):
    """The same ids, groups, sites, intensities, classes and affines."""
    for attribute in ("case_id", "group", "site"):
        assert [getattr(case, attribute) for case in found.cases] == [
            getattr(case, attribute) for case in expected.cases
        ]
    for case, original in zip(found.cases, expected.cases, strict=True):
        for one, other in zip(read_images(case.images), read_images(original.images), strict=True):
            np.testing.assert_array_equal(one.array, other.array)
            np.testing.assert_allclose(one.affine, other.affine, atol=1e-5)
        one, other = read_segmentation(case.label), read_segmentation(original.label)
        np.testing.assert_array_equal(
            to_indices(one.array, targets_of(found)), to_indices(other.array, targets_of(expected))
        )
        np.testing.assert_allclose(one.affine, other.affine, atol=1e-5)


def assert_same_dataset(found, expected):
    assert found.description() == named(expected.description(), found.name)
    assert_same_cases(found, expected)
    for case, original in zip(found.cases, expected.cases, strict=True):
        np.testing.assert_array_equal(read_segmentation(case.label).array, read_segmentation(original.label).array)
