"""Pictures of a study: what their edges would cut off, and bars of few cases."""

import io

import matplotlib.image
import numpy as np
import pytest

from tests.reports.tuned import tuning_result
from tumorseg.reports.figures import class_color
from tumorseg.reports.tuning_figures import WIDEST, differences_png, gains_png

WHITE = 0.99


def pixels(png):
    return matplotlib.image.imread(io.BytesIO(png))[..., :3]


@pytest.mark.parametrize(
    "title",
    [
        "Auto-nnU-Net's best for MSD Hippocampus",
        "nnU-Net's own training " * 8,
        "a_start_of_a_space_file_whose_title_is_one_word_without_end_" * 2,
    ],
)
def test_no_title_of_a_candidate_is_cut_off(title):
    result = tuning_result()
    judged = [one.changed(title=title) for one in result.judged]
    image = pixels(gains_png(result.changed(judged=tuple(judged))))
    # What is cut off has ink at the edge.
    assert image[:, :2].min() > WHITE
    assert image[:, :300].min() < WHITE


@pytest.mark.parametrize("num_cases", [1, 2, 5, 26, 200])
def test_bars_of_few_cases_are_no_wider_than_those_of_many(num_cases):
    image = pixels(differences_png({f"case_{number}": 0.02 for number in range(num_cases)}, "Gain, DSC"))
    red, green, blue = (int(class_color(2)[place : place + 2], 16) / 255 for place in (1, 3, 5))
    is_bar = np.abs(image - [red, green, blue]).max(axis=-1) < 0.05
    columns = is_bar.any(axis=0)
    widest = max(map(len, "".join("x" if column else " " for column in columns).split()))
    assert columns.any()
    # The plot is 9.5 in of 110 pixels wide; a bar may have a pixel on either side.
    assert widest <= 9.5 * 110 / WIDEST + 2
