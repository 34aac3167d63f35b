import gzip
import zlib

import numpy as np
import pytest

from tumorseg.storage.formats import zipping
from tumorseg.storage.formats.zipping import ZLIB, packed, plain, quickly_packed, slabs

VIEW = np.random.default_rng(0).integers(0, 9, (7, 11, 5)).astype(np.int16).transpose(2, 0, 1)[:, ::-1]


@pytest.fixture
def small_slabs(monkeypatch):
    monkeypatch.setattr(zipping, "SLAB_BYTES", 200)


@pytest.mark.usefixtures("small_slabs")
def test_slabs_are_contiguous_parts_of_a_view(tmp_path):
    parts = list(slabs(VIEW))
    assert len(parts) > 2
    assert all(part.flags.c_contiguous for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts), VIEW)


def test_an_array_without_voxels_has_no_slabs():
    assert list(slabs(np.zeros((0, 3, 4)))) == []


@pytest.mark.usefixtures("small_slabs")
def test_packed_parts_are_one_stream_of_the_voxels():
    expected = np.ascontiguousarray(VIEW).tobytes()
    assert b"".join(plain(slabs(VIEW))) == expected
    assert zlib.decompress(b"".join(packed(slabs(VIEW), ZLIB))) == expected
    assert gzip.decompress(b"".join(quickly_packed(slabs(VIEW)))) == expected
    # as packed at once: where the parts end makes no difference
    assert b"".join(packed(slabs(VIEW))) == gzip.compress(expected, compresslevel=6, mtime=0)


def test_no_time_is_in_a_gzip_stream():
    for pack in (packed, quickly_packed):
        assert b"".join(pack(slabs(VIEW)))[4:8] == bytes(4)
