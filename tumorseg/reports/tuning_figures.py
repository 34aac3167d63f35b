"""Pictures of a study, each readable without any script."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tumorseg.reports.figures import class_color, png_bytes
from tumorseg.reports.tuning_value import Axis, axes_of, number_on
from tumorseg.reports.tuning_words import best_so_far, finished_trials, objective_title, ordered_fields, short_field
from tumorseg.schema.tuning import MAXIMISED, Objective, Trial, TuningResult
from tumorseg.types import FloatArray

WIDTH_IN = 10.5
MOST_BARS = 15
"""Fields whose share in the spread is drawn."""
MAP = "viridis"
"""Of the first objective: bright is better."""
ABSENT = -0.12
"""Place below an axis of a field that did not count in a trial."""
_INK, _SOFT, _GRID = "#30363d", "#8b949e", "#d8dee4"
_PRUNED = "#a8b1bb"
_ROW_IN = 0.3
_NAMES_IN = 2.3
_LETTERS, _LINES = 30, 2
"""Of a name, in which it fits beside a plot."""
WIDEST = 30
"""A bar is no wider than one of so many would be without gaps."""


def history_png(result: TuningResult) -> bytes:
    """Draw the first objective of each trial at the last rung that it reached, and the best so far of finished ones."""
    figure, axes = _figure(3.4)
    for state, color, marker in (("pruned", _PRUNED, "x"), ("finished", class_color(0), "o")):
        own = [trial for trial in result.trials if trial.state == state and trial.scores]
        if own:
            numbers = [trial.number for trial in own]
            values = [trial.scores[-1].values[0] for trial in own]
            axes.scatter(numbers, values, s=26, color=color, marker=marker, label=state, zorder=3)
    if best := best_so_far(result):
        last = max(trial.number for trial in result.trials)
        numbers = [*(number for number, _ in best), last]
        values = [*(value for _, value in best), best[-1][1]]
        axes.step(numbers, values, where="post", color=class_color(1), linewidth=1.8, label="best so far")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _dress(axes, "Trial", objective_title(result.study.objectives[0]))
    return png_bytes(figure)


def importances_png(result: TuningResult) -> bytes:
    """Draw what share of the spread of the first objective each field accounts for, the largest on top."""
    fields = [field for field in ordered_fields(result, MOST_BARS) if field in result.importances]
    figure, axes = _figure(0.8 + _ROW_IN * len(fields), left_in=_NAMES_IN)
    shares = [100 * result.importances[field] for field in fields]
    axes.barh(range(len(fields)), shares, color=class_color(0), height=0.62)
    axes.set_yticks(range(len(fields)), [short_field(field) for field in fields])
    axes.invert_yaxis()
    for row, share in enumerate(shares):
        axes.text(share, row, f" {share:.0f} %", va="center", fontsize=9, color=_INK)
    axes.set_xlim(0, 1.12 * max(shares))
    _dress(axes, "Share of the spread (%)", "")
    axes.grid(visible=False, axis="y")
    return png_bytes(figure)


def parallel_png(result: TuningResult) -> bytes:
    """Draw the values of each finished trial as a line across the axes of the fields that matter most, coloured by the first objective.

    A line below an axis means that the field did not count in the trial.
    """
    columns = axes_of(result)
    trials = finished_trials(result)
    figure, axes = _figure(4.8, left_in=0.9, bottom_in=1.15)
    shade = _shade([trial.scores[-1].values[0] for trial in trials], result)
    # The best is drawn last, on top.
    for number in np.argsort(shade):
        places = [_place(axis, trials[number]) for axis in columns]
        axes.plot(range(len(columns)), places, color=_color(shade[number]), linewidth=1.4, alpha=0.85)
    for number, axis in enumerate(columns):
        _draw_axis(axes, number, axis)
    axes.set_xlim(-0.3, len(columns) - 0.4)
    axes.set_ylim(ABSENT - 0.05, 1.06)
    titles = [f"{axis.title}\n(log)" if axis.is_log else axis.title for axis in columns]
    axes.set_xticks(range(len(columns)), titles, rotation=25, ha="right", fontsize=8)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return png_bytes(figure)


def pareto_png(result: TuningResult) -> bytes:
    """Draw finished trials by every two objectives, those of the Pareto front marked."""
    names = result.study.objectives
    pairs = [(first, second) for first in range(len(names)) for second in range(first + 1, len(names))]
    figure = Figure(figsize=(WIDTH_IN, 3.8), facecolor="white")
    edges = {"left": 0.075, "right": 0.985, "bottom": 0.15, "top": 0.96, "wspace": 0.32}
    panels = figure.subplots(1, len(pairs), squeeze=False, gridspec_kw=edges)[0]
    trials = finished_trials(result)
    for axes, (first, second) in zip(panels, pairs, strict=True):
        for is_front, color, label in ((False, _PRUNED, "others"), (True, class_color(1), "Pareto front")):
            own = [trial.scores[-1].values for trial in trials if (trial.number in result.pareto) == is_front]
            points = np.reshape(own, (-1, len(names)))
            axes.scatter(points[:, first], points[:, second], s=30, color=color, label=label, zorder=2 + is_front)
        _dress(axes, _arrowed(names[first]), _arrowed(names[second]))
    return png_bytes(figure)


def gains_png(result: TuningResult) -> bytes:
    """Draw the gain of each candidate over the plan as it was with its 95 % interval; above 0 is a gain."""
    titles = {judged.number: judged.title for judged in result.judged}
    verdicts = result.verdicts
    figure, axes = _figure(0.9 + 0.42 * len(verdicts), left_in=_NAMES_IN)
    for row, verdict in enumerate(verdicts):
        color = class_color(2) if verdict.is_gain else _SOFT
        if verdict.ci95 is not None:
            axes.plot(verdict.ci95, [row, row], color=color, linewidth=2.4, solid_capstyle="butt")
        axes.plot(verdict.gain, row, marker="o", markersize=7, color=color)
    axes.axvline(0, color=_INK, linewidth=1.2)
    axes.set_yticks(range(len(verdicts)), [_in_two_lines(titles[verdict.number]) for verdict in verdicts])
    axes.set_ylim(len(verdicts) - 0.5, -0.5)
    _dress(axes, f"Gain, {objective_title(result.study.objectives[0])}; right of 0 the candidate is better", "")
    axes.grid(visible=False, axis="y")
    return png_bytes(figure)


def differences_png(differences: Mapping[str, float], title: str) -> bytes:
    """Draw the gain of a candidate case by case, from the largest loss to the largest win.

    Args:
        differences: case_id to gain; positive is better.
        title: of the vertical axis.
    """
    figure, axes = _figure(2.6)
    values = sorted(differences.values())
    colors = [class_color(2) if value > 0 else class_color(4) for value in values]
    axes.bar(range(1, len(values) + 1), values, color=colors, width=min(0.8, len(values) / WIDEST))
    # Given, as a plot of one bar would end where the bar does.
    axes.set_xlim(0.4, len(values) + 0.6)
    axes.axhline(0, color=_INK, linewidth=1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _dress(axes, "Cases, sorted", title)
    axes.grid(visible=False, axis="x")
    return png_bytes(figure)


def _in_two_lines(title: str) -> str:
    return textwrap.fill(title, _LETTERS, max_lines=_LINES, placeholder=" …")


def _figure(height_in: float, *, left_in: float = 0.8, bottom_in: float = 0.55) -> tuple[Figure, Axes]:
    """Return a figure with one plot, placed by hand: a layout that measures every text takes twice as long."""
    figure = Figure(figsize=(WIDTH_IN, height_in), facecolor="white")
    edges = {"left": left_in / WIDTH_IN, "right": 1 - 0.2 / WIDTH_IN}
    edges |= {"bottom": bottom_in / height_in, "top": 1 - 0.12 / height_in}
    return figure, figure.subplots(gridspec_kw=edges)


def _shade(values: Sequence[float], result: TuningResult) -> FloatArray:
    """Return how good values are among each other, 0 to 1; by rank, so that one poor trial does not make all others alike."""
    sign = 1.0 if result.study.objectives[0] in MAXIMISED else -1.0
    ranks = np.argsort(np.argsort(sign * np.asarray(values, dtype=np.float64)))
    shade: FloatArray = ranks / max(len(values) - 1, 1)
    return shade


def _color(shade: float) -> tuple[float, float, float, float]:
    # The brightest end is hard to see on white.
    red, green, blue, alpha = colormaps[MAP](Normalize(0, 1.08)(shade))
    return red, green, blue, alpha


def _place(axis: Axis, trial: Trial) -> float:
    value = number_on(axis, trial.values)
    return ABSENT if value is None else axis.share(value)


def _draw_axis(axes: Axes, number: int, axis: Axis) -> None:
    axes.plot([number, number], [0, 1], color=_INK, linewidth=1)
    ends = axis.options or (f"{axis.low:.3g}", f"{axis.high:.3g}")
    for row, text in enumerate(ends):
        place = row / (len(ends) - 1)
        label = text if len(text) <= 12 else f"{text[:11]}…"
        axes.text(number + 0.04, place, label, fontsize=7, color=_INK, va="center", zorder=5)


def _arrowed(name: Objective) -> str:
    """Return the title of an objective with what is better."""
    return f"{objective_title(name)}, {'more' if name in MAXIMISED else 'less'} is better"


def _dress(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(across, fontsize=9, color=_INK)
    axes.set_ylabel(up, fontsize=9, color=_INK)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=_INK)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(fontsize=9, frameon=False)
