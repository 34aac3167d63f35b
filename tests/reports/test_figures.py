import sys
from typing import Any

import numpy as np

from tumorseg.reports.figures import numbers


def test_unknown_values_are_gaps(log: list[dict[str, Any]]) -> None:
    assert np.isnan(numbers(log, "validation_loss")).tolist() == [False, False, True, False, False, False]
    assert np.isnan(numbers(log, "dsc", "ET")).tolist() == [False, True, False, False, False, False]


def test_figures_need_no_pyplot() -> None:
    import subprocess

    code = "import sys, tumorseg.reports.page, tumorseg.reports.overlays; print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
