import re
from pathlib import Path

from tumorseg.cli.main import run

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"


def test_the_tables_of_the_page_are_compared_and_ranked_as_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text("utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(compile(snippet, "evaluation", "exec"), {})
    commands = re.findall(r"^\$ tumorseg (evaluate --from .*)$", text, re.M)
    assert len(commands) == 2
    for command in commands:
        assert run(command.split()) == 0, command
    printed = {line.rstrip() for line in capsys.readouterr().out.splitlines()}
    shown = re.search(r"it prints\n\n(.*?)\n\n", text, re.S)
    assert {line.strip() for line in shown[1].splitlines()} <= printed
    for name in ("compared/comparison.json", "compared/report.html", "ranked/ranking.json"):
        assert (tmp_path / name).is_file()
