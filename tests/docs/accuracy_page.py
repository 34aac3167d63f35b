"""Keeps the tables of docs/accuracy.md: `python -m tests.docs.accuracy_page` writes them; all else there is written by hand."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.training_study import DATASETS
from benchmarks.training_study_scores import CHANGES, MEAN
from tests.docs.places import filled

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "accuracy.md"
RESULTS = ROOT / "benchmarks" / "results"
WORDS = {
    "usual": "the preset: AdamW 2e-3, plateau, 16 features",
    "12_features": "12 features",
    "24_features": "24 features",
    "32_features": "32 features",
    "wide_below": "wider below full resolution",
    "fewer_convolutions": "fewer convolutions",
    "batch_of_one": "batches of one",
    "residual": "residual encoder",
    "lr_0.005": "learning rate 5e-3",
    "cosine": "cosine for plateau",
    "sgd_poly": "SGD 1e-2 with Nesterov .99, poly",
    "average": "moving average of the weights",
    "mirrored": "mirroring",
    "batch_dice": "Dice over the batch",
    "more_foreground": ".6 of patches on foreground",
    "one_output": "no deep supervision",
}
"""What an arm of the study changes."""


def tables() -> dict[str, str]:
    """Return the tables of the page by the name of their place."""
    return {"presets": "\n".join(_presets())}


def _presets() -> Iterator[str]:
    found = json.loads((RESULTS / "preset_study.json").read_text())["summary"]
    yield "| data | steps | changed | seeds | DSC | difference (95 %) |\n|---|--:|---|--:|--:|---|"
    for dataset in DATASETS:
        lengths = sorted(int(name.split(", ")[1].split()[0]) for name in found if name.startswith(f"{dataset}, "))
        for steps in lengths:
            by_arm = found[f"{dataset}, {steps} steps"]
            for arm in sorted(by_arm, key=list(CHANGES).index):
                row = (dataset, f"{steps:,}", WORDS[arm], by_arm[arm]["trainings"], f"{by_arm[arm]['dsc'][MEAN]:.4f}")
                yield f"| {' | '.join(map(str, row))} | {_difference(by_arm[arm])} |"


def _difference(figures: dict[str, Any]) -> str:
    one = figures.get("differences", {}).get(MEAN)
    if one is None:
        return ""
    interval = "" if one["ci95"] is None else " ({:+.4f} to {:+.4f})".format(*one["ci95"])
    return f"{one['difference']:+.4f}{interval}"


def page(text: str) -> str:
    """Return a page with the tables between its marks as they are now."""
    return filled(text, tables())


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
