"""Values of statsmodels, frozen by make_frozen.py."""

import json
from pathlib import Path

import numpy as np
import pytest

from tumorseg.ops.significance.effects import holm
from tumorseg.ops.significance.resampling import standard_errors, to_units

FROZEN = json.loads((Path(__file__).parent / "frozen.json").read_text())


@pytest.mark.parametrize("family", FROZEN["holm"], ids=lambda family: f"{len(family['p'])} tests")
def test_holm_adjusts_alike(family: dict[str, list[float]]) -> None:
    assert holm(family["p"]) == pytest.approx(family["adjusted"], rel=1e-12)


def test_the_clustered_error_of_a_mean_is_that_of_a_regression_on_nothing() -> None:
    scores, clusters = np.array(FROZEN["scores"]), np.array(FROZEN["clusters"])
    units = to_units(scores[:, None], clusters)
    means, errors = standard_errors(np.ones((1, len(units.sizes))), units)
    assert means[0, 0] + units.shift[0] == pytest.approx(scores.mean(), rel=1e-12)
    assert errors[0, 0] == pytest.approx(FROZEN["standard_error"], rel=1e-9)
