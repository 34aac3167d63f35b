import pytest

from tumorseg.errors import InputError
from tumorseg.storage.tables import read_lines


def written(folder, content):
    path = folder / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "separator"),
    [
        ("case_id,a\nx,1\n", ","),
        ("case_id;a,b\nx;1,5\n", ";"),
        ("case_id\ta\nx\t1\n", "\t"),
        ("sep=|\ncase_id|a\nx|1\n", "|"),
        ("\ufeffcase_id,a\r\nx,1\r\n", ","),
    ],
)
def test_cells_stand_between_what_the_first_line_has(tmp_path, content, separator):
    lines = read_lines(written(tmp_path, content), expected="a table")
    assert lines.separator == separator
    assert lines.cells[0][0] == "case_id"
    assert lines.cells[1][0] == "x"


def test_empty_lines_are_left_out_and_the_others_keep_their_numbers(tmp_path):
    lines = read_lines(written(tmp_path, 'case_id,a\n,\n\n"x\ny",1\nz, 2 \n'), expected="a table")
    assert (lines.cells, lines.numbers) == ([["case_id", "a"], ["x\ny", "1"], ["z", "2"]], [1, 4, 6])
    assert read_lines(written(tmp_path, "sep=;\ncase_id;a\nx;1\n"), expected="a table").numbers == [2, 3]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('case_id,a\n"x,1\n', "is not CSV"),
        ("case_id,ä\n".encode("latin-1"), "not UTF-8 at position 8"),
        ("case_id,a\n".encode("utf-16"), "is in UTF-16"),
        (b"PK\x03\x04rest", "is a spreadsheet"),
    ],
)
def test_what_is_no_table_is_told_in_one_line(tmp_path, content, told):
    with pytest.raises(InputError, match=told):
        read_lines(written(tmp_path, content), expected="a table")
    with pytest.raises(InputError, match="expected a table of pears"):
        read_lines(tmp_path / "nowhere.csv", expected="a table of pears")


def test_headings_as_spreadsheets_write_them_are_one_line(tmp_path):
    content = '\ufeff\ufeff"case_id";"Age\n(years)";hyphen\xadated, long;\ufeffa\nx;1;2;3\n'
    lines = read_lines(written(tmp_path, content), expected="a table")
    assert lines.cells == [["case_id", "Age (years)", "hyphenated, long", "a"], ["x", "1", "2", "3"]]
    assert lines.numbers == [1, 3]


def test_a_heading_that_speaks_to_a_terminal_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("case_id,\x1b[2Jdsc\na,1\n")
    with pytest.raises(InputError, match="without control characters") as refused:
        read_lines(tmp_path / "a.csv", expected="a table")
    assert str(refused.value).isprintable()
