"""What `select` claims where there is nothing to choose, and where there is, by simulation of scores.

    python -m benchmarks.selection_noise [--simulations 500]

Goes to benchmarks/results/selection_noise.json with machine and commit, and prints the table of docs/decisions/046. Seeds are fixed.
"""

import argparse
import json
import math
import sys
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.machine import machine
from tumorseg.ops.choosing.candidates import candidate_steps, nested_neighbours
from tumorseg.ops.choosing.nested import honest_gains, nested
from tumorseg.ops.choosing.protocol import HALF, Choice
from tumorseg.ops.choosing.rounds import Options
from tumorseg.ops.choosing.selecting import Selected
from tumorseg.types import FloatArray

RESULT = Path(__file__).parent / "results" / "selection_noise.json"
REGIONS = {"WT": ("NETC", "SNFH", "ET"), "TC": ("NETC", "ET"), "ET": ("ET",)}
NUM_PARTS = 5
LEVEL = 0.05
"""Share of draws of noise in which a gain may be claimed."""
OPTIONS = Options(steps=candidate_steps(REGIONS, nested_neighbours(REGIONS), ladder_mm3=(100.0, 1000.0)))
SIMULATIONS = 500
USUAL, RARE, SHARE_OF_RARE = 0.015, 0.1, 0.1
"""Standard deviations of what a choice changes in a case: in most, and in those where it goes wrong or right."""
TOUCHED = 0.3
"""Share of cases in which thresholds and postprocessing change anything."""


class World(NamedTuple):
    """What is true of choices."""

    name: str
    is_shared: bool
    """Whether choices of the same members err alike; else each errs by itself, whatever its members."""
    qualities: tuple[float, ...] = (0.0,) * 4
    """DSC by which each candidate is better alone."""
    num_names: int = len(REGIONS)
    diversity: float = 0.0
    """DSC that a mean of infinitely many equal members gains."""
    finishing: float = 0.0
    """DSC of a region that its threshold gains at .4, and all that the largest part of all foreground gains."""

    def expected(self, choice: Choice) -> FloatArray:
        """Return by how much each region (L,) scores above the cases' own levels, on average over all cases that could be drawn."""
        found = np.zeros(self.num_names)
        for place in range(len(found)):
            weights = _weights(choice, place)
            threshold = (choice.thresholds or (HALF,) * len(found))[place]
            found[place] = weights @ np.array(self.qualities) + self.diversity * (1 - weights @ weights)
            # .1 beyond the best threshold all that it gains is lost again.
            found[place] += self.finishing * (1 - abs(threshold - 0.4) / 0.1)
        return found + self.finishing * (OPTIONS.steps[0] in choice.steps)


NOISE = (
    World("noise of each choice", is_shared=False),
    World("noise of members", is_shared=True),
    World("noise of ten members, one region", is_shared=True, qualities=(0.0,) * 10, num_names=1),
    World("noise of one model, one region", is_shared=True, qualities=(0.0,), num_names=1),
)
TRUE = World("members differ", is_shared=True, qualities=(0.0, 0.004, -0.01, -0.03), diversity=0.012, finishing=0.006)


class Cell(NamedTuple):
    """A row of the table."""

    world: World
    num_cases: int
    cases_per_patient: int = 1


class DrawnScorer:
    """Scores of a world, drawn when they are asked for; the same choice always has the same ones."""

    has_regions = True

    def __init__(self, cell: Cell, seed: int) -> None:
        self.cell, self.seed = cell, seed
        self.names = tuple(REGIONS)[: cell.world.num_names]
        self.num_candidates = len(cell.world.qualities)
        self.case_ids = tuple(f"case_{number:03d}" for number in range(cell.num_cases))
        patients = np.arange(cell.num_cases) // cell.cases_per_patient
        self.clusters = patients if cell.cases_per_patient > 1 else None
        self.parts = patients % NUM_PARTS
        self.levels = 0.8 + 0.1 * self._drawn("levels")[0]
        self.members = np.stack([self._noise(f"member {number}") for number in range(self.num_candidates)])
        self.known: dict[Choice, FloatArray] = {}

    def scores(self, choices: Sequence[Choice]) -> list[FloatArray]:
        """Return the scores (N, L) of each choice."""
        return [self.known.setdefault(choice, self._scores(choice)) for choice in choices]

    def _scores(self, choice: Choice) -> FloatArray:
        world, text = self.cell.world, repr(choice)
        if not world.is_shared:
            return self.levels + world.expected(choice) + self._noise(text)
        found = self.levels + world.expected(choice)
        for place in range(len(self.names)):
            found[:, place] += np.tensordot(_weights(choice, place), self.members[:, :, place], axes=1)
        if choice.thresholds or choice.steps:
            touched = self._drawn(f"touched {text}")[1] < TOUCHED
            found += touched * self._noise(text)
        return found

    def _noise(self, what: str) -> FloatArray:
        """Return what is changed in each case and region (N, L), 0 on average."""
        drawn, rare = self._drawn(what)
        return np.where(rare < SHARE_OF_RARE, RARE, USUAL) * drawn

    def _drawn(self, what: str) -> tuple[FloatArray, FloatArray]:
        """Return standard normal numbers (N, L), of one patient half of the variance in common, and shares that are drawn evenly."""
        generator = np.random.default_rng([self.seed, self.cell.num_cases, zlib.crc32(what.encode())])
        size = (self.cell.num_cases, len(self.names))
        drawn, shares = generator.standard_normal(size), generator.random(size)
        if self.clusters is not None:
            drawn = math.sqrt(0.5) * (drawn + generator.standard_normal(size)[self.clusters])
        return drawn, shares


def _weights(choice: Choice, place: int) -> FloatArray:
    row = np.array(choice.row(place), dtype=np.float64)
    return row / row.sum()


def simulate(seed: int, cell: Cell) -> dict[str, float]:
    """Return what is found in one draw of a cell; shares are 0 or 1."""
    scorer = DrawnScorer(cell, seed)
    found = nested(scorer, OPTIONS)
    mean = honest_gains(found, scorer)[0]
    final = found.final
    true = _true_gain(final, cell.world)
    of_parts = float(np.mean([_true_gain(one, cell.world) for one in found.by_part.values()]))
    lower, upper = mean.interval or (math.nan, math.nan)
    return {
        "claimed": float(mean.is_claimed),
        "chosen": float(final.choice != final.baseline),
        "holds_parts": float(lower <= of_parts <= upper),
        "holds_final": float(lower <= true <= upper),
        "true_gain": true,
        "honest_gain": mean.gain,
        "apparent_gain": float(found.apparent.mean() - scorer.scores([final.baseline])[0].mean()),
    }


def _true_gain(found: Selected, world: World) -> float:
    """Return what a choice gains over its baseline, on average over all cases that could be drawn."""
    return float((world.expected(found.choice) - world.expected(found.baseline)).mean())


def row(cell: Cell, draws: Iterable[dict[str, float]]) -> dict[str, Any]:
    """Return the means over all draws of a cell."""
    found = list(draws)
    means = {key: float(np.mean([draw[key] for draw in found])) for key in found[0]}
    print(cell.world.name, cell.num_cases, means, file=sys.stderr)
    return cell._asdict() | {"world": cell.world.name} | means


def cells() -> list[Cell]:
    """Return the rows of the table."""
    found = [Cell(world, num_cases) for world in NOISE[:2] for num_cases in (20, 60, 200)]
    found += [Cell(NOISE[1], 60, cases_per_patient=3), *(Cell(world, 60) for world in NOISE[2:])]
    return [*found, Cell(TRUE, 60), Cell(TRUE, 200)]


def outside(rows: Sequence[Mapping[str, Any]], simulations: int) -> list[str]:
    """Return where more is claimed under noise than in 5 % of draws and three standard errors."""
    most = LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / simulations)
    lines = []
    for found in rows:
        if found["world"] != TRUE.name and found["claimed"] > most:
            lines.append(f"claimed in {found['claimed']:.3f}: {found['world']}, {found['num_cases']} cases")
    return lines


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as Markdown."""
    columns = ("claimed", "chosen", "holds_parts", "holds_final", "true_gain", "honest_gain", "apparent_gain")
    lines = [["world", "cases", "of one patient", *columns], ["---"] * (3 + len(columns))]
    for found in rows:
        shares = [f"{found[key]:.4f}" if key.endswith("gain") else f"{found[key]:.3f}" for key in columns]
        lines.append([found["world"], str(found["num_cases"]), str(found["cases_per_patient"]), *shares])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=SIMULATIONS)
    simulations, began = parser.parse_args().simulations, time.perf_counter()
    with ProcessPoolExecutor() as pool:
        draws = [pool.map(partial(simulate, cell=cell), range(simulations), chunksize=20) for cell in cells()]
        rows = [row(cell, drawn) for cell, drawn in zip(cells(), draws, strict=True)]
    result = {
        "simulations": simulations,
        "options": {"level": OPTIONS.level, "tolerance": OPTIONS.tolerance},
        "rows": rows,
    }
    result |= {"outside": outside(rows, simulations), "seconds": round(time.perf_counter() - began, 1)}
    RESULT.write_text(json.dumps(result | {"machine": machine()}, indent=2) + "\n")
    print(table(rows), *outside(rows, simulations), sep="\n")


if __name__ == "__main__":
    main()
