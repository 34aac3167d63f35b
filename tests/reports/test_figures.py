import io
import sys
from typing import Any

import matplotlib.image
import numpy as np

from tumorseg.reports.figures import numbers, progress_png


def pixels(png: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(png))


def test_progress_is_a_png_of_readable_size(log: list[dict[str, Any]]) -> None:
    image = pixels(progress_png(log))
    assert image.shape[0] > 800
    assert image[..., :3].std() > 0.05


def test_progress_can_be_drawn_before_and_after_the_first_epoch_and_of_an_unvalidated_training(
    log: list[dict[str, Any]],
) -> None:
    unvalidated = [{**entry, "validation_loss": None, "dsc": {}} for entry in log]
    for entries in ([], log[:1], unvalidated, [{**entry, "dsc": None} for entry in log]):
        assert progress_png(entries).startswith(b"\x89PNG")


def test_progress_of_many_labels_and_epochs_is_drawn(log: list[dict[str, Any]]) -> None:
    many = [{**log[0], "epoch": epoch, "dsc": {f"label {i}": 0.01 * i for i in range(40)}} for epoch in range(50)]
    assert progress_png(many).startswith(b"\x89PNG")


def test_the_same_log_gives_the_same_bytes(log: list[dict[str, Any]]) -> None:
    assert progress_png(log) == progress_png(log)


def test_unknown_values_are_gaps(log: list[dict[str, Any]]) -> None:
    assert np.isnan(numbers(log, "validation_loss")).tolist() == [False, False, True, False, False, False]
    assert np.isnan(numbers(log, "dsc", "ET")).tolist() == [False, True, False, False, False, False]


def test_figures_need_no_pyplot() -> None:
    import subprocess

    code = "import sys, tumorseg.reports.page, tumorseg.reports.overlays; print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
