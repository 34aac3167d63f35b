"""Lines of libraries reach the user with the file's name, or not at all."""

import logging
import struct
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from tumorseg.errors import InputError
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.formats.library_logs import divert, hearing_library
from tumorseg.storage.images import read_geometry, read_image, read_segmentation


def nifti_with(path, offset, layout, *values):
    """Write a sound NIfTI, and other bytes into its header."""
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), np.diag([0.7, 0.9, 3.1, 1]))
    data = bytearray(image.to_bytes())
    struct.pack_into(layout, data, offset, *values)
    path.write_bytes(data)
    return str(path)


def jpeg_with_broken_exif(path):
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(path)
    data = path.read_bytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01"
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    return str(path)


@pytest.fixture(autouse=True)
def _no_handler_of_an_earlier_command():
    """Take handlers off that commands under test have left: their streams are closed."""
    root = logging.getLogger()
    left = [handler for handler in root.handlers if type(handler) is logging.StreamHandler]
    for handler in left:
        root.removeHandler(handler)


def test_what_nibabel_says_is_one_line_of_ours(tmp_path, caplog, capfd):
    path = nifti_with(tmp_path / "a.nii", 252, "<hh", 77, 2)  # a qform code that does not exist beside a sound sform
    read_image(ImageFile(path=path))
    ((level, line),) = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert level == logging.WARNING
    assert line.startswith(f"{path}: nibabel says: qform_code 77 not valid")
    assert capfd.readouterr() == ("", "")


def test_a_header_alone_is_read_without_a_word(tmp_path, caplog, capfd):
    read_geometry(nifti_with(tmp_path / "a.nii", 252, "<hh", 77, 2))
    read_geometry(jpeg_with_broken_exif(tmp_path / "a.jpg"))
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_nibabels_own_logger_is_left_alone_for_others(tmp_path, caplog):
    path = nifti_with(tmp_path / "a.nii", 80, "<f", -0.7)
    read_image(ImageFile(path=path))
    caplog.clear()
    nibabel.load(path)
    assert [record.name for record in caplog.records] == ["nibabel.global"]


def test_what_pillow_warns_of_is_one_line_of_ours(tmp_path, caplog, capfd):
    path = jpeg_with_broken_exif(tmp_path / "a.jpg")
    for read in (lambda: read_image(ImageFile(path=path)), lambda: read_segmentation(path)):
        caplog.clear()
        read()
        (record,) = caplog.records
        assert record.getMessage().startswith(f"{path}: Pillow says: Corrupt EXIF data")
    assert capfd.readouterr() == ("", "")


def test_warnings_are_as_they_were_afterwards(tmp_path):
    before = list(warnings.filters)
    read_image(ImageFile(path=jpeg_with_broken_exif(tmp_path / "a.jpg")))
    assert warnings.filters == before
    with pytest.raises(UserWarning, match="heard by nobody"):
        warnings.warn("heard by nobody", stacklevel=1)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_libtiff_writes_nothing_to_the_terminal(tmp_path, capfd, compression):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90), np.uint8)).save(
        tmp_path / "a.tif", compression=compression
    )
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[200:240] = b"\xff" * 40
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.tif: cannot be read as a picture"):
        read_image(ImageFile(path=str(tmp_path / "a.tif")))
    assert capfd.readouterr() == ("", "")


def test_threads_hear_their_own_files_only(tmp_path, caplog):
    files = [jpeg_with_broken_exif(tmp_path / f"{number}.jpg") for number in range(12)]
    sound = tmp_path / "sound.png"
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(sound)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda path: read_image(ImageFile(path=path)), [*files, *[str(sound)] * 12]))
    heard = [record.getMessage().split(": ")[0] for record in caplog.records]
    assert sorted(heard) == sorted(files)


def test_a_diverted_logger_is_heard_in_the_block_and_thread_only(caplog):
    divert("a.library")
    logger = logging.getLogger("a.library")
    entered, done = threading.Event(), threading.Event()

    def speak():
        entered.wait()
        logger.warning("of another thread")
        done.set()

    other = threading.Thread(target=speak)
    other.start()
    logger.warning("before")
    with hearing_library() as heard:
        entered.set()
        assert done.wait(10)
        logger.warning("of this file")
        logger.debug("too quiet")
    other.join()
    logger.warning("after")
    assert heard == ["of this file"]
    assert [record.getMessage() for record in caplog.records] == ["before", "of another thread", "after"]


def test_readers_that_speak_to_the_terminal_are_not_used():
    folder = Path(__file__).parents[3] / "tumorseg" / "storage"
    users = [path.name for path in folder.rglob("*.py") if "import SimpleITK" in path.read_text()]
    assert set(users) <= {"decoder.py", "decoder_process.py"}
