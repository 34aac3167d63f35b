"""Slices of images with the outlines of segmentations on them."""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from tumorseg.reports.figures import class_color, png_bytes
from tumorseg.types import FloatArray, Segmentation

_FILL = 0.28
_HEIGHT_IN = 3.6


class OverlayInput(NamedTuple):
    """One case to be drawn."""

    case_id: str
    image: FloatArray
    """One channel (Z, Y, X), canonical orientation (X to the right, Y anterior, Z superior)."""
    spacing_mm: tuple[float, float, float]
    """Voxel edge (Z, Y, X)."""
    reference: Segmentation | None = None
    """Class indices (Z, Y, X)."""
    prediction: Segmentation | None = None
    """Class indices (Z, Y, X)."""
    class_names: tuple[str, ...] = ()
    """Name of each class index, the background's first; numbers are shown where there is none."""


def overlay_png(case: OverlayInput) -> bytes:
    """Draw the axial slice with the most foreground: the image alone, then with each segmentation given.

    Radiological display: the patient's right is on the left of the picture, anterior is up.
    """
    index = largest_slice(case)
    plane = radiological(case.image[index])
    panels: list[tuple[str, Segmentation | None]] = [("image", None)]
    for name, whole in (("reference", case.reference), ("prediction", case.prediction)):
        if whole is not None:
            panels.append((name, radiological(whole[index])))
    aspect = case.spacing_mm[1] / case.spacing_mm[2]
    width = _HEIGHT_IN * plane.shape[1] / (plane.shape[0] * aspect)
    # A narrow image still needs room for its title; above and below the panels stand heading and legend.
    size = (max(width, 1.8) * len(panels), _HEIGHT_IN + 0.9)
    figure = Figure(figsize=size, layout="constrained", facecolor="black")
    # `subplots` returns a single panel bare.
    all_axes = np.atleast_1d(figure.subplots(1, len(panels)))
    for axes, (name, segmentation) in zip(all_axes, panels, strict=True):
        _draw_image(axes, plane, aspect)
        axes.set_title(name, color="white", fontsize=10)
        if segmentation is not None:
            _draw_segmentation(axes, segmentation)
    figure.suptitle(
        f"{case.case_id}, axial slice {index + 1} of {case.image.shape[0]}\nradiological display",
        color="white",
        fontsize=10,
    )
    _add_legend(figure, case, [segmentation for _, segmentation in panels if segmentation is not None])
    return png_bytes(figure)


def largest_slice(case: OverlayInput) -> int:
    """Return the index along Z with the most foreground, in the reference if it has any, else in the prediction.

    Without any foreground it is the middle slice.
    """
    for segmentation in (case.reference, case.prediction):
        if segmentation is not None:
            areas = np.count_nonzero(segmentation > 0, axis=(1, 2))
            if areas.any():
                return int(areas.argmax())
    return int(case.image.shape[0] // 2)


def radiological(plane: NDArray[Any]) -> NDArray[Any]:
    """Turn an axial plane (Y, X) so that row 0 is anterior and column 0 is the patient's right."""
    return plane[::-1, ::-1]


def _draw_image(axes: Axes, plane: FloatArray, aspect: float) -> None:
    lower, upper = window(plane)
    axes.imshow(plane, cmap="gray", vmin=lower, vmax=upper, aspect=aspect, interpolation="nearest")
    axes.set_axis_off()
    for x, side in ((0.02, "R"), (0.98, "L")):
        axes.text(x, 0.5, side, color="#9aa4af", fontsize=9, ha="center", va="center", transform=axes.transAxes)


def window(plane: FloatArray) -> tuple[float, float]:
    """Return the intensities shown as black and white: percentiles of what is not background."""
    finite = plane[np.isfinite(plane)]
    # The least value is taken for the background, of which many images hold more than of the patient.
    inside = finite[finite != finite.min()] if finite.size else finite
    if not inside.size:
        return 0.0, 1.0
    lower = min(float(finite.min()), float(np.percentile(inside, 1)))
    upper = float(np.percentile(inside, 99.5))
    # Pictures divide by the width of the window.
    return lower, max(upper, lower + 1e-6)


def _draw_segmentation(axes: Axes, segmentation: Segmentation) -> None:
    padded = np.pad(segmentation, 1)  # so that outlines close at the image's edge
    rows, columns = (np.arange(size) - 1 for size in padded.shape)
    tint = np.zeros((*segmentation.shape, 4), dtype=np.float32)
    for index in _classes(segmentation):
        color = class_color(index - 1)
        tint[segmentation == index] = (*to_rgb(color), _FILL)
        axes.contour(columns, rows, padded == index, levels=[0.5], colors=[color], linewidths=1.2)
    # Without an aspect of its own, a further image would make the voxels square.
    axes.imshow(tint, aspect=axes.get_aspect(), interpolation="nearest")


def _classes(segmentation: Segmentation) -> list[int]:
    return [int(index) for index in np.unique(segmentation) if index > 0]


def _add_legend(figure: Figure, case: OverlayInput, segmentations: list[Segmentation]) -> None:
    classes: set[int] = set()
    for segmentation in segmentations:
        classes.update(_classes(segmentation))
    names, handles = [], []
    for index in sorted(classes):
        names.append(case.class_names[index] if index < len(case.class_names) else str(index))
        handles.append(Line2D([], [], color=class_color(index - 1), linewidth=3))
    if handles:
        figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=min(len(handles), 6),
            frameon=False,
            labelcolor="white",
            fontsize=9,
        )
