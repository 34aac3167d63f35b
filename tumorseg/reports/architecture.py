"""The picture of a plan's networks: stages with shape, convolutions, receptive field and memory."""

import io
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from tumorseg.planning.reading.anatomy import Anatomy
from tumorseg.planning.reading.stages import Stage, Work
from tumorseg.reports.architecture_flows import (
    BOX_HEIGHT,
    BOX_WIDTH,
    LEFT,
    MIDDLE,
    RIGHT,
    ROW_IN,
    draw_flows,
    stage_key,
    times,
)
from tumorseg.reports.figures import PALETTE, png_bytes
from tumorseg.schema.quantities import bytes_text

INK, SOFT, PAPER = "#1c2128", "#5b6672", "#f2f6fa"
ATTENTION, ATTENTION_PAPER = "#a3407f", "#fbf1f7"
"""Colours of stages in which tokens pay attention to each other."""
WIDTH_IN, HEAD_IN = 10.5, 1.05
"""Size of the figure, and of a network's heading, in inches."""
MOST_LETTERS = 62
"""Of a line in a box, before its letters are smaller."""


class Drawing(NamedTuple):
    """One network and its words."""

    title: str
    anatomy: Anatomy | None
    """None where its stages are not known."""
    network: str
    """Its name."""


def architecture_svg(drawings: Sequence[Drawing]) -> bytes:
    """Draw networks one below the other as SVG; letters are paths, so that it looks the same everywhere."""
    buffer = io.BytesIO()
    # Names drawn from a fixed salt, and no date: the same networks give the same bytes.
    with rc_context({"svg.hashsalt": "tumorseg", "svg.fonttype": "path"}):
        canvas = FigureCanvasSVG(_figure(drawings))
        canvas.print_figure(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def architecture_png(drawings: Sequence[Drawing]) -> bytes:
    """Draw networks one below the other as PNG."""
    return png_bytes(_figure(drawings))


def count_text(count: int) -> str:
    """Return a number of weights or operations in few digits."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def unknown_text(network: str) -> str:
    """Return what stands in place of the picture of a network whose stages are not known."""
    return f"{network} has no stages that are known here, as of networks of other packages."


def anatomy_facts(anatomy: Anatomy) -> str:
    """Return a network's figures in one line."""
    facts = [
        f"{count_text(anatomy.parameters)} weights",
        f"a batch of {anatomy.batch_size} keeps {bytes_text(anatomy.saved_bytes, form='.3g')} of {anatomy.precision} activations",
    ]
    attending = sum(stage.has_attention for stage in anatomy.stages)
    if field := anatomy.encoder[-1].receptive_field:
        facts.append(f"the bottleneck sees {times(field.voxels)} voxels")
    elif attending:
        facts.append(f"tokens pay attention in {attending} of {len(anatomy.stages)} stages")
    return "; ".join(facts)


def work_text(work: Sequence[Work]) -> str:
    """Return what a stage does, in a few words."""
    return ", ".join(map(_one_work, work)) or "no convolution"


def _one_work(work: Work) -> str:
    plural = "" if work.count == 1 else "s"
    text = f"{work.count} {work.unit}{plural}"
    if work.num_tokens is not None:
        return f"{text} over {work.num_tokens} tokens"
    if not work.kernel_size:
        return text
    return f"{text} of {'up to ' if work.has_smaller else ''}{times(work.kernel_size)}"


def _figure(drawings: Sequence[Drawing]) -> Figure:
    heights = [_height_in(drawing) for drawing in drawings]
    total = sum(heights)
    figure = Figure(figsize=(WIDTH_IN, total), facecolor="white")
    bottom = 1.0
    for drawing, height in zip(drawings, heights, strict=True):
        bottom -= height / total
        # Rounded shares may add up to a little over 1.
        axes = figure.add_axes((0, max(bottom, 0), 1, height / total))
        # From 0 at the top downwards, one unit a level.
        axes.set(xlim=(0, 1), ylim=(-height / ROW_IN, 0))
        axes.axis("off")
        _draw(axes, drawing)
    return figure


def _height_in(drawing: Drawing) -> float:
    if drawing.anatomy is None:
        return HEAD_IN
    return HEAD_IN + len(drawing.anatomy.encoder) * ROW_IN


def _draw(axes: Axes, drawing: Drawing) -> None:
    axes.text(0.015, -0.3, drawing.title, fontsize=13, fontweight="bold", color=INK, va="center")
    anatomy = drawing.anatomy
    if anatomy is None:
        axes.text(0.015, -0.62, unknown_text(drawing.network), fontsize=9.5, color=SOFT, va="center")
        return
    parts = f" with {', '.join(anatomy.parts)}," if anatomy.parts else ""
    grid = f"{anatomy.network}{parts} on {times(anatomy.encoder[0].shape)} voxels ({times(anatomy.axes)}) of {times(anatomy.spacing_mm)} mm"
    for y, line in ((-0.54, grid), (-0.73, anatomy_facts(anatomy))):
        axes.text(0.015, y, line, fontsize=9, color=SOFT, va="center")
    num_levels = len(anatomy.encoder)
    for stage in anatomy.stages:
        _draw_stage(axes, stage, anatomy, _place(stage, num_levels))
    draw_flows(axes, anatomy, {stage_key(stage): _place(stage, num_levels) for stage in anatomy.stages})


def _place(stage: Stage, num_levels: int) -> tuple[float, float]:
    """Return the middle of a stage's box."""
    y = -HEAD_IN / ROW_IN - stage.level - 0.5
    if stage.level == num_levels - 1:
        return MIDDLE, y
    x = LEFT if stage.side == "encoder" else RIGHT
    return x, y


def _draw_stage(axes: Axes, stage: Stage, anatomy: Anatomy, place: tuple[float, float]) -> None:
    x, y = place[0] - BOX_WIDTH / 2, place[1] - BOX_HEIGHT / 2
    share = stage.saved_bytes / anatomy.saved_bytes
    color = PALETTE[0] if stage.side == "encoder" else PALETTE[2]
    paper = PAPER
    if stage.has_attention:
        color, paper = ATTENTION, ATTENTION_PAPER
    style = "round,pad=0,rounding_size=0.01"
    box = FancyBboxPatch((x, y), BOX_WIDTH, BOX_HEIGHT, boxstyle=style, facecolor=paper, edgecolor=color)
    axes.add_patch(box)
    bar = Rectangle((x, y), BOX_WIDTH * share, 0.07, facecolor=color)
    axes.add_patch(bar)
    bar.set_clip_path(box)  # or its lower corners would stand out of the rounded ones
    axes.text(x + 0.012, y + 0.71, _headline(stage), fontsize=9.5, fontweight="bold", color=INK, va="center")
    # What rounds to 0% takes memory all the same.
    percent = "< 1%" if share < 0.005 else f"{share:.0%}"
    memory = f"{bytes_text(stage.saved_bytes, form='.3g')}  {percent}"
    axes.text(x + BOX_WIDTH - 0.012, y + 0.71, memory, fontsize=9.5, color=color, ha="right", va="center")
    attention = [work for work in stage.work if work.num_tokens is not None]
    others = [work for work in stage.work if work.num_tokens is None]
    work = f"{work_text(others)}; {count_text(stage.parameters)} weights"
    size = 8.5 if len(work) <= MOST_LETTERS else 7.5
    axes.text(x + 0.012, y + 0.46, work, fontsize=size, color=SOFT, va="center")
    if stage.receptive_field is not None:
        seen = f"sees {times(stage.receptive_field.voxels)} voxels, {times(stage.receptive_field.mm)} mm"
        axes.text(x + 0.012, y + 0.23, seen, fontsize=8.5, color=SOFT, va="center")
    elif attention:
        axes.text(x + 0.012, y + 0.23, work_text(attention), fontsize=8.5, color=color, va="center")


def _headline(stage: Stage) -> str:
    what = "tokens" if stage.has_attention else "voxels"
    return f"{times(stage.shape)} {what}, {stage.features} features"
