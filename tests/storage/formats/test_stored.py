"""What every format refuses in a grid."""

import nibabel
import numpy as np
import pytest
import SimpleITK

from tests.dicoms import Grid, write_series
from tumorseg.errors import InputError
from tumorseg.storage.images import read_geometry


def write(folder, ending, edge_mm):
    """Write an image whose voxels along y have an edge of so many mm."""
    path = folder / f"a{ending}"
    if ending.startswith(".nii"):
        nibabel.save(nibabel.Nifti1Image(np.zeros((5, 6, 7), np.int16), np.diag([0.7, edge_mm, 2.5, 1])), path)
    else:
        image = SimpleITK.GetImageFromArray(np.zeros((7, 6, 5), np.int16))
        image.SetSpacing((0.7, edge_mm, 2.5))
        SimpleITK.WriteImage(image, path)
    return str(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_edges_that_round_to_nothing_are_refused_in_one_line(tmp_path, ending):
    with pytest.raises(InputError) as refused:
        read_geometry(write(tmp_path, ending, 1e-9))
    assert refused.value.kind == "bad_affine"
    assert str(refused.value).endswith(
        f"a{ending}: found voxel edges of 0.7 x 1e-09 x 2.5 mm (X, Y, Z), expected 1e-06 mm at least; mend the header, or "
        "the unit in it"
    )
    assert read_geometry(write(tmp_path, ending, 1e-6)).shape == (7, 6, 5)


def test_dicom_planes_closer_than_that_are_refused_too(tmp_path):
    write_series(tmp_path, np.zeros((1, 6, 7), np.int16), Grid(spacing=(0.7, 0.7, 1e-8)))
    with pytest.raises(InputError, match=r"found voxel edges of 0\.7 x 0\.7 x 1e-08 mm") as refused:
        read_geometry(str(tmp_path))
    assert refused.value.kind == "bad_affine"
