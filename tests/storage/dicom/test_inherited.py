"""What results take over from the headers of their series, whatever is in them."""

import numpy as np
import pydicom
import pytest

from tests.dicoms import rewrite, write_series
from tests.storage.dicom.test_write_seg import DESCRIPTION, SEGMENTS, SHAPE, blobs, read_by_us, written
from tumorseg.storage.dicom.files import lenient


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("ISO_IR 100", "Müller^Jörg"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"), ("ISO_IR 192", "Ωμέγα^Ж")],
)
@pytest.mark.parametrize("label", ["Tumor", "腫瘍"])
def test_patients_and_labels_keep_their_letters(tmp_path, encoding, name, label):
    elements = {"SpecificCharacterSet": encoding, "PatientName": name, "StudyDescription": "CT", "PatientSex": "F"}
    write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), **elements)
    segments = (SEGMENTS[0], SEGMENTS[1]._replace(name=label))
    found = pydicom.dcmread(written(tmp_path, blobs(), description=DESCRIPTION._replace(segments=segments)))
    assert found.PatientName == name
    assert found.SegmentSequence[1].SegmentLabel == label
    assert (found.PatientSex, found.StudyDescription) == ("F", "CT")
    # An archive compares bytes: they change only where they must.
    assert found.SpecificCharacterSet == (encoding if label.isascii() else "ISO_IR 192")


@pytest.mark.parametrize("label", ["Tumor", "腫瘍"])
def test_texts_in_another_encoding_than_stated_are_kept_or_warned_of(tmp_path, caplog, label):
    elements = {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller", "PatientComments": "Größe"}
    for file in write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), **elements):
        file.write_bytes(file.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 192"))
    segments = (SEGMENTS[0], SEGMENTS[1]._replace(name=label))
    stored = written(tmp_path, blobs(), description=DESCRIPTION._replace(segments=segments)).read_bytes()
    is_kept = label.isascii()
    assert ("Größe".encode("latin-1") in stored, "Müller".encode("latin-1") in stored) == (is_kept, is_kept)
    assert ("PatientComments is not in the encoding" in caplog.text) != is_kept


def test_headers_that_break_the_standard_are_taken_over(tmp_path):
    broken = {"PatientSex": "unknown", "PatientBirthDate": "1950", "AcquisitionDate": "20240230", "SeriesNumber": None}
    with lenient():
        files = write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), StudyDate="20240229", **broken)
        for file in files:
            rewrite(file, FrameOfReferenceUID=None, SliceThickness=None, StudyID=None)
    path = written(tmp_path, blobs())
    with lenient():
        found = pydicom.dcmread(path)
        assert (found.PatientSex, found.PatientBirthDate, found.StudyID) == ("unknown", "1950", "")
    assert (found.ContentDate, found.SeriesNumber) == ("20240229", 1000)
    assert found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == pytest.approx(3.5)
    assert np.array_equal(read_by_us(tmp_path, path), blobs())
