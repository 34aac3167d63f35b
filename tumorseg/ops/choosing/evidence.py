"""Whether a proposal is better than what stands, or only looks so in the cases at hand."""

from typing import Literal, NamedTuple

import numpy as np
from scipy.special import stdtr

from tumorseg.ops.choosing.protocol import Choice
from tumorseg.ops.significance.resampling import standard_errors, to_units
from tumorseg.ops.significance.scores import Numbers
from tumorseg.types import FloatArray

Stage = Literal["ensemble", "names", "thresholds", "steps"]
"""What is being chosen: members for all names together; for each by itself; thresholds; postprocessing."""
Verdict = Literal["taken", "outdone", "no gain", "harms", "within noise"]
"""outdone: sound, but another proposal of the round gained more."""

_ENDLESS = 1e100
"""In the place of infinity, which times 0 is no number."""


class Evidence(NamedTuple):
    """What P gains rest on."""

    gain: FloatArray
    """(P,): mean over cases."""
    error: FloatArray
    """(P,): its standard error; infinite for fewer than two cases, or clusters."""
    p: FloatArray
    """(P,): how likely as large a gain is by chance alone, one-sided."""


class Trial(NamedTuple):
    """A proposal that was compared with what stood then."""

    stage: Stage
    round: int
    """Proposals of the same number were compared at once."""
    choice: Choice
    name: str | None
    """That was to gain; None: the mean over all names."""
    gain: float
    error: float
    p: float
    """Times the number of proposals of the round, at most 1."""
    verdict: Verdict
    harmed: str | None = None
    """The first name whose mean falls."""


def evidence(differences: FloatArray, clusters: Numbers | None) -> Evidence:
    """Return what the mean gains of P proposals rest on: Student's t of the paired differences.

    Args:
        differences: (N cases, P), proposal less what stands.
        clusters: (N,), whose cases count as one; None where each is its own.

    References:
        Cochran, Sampling Techniques, 3rd edition 1977, section 2.11 (errors of means over clusters).
    """
    units = to_units(differences, clusters)
    num_units, gains = len(units.sizes), differences.mean(axis=0)
    if num_units < 2:
        return Evidence(gains, np.full_like(gains, np.inf), np.ones_like(gains))
    _, errors = standard_errors(np.ones((1, num_units)), units)
    # Gains that are the same everywhere have no spread: what they weigh is said by the number of units alone.
    endless = _ENDLESS * np.sign(gains)
    ratios = np.divide(gains, errors[0], out=endless, where=errors[0] > 0)
    by_t = stdtr(num_units - 1, -ratios)
    # A gain in three cases has the sign that it has by chance in one of eight samples, however large it is.
    moving = np.count_nonzero(units.sums + units.shift * units.sizes[:, None], axis=0)
    return Evidence(gains, errors[0], np.maximum(by_t, 0.5**moving))
