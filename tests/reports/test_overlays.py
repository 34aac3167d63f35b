import io

import matplotlib.image
import numpy as np
import pytest

from tumorseg.reports.overlays import OverlayInput, largest_slice, overlay_png, radiological


def size(png: bytes) -> tuple[int, int]:
    rows, columns = matplotlib.image.imread(io.BytesIO(png)).shape[:2]
    return rows, columns


def test_each_segmentation_has_a_panel_beside_the_image(overlay: OverlayInput) -> None:
    widths = [
        size(overlay_png(case))[1]
        for case in (overlay._replace(reference=None, prediction=None), overlay._replace(prediction=None), overlay)
    ]
    assert widths[1] > 1.8 * widths[0]
    assert widths[2] > 1.4 * widths[1]


def test_the_slice_with_the_most_foreground_is_shown(overlay: OverlayInput) -> None:
    reference = np.zeros_like(overlay.image, dtype=np.int16)
    reference[2, :5, :5] = reference[6, :9, :9] = 1
    reference[7] = -1
    assert largest_slice(overlay._replace(reference=reference)) == 6
    assert largest_slice(overlay._replace(reference=reference * 0, prediction=np.flip(reference, 0))) == 2
    assert largest_slice(overlay._replace(reference=reference * 0, prediction=None)) == 4


def test_the_patients_right_is_on_the_left_and_anterior_is_up() -> None:
    plane = np.zeros((4, 5))
    plane[3, 4] = 1  # X runs to the right, Y to the front
    assert radiological(plane)[0, 0] == 1


@pytest.mark.parametrize("fill", [0.0, 7.0, np.nan])
def test_constant_images_and_full_or_empty_segmentations_are_drawn(fill: float) -> None:
    image = np.full((1, 6, 8), fill, dtype=np.float32)
    full = np.ones((1, 6, 8), dtype=np.int8)
    case = OverlayInput("flat", image, (1.0, 1.0, 1.0), reference=full, prediction=full * 0)
    assert overlay_png(case).startswith(b"\x89PNG")


def test_coarse_rows_are_stretched(overlay: OverlayInput) -> None:
    alone = overlay._replace(reference=None, prediction=None)
    assert size(overlay_png(alone._replace(spacing_mm=(1.0, 1.0, 3.0))))[1] > 2 * size(overlay_png(alone))[1]
