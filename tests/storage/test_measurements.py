import numpy as np
import pytest

from tumorseg.schema.fingerprint import CaseMeasurement
from tumorseg.storage.measurements import Measured, read_measured, write_measured


def measured(num_samples=50):
    record = CaseMeasurement(
        case_id="case 1",
        spacing_mm=(2.5, 0.8, 0.8),
        shape=(9, 11, 13),
        shape_after_crop=(7, 11, 12),
        label_voxels={"tumour": 17},
        content_hash="0f",
    )
    return Measured(record, np.random.default_rng(0).normal(size=(2, num_samples)).astype(np.float32))


@pytest.mark.parametrize("num_samples", [0, 50])
def test_what_was_measured_comes_back(tmp_path, num_samples):
    write_measured(tmp_path / "new", "key", measured(num_samples))
    found = read_measured(tmp_path / "new", "key")
    assert found.measurement == measured().measurement
    assert found.samples.dtype == np.float32
    assert np.array_equal(found.samples, measured(num_samples).samples)


def test_what_was_not_measured_is_none(tmp_path):
    assert read_measured(tmp_path, "key") is None
    write_measured(tmp_path, "key", measured())
    assert read_measured(tmp_path, "other") is None


@pytest.mark.parametrize("name", ["key.npy", "key.json"])
def test_half_of_a_measurement_is_none(tmp_path, name):
    write_measured(tmp_path, "key", measured())
    (tmp_path / name).unlink()
    assert read_measured(tmp_path, "key") is None


@pytest.mark.parametrize("content", ["empty", "half", b"text", b"PK\x03\x04 like an archive", b"{}"])
@pytest.mark.parametrize("name", ["key.npy", "key.json"])
def test_a_damaged_measurement_is_none(tmp_path, name, content):
    write_measured(tmp_path, "key", measured())
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes({"empty": b"", "half": raw[: len(raw) // 2]}.get(content, content))
    assert read_measured(tmp_path, "key") is None


def test_objects_in_a_measurement_are_not_unpickled(tmp_path):
    write_measured(tmp_path, "key", measured())
    np.save(tmp_path / "key.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert read_measured(tmp_path, "key") is None


@pytest.mark.parametrize("name", ["key.npy", "key.json"])
def test_one_bit_is_noticed(tmp_path, name):
    write_measured(tmp_path, "key", measured())
    raw = (tmp_path / name).read_bytes()
    changed = raw[:-1] + bytes([raw[-1] ^ 0x40]) if name == "key.npy" else raw.replace(b"17", b"16")
    assert changed != raw
    (tmp_path / name).write_bytes(changed)
    assert read_measured(tmp_path, "key") is None
