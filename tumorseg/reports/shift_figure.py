"""The figure of what differs between datasets."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tumorseg.reports.figures import class_color, png_bytes
from tumorseg.schema.crossing import DatasetShift, Spread

_COLUMNS = 3
_WIDTH_IN = 10.5
_NAMES_IN = 1.6  # for the names of datasets, left of the panels
_GAP_IN = 0.3  # between panels side by side
_HEAD_IN = 0.62  # for the title and the axis of a panel
_ROW_IN = 0.26
_INK = "#30363d"
_MOST_LETTERS = 22
_LOG_RATIO = 50  # medians that are farther apart have a panel with a logarithmic axis


class _Panel(NamedTuple):
    """One measurement of every dataset that has it."""

    title: str
    unit: str
    spreads: Mapping[str, Spread]
    """By name of the dataset."""


def shift_png(shifts: Sequence[DatasetShift]) -> bytes:
    """Draw the distribution of each measurement over the cases of each dataset.

    A thin line spans percentiles 5 to 95, a thick one 25 to 75, and a dot marks the median.

    Args:
        shifts: of each dataset, in the order in which they are drawn, with one measurement at least.
    """
    panels = _panels(shifts)
    names = [shift.dataset for shift in shifts]
    num_rows = -(-len(panels) // _COLUMNS)
    panel_in = _ROW_IN * len(names)
    height = num_rows * (panel_in + _HEAD_IN)
    figure = Figure(figsize=(_WIDTH_IN, height), facecolor="white")
    width = (_WIDTH_IN - _NAMES_IN - _COLUMNS * _GAP_IN) / _COLUMNS
    # Placed by hand, which takes a tenth of the time of a layout that measures every text.
    spaces = {"wspace": _GAP_IN / width, "hspace": _HEAD_IN / panel_in}
    edges = {"left": _NAMES_IN / _WIDTH_IN, "right": 1 - _GAP_IN / _WIDTH_IN}
    edges |= {"top": 1 - _HEAD_IN / 2 / height, "bottom": _HEAD_IN / 2 / height}
    grid = figure.subplots(num_rows, _COLUMNS, squeeze=False, gridspec_kw=spaces | edges)
    for number, axes in enumerate(grid.flat):
        if number < len(panels):
            _draw(axes, panels[number], names)
            # Names stand once a row of panels; long ones are cut.
            shown = [name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…" for name in names]
            axes.set_yticklabels(shown if number % _COLUMNS == 0 else [])
        else:
            axes.set_axis_off()
    return png_bytes(figure)


def _panels(shifts: Sequence[DatasetShift]) -> list[_Panel]:
    found: dict[tuple[str, str], dict[str, Spread]] = {}
    for shift in shifts:
        for spread in shift.spreads:
            found.setdefault((spread.what, spread.of), {})[shift.dataset] = spread
    panels = []
    # Kinds of measurements stay together, though datasets call their channels and labels otherwise.
    kinds = list(dict.fromkeys(what for what, _ in found))
    for what, of in sorted(found, key=lambda key: kinds.index(key[0])):
        known = found[what, of]
        panels.append(_Panel(f"{what}: {of}", next(iter(known.values())).unit, known))
    return panels


def _draw(axes: Axes, panel: _Panel, names: Sequence[str]) -> None:
    for row, name in enumerate(names):
        if name not in panel.spreads:
            continue
        at = panel.spreads[name].quantiles
        color = class_color(row)
        axes.plot([at["5"], at["95"]], [row, row], color=color, linewidth=1.2)
        axes.plot([at["25"], at["75"]], [row, row], color=color, linewidth=4.5, solid_capstyle="butt")
        axes.plot(at["50"], row, marker="o", markersize=5, color="white", markeredgecolor=_INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    medians = [spread.quantiles["50"] for spread in panel.spreads.values()]
    lowest = min(spread.quantiles["5"] for spread in panel.spreads.values())
    if lowest > 0 and max(medians) > _LOG_RATIO * min(medians):
        axes.set_xscale("log")
    unit = f" ({panel.unit})" if panel.unit else ""
    axes.set_title(panel.title + unit, loc="left", fontsize=9, fontweight="bold", color=_INK)
    axes.grid(axis="x", color="#d8dee4", linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=_INK, length=0)
