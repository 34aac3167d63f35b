"""Writes docs/api.md from the public names' own docstrings: `make api-page`."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tumorseg

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
HEAD = """\
# Python interface

Every verb is a function that takes one record of options, the same as on the command line:

```python
from pathlib import Path

import tumorseg

roots = tumorseg.Roots(data_root="/data")
written = tumorseg.plan(tumorseg.PlanRequest(roots=roots, dataset="MSD_Hippocampus", preset="fast_prototyping"))
trained = tumorseg.train(tumorseg.TrainRequest(roots=roots, plan=written.plan, fold="0"))

model = tumorseg.load_model([Path("runs/MSD_Hippocampus/models/Mine/3d_fullres")], "cpu")
labels = tumorseg.predict_array(model, image, affine)  # (C, Z, Y, X) float32 in, (Z, Y, X) label values out
```

`import tumorseg` loads neither torch nor pydantic: a name is imported when it is first used. Errors are
`tumorseg.errors.TumorsegError`; their text is one line, and `case_id` and `file` name what they are about. What is not
listed here may change without notice.
"""


def page() -> str:
    """Return the page."""
    return "\n".join([HEAD, "## Functions\n", *functions(), "## Options\n", *records()]).rstrip("\n") + "\n"


def public() -> Iterator[tuple[str, Any]]:
    """Yield the public names, in alphabetical order, and what they stand for."""
    for name in tumorseg.__all__:
        if not name.startswith("__"):
            yield name, getattr(tumorseg, name)


def functions() -> Iterator[str]:
    """Yield a section for each function: how to call it, and its docstring."""
    for name, value in public():
        if inspect.isfunction(value):
            arguments = ", ".join(map(shown, inspect.signature(value).parameters.values()))
            yield f"### `{name}({arguments})`\n\n{text_of(value)}\n"


def shown(parameter: inspect.Parameter) -> str:
    """Return a parameter with its default, without its type."""
    return parameter.name if parameter.default is parameter.empty else f"{parameter.name}={parameter.default!r}"


def text_of(value: Any) -> str:
    """Return a docstring in Markdown; its parts are set in bold, what they list as lists."""
    lines = []
    for line in (inspect.getdoc(value) or "").splitlines():
        if line.rstrip(":") in ("Args", "Raises", "Returns", "Yields"):
            lines.append(f"**{line.rstrip(':')}**\n")
        else:
            lines.append(f"- {line.strip()}" if is_entry(line) else line.strip())
    return "\n".join(lines)


def is_entry(line: str) -> bool:
    """Tell whether a line begins an entry of a list in a docstring."""
    return line.startswith("    ") and not line.startswith("     ")


def records() -> Iterator[str]:
    """Yield a section for each record: its fields with their defaults and meanings."""
    for name, value in public():
        if inspect.isclass(value):
            rows = (field_row(field, info) for field, info in value.model_fields.items())
            title = f"### `{name}`\n\n{text_of(value)}\n\n| field | default | meaning |\n|---|---|---|\n"
            yield title + "\n".join(rows) + "\n"


def field_row(name: str, info: Any) -> str:
    """Return a row of the table of a record's fields."""
    meaning = " ".join((info.description or "").split()).replace("|", "\\|")
    default = "required" if info.is_required() else f"`{info.get_default(call_default_factory=True)!r}`"
    return f"| `{name}` | {default if len(default) < 40 else 'its defaults'} | {meaning} |"


if __name__ == "__main__":
    PAGE.write_text(page())
