import re
from pathlib import Path

import pytest

from tumorseg.cli.main import run

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"


@pytest.mark.slow
def test_every_command_and_snippet_of_the_tutorial_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(console|python)\n(.*?)```", TUTORIAL.read_text("utf-8"), re.S)
    assert len(blocks) >= 7
    names = {}
    for language, text in blocks:
        if language == "python":
            exec(compile(text, "tutorial", "exec"), names)
            continue
        for line in text.strip().splitlines():
            program, *arguments = line.removeprefix("$ ").split()
            assert program == "tumorseg"
            assert run(arguments) == 0, line
