import numpy as np
import pytest

from tumorseg.errors import StorageError
from tumorseg.storage.fault_files import MOST_KEPT, keep_batch, read_batch

FACTS = {"iteration": 4, "case_ids": ["a", "b"], "loss": "nan"}


def test_a_batch_comes_back_with_its_facts(tmp_path):
    images = np.array([[1.5, np.nan], [np.inf, -2]], np.float32)
    path = keep_batch(tmp_path / "faults", 4, {"images": images}, FACTS)
    arrays, facts = read_batch(path)
    assert facts == FACTS
    assert arrays.keys() == {"images"}
    np.testing.assert_array_equal(arrays["images"], images)


def test_only_the_latest_batches_are_kept(tmp_path):
    for number in (9, 10, 111, 1112):
        keep_batch(tmp_path, number, {}, FACTS)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == [f"iteration_{number:08d}.npz" for number in (10, 111, 1112)]
    assert len(kept) == MOST_KEPT


def test_a_folder_that_cannot_be_written_is_an_error_of_one_line(tmp_path):
    (tmp_path / "faults").write_text("a file")
    with pytest.raises(StorageError, match="cannot write"):
        keep_batch(tmp_path / "faults", 4, {}, FACTS)
