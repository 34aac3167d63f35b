"""What reaches a terminal, or the program that reads the results."""

import json
import logging
from pathlib import Path

import pytest

from tumorseg.cli.main import Escaping, Settings
from tumorseg.cli.output import show
from tumorseg.errors import InputError

NAME = "a\x1b[2J\x9b\u202e\udce9"
SETTINGS = Settings(Path("data"), Path("runs"), is_json=False)


def test_what_results_quote_is_escaped_in_text_and_the_same_in_json(capsys):
    show(SETTINGS, {}, f"written to {NAME}\nsecond line")
    assert capsys.readouterr().out == "written to a\\x1b[2J\\x9b\\u202e\\udce9\nsecond line\n"
    show(SETTINGS._replace(is_json=True), {"path": NAME, "é": "é\n🫁"}, "")
    told = capsys.readouterr().out
    assert told.strip().isprintable()
    assert json.loads(told) == {"path": NAME, "é": "é\n🫁"}
    assert "é" in told


@pytest.mark.parametrize(
    ("words", "quoted", "shown"),
    [
        ("%s: left out", (Path("x\nerror: y"),), "x\\nerror: y: left out"),
        ("%s", (NAME,), "a\\x1b[2J\\x9b\\u202e\\udce9"),
        ("%d of %.1f", (2, 3.0), "2 of 3.0"),
        ("%s", (InputError("2 problems", lines=["  x", "  y\x07"]),), "2 problems\n  x\n  y\\x07"),
        ("no name", (), "no name"),
        ("%(a)s", ({"a": "\x07"},), "\\x07"),
    ],
)
def test_what_logs_quote_is_escaped(words, quoted, shown):
    record = logging.LogRecord("tumorseg", logging.WARNING, __file__, 1, words, quoted, None)
    assert Escaping("%(levelname)s: %(message)s").format(record) == f"WARNING: {shown}"
    assert record.msg == words
