"""Folders of images with 3D Slicer's segmentations."""

import numpy as np
import pytest
import SimpleITK

from tests.storage.segments import write_seg_nrrd
from tumorseg.errors import InputError
from tumorseg.sources.inputs import open_inputs, open_labels
from tumorseg.sources.registry import open_dataset
from tumorseg.storage.formats.stored import Geometry
from tumorseg.storage.images import read_images, read_reference

SHAPE = (4, 9, 7)
AFFINE = np.array([[-0.8, 0, 0, 10], [0, -0.8, 0, 20], [0, 0, 2.5, -5], [0, 0, 0, 1]])


def parts(number):
    liver, lesion = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    liver[:3, 1:8, 1:6] = 1
    lesion[1, 2 + number : 5 + number, 2:4] = 1
    return {"Liver": liver, "Lesion": lesion}


def write(images, labels, name="p{number}.seg.nrrd", count=3):
    """Write cases whose files number their segments differently; voxels are stored in RAS beside images in LPS."""
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = SimpleITK.GetImageFromArray(np.random.default_rng(number).normal(100, 20, SHAPE).astype(np.float32))
        image.SetSpacing((0.8, 0.8, 2.5))
        image.SetOrigin((-10, -20, -5))
        SimpleITK.WriteImage(image, str(images / f"p{number}.nrrd"))
        names = ("Liver", "Lesion") if number % 2 else ("Lesion", "Liver")
        segments = [
            {"ID": f"S{layer}", "Name": name, "LabelValue": 1, "Layer": layer} for layer, name in enumerate(names)
        ]
        layers = np.stack([parts(number)[name] for name in names])
        write_seg_nrrd(labels / name.format(number=number), layers, AFFINE, segments)


@pytest.mark.parametrize("name", ["p{number}.seg.nrrd", "p{number}_label.seg.nrrd"])
def test_segments_pair_with_images_of_another_folder_and_their_names_are_the_labels(tmp_path, name):
    write(tmp_path / "d" / "images", tmp_path / "d" / "labels", name)
    check(open_dataset(str(tmp_path / "d"), tmp_path))


def test_segments_pair_with_images_beside_them(tmp_path):
    write(tmp_path / "d", tmp_path / "d")
    check(open_dataset(str(tmp_path / "d"), tmp_path))


def check(dataset):
    assert dataset.labels == {"background": 0, "Lesion": 1, "Liver": 2}
    assert [case.case_id for case in dataset.cases] == ["p0", "p1", "p2"]
    for number, case in enumerate(dataset.cases):
        assert [image.path.rsplit("/", 1)[1] for image in case.images] == [f"p{number}.nrrd"]
        (volume,) = read_images(case.images)
        found = read_reference(case.label_files, Geometry(SHAPE, volume.affine, 1), dataset.labels).array
        liver, lesion = parts(number).values()
        assert np.array_equal(found, np.where(lesion, 1, 2 * liver))


def test_segments_beside_images_are_labels_to_score_and_no_images_to_predict_on(tmp_path):
    write(tmp_path, tmp_path)
    found = open_inputs([tmp_path], ["image"])
    assert [case.images[0].path for case in found.cases] == [str(tmp_path / f"p{number}.nrrd") for number in range(3)]
    assert not found.refused
    labels = open_labels([tmp_path]).files
    assert labels == {f"p{number}": (str(tmp_path / f"p{number}.seg.nrrd"),) for number in range(3)}


def test_segments_of_other_images_are_no_images_to_predict_on(tmp_path):
    write(tmp_path, tmp_path, "q{number}.seg.nrrd")
    found = open_inputs([tmp_path], ["image"])
    assert [case.case_id for case in found.cases] == ["p0", "p1", "p2"]


def test_a_folder_of_segments_alone_holds_labels_and_no_images(tmp_path):
    write(tmp_path / "images", tmp_path / "segs")
    assert list(open_labels([tmp_path / "segs"]).files) == ["p0", "p1", "p2"]
    with pytest.raises(InputError, match="segs"):
        open_inputs([tmp_path / "segs"], ["image"])
