"""What reaches a terminal, or the program that reads the results."""

import json
import logging
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from tumorseg.cli import status
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
        ("%d of %.2f", (np.int64(2), np.float32(0.5)), "2 of 0.50"),
        ("%.1f", (Decimal(3),), "3.0"),
        ("%r and %r", ("a\x1b\n", Path("b")), r"'a\x1b\n' and PosixPath('b')"),
        ("%s", (OSError("a\nb"),), "a\\nb"),
        ("no name", (), "no name"),
        ("%(a)s", ({"a": "\x07"},), "\\x07"),
    ],
)
def test_what_logs_quote_is_escaped(words, quoted, shown):
    record = logging.LogRecord("tumorseg", logging.WARNING, __file__, 1, words, quoted, None)
    assert Escaping("%(levelname)s: %(message)s").format(record) == f"WARNING: {shown}"
    assert record.msg == words


def test_a_table_that_is_drawn_over_and_over_is_escaped_too(monkeypatch, capsys):
    def looked_at(_report):
        monkeypatch.setattr("time.sleep", stop)
        return f"fold {NAME}\nsecond line"

    def stop(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("tumorseg.reports.status_table.status_text", looked_at)
    monkeypatch.setattr(status, "_key", lambda _report: "new")
    status._watch(iter([None]))
    assert capsys.readouterr().out.splitlines()[1:] == ["fold a\\x1b[2J\\x9b\\u202e\\udce9", "second line", ""]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    status._watch(iter([None]))
    assert "\x1b[2J" not in capsys.readouterr().out
