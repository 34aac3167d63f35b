"""Keeps the tables of docs/augmentation.md: `python -m tests.docs.augmentation_page` writes them; all else there is written by hand."""

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.docs.places import filled
from tumorseg.augmentation.presets import AUGMENTATION_PRESETS
from tumorseg.reports.augmentation_words import settings_text
from tumorseg.schema.augmentation import KnownTransform
from tumorseg.schema.extensions import records_of

PAGE = Path(__file__).parents[2] / "docs" / "augmentation.md"
REQUIRED = {"rotation_deg": (30.0, 30.0, 30.0), "axes": (0, 1, 2), "labels": (2,)}
"""Values of the fields that have no default, of a cube."""
FAMILIES = {
    "spatial": ("spatial",),
    "intensity": ("intensity", "resolution"),
    "mr": ("mr",),
    "ct": ("ct",),
    "histograms": ("histograms",),
    "acquisition": ("acquisition",),
    "cascade": ("cascade",),
}
"""Each table, and the modules of `schema/transforms/` whose records are in it."""


def tables() -> dict[str, str]:
    """Return the tables of the page by the name of their place."""
    found = {family: "\n".join(_transforms(modules)) for family, modules in FAMILIES.items()}
    return found | {"presets": "\n".join(_presets())}


def _presets() -> Iterator[str]:
    yield "| preset | holds | when | source |\n|---|---|---|---|"
    for preset in AUGMENTATION_PRESETS.values():
        yield f"| `{preset.name}` | {preset.holds} | {preset.when} | {preset.source} |"


def _transforms(modules: Sequence[str]) -> Iterator[str]:
    yield "| name | does | fields and their defaults |\n|---|---|---|"
    for name, record in records_of(KnownTransform).items():
        if record.__module__.rsplit(".", 1)[-1] in modules:
            needed = {field: REQUIRED[field] for field, info in record.model_fields.items() if info.is_required()}
            does = (inspect.getdoc(record) or "").split("\n\n", 1)[0]
            yield f"| `{name}` | {' '.join(does.split())} | {settings_text(record(**needed), ())} |"


def page(text: str) -> str:
    """Return a page with the tables between its marks as they are now."""
    return filled(text, tables())


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
