import ctypes

import blosc2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tumorseg.storage import frames
from tumorseg.storage.damage import of_blosc2
from tumorseg.storage.frames import frame_kind, read_frame

SHAPE = (3, 9, 70, 37)


def write(path, array, **storage):
    path.write_bytes(blosc2.asarray(array, cparams={"codec": blosc2.Codec.ZSTD, "nthreads": 1}, **storage).to_cframe())
    return path


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    array = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    path = tmp_path_factory.mktemp("frames") / "a.b2nd"
    return array, write(path, array, chunks=(1, 9, 64, 37), blocks=(1, 9, 32, 32))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_part_is_that_of_the_array(stored, data):
    array, path = stored
    bounds = [sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size)))) for size in SHAPE]
    index = tuple(slice(low, high) for low, high in bounds)
    found = read_frame(path, index)
    assert found.dtype == array.dtype
    assert np.array_equal(found, array[index])
    assert found.flags.writeable


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.float32])
def test_types_and_whole_axes_and_rows_are_kept(tmp_path, dtype):
    array = np.arange(60, dtype=dtype).reshape(20, 3)
    path = write(tmp_path / "a.b2nd", array)
    assert np.array_equal(read_frame(path, (slice(None), slice(1, 3))), array[:, 1:])
    assert np.array_equal(read_frame(path, 7), array[7])
    assert read_frame(path, (slice(None), slice(None))).dtype == dtype


def test_the_binding_reads_the_same_where_the_library_does_not_come_along(stored, monkeypatch):
    array, path = stored
    monkeypatch.setattr(frames, "_library", lambda: None)
    index = (slice(1, 3), slice(None), slice(5, 69), slice(0, 4))
    assert np.array_equal(read_frame(path, index), array[index])


def test_the_library_comes_with_the_package():
    assert frames._library() is not None


@pytest.mark.parametrize("keep", [0, 20, 3000])
def test_a_frame_that_was_cut_short_is_an_error(stored, tmp_path, keep):
    _, path = stored
    whole = tuple(slice(size) for size in SHAPE)
    cut = tmp_path / "cut.b2nd"
    cut.write_bytes(path.read_bytes())
    # Once its kind is known, too.
    read_frame(cut, whole)
    cut.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(of_blosc2()):
        read_frame(cut, whole)


def test_a_missing_frame_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="none"):
        read_frame(tmp_path / "none.b2nd", (slice(None),))


def test_others_go_on_while_a_frame_is_unpacked():
    # A library of this kind gives the interpreter to others while it runs; one of its subclass, for Python's own, does not.
    assert type(frames._library()) is ctypes.CDLL


def test_a_row_beyond_the_last_is_an_error(tmp_path):
    path = write(tmp_path / "a.b2nd", np.arange(60).reshape(20, 3))
    for row in (20, -1):
        with pytest.raises(ValueError, match="20 rows"):
            read_frame(path, row)


@pytest.mark.parametrize("kind", ["lazy expression", "proxy", "reference"])
def test_a_frame_that_speaks_of_other_files_is_refused_and_none_of_them_is_opened(tmp_path, monkeypatch, kind):
    other = blosc2.asarray(np.arange(7.0), urlpath=str(tmp_path / "other.b2nd"), mode="w")
    path = tmp_path / "a.b2nd"
    if kind == "lazy expression":
        blosc2.lazyexpr("a + 1", {"a": other}).save(str(path), mode="w")
    elif kind == "proxy":
        blosc2.Proxy(other, urlpath=str(path), mode="w")
    else:
        blosc2.asarray(np.arange(7.0), urlpath=str(path), mode="w", meta={"b2o": {"kind": "ref", "version": 1}})

    def fail(*arguments, **options):
        raise AssertionError("a frame was opened in the way that follows it")

    for name in ("open", "open_b2object", "open_lazyarray"):
        monkeypatch.setattr(blosc2, name, fail)
    with pytest.raises(ValueError, match="holds more than an array"):
        read_frame(path, (slice(None),))


@pytest.mark.parametrize(("before", "after"), [(b"<f4", b"'f4"), (b"<f4", b"<f8"), (b"<f4", b"|O8"), (b"<f4", b"<U1")])
def test_a_type_of_voxels_that_was_changed_is_damage(stored, tmp_path, before, after):
    _, path = stored
    raw = path.read_bytes()
    assert before in raw
    changed = tmp_path / "a.b2nd"
    changed.write_bytes(raw.replace(before, after, 1))
    with pytest.raises(of_blosc2()):
        frame_kind(changed)


def test_a_shape_beyond_what_its_chunks_hold_is_refused_without_memory_for_it(stored, tmp_path):
    _, path = stored
    content, path = path.read_bytes(), tmp_path / "a.b2nd"
    before, after = (size.to_bytes(8, "big") for size in (SHAPE[-1], 1 << 27))
    assert b"\xd3" + before in content
    path.write_bytes(content.replace(b"\xd3" + before, b"\xd3" + after, 1))
    with pytest.raises(of_blosc2(), match=r"its chunks hold .* bytes, not the .* of its shape"):
        frame_kind(path)
