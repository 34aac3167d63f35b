"""Scorers of made-up cases."""

from collections.abc import Callable, Sequence

import numpy as np

from tumorseg.ops.choosing.protocol import Choice, canonical

Rule = Callable[[Choice], np.ndarray]
"""Returns by how much each name (L,) is better, or each case and name (N, L)."""


class RuledScorer:
    """Scores of cases that differ in how hard they are, and in what a rule says of a choice."""

    def __init__(
        self, rule: Rule, *, names: Sequence[str] = ("WT", "TC"), num_candidates: int = 3, num_cases: int = 40
    ):
        self.rule, self.names, self.num_candidates = rule, tuple(names), num_candidates
        self.case_ids = tuple(f"case_{number}" for number in range(num_cases))
        self.parts = np.arange(num_cases) % 5
        self.clusters = None
        self.has_regions = True
        rng = np.random.default_rng(8)
        self.levels = rng.uniform(0.5, 0.9, (num_cases, len(names)))
        self.jitter = rng.normal(0, 0.3, (num_cases, len(names)))
        self.asked: list[tuple[Choice, ...]] = []

    def scores(self, choices: Sequence[Choice]) -> list[np.ndarray]:
        assert len(set(choices)) == len(choices)
        assert all(canonical(choice) == choice for choice in choices)
        self.asked.append(tuple(choices))
        # What is gained differs from case to case, as it does in images.
        return [self.levels + self.rule(choice) * (1 + self.jitter) for choice in choices]


def shares(choice: Choice, name: int) -> np.ndarray:
    """Return the share of each candidate (M,) in the mean of a name."""
    row = np.array(choice.row(name), dtype=float)
    return row / row.sum()


def near(best: Sequence[Sequence[float]], height: float = 0.05) -> Rule:
    """Return a rule by which each name is best at some shares of the candidates, and falls off with the square of the distance."""

    def rule(choice: Choice) -> np.ndarray:
        found = [height - ((shares(choice, name) - np.array(wanted)) ** 2).sum() for name, wanted in enumerate(best)]
        return np.array(found)

    return rule
