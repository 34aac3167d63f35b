"""Writes frozen.json: what statsmodels makes of p and of clustered scores, in an environment of its own.

python -m venv peers
peers/bin/pip install statsmodels==0.15.0
peers/bin/python tests/ops/significance/make_frozen.py
"""

import json
from pathlib import Path

import numpy as np
import statsmodels
import statsmodels.api as sm
from statsmodels.stats.multitest import multipletests

FROZEN = Path(__file__).parent / "frozen.json"


def main() -> None:
    generator = np.random.default_rng(17)
    families = [np.round(generator.beta(0.4, 3, size=size), 4) for size in (1, 2, 7, 30)]
    families.append(np.array([0.01, 0.04, 0.03, 0.005, 0.5, 0.03, 1.0, 0.0001]))
    clusters = np.repeat(np.arange(9), generator.integers(1, 8, size=9))
    scores = np.round(generator.beta(8, 2, size=9)[clusters] * generator.beta(9, 1, size=clusters.size), 4)
    fit = sm.OLS(scores, np.ones(scores.size)).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    found = {
        "statsmodels": statsmodels.__version__,
        "holm": [{"p": p.tolist(), "adjusted": multipletests(p, method="holm")[1].tolist()} for p in families],
        "clusters": clusters.tolist(),
        "scores": scores.tolist(),
        "standard_error": float(fit.bse[0]),
    }
    FROZEN.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
