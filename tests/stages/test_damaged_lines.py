"""Lines that a run writes and reads again, damaged: an error of ours, or a line that is passed over."""

import pytest

from tumorseg.errors import StorageError
from tumorseg.stages.inference.journal import read_notes
from tumorseg.stages.inference.report_file import read_report
from tumorseg.stages.selection.score_notes import ScoreNotes
from tumorseg.stages.tracking.mirror import _sample_of

LINES = [b"[" * 100_000, b'["a", {"b": [1e999]}]', b'{"time": 1e999}', b"1" * 5000, b'{"time": "\\udc80"}', b'"\xe9"']


@pytest.mark.parametrize("line", LINES)
def test_a_damaged_line_is_no_traceback(line, tmp_path, caplog):
    path = tmp_path / "lines"
    path.write_bytes(line + b"\n")
    assert list(ScoreNotes(path).read(1)) == []
    assert "1 damaged line" in caplog.text
    assert _sample_of(line.decode(errors="surrogateescape")) == {}
    with pytest.raises(StorageError) as refused:
        read_notes(path, StorageError)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("form", [b"    %s\n  },\n", b'    "a": %s\n  },\n', b'    "a": {"run": "r"}\n  },\n%s\n'])
def test_a_damaged_report_is_one_line(line, form, tmp_path):
    path = tmp_path / "report.json"
    path.write_bytes(b'{\n  "cases": {\n' + form % line)
    with pytest.raises(StorageError, match="is no report of form 1") as refused:
        read_report(path, StorageError)
    assert str(refused.value).isprintable()


def test_a_case_id_of_a_report_is_plain(tmp_path):
    path = tmp_path / "report.json"
    path.write_text('{\n  "cases": {\n    "a\\u001b": {"run": "r"}\n  },\n  "runs": {}, "schema_version": 1}\n')
    with pytest.raises(StorageError, match="found the case_id 'a") as refused:
        read_report(path, StorageError)
    assert str(refused.value).isprintable()
