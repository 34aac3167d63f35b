"""Deflated DICOM files: what is sound is read, whatever it packs to, and what would take minutes or gigabytes is refused."""

import os
import time
import tracemalloc
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.dicoms import deflate, write_rtstruct, write_series
from tests.storage.deflating import (
    ITEM,
    PIXELS,
    PRIVATE,
    deflated_bytes,
    explicit,
    implicit,
    insert,
    item,
    sequence,
    size,
    split_deflated,
    write_many_frames,
)
from tumorseg.errors import InputError
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.dicom import deflated
from tumorseg.storage.dicom.files import read_dataset, reading
from tumorseg.storage.dicom.labels import open_label
from tumorseg.storage.images import read_image

TOO_MANY = r"more elements, items or values are packed than \d+ steps take apart"


def voxels(shape):
    return np.random.default_rng(3).integers(-900, 900, shape).astype(np.int16)


def read(path):
    return read_image(ImageFile(path=str(path)))


def opened(path, **options):
    with reading(str(path)):
        return read_dataset(str(path), **options)


def of_zeros(folder, shape=(1, 512, 512)):
    (path,) = write_series(folder, np.zeros(shape, np.int16))
    deflate(path)
    return path


def test_a_deflated_bomb_is_refused_without_its_memory(tmp_path, monkeypatch):
    (path,) = write_series(tmp_path, voxels((1, 16, 16)))
    dataset = pydicom.dcmread(path)
    dataset.add_new(0x00291010, "OB", bytes(24 << 20))
    dataset.save_as(path)
    deflate(path)
    assert path.stat().st_size < 1 << 17
    del dataset
    monkeypatch.setattr(deflated, "MOST_TEXT_BYTES", 1 << 20)
    tracemalloc.start()
    with pytest.raises(InputError, match="bytes that its pixels and texts may take are packed"):
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_deflated_bomb_of_short_elements_is_refused_before_they_are_parsed(tmp_path, monkeypatch):
    (path,) = write_series(tmp_path, voxels((1, 16, 16)))
    deflate(path)
    head, packed = split_deflated(path)
    # Elements of no tag, as a run of zeros reads.
    path.write_bytes(head + deflated_bytes(zlib.decompress(packed, -zlib.MAX_WBITS)[:200] + bytes(8) * 10_000))
    monkeypatch.setattr(deflated, "MOST_STEPS", 5000)
    with pytest.raises(InputError, match=TOO_MANY):
        read(path)


@pytest.mark.parametrize("is_bomb", [False, True])
def test_items_in_another_form_are_passed_as_pydicom_passes_them(tmp_path, monkeypatch, is_bomb):
    """A sequence of unknown kind and undefined length has items without kinds (PS3.5 6.2.2); so may others have, says pydicom."""
    paths = write_series(tmp_path, np.zeros((1, 512, 512), np.int16))
    deflate(paths[0])
    head, packed = split_deflated(paths[0])
    content = zlib.decompress(packed, -zlib.MAX_WBITS)
    # A length that reads as a kind, OB, whose own length would pass all that follows.
    texts = implicit(0x00081110, b"") + implicit(0x00081140, b"\xff\xff\xff\x7f" + b"x" * 0x424B)
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + texts + b"\xfe\xff\x0d\xe0" + bytes(4)
    many = (b"\xfe\xff\x00\xe0" + bytes(4)) * (50_000 if is_bomb else 10)
    kind = b"SQ" if is_bomb else b"UN"
    private = b"\x05\x20\x0f\x14" + kind + bytes(2) + b"\xff\xff\xff\xff" + item + many + b"\xfe\xff\xdd\xe0" + bytes(4)
    pixels = content.index(b"\xe0\x7f\x10\x00")
    paths[0].write_bytes(head + deflated_bytes(content[:pixels] + private + content[pixels:]))
    monkeypatch.setattr(deflated, "MOST_STEPS", 10_000)
    if is_bomb:
        with pytest.raises(InputError, match=TOO_MANY):
            read(paths[0])
    else:
        assert read(paths[0]).array.shape == (1, 512, 512)


def test_a_deflated_file_may_have_many_long_values(tmp_path):
    (path,) = write_series(tmp_path, voxels((1, 16, 16)))
    dataset = pydicom.dcmread(path)
    for number in range(150):
        dataset.add_new(0x00291000 + number, "OB", bytes(9000))
    dataset.save_as(path)
    deflate(path)
    assert read(path).array.shape == (1, 16, 16)


def test_a_deflated_file_that_announces_more_than_it_can_hold_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(deflated, "MOST_TEXT_BYTES", 1 << 12)
    (path,) = write_series(tmp_path, voxels((1, 16, 16)))
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames = 99999999
    dataset["PixelData"].value = bytes(8 << 20)
    dataset.save_as(path)
    deflate(path)
    with pytest.raises(InputError, match=r"51199999488 bytes of pixels announced, \d+ packed bytes are there"):
        opened(path)


def test_a_deflated_series_may_unpack_to_all_the_pixels_that_it_announces(tmp_path, monkeypatch):
    monkeypatch.setattr(deflated, "MOST_TEXT_BYTES", 1 << 12)
    (path,) = write_series(tmp_path, np.zeros((1, 512, 512), np.int16))
    deflate(path)
    assert path.stat().st_size < 1 << 14
    assert read(path).array.shape == (1, 512, 512)


def test_deflated_files_hold_what_they_held_before(tmp_path):
    (path,) = write_series(tmp_path / "a", voxels((1, 16, 17)))
    sequenced = Dataset()
    sequenced.CodeValue, sequenced.CodeMeaning = "1", "Löwe"
    dataset = pydicom.dcmread(path)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = "Bär^Jörg"
    dataset.ProcedureCodeSequence = Sequence([sequenced])
    dataset.add_new(0x7FE11010, "OB", b"behind the pixels ")
    dataset.save_as(path)
    deflate(path)
    # pydicom by itself is the oracle.
    plain, ours = pydicom.dcmread(path), opened(path)
    assert ours == plain
    assert ours.file_meta == plain.file_meta
    assert ours.ProcedureCodeSequence[0].CodeMeaning == "Löwe"
    assert str(ours.PatientName) == "Bär^Jörg"
    without = opened(path, has_pixels=False)
    assert without == pydicom.dcmread(path, stop_before_pixels=True)
    assert "PixelData" not in without
    assert set(opened(path, has_pixels=False, tags=["PatientName", "Rows"]).dir()) == {
        "PatientName",
        "Rows",
        "SpecificCharacterSet",
    }


def test_a_length_of_the_group_of_pixels_is_not_taken_for_pixels(tmp_path):
    """(7FE0,0000), which old files have (PS3.5, 7.2)."""
    path = of_zeros(tmp_path, (1, 1500, 1500))
    insert(path, b"\xe0\x7f\x00\x00UL\x04\x00" + (4_500_012).to_bytes(4, "little"))
    assert read(path).array.shape == (1, 1500, 1500)


def test_private_bytes_that_pack_well_may_stand_before_pixels(tmp_path):
    path = of_zeros(tmp_path)
    insert(path, PRIVATE + b"OB" + bytes(2) + (4 << 20).to_bytes(4, "little") + bytes(4 << 20))
    assert path.stat().st_size < 1 << 14
    assert read(path).array.shape == (1, 512, 512)


def test_functional_groups_of_many_frames_are_read_however_well_they_pack(tmp_path):
    path = write_many_frames(tmp_path / "a.dcm", 20_000)
    assert path.stat().st_size < 1 << 19
    dataset = opened(path)
    assert len(dataset.PerFrameFunctionalGroupsSequence) == dataset.NumberOfFrames
    last = dataset.PerFrameFunctionalGroupsSequence[-1]
    assert last.PlanePositionSequence[0].ImagePositionPatient[2] == pytest.approx(24_998.75)


@pytest.mark.slow
def test_a_segmentation_of_many_frames_is_read_to_its_end(tmp_path):
    assert open_label(str(write_many_frames(tmp_path / "a.dcm", 20_000))).names == ("Tumour",)


def test_empty_items_by_the_million_are_refused_beside_noise_that_does_not_pack(tmp_path):
    path = of_zeros(tmp_path, (1, 16, 16))
    noise = b"\x29\x00\x11\x10OB" + bytes(2) + size(bytes(290_000)) + os.urandom(290_000)
    insert(path, noise + sequence((ITEM + bytes(4)) * 800_000, is_endless=True))
    started = time.process_time()
    with pytest.raises(InputError, match=TOO_MANY):
        read(path)
    assert time.process_time() - started < 20  # 4 s; all of them took 23


def test_whatever_stands_in_the_place_of_an_item_counts_as_one(tmp_path, monkeypatch):
    path = of_zeros(tmp_path, (1, 16, 16))
    insert(path, sequence(bytes(8) * 20_000, is_endless=True))
    monkeypatch.setattr(deflated, "MOST_STEPS", 60_000)
    with pytest.raises(InputError, match=TOO_MANY):
        read(path)


def test_sequences_of_known_length_are_counted_once_they_are_asked_for(tmp_path, monkeypatch):
    path = of_zeros(tmp_path, (1, 16, 16))
    many = (ITEM + bytes(4)) * 20_000
    monkeypatch.setattr(deflated, "MOST_STEPS", 60_000)
    referenced = bytes.fromhex("08004011")
    insert(path, sequence(many) + sequence(item(sequence(many, referenced)), bytes.fromhex("08001511")))
    assert read(path).array.shape == (1, 16, 16)
    dataset = opened(path)
    inner = dataset.ReferencedSeriesSequence[0]
    with pytest.raises(ValueError, match=TOO_MANY):
        inner.get("ReferencedImageSequence")
    with pytest.raises(ValueError, match=TOO_MANY):
        dataset.get(int.from_bytes(b"\x00\x29\x10\x10"))


@pytest.mark.parametrize("place", [PIXELS, b""])
def test_elements_within_items_and_behind_pixels_are_counted(tmp_path, monkeypatch, place):
    path = of_zeros(tmp_path, (1, 16, 16))
    tiny = b"".join(explicit(f"0031{number:04X}", "LO", b"") for number in range(0x1000, 0x1400))
    many = sequence(item(tiny) * 40, tag=b"\xe3\x7f\x10\x10" if not place else PRIVATE, is_endless=True)
    head, packed = split_deflated(path)
    content = zlib.decompress(packed, -zlib.MAX_WBITS)
    cut = content.index(place) if place else len(content)
    path.write_bytes(head + deflated_bytes(content[:cut] + many + content[cut:]))
    assert opened(path).Rows == 16
    monkeypatch.setattr(deflated, "MOST_STEPS", 30_000)
    with pytest.raises(InputError, match=TOO_MANY):
        opened(path)


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [("ImageType", "CS", b"A\\" * 30_000), ("AcquisitionNumber", "IS", b"1\\" * 30_000), ("Rows", "US", bytes(60_000))],
)
def test_values_of_one_element_are_counted(tmp_path, monkeypatch, name, kind, value):
    path = of_zeros(tmp_path, (1, 16, 16))
    # Of two the last counts.
    insert(path, explicit(f"{pydicom.datadict.tag_for_keyword(name):08X}", kind, value))
    monkeypatch.setattr(deflated, "MOST_STEPS", 20_000)
    with pytest.raises(InputError, match=TOO_MANY):
        read(path)


def test_encodings_that_items_name_by_the_thousand_are_counted(tmp_path):
    path = of_zeros(tmp_path, (1, 16, 16))
    encodings = explicit("00080005", "CS", b"a\\" * 32_000)
    insert(path, sequence(item(encodings) * 100, is_endless=True))
    with pytest.raises(InputError, match=TOO_MANY):
        read(path)


def test_a_stream_that_was_cut_off_is_refused(tmp_path):
    path = of_zeros(tmp_path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="the packed stream was cut off"):
        read(path)


def test_contours_with_more_numbers_than_steps_are_read_if_they_take_as_many_bytes(tmp_path, monkeypatch):
    series = write_series(tmp_path / "a", voxels((3, 9, 8)))
    points = np.random.default_rng(1).uniform(-99, 99, (400, 2))
    contours = [np.column_stack([points, np.full(len(points), 7.0)])]
    path = write_rtstruct(tmp_path / "b.dcm", series, {"Tumour": contours})
    deflate(path)
    monkeypatch.setattr(deflated, "MOST_STEPS", 900)
    assert open_label(str(path)).names == ("Tumour",)


def test_files_that_are_not_deflated_are_not_counted(tmp_path, monkeypatch):
    opened(of_zeros(tmp_path / "a", (1, 16, 16)))
    (path,) = write_series(tmp_path / "b", voxels((1, 16, 16)), ImageType=["A"] * 1000)
    monkeypatch.setattr(deflated, "MOST_STEPS", 10)
    assert len(opened(path).ImageType) == 1000
