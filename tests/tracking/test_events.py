import pytest

from tumorseg.errors import StorageError
from tumorseg.schema.logs import TrainingEvent
from tumorseg.tracking.events import append_event, read_events, truncate_events


def event(kind, iteration):
    return TrainingEvent(kind=kind, iteration=iteration, message="it happened", case_ids=("a",), at=1.5)


def test_events_are_kept_in_their_order(tmp_path):
    path = tmp_path / "events.jsonl"
    assert read_events(path) == []
    expected = [event("skipped", 4), event("divided", 2)]
    for one in expected:
        append_event(path, one)
    assert read_events(path) == expected


def test_bytes_that_are_no_text_are_told_with_their_file(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"kind": "\xff"}\n')
    with pytest.raises(StorageError, match=r"events.jsonl: found bytes that are not UTF-8 at position 10"):
        read_events(path)
    with pytest.raises(StorageError, match="not UTF-8"):
        append_event(path, event("skipped", 1))


def test_what_befell_steps_that_are_taken_again_is_forgotten(tmp_path):
    path = tmp_path / "events.jsonl"
    truncate_events(path, 0)
    for iteration in (3, 6, 7):
        append_event(path, event("skipped", iteration))
    truncate_events(path, 6)
    assert [one.iteration for one in read_events(path)] == [3, 6]
    before = path.stat().st_mtime_ns
    truncate_events(path, 6)
    assert path.stat().st_mtime_ns == before


def test_the_first_try_of_a_training_that_began_again_is_remembered(tmp_path):
    path = tmp_path / "events.jsonl"
    for kind, iteration in (("skipped", 40), ("restarted", 50), ("skipped", 9)):
        append_event(path, event(kind, iteration))
    truncate_events(path, 5)
    assert [(one.kind, one.iteration) for one in read_events(path)] == [("skipped", 40), ("restarted", 50)]


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"kind": "exploded"}\n')
    with pytest.raises(StorageError, match=r"events\.jsonl"):
        read_events(path)
