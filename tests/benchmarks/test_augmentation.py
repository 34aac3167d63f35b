"""A sample of what benchmarks/augmentation.py shows, and of what it is measured with."""

import json

import pytest
import torch

from benchmarks.augmentation import MASKED, ROWS, Size, augmentation_of, by_turns, case_of, own_seconds, write
from tumorseg.augmentation.samples import center_crop

TINY = Size(2, (9, 11, 10), 3, 1)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_can_be_timed(name):
    assert 0 < own_seconds(ROWS[name], TINY, count=2, seed=1) < 5


@pytest.mark.parametrize("patch", [(9, 11, 10), (10, 22, 9)])
def test_a_case_holds_all_that_a_row_looks_at_and_every_label(patch):
    size = TINY._replace(patch=patch)
    case = case_of(size)
    assert center_crop(case.segmentation, patch).unique().tolist() == [0, 1, 2]
    augmentation = augmentation_of(ROWS["table"], size)
    for seed in range(2000):
        needed = augmentation.source_size(augmentation.draw(seed))
        assert all(size <= edge for size, edge in zip(needed, case.image.shape[1:], strict=True))


def test_the_masked_table_leaves_zeros_outside_the_body():
    augmentation, case = augmentation_of(ROWS[MASKED], TINY), case_of(TINY)
    for seed in range(5):
        draws = augmentation.draw(seed)
        space = augmentation.source_size(draws)
        made = augmentation.apply(case._replace(**{k: center_crop(v, space) for k, v in case._asdict().items()}), draws)
        assert (made.image == 0).all(0).any()
        assert torch.equal((made.image == 0).all(0), (made.image == 0).any(0))


def test_turns_give_the_median_of_both_sides():
    found = by_turns(lambda turn: [0.1, 0.5, 0.2][turn], lambda turn: 0.4 + turn, 3)
    assert (found["own_ms"], found["other_ms"], found["times_as_fast"]) == (200, 1400, 7.0)
    assert found["turns_ms"] == [[100, 500, 200], [400, 1400, 2400]]


def test_a_row_is_written_beside_those_that_are_there(tmp_path):
    path = tmp_path / "augmentation.json"
    for name in ("gamma", "mirror"):
        write(path, ("1 x 9x11x10", name, {"own_ms": 1.0}))
    written = json.loads(path.read_text())["1 x 9x11x10"]
    assert sorted(written) == ["gamma", "mirror"]
    assert written["gamma"]["own_ms"] == 1.0
    assert "torch" in written["gamma"]["machine"]
