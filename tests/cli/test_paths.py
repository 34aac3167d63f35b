"""What a user names: outputs that are regular files or nothing, and paths that can be none."""

import os
import stat

import click
import pytest

from tumorseg.cli.main import cli, run
from tumorseg.cli.paths import NamedPath, OutputPath

READ = """
after against before data_root dataset_json fingerprint folders init inputs labels model models plan plan_path plan_paths plans
predictions references splits table tables teachers unlabelled work worker
"""
"""Parameters of all verbs that name what is read, or folders in which verbs make others."""


def commands(group):
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            yield command
            if isinstance(command, click.Group):
                yield from commands(command)


def test_every_output_is_checked_before_any_work():
    paths = [one for command in [cli, *commands(cli)] for one in command.params if isinstance(one.type, click.Path)]
    assert all(isinstance(one.type, NamedPath) for one in paths)
    others = {one.name for one in paths if not isinstance(one.type, OutputPath)}
    assert others == set(READ.split())


@pytest.mark.parametrize(
    "verb",
    [
        "fingerprint -d x -o",
        "data check -d x --html",
        "plan explain x --picture",
        "augment -p x -o",
        "predict -m x -i x -o",
        "evaluate -i x -r x -o",
        "data import -d x -o",
        "plan export pyproject.toml -o",
    ],
)
def test_a_pipe_is_refused_and_stays(verb, tmp_path, capfd):
    pipe = tmp_path / "pipe.html"
    os.mkfifo(pipe)
    assert run([*verb.split(), str(pipe)]) == 1
    assert capfd.readouterr().err == (
        f"error: {pipe}: cannot write: is a pipe, expected a file or nothing; nothing was changed; give another name\n"
    )
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


@pytest.mark.parametrize(
    "verb",
    [
        "fingerprint -d",
        "plan -d x --preset",
        "preprocess -p",
        "predict -i x -o x -m",
        "evaluate -i",
        "fingerprint -d x -o",
    ],
)
@pytest.mark.parametrize("path", ["a\0b", "x" * 300, "caf\udce9", "loop"])
def test_a_path_that_can_be_none_is_one_line(verb, path, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    os.symlink("loop", "loop")
    assert run([*verb.split(), path]) == 1
    told = capfd.readouterr().err
    assert told.startswith("error: ")
    assert told.endswith("; give another\n")
    assert told.strip().isprintable()
