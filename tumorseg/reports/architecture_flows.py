"""Arrows between the stages of a drawn network."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from matplotlib.axes import Axes

from tumorseg.planning.reading.anatomy import Anatomy
from tumorseg.planning.reading.stages import IMAGE, Flow, Stage

SOFT, LINE = "#5b6672", "#b6bfc9"
ROW_IN = 1.06
"""Height of a level, in inches."""
BOX_WIDTH, BOX_HEIGHT = 0.43, 0.86
"""Share of the figure's width and of a row that a stage takes."""
LEFT, MIDDLE, RIGHT = 0.225, 0.5, 0.775
"""Where the encoder, the bottleneck and the decoder stand."""
GAP = 1 - BOX_HEIGHT
ASIDE, FROM_IMAGE = 0.125, 0.165
"""How far the arrow against the usual direction, and that from the image, stand from the usual one."""

Places = Mapping[tuple[str, int], tuple[float, float]]
"""Middle of the box of each stage."""


class _Step(NamedTuple):
    """A way from one level to the next one."""

    finer: Stage
    coarser: Stage
    is_down: bool


def stage_key(stage: Stage) -> tuple[str, int]:
    """Return what tells a stage from the others."""
    return stage.side, stage.level


def times(numbers: Iterable[float | str]) -> str:
    """Return numbers per axis as `4 × 128 × 128`."""
    return " × ".join(f"{number:.4g}" if isinstance(number, float) else str(number) for number in numbers)


def draw_flows(axes: Axes, anatomy: Anatomy, places: Places) -> None:
    """Draw where the features of each stage go, and where the image goes besides full resolution.

    Args:
        axes: what to draw on, a unit a level.
        anatomy: the network.
        places: of its boxes.
    """
    for flow in anatomy.flows:
        target = anatomy.stages[flow.target]
        if flow.source == IMAGE:
            if target.level:
                _draw_from_image(axes, anatomy, target, places)
            continue
        source = anatomy.stages[flow.source]
        if source.level == target.level:
            _draw_skip(axes, source, places)
        elif abs(source.level - target.level) == 1 and _are_neighbours(source, target, anatomy):
            _draw_step(axes, flow, anatomy, places)
        else:
            _arrow(axes, places[stage_key(source)], places[stage_key(target)], is_behind=True)


def _are_neighbours(source: Stage, target: Stage, anatomy: Anatomy) -> bool:
    """Tell whether two stages of neighbouring levels lie one above the other; the bottleneck lies below both sides."""
    return source.side == target.side or max(source.level, target.level) == len(anatomy.encoder) - 1


def _draw_skip(axes: Axes, source: Stage, places: Places) -> None:
    inner, y = BOX_WIDTH / 2, places[stage_key(source)][1]
    _arrow(axes, (LEFT + inner, y), (RIGHT - inner, y))


def _draw_step(axes: Axes, flow: Flow, anatomy: Anatomy, places: Places) -> None:
    source, target = anatomy.stages[flow.source], anatomy.stages[flow.target]
    is_down = source.level < target.level
    finer, coarser = (source, target) if is_down else (target, source)
    x = _column(finer, coarser, anatomy)
    if is_down != (finer.side == "encoder"):
        x += ASIDE
    top = places[stage_key(finer)][1] - BOX_HEIGHT / 2
    ends = (top, top - GAP) if is_down else (top - GAP, top)
    _arrow(axes, (x, ends[0]), (x, ends[1]))
    mark = "÷" if is_down else "×"
    _label(axes, x, top - GAP / 2, f"{mark} {_ratio(finer.shape, coarser.shape)}")


def _draw_from_image(axes: Axes, anatomy: Anatomy, target: Stage, places: Places) -> None:
    x, y = places[stage_key(target)]
    # Beside the way down from the level above, if there is one.
    x -= FROM_IMAGE
    top = y + BOX_HEIGHT / 2
    _arrow(axes, (x, top + GAP), (x, top))
    _label(axes, x, top + GAP / 2, f"image ÷ {_ratio(anatomy.encoder[0].shape, target.shape)}")


def _column(finer: Stage, coarser: Stage, anatomy: Anatomy) -> float:
    # Encoder and decoder share the bottleneck's box, which lies under the inner ends of the two above it.
    if coarser.level == len(anatomy.encoder) - 1:
        return MIDDLE - 0.15 if finer.side == "encoder" else MIDDLE + 0.15
    return LEFT if finer.side == "encoder" else RIGHT


def _ratio(finer: tuple[int, ...], coarser: tuple[int, ...]) -> str:
    return times(round(edge / less) for edge, less in zip(finer, coarser, strict=True))


def _label(axes: Axes, x: float, y: float, text: str) -> None:
    axes.text(x + 0.008, y, text, fontsize=7, color=SOFT, va="center")


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], *, is_behind: bool = False) -> None:
    style = {"arrowstyle": "-|>", "color": LINE, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=style, zorder=0 if is_behind else 2)
