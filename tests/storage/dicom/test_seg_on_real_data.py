"""SEG on series of scanners: read back voxel for voxel."""

import highdicom
import numpy as np
import pytest

from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.dicom.described_segments import Algorithm, Description, Segment
from tumorseg.storage.dicom.sources import read_source
from tumorseg.storage.dicom.write_seg import write_seg
from tumorseg.storage.images import read_geometry, read_reference

VALUES = {"lung": 1, "Tumor": 9}
SEGMENTS = tuple(Segment(value, name) for name, value in VALUES.items())

pytestmark = pytest.mark.real


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("series", ["CT_lung_RTSTRUCT/dicom/image", "MR_T1post_6mm", "MR_hippocampus_crop"])
def test_every_voxel_comes_back(tmp_path, real_data, series, kind):
    folder = str(real_data / "DICOM" / series)
    like, grid = ImageFile(path=folder), read_geometry(folder)
    segmentation = np.random.default_rng(3).choice([0, 1, 9], grid.shape, p=[0.9, 0.06, 0.04]).astype(np.uint8)
    description = Description(SEGMENTS, Algorithm("tumorseg", "1"), ("model",))
    source = read_source(like)
    write_seg(tmp_path / "seg.dcm", segmentation, source, description=description, kind=kind)
    assert np.array_equal(read_reference([str(tmp_path / "seg.dcm")], grid, VALUES).array, segmentation)
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    instances = [plane.SOPInstanceUID for plane in source.planes]
    found = seg.get_pixels_by_source_instance(instances, combine_segments=True)
    assert np.array_equal(np.array([0, 1, 9])[found], segmentation)
    header = source.planes[0]
    assert (seg.PatientName, seg.PatientID) == (header.PatientName, header.PatientID)
    assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID) == (header.StudyInstanceUID, header.FrameOfReferenceUID)
