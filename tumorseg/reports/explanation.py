"""`plan explain`: every value of a plan with its reason, as text and as a page."""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from tumorseg.planning.reading.anatomy import Anatomy
from tumorseg.planning.reading.explanation import Explained, Explanation, Section
from tumorseg.planning.reading.stages import Stage
from tumorseg.reports.architecture import (
    Drawing,
    anatomy_facts,
    architecture_svg,
    count_text,
    unknown_text,
    work_text,
)
from tumorseg.reports.architecture_flows import times
from tumorseg.reports.page import render_page
from tumorseg.reports.tables import terminal_table
from tumorseg.schema.plan import Reason
from tumorseg.schema.quantities import bytes_text, gb_text

WIDTH, MEANING_COLUMN = 116, 44
"""Columns of the text, and where the meaning of a value begins."""
MOST_LETTERS = 150
"""A longer list of lists is shown by its lengths."""


class Row(NamedTuple):
    """A value or a part, as a table shows it."""

    depth: int
    item: Explained
    value: str
    full: str
    """The whole value where `value` is shortened, else empty."""
    why: tuple[tuple[str, str], ...]
    """Word and text: the rule, what it was applied to, what else could be."""


def value_text(field: str, value: JsonValue) -> str:
    """Return a value in few letters: bytes in GB too, numbers in six digits, long lists by their length."""
    text = plain_text(value)
    if field.endswith("_bytes") and isinstance(value, int):
        return f"{gb_text(value)} ({value} bytes)"
    if len(text) <= MOST_LETTERS or isinstance(value, str):
        return text
    if not isinstance(value, list):
        return f"{len(value)} fields" if isinstance(value, dict) else text
    if all(isinstance(entry, list) for entry in value):
        lengths = [str(len(entry)) for entry in value if isinstance(entry, list)]
        return f"{len(value)} lists of {', '.join(lengths)} entries"
    first = plain_text(value[:3]).removeprefix("[").removesuffix("]")
    return f"{len(value)} entries: {first}, …"


def plain_text(value: JsonValue) -> str:
    """Return a JSON value on one line, numbers in six digits."""
    if isinstance(value, list):
        return f"[{', '.join(map(plain_text, value))}]"
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain_text(entry)}" for key, entry in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def filled(start: str, text: str) -> str:
    """Return text behind a start, its further lines as far to the right."""
    return textwrap.fill(text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False)


def reason_lines(reason: Reason | None) -> tuple[tuple[str, str], ...]:
    """Return the rule, the figures it was applied to, and the next-best choice, each with a word before it."""
    if reason is None:
        return ()
    lines = [("because", reason.rule)]
    if figures := inputs_text(reason.inputs):
        lines.append(("from", figures))
    if reason.alternative:
        lines.append(("instead", reason.alternative))
    return tuple(lines)


def inputs_text(inputs: Mapping[str, JsonValue]) -> str:
    """Return the figures that a rule was applied to; those that are null say nothing."""
    figures = []
    for name, value in inputs.items():
        if value is not None:
            text = "none" if value == [] else plain_text(value)
            figures.append(f"{name.replace('_', ' ')} {text}")
    return "; ".join(figures)


def rows_of(values: Sequence[Explained], depth: int = 0) -> Iterator[Row]:
    """Yield the rows of a group, parts before what is in them."""
    for item in values:
        # What a part holds stands in the rows that follow it.
        value = "" if item.parts else value_text(item.field, item.value)
        whole = plain_text(item.value)
        is_short = len(whole) > MOST_LETTERS and value != whole
        yield Row(depth, item, value, whole if is_short else "", reason_lines(item.reason))
        yield from rows_of(item.parts, depth + 1)


def explanation_text(explanation: Explanation) -> str:
    """Return everything for a terminal."""
    blocks = [f"plan {explanation.name} for {explanation.dataset}; what the user set is marked with *"]
    for section in explanation.sections:
        blocks.append("\n".join(_section_lines(section)))
    return "\n\n".join(blocks)


def _section_lines(section: Section) -> Iterator[str]:
    yield section.title
    yield "=" * len(section.title)
    yield from _why_lines(reason_lines(section.reason), 0)
    for row in rows_of(section.values):
        yield from _row_lines(row)
    if section.configuration is not None:
        yield ""
        yield _anatomy_text(section)


def _row_lines(row: Row) -> Iterator[str]:
    mark = "* " if row.item.is_set_by_user else "  "
    colon = ": " if row.value else ""
    head = f"{mark}{'  ' * row.depth}{row.item.name}{colon}{row.value}"
    # Two blanks at least stand before the meaning; a longer head has a line of its own.
    if len(head) >= MEANING_COLUMN - 1:
        yield head
        head = ""
    yield filled(head.ljust(MEANING_COLUMN), row.item.meaning)
    yield from _why_lines(row.why, row.depth)


def _why_lines(why: Sequence[tuple[str, str]], depth: int) -> Iterator[str]:
    for word, text in why:
        yield filled(f"{' ' * (2 * depth + 6)}{word:<8} ", text)


def _anatomy_text(section: Section) -> str:
    if section.anatomy is None:
        return f"  {unknown_text(network_name(section))}"
    table = terminal_table(anatomy_rows(section.anatomy))
    lines = [f"{section.anatomy.network}: {anatomy_facts(section.anatomy)}", table]
    return textwrap.indent("\n".join(lines), "  ")


def anatomy_rows(anatomy: Anatomy) -> list[dict[str, object]]:
    """Return a row for each stage, for `terminal_table`."""
    return [_stage_row(stage) for stage in anatomy.stages]


def _stage_row(stage: Stage) -> dict[str, object]:
    field = stage.receptive_field
    voxels, mm = (None, None) if field is None else (times(field.voxels), times(field.mm))
    return {
        "stage": f"{stage.side} {stage.level}",
        "voxels": times(stage.shape),
        "features": stage.features,
        "stride": times(stage.stride),
        "does": work_text(stage.work),
        "sees voxels": voxels,
        "sees mm": mm,
        "weights": count_text(stage.parameters),
        "keeps": bytes_text(stage.saved_bytes, form=".3g"),
    }


def network_name(section: Section) -> str:
    """Return the name of a configuration's network."""
    for value in section.values:
        if value.name == "network":
            for part in value.parts:
                if part.name == "name":
                    return str(part.value)
    return "the network"


def drawings_of(explanation: Explanation) -> list[Drawing]:
    """Return what there is to draw: the network of each configuration."""
    drawings = []
    for section in explanation.sections:
        if section.configuration is not None:
            drawings.append(Drawing(section.title, section.anatomy, network_name(section)))
    return drawings


def explanation_html(explanation: Explanation) -> str:
    """Return everything as one HTML page with the pictures inside it."""
    sections = []
    for section in explanation.sections:
        rows = list(rows_of(section.values))
        sections.append((section, rows, reason_lines(section.reason), _picture(section)))
    choices = []
    for item in explanation.choices():
        if item.reason:
            choices.append((item, plain_text(item.reason.inputs.get("planned"))))
    return render_page(
        "plan.html",
        title=f"{explanation.name}: the plan explained",
        subtitle=f"Every value for {explanation.dataset}: what it is, the rule behind it, the figures that led to it, and what else could be.",
        sections=sections,
        choices=choices,
        tiles=_tiles(explanation),
        value_text=value_text,
    )


def _picture(section: Section) -> bytes | None:
    if section.configuration is None:
        return None
    return architecture_svg([Drawing("Network", section.anatomy, network_name(section))])


def _tiles(explanation: Explanation) -> list[tuple[str, str]]:
    """Return the figures that stand in large letters at the top."""
    values = {item.field: item.value for item, _ in explanation.leaves()}
    default = plain_text(values["default_configuration"])
    # By way of text, as a JSON value may be anything to the type checker; these are whole numbers.
    allowed, predicted = int(str(values["budget.vram_bytes"])), values["budget.predicted_bytes"]
    counted = "–" if predicted is None else bytes_text(int(str(predicted)), form=".3g")
    patch = plain_text(values.get(f"configurations.{default}.patch_size"))
    return [
        ("cases", plain_text(values["fingerprint.num_cases"])),
        (f"of {bytes_text(allowed, form='.3g')} predicted", counted),
        (f"patch of {default}", patch.strip("[]").replace(", ", " × ")),
        ("patches per step", plain_text(values.get(f"configurations.{default}.batch_size"))),
    ]
