"""Figures as PNG bytes. No pyplot: its state is global, slow to import and not safe in threads."""

import io
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tumorseg.types import FloatArray

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#8C6BB1")
"""Okabe and Ito's colours, which most colour-blind people can tell apart."""

INK = "#30363d"
"""Colour of text, and of what is no class."""
_DPI = 110
_MOST_LEGEND_ENTRIES = 12  # of more, the legend would cover the curves

LogEntry = Mapping[str, Any]
"""One epoch as a line of log.jsonl holds it."""


def class_color(index: int) -> str:
    """Return the colour of the class or curve with this number, from 0."""
    return PALETTE[index % len(PALETTE)]


def png_bytes(figure: Figure) -> bytes:
    """Return a figure as PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    # Without the entry that names matplotlib's version.
    FigureCanvasAgg(figure).print_figure(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def losses_png(log: Sequence[LogEntry]) -> bytes:
    """Draw what a training's loss is made of, over its epochs: components, their weights, and the one times the other.

    Args:
        log: entries of log.jsonl in order: `epoch`, `train_losses` and `loss_weights` by component.
    """
    figure = Figure(figsize=(8, 8.4), layout="constrained", facecolor="white")
    panels = figure.subplots(3, 1, sharex=True)
    epochs = [entry["epoch"] for entry in log]
    names = list(dict.fromkeys(chain.from_iterable(entry.get("train_losses") or {} for entry in log)))
    for index, name in enumerate(names):
        losses, weights = numbers(log, "train_losses", name), numbers(log, "loss_weights", name)
        for axes, values in zip(panels, (losses, weights, losses * weights), strict=True):
            draw_curve(axes, epochs, values, color=class_color(index), label=name)
    for axes, title in zip(panels, ("loss by component", "weight", "loss times weight"), strict=True):
        dress(axes, title)
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return png_bytes(figure)


def numbers(log: Sequence[LogEntry], field: str, key: str | None = None) -> FloatArray:
    """Return one field of every entry, or one key inside it, as (epochs,) float64; NaN where there is none."""
    values = [entry.get(field) for entry in log]
    if key is not None:
        values = [(value or {}).get(key) for value in values]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def draw_curve(axes: Axes, epochs: Sequence[int], values: FloatArray, *, color: str, label: str = "") -> None:
    """Draw a value over the epochs, (epochs,), with gaps where it is NaN; nothing where it is NaN throughout."""
    if np.isfinite(values).any():
        # A curve of one epoch has no line to be seen by; of many, the markers would hide it.
        marker = "o" if len(epochs) <= 30 else ""
        axes.plot(epochs, values, color=color, label=label, linewidth=1.6, marker=marker, markersize=3.5)


def dress(axes: Axes, title: str) -> None:
    """Give a panel its title, grid and legend."""
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.grid(color="#d8dee4", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=INK)
    handles, labels = axes.get_legend_handles_labels()
    if 0 < len(labels) <= _MOST_LEGEND_ENTRIES:
        axes.legend(handles, labels, fontsize=9, frameon=False, ncols=min(len(labels), 4))
