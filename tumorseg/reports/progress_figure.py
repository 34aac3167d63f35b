"""The learning curve of a training: loss, DSC by class, learning rate and where the time goes, with what befell it."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tumorseg.reports.figures import INK, LogEntry, class_color, draw_curve, dress, numbers, png_bytes
from tumorseg.schema.quantities import bytes_text, duration_text
from tumorseg.types import FloatArray

MOST_CURVES = 8
"""Of more labels or regions, the mean and the worst have a colour and a name, the others are drawn in grey."""
NUM_WORST = 3
SMOOTHED_FROM = 60
"""Epochs from which on a curve is drawn faintly, and a running mean on it."""
WINDOW_SHARE = 0.05
"""Of the epochs, in a running mean."""
NUM_RECENT = 5
"""Epochs that tell how long the next ones take."""
GREY = "#b1bac4"
RESTARTED = "restarted"
"""Kind of the event after which the log begins again, with another seed."""
COLORS = {"ends_early": "#009E73", "extended": "#009E73", "divided": "#E69F00"}
"""Of events; those that are not among them are failures."""
FAILURE = "#D55E00"
TIMES = (("step", "steps"), ("waiting", "waiting"), ("validation", "held-out batches"))
"""Where the time of an epoch goes: key in the log, and words."""

Event = Mapping[str, Any]
"""What befell a training, as a line of events.jsonl holds it."""


class _Curves(NamedTuple):
    """DSC by label or region, in the order in which they first appear, so that one keeps its colour as epochs are added."""

    names: list[str]
    values: FloatArray
    """(names, epochs); NaN where there was nothing to score."""


def progress_png(log: Sequence[LogEntry], *, events: Sequence[Event] = (), num_epochs: int | None = None) -> bytes:
    """Return the picture of `progress_figure` as PNG; the same log gives the same bytes."""
    return png_bytes(progress_figure(log, events=events, num_epochs=num_epochs))


def progress_figure(log: Sequence[LogEntry], *, events: Sequence[Event] = (), num_epochs: int | None = None) -> Figure:
    """Draw how a training goes.

    Args:
        log: entries of log.jsonl in order: `epoch`, `iteration`, `train_loss`, `validation_loss` and `dsc` (null or null inside where
            unknown), `lr`, `seconds`, `data_wait_fraction`, `memory_bytes`; optional `num_skipped` and `seconds_by_part`.
        events: entries of events.jsonl: `kind`, `iteration`.
        num_epochs: planned; without it nothing is said of the time left.
    """
    figure = Figure(figsize=(9, 10), layout="constrained", facecolor="white")
    restarts = [number for number, event in enumerate(events) if event["kind"] == RESTARTED]
    # What befell the first try is not on the axis of the second.
    events = events[restarts[-1] + 1 :] if restarts else events
    title = headline(log, num_epochs)
    figure.suptitle(f"second try   {title}" if restarts else title, x=0.01, ha="left", fontsize=11, color=INK)
    losses, dsc, rate, time = figure.subplots(4, 1, sharex=True, height_ratios=(3, 3, 1.2, 1.2))
    # As the lines of `train` count: an epoch's values belong to its end.
    epochs = [entry["epoch"] + 1 for entry in log]
    _draw_losses(losses, epochs, log)
    _draw_dsc(dsc, epochs, _curves_of(log))
    draw_curve(rate, epochs, numbers(log, "lr"), color=INK)
    # A share of room above, so that a constant rate does not lie on the frame.
    rate.set_ylim(0, 1.15 * max((entry["lr"] for entry in log), default=1.0) or 1.0)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    _draw_time(time, epochs, log)
    _draw_events((losses, dsc, rate, time), log, events)
    time.set_xlabel("epoch")
    time.set_xlim(0, max([*epochs, 1]) + 0.5)
    time.xaxis.set_major_locator(MaxNLocator(integer=True))
    titles = ("loss", "DSC on held-out patches, now (best)", "learning rate", "seconds an epoch")
    for axes, title in zip((losses, dsc, rate, time), titles, strict=True):
        dress(axes, title)
    return figure


def headline(log: Sequence[LogEntry], num_epochs: int | None = None) -> str:
    """Return where a training stands, in a line: epoch, time left, waiting, steps that were not taken, memory."""
    if not log:
        return "no epoch is finished yet"
    last = log[-1]
    done = last["epoch"] + 1
    parts = [f"epoch {done}" if num_epochs is None else f"epoch {done} of {num_epochs}"]
    if num_epochs is not None and num_epochs > done:
        recent = statistics.median(entry["seconds"] for entry in log[-NUM_RECENT:])
        parts.append(f"{duration_text(recent * (num_epochs - done))} left")
    seconds = sum(entry["seconds"] for entry in log)
    waited = sum(entry["data_wait_fraction"] * entry["seconds"] for entry in log)
    parts.append(f"waiting {100 * waited / seconds:.1f} %" if seconds else "")
    skipped = sum(entry.get("num_skipped") or 0 for entry in log)
    parts.append(f"{skipped} steps skipped" if skipped else "")
    parts.append(bytes_text(max(entry["memory_bytes"] for entry in log)))
    return "   ".join(filter(None, parts))


def _draw_losses(axes: Axes, epochs: Sequence[int], log: Sequence[LogEntry]) -> None:
    for name, label, color in (("train_loss", "training", 0), ("validation_loss", "held-out patches", 4)):
        _draw_smoothed(axes, epochs, numbers(log, name), color=class_color(color), label=label)
    if not log:
        axes.text(0.5, 0.5, "no epoch is finished yet", ha="center", va="center", transform=axes.transAxes)


def _curves_of(log: Sequence[LogEntry]) -> _Curves:
    names = list(dict.fromkeys(chain.from_iterable(entry.get("dsc") or {} for entry in log)))
    values = [numbers(log, "dsc", name) for name in names]
    scored = [(name, value) for name, value in zip(names, values, strict=True) if np.isfinite(value).any()]
    return _Curves(
        [name for name, _ in scored], np.array([value for _, value in scored]).reshape(len(scored), len(log))
    )


def _draw_dsc(axes: Axes, epochs: Sequence[int], curves: _Curves) -> None:
    axes.set_ylim(0, 1)
    if not curves.names:
        axes.text(0.5, 0.5, "nothing was scored", ha="center", va="center", transform=axes.transAxes, color=GREY)
        return
    named = _named(curves)
    for index, name in enumerate(curves.names):
        if name not in named:
            axes.plot(epochs, curves.values[index], color=GREY, linewidth=0.6, alpha=0.6)
    for color, name in enumerate(named):
        values = curves.values[curves.names.index(name)]
        _draw_smoothed(axes, epochs, values, color=class_color(color), label=_with_scores(name, values))
    if len(curves.names) > 1:
        mean = _mean_of_known(curves.values)
        _draw_smoothed(axes, epochs, mean, color=INK, label=_with_scores("mean", mean))


def _named(curves: _Curves) -> list[str]:
    """Return the curves that have a colour and a name: all, or of many those that are worst at last."""
    if len(curves.names) <= MOST_CURVES:
        return curves.names
    latest = [_latest(values) for values in curves.values]
    return [curves.names[index] for index in np.argsort(latest, kind="stable")[:NUM_WORST]]


def _with_scores(name: str, values: FloatArray) -> str:
    """Return a name with the latest value that is known, and the best."""
    return f"{name} {_latest(values):.2f} ({np.nanmax(values):.2f})"


def _latest(values: FloatArray) -> float:
    return float(values[np.isfinite(values)][-1])


def _mean_of_known(curves: FloatArray) -> FloatArray:
    """Average over curves, epoch by epoch, where at least one is known."""
    known = np.isfinite(curves)
    # Where nothing is known, `np.nanmean` would warn; here the NaN simply stays.
    mean: FloatArray = np.full(known.shape[1], np.nan)
    np.divide(np.nansum(curves, axis=0), known.sum(axis=0), out=mean, where=known.any(axis=0))
    return mean


def _draw_smoothed(axes: Axes, epochs: Sequence[int], values: FloatArray, *, color: str, label: str) -> None:
    """Draw a curve; one of many epochs faintly, with a running mean that shows where it goes."""
    if len(epochs) < SMOOTHED_FROM or not np.isfinite(values).any():
        draw_curve(axes, epochs, values, color=color, label=label)
        return
    axes.plot(epochs, values, color=color, linewidth=0.8, alpha=0.3)
    draw_curve(axes, epochs, _running_mean(values), color=color, label=label)


def _running_mean(values: FloatArray) -> FloatArray:
    """Return the mean of each value and those shortly before it, as far as they are known."""
    width = max(round(WINDOW_SHARE * len(values)), 2)
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    number = counts[ends] - counts[starts]
    mean: FloatArray = np.full(len(values), np.nan)
    np.divide(sums[ends] - sums[starts], number, out=mean, where=number > 0)
    return mean


def _draw_time(axes: Axes, epochs: Sequence[int], log: Sequence[LogEntry]) -> None:
    """Draw where the time of each epoch went, as far as it was logged."""
    parts = [numbers(log, "seconds_by_part", key) for key, _ in TIMES]
    if len(log) < 2 or not np.isfinite(parts).all():
        draw_curve(axes, epochs, numbers(log, "seconds"), color=INK)
    else:
        colors = (class_color(0), FAILURE, class_color(2))
        axes.stackplot(epochs, *parts, labels=[words for _, words in TIMES], colors=colors, alpha=0.6, linewidth=0)
    axes.set_ylim(bottom=0)


def _draw_events(panels: Sequence[Axes], log: Sequence[LogEntry], events: Sequence[Event]) -> None:
    """Mark what befell the training: skipped steps by ticks at the bottom of the loss, all else by lines through every panel."""
    if not log or not events:
        return
    length = log[-1]["iteration"] / (log[-1]["epoch"] + 1)
    skipped = [event["iteration"] / length for event in events if event["kind"] == "skipped"]
    if skipped:
        bottom = panels[0].get_xaxis_transform()
        panels[0].plot(skipped, [0.02] * len(skipped), "|", color=FAILURE, transform=bottom, label="step skipped")
    others = [event for event in events if event["kind"] != "skipped"]
    told: set[str] = set()
    for event in others:
        kind = str(event["kind"])
        for axes in panels:
            # Each kind once in the legend, which is that of the first panel.
            label = kind.replace("_", " ") if axes is panels[0] and kind not in told else ""
            color = COLORS.get(kind, FAILURE)
            axes.axvline(event["iteration"] / length, color=color, linewidth=1, linestyle="--", label=label)
        told.add(kind)
