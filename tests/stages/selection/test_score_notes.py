import pytest

from tumorseg.stages.selection.score_notes import ScoreNotes


def test_scores_come_back_to_the_last_bit(tmp_path):
    notes = ScoreNotes(tmp_path / "deep" / "scores.jsonl")
    notes.add("case 1", {"a": [0.1 + 0.2, 1.0], "b": [2 / 3, 0.0]})
    notes.add("case ü", {"a": [1e-17, 0.5]})
    again = ScoreNotes(tmp_path / "deep" / "scores.jsonl")
    assert list(again.read(2)) == [
        ("case 1", {"a": [0.1 + 0.2, 1.0], "b": [2 / 3, 0.0]}),
        ("case ü", {"a": [1e-17, 0.5]}),
    ]


def test_a_line_that_a_kill_has_cut_short_is_forgotten(tmp_path):
    path = tmp_path / "scores.jsonl"
    ScoreNotes(path).add("first", {"a": [0.5]})
    whole = path.read_bytes()
    path.write_bytes(whole + b'["second",{"a":[0.')
    notes = ScoreNotes(path)
    notes.add("third", {"a": [0.25]})
    assert [case_id for case_id, _ in notes.read(1)] == ["first", "third"]


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"\xff",
        b"[]",
        b'["case"]',
        b'["case", [1]]',
        b'["case", {"a": 1}]',
        b'["case", {"a": [0.5, 0.5]}]',
        b'["case", {"a": [NaN]}]',
        b'["case", {"a": [7]}]',
    ],
)
def test_damaged_lines_are_passed_over_with_one_warning(tmp_path, line, caplog):
    path = tmp_path / "scores.jsonl"
    ScoreNotes(path).add("first", {"a": [0.5]})
    path.write_bytes(path.read_bytes() + 2 * (line + b"\n"))
    notes = ScoreNotes(path)
    notes.add("last", {"a": [0.25]})
    assert [case_id for case_id, _ in notes.read(1)] == ["first", "last"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "2 damaged lines, the first of which is line 2" in caplog.text
