"""Pictures with an EXIF orientation lie as viewers show them, whatever the format stores."""

import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.image_writing import write_segmentation
from tumorseg.storage.images import read_geometry, read_image, read_images, read_segmentation

SHOWN = (np.arange(54).reshape(6, 9) * 4).astype(np.uint8)
STORED = {
    1: SHOWN,
    2: SHOWN[:, ::-1],
    3: SHOWN[::-1, ::-1],
    4: SHOWN[::-1],
    5: SHOWN.T,
    6: np.rot90(SHOWN, 1),
    7: SHOWN[::-1, ::-1].T,
    8: np.rot90(SHOWN, -1),
}
"""What a file of each orientation stores: row 0 is at its top, right, bottom or left, column 0 likewise (the Exif standard)."""


def save(path, array, orientation, **how):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(np.ascontiguousarray(array)).save(path, exif=exif, **how)
    return str(path)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("ending", "how"),
    [
        (".png", {}),
        (".jpg", {"quality": 100}),
        (".jpeg", {"quality": 100}),
        (".tif", {}),
        (".tiff", {"compression": "tiff_lzw"}),
        (".tif", {"compression": "tiff_adobe_deflate"}),
    ],
)
def test_a_picture_is_turned_once_as_its_exif_says(tmp_path, orientation, ending, how):
    path = save(tmp_path / f"a{ending}", STORED[orientation], orientation, **how)
    assert read_geometry(path).shape == (1, 6, 9)
    found = read_image(ImageFile(path=path)).array
    np.testing.assert_allclose(found[0], SHOWN, atol=2 if ending.startswith(".j") else 0)
    if ending != ".tif":  # Pillow itself scrambles unpacked TIFF of orientations 5 to 8
        with Image.open(path) as picture:
            np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(picture)), found[0])
    if not ending.startswith(".j"):
        np.testing.assert_array_equal(read_segmentation(path).array[0], SHOWN)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif"])
def test_colour_bands_are_turned_too(tmp_path, ending):
    shown = np.stack([SHOWN, SHOWN // 2, 255 - SHOWN], axis=-1)
    path = save(tmp_path / f"a{ending}", np.rot90(shown, 1), 6, **({"quality": 100} if ending == ".jpg" else {}))
    for index, volume in enumerate(read_images([ImageFile(path=path, index=index) for index in range(3)])):
        np.testing.assert_allclose(volume.array[0], shown[..., index], atol=60 if ending == ".jpg" else 0)


def test_an_orientation_behind_the_pixels_of_a_png_is_heeded(tmp_path):
    path = save(tmp_path / "a.png", STORED[8], 8)
    data = (tmp_path / "a.png").read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    moved = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    (tmp_path / "a.png").write_bytes(moved)
    assert moved.index(b"IDAT") < moved.index(b"eXIf")
    assert read_geometry(path).shape == (1, 6, 9)
    np.testing.assert_array_equal(read_image(ImageFile(path=path)).array[0], SHOWN)


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path, orientation):
    path = save(tmp_path / "a.jpg", SHOWN, orientation, quality=100)
    np.testing.assert_allclose(read_image(ImageFile(path=path)).array[0], SHOWN, atol=2)


def test_a_result_for_a_turned_picture_lies_on_what_is_shown(tmp_path):
    path = save(tmp_path / "a.jpg", STORED[6], 6)
    write_segmentation(tmp_path / "out.nii.gz", (SHOWN > 100)[None].astype(np.uint8), like=ImageFile(path=path))
    np.testing.assert_array_equal(read_segmentation(str(tmp_path / "out.nii.gz")).array[0], SHOWN > 100)


def test_a_png_without_notes_is_not_unpacked_to_learn_its_shape(tmp_path):
    Image.fromarray(SHOWN).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    start = data.index(b"IDAT")
    (tmp_path / "a.png").write_bytes(data[: start + 4] + b"\0" * 20 + data[start + 24 :])
    assert read_geometry(str(tmp_path / "a.png")).shape == (1, 6, 9)


def test_no_other_program_is_started_for_what_a_picture_turns_out_to_be(tmp_path):
    marker = tmp_path / "ran"
    (tmp_path / "a.png").write_text(
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({marker}) (w) file closefile showpage\n"
    )
    program = f"from tumorseg.storage.images import read_image\nfrom tumorseg.schema.dataset import ImageFile\nread_image(ImageFile(path={str(tmp_path / 'a.png')!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "cannot be read as a picture" in done.stderr
    assert not marker.exists()


def test_colours_of_16_bits_are_refused_rather_than_halved(tmp_path):
    def chunk(name, data):
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    head = (3).to_bytes(4, "big") + (2).to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    rows = zlib.compress(b"".join(b"\0" + bytes(range(18)) for _ in range(2)))
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    with pytest.raises(ValueError, match="found RGB of 16 bits a band"):
        read_geometry(str(tmp_path / "a.png"))


def test_a_picture_that_claims_more_pixels_than_it_can_hold_is_refused_before_they_are_given_memory(tmp_path):
    Image.fromarray(SHOWN).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    head = (9).to_bytes(4, "big") + (8_000_000).to_bytes(4, "big") + data[24:29]
    checksum = zlib.crc32(b"IHDR" + head).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data[:16] + head + checksum + data[33:])
    with pytest.raises(ValueError, match=r"a.png: .* \(\d+ bytes cannot hold 72000000 pixels\)"):
        read_geometry(str(tmp_path / "a.png"))
    Image.new("1", (8000, 8000)).save(tmp_path / "blank.png")
    assert read_geometry(str(tmp_path / "blank.png")).shape == (1, 8000, 8000)
