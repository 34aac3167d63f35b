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

_INK = "#30363d"
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


def progress_png(log: Sequence[LogEntry]) -> bytes:
    """Draw loss, DSC per label and learning rate over the epochs of a training.

    Args:
        log: entries of log.jsonl in order: `epoch`, `train_loss`, `validation_loss` and `dsc` (null or null inside where
            unknown), `lr`.
    """
    figure = Figure(figsize=(8, 8.4), layout="constrained", facecolor="white")
    losses, dsc, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.4))
    epochs = [entry["epoch"] for entry in log]
    _draw_losses(losses, epochs, log)
    _draw_dsc(dsc, epochs, log)
    _draw_curve(rate, epochs, numbers(log, "lr"), color=_INK)
    rate.set_ylim(bottom=0)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    rate.set_xlabel("epoch")
    rate.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes, title in ((losses, "loss"), (dsc, "DSC on validation patches"), (rate, "learning rate")):
        _dress(axes, title)
    return png_bytes(figure)


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
            _draw_curve(axes, epochs, values, color=class_color(index), label=name)
    for axes, title in zip(panels, ("loss by component", "weight", "loss times weight"), strict=True):
        _dress(axes, title)
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return png_bytes(figure)


def numbers(log: Sequence[LogEntry], field: str, key: str | None = None) -> FloatArray:
    """Return one field of every entry, or one key inside it, as (epochs,) float64; NaN where there is none."""
    values = [entry.get(field) for entry in log]
    if key is not None:
        values = [(value or {}).get(key) for value in values]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _draw_losses(axes: Axes, epochs: Sequence[int], log: Sequence[LogEntry]) -> None:
    _draw_curve(axes, epochs, numbers(log, "train_loss"), color=class_color(0), label="training")
    _draw_curve(axes, epochs, numbers(log, "validation_loss"), color=class_color(4), label="validation")
    if not log:
        axes.text(0.5, 0.5, "no epoch is finished yet", ha="center", va="center", transform=axes.transAxes)


def _draw_dsc(axes: Axes, epochs: Sequence[int], log: Sequence[LogEntry]) -> None:
    # In the order in which they first appear, so that a label keeps its colour as epochs are added.
    scores = (entry.get("dsc") or {} for entry in log)
    labels = list(dict.fromkeys(chain.from_iterable(scores)))
    curves = [numbers(log, "dsc", label) for label in labels]
    for index, (label, curve) in enumerate(zip(labels, curves, strict=True)):
        _draw_curve(axes, epochs, curve, color=class_color(index), label=label)
    if len(labels) > 1:
        _draw_curve(axes, epochs, _mean_of_known(curves), color=_INK, label="mean")
    axes.set_ylim(0, 1)


def _mean_of_known(curves: Sequence[FloatArray]) -> FloatArray:
    """Average over curves, epoch by epoch, where at least one is known."""
    known = np.isfinite(curves)
    # Where nothing is known, `np.nanmean` would warn; here the NaN simply stays.
    mean: FloatArray = np.full(known.shape[1], np.nan)
    np.divide(np.nansum(curves, axis=0), known.sum(axis=0), out=mean, where=known.any(axis=0))
    return mean


def _draw_curve(axes: Axes, epochs: Sequence[int], values: FloatArray, *, color: str, label: str = "") -> None:
    if np.isfinite(values).any():
        # A curve of one epoch has no line to be seen by; of many, the markers would hide it.
        marker = "o" if len(epochs) <= 30 else ""
        axes.plot(epochs, values, color=color, label=label, linewidth=1.6, marker=marker, markersize=3.5)


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=_INK)
    axes.grid(color="#d8dee4", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=_INK)
    handles, labels = axes.get_legend_handles_labels()
    if 0 < len(labels) <= _MOST_LEGEND_ENTRIES:
        axes.legend(handles, labels, fontsize=9, frameon=False, ncols=min(len(labels), 4))
