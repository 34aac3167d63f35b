"""The picture of a plan's networks: stages with shape, convolutions, receptive field and memory."""

import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from tumorseg.planning.reading.anatomy import Anatomy, Stage
from tumorseg.reports.figures import PALETTE, png_bytes
from tumorseg.schema.quantities import bytes_text

INK, SOFT, LINE, PAPER = "#1c2128", "#5b6672", "#b6bfc9", "#f2f6fa"
WIDTH_IN, ROW_IN, HEAD_IN = 10.5, 1.06, 1.05
"""Size of the figure, of a level and of a network's heading, in inches."""
BOX_WIDTH, BOX_HEIGHT = 0.43, 0.86
"""Share of the figure's width and of a row that a stage takes."""
LEFT, MIDDLE, RIGHT = 0.225, 0.5, 0.775
"""Where the encoder, the bottleneck and the decoder stand."""


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


def times(numbers: Iterable[float | str]) -> str:
    """Return numbers per axis as `4 × 128 × 128`."""
    return " × ".join(f"{number:.4g}" if isinstance(number, float) else str(number) for number in numbers)


def count_text(count: int) -> str:
    """Return a number of weights in few digits."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def unknown_text(network: str) -> str:
    """Return what stands in place of the picture of a network whose stages are not known."""
    return f"{network} has no stages that are known here, as of networks of other packages."


def anatomy_facts(anatomy: Anatomy) -> str:
    """Return a network's figures in one line."""
    bottleneck = anatomy.encoder[-1].receptive_field
    seen = times(bottleneck.voxels) if bottleneck else "?"
    return (
        f"{count_text(anatomy.parameters)} weights; a batch of {anatomy.batch_size} keeps {bytes_text(anatomy.saved_bytes, form='.3g')} "
        f"of {anatomy.precision} activations; the bottleneck sees {seen} voxels"
    )


def convolutions_text(stage: Stage) -> str:
    """Return what a stage does, in a few words."""
    stem = "a convolution and " if stage.has_stem else ""
    plural = "" if stage.units == 1 else "s"
    return f"{stem}{stage.units} {stage.unit}{plural} of {times(stage.kernel_size)}"


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
    grid = f"{anatomy.network} on {times(anatomy.encoder[0].shape)} voxels ({times(anatomy.axes)}) of {times(anatomy.spacing_mm)} mm"
    for y, line in ((-0.54, grid), (-0.73, anatomy_facts(anatomy))):
        axes.text(0.015, y, line, fontsize=9, color=SOFT, va="center")
    num_levels = len(anatomy.encoder)
    for stage in anatomy.stages:
        _draw_stage(axes, stage, anatomy, _place(stage, num_levels))
    # Below the bottleneck there is no further level to lead to.
    for level in range(num_levels - 1):
        _draw_arrows(axes, level, anatomy)


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
    box = FancyBboxPatch(
        (x, y), BOX_WIDTH, BOX_HEIGHT, boxstyle="round,pad=0,rounding_size=0.01", facecolor=PAPER, edgecolor=color
    )
    axes.add_patch(box)
    bar = Rectangle((x, y), BOX_WIDTH * share, 0.07, facecolor=color)
    axes.add_patch(bar)
    bar.set_clip_path(box)  # or its lower corners would stand out of the rounded ones
    axes.text(x + 0.012, y + 0.71, _headline(stage), fontsize=9.5, fontweight="bold", color=INK, va="center")
    # What rounds to 0% takes memory all the same.
    percent = "< 1%" if share < 0.005 else f"{share:.0%}"
    memory = f"{bytes_text(stage.saved_bytes, form='.3g')}  {percent}"
    axes.text(x + BOX_WIDTH - 0.012, y + 0.71, memory, fontsize=9.5, color=color, ha="right", va="center")
    work = f"{convolutions_text(stage)}; {count_text(stage.parameters)} weights"
    axes.text(x + 0.012, y + 0.46, work, fontsize=8.5, color=SOFT, va="center")
    if stage.receptive_field is not None:
        seen = f"sees {times(stage.receptive_field.voxels)} voxels, {times(stage.receptive_field.mm)} mm"
        axes.text(x + 0.012, y + 0.23, seen, fontsize=8.5, color=SOFT, va="center")


def _headline(stage: Stage) -> str:
    return f"{times(stage.shape)} voxels, {stage.features} features"


def _draw_arrows(axes: Axes, level: int, anatomy: Anatomy) -> None:
    """Draw the skip connection of a level, the way down from it and the way up to it."""
    gap = 1 - BOX_HEIGHT
    top = -HEAD_IN / ROW_IN - level - 0.5
    below = -HEAD_IN / ROW_IN - level - 1 + gap / 2
    strides = times(anatomy.encoder[level + 1].stride)
    style = {"arrowstyle": "-|>", "color": LINE, "shrinkA": 0, "shrinkB": 0}
    inner = BOX_WIDTH / 2
    axes.annotate("", (RIGHT - inner, top), (LEFT + inner, top), arrowprops=style)
    # Encoder and decoder share the bottleneck's box, which lies under the inner ends of the two above it.
    to_bottleneck = level == len(anatomy.encoder) - 2
    down, up = (MIDDLE - 0.15, MIDDLE + 0.15) if to_bottleneck else (LEFT, RIGHT)
    axes.annotate("", (down, below - gap), (down, below), arrowprops=style)
    axes.annotate("", (up, below), (up, below - gap), arrowprops=style)
    middle = below - gap / 2
    axes.text(down + 0.008, middle, f"÷ {strides}", fontsize=7, color=SOFT, va="center")
    axes.text(up + 0.008, middle, f"× {strides}", fontsize=7, color=SOFT, va="center")
