"""What `tune` claims in its honest end where no candidate is better, and where one is, by simulation of scores.

    python -m benchmarks.tuning_noise [--studies 200]

Goes to benchmarks/results/tuning_noise.json with machine and commit, and prints the table of docs/tuning.md. Seeds are fixed.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.machine import machine
from tumorseg.tuning.judged_folds import Contender, Training
from tumorseg.tuning.verdicts import verdicts
from tumorseg.types import FloatArray

RESULT = Path(__file__).parent / "results" / "tuning_noise.json"
STUDIES = 200
MOST_FALSE = 0.08
"""Share of studies in which a gain may be claimed that is none: 16 of 200."""
NUM_TRIALS, NUM_CANDIDATES = 30, 3
TRIAL_CASES = 24
"""That a trial is scored on."""
RARE_SHARE, RARE_FACTOR = 0.1, 3.0
"""Share of cases in which a training errs far more than in others, and how much more, where tails are heavy."""


class World(NamedTuple):
    """What is true of plans and trainings."""

    name: str
    gain: float = 0.0
    """Of one of the candidates; the others have none."""
    case_sd: float = 0.05
    """Of what a training changes in a case, by itself."""
    seed_sd: float = 0.004
    """Of what a training changes in all cases together."""
    plan_sd: float = 0.02
    """Of what a plan changes in a case, in all its trainings."""
    num_cases: int = 40
    """That judge."""
    num_seeds: int = 2
    num_folds: int = 1
    cases_per_patient: int = 1
    is_heavy: bool = False
    """Whether a few cases make most of the noise."""


WORLDS = (
    World("noise"),
    World("noise of seeds above all", seed_sd=0.012, case_sd=0.02),
    World("noise with heavy tails", case_sd=0.025, is_heavy=True),
    World("noise, 3 cases of a patient", num_cases=60, cases_per_patient=3),
    World("noise, 20 cases", num_cases=20),
    World("noise, 3 seeds, 2 folds", num_seeds=3, num_folds=2),
    World("noise, one seed", num_seeds=1),
    World("gain of .01", gain=0.01),
    World("gain of .02", gain=0.02),
    World("gain of .01, small noise", gain=0.01, case_sd=0.02, seed_sd=0.002),
    World("gain of .02, small noise", gain=0.02, case_sd=0.02, seed_sd=0.002),
)


def simulate(number: int, world: World) -> dict[str, float]:
    """Return what one study finds; shares are 0 or 1."""
    generator = np.random.default_rng([number, len(world.name), world.num_cases])
    # As a search would report: the best of many noisy trials, against the plan as it was, on the trials' own cases.
    trials = _training(generator, world, TRIAL_CASES, num=NUM_TRIALS + 1).mean(axis=1)
    gains = np.zeros(NUM_CANDIDATES + 1)
    gains[1] = world.gain
    levels = 0.85 + 0.08 * generator.standard_normal(world.num_cases * world.num_folds)
    contenders = [_contender(generator, world, which, levels + gain) for which, gain in enumerate(gains)]
    patients = _patients(world)
    found = verdicts(contenders[0], contenders[1:], objective="dsc", patients=patients)
    intervals = [(verdict.ci95, gains[verdict.number]) for verdict in found]
    held = [low[0] <= true <= low[1] for low, true in intervals if low is not None]
    return {
        "false": float(any(verdict.is_gain and gains[verdict.number] == 0 for verdict in found)),
        "true": float(any(verdict.is_gain and gains[verdict.number] > 0 for verdict in found)),
        "holds": float(np.mean(held)),
        "apparent": float(trials[1:].max() - trials[0]),
        "honest": found[0].gain,
    }


def _training(generator: np.random.Generator, world: World, num_cases: int, *, num: int) -> FloatArray:
    """Return what trainings change in cases (num, num_cases), 0 on average."""
    cases = generator.standard_normal((num, num_cases))
    if world.cases_per_patient > 1:
        patients = np.arange(num_cases) // world.cases_per_patient
        shared = generator.standard_normal((num, patients[-1] + 1))[:, patients]
        cases = np.sqrt(0.5) * (cases + shared)
    if world.is_heavy:
        cases *= np.where(generator.random(num_cases) < RARE_SHARE, RARE_FACTOR, 1.0)
    return world.case_sd * cases + world.seed_sd * generator.standard_normal((num, 1))


def _contender(generator: np.random.Generator, world: World, number: int, levels: FloatArray) -> Contender:
    levels = levels + world.plan_sd * generator.standard_normal(levels.shape)
    trainings = []
    for fold in range(world.num_folds):
        own = slice(fold * world.num_cases, (fold + 1) * world.num_cases)
        drawn = levels[own] + _training(generator, world, world.num_cases, num=world.num_seeds)
        for seed, scores in enumerate(drawn):
            values = {f"case_{fold}_{place:03d}": float(score) for place, score in enumerate(scores)}
            trainings.append(Training(fold, seed, values))
    return Contender(number, tuple(trainings))


def _patients(world: World) -> dict[str, str]:
    if world.cases_per_patient == 1:
        return {}
    found = {}
    for fold in range(world.num_folds):
        for place in range(world.num_cases):
            found[f"case_{fold}_{place:03d}"] = f"patient_{fold}_{place // world.cases_per_patient}"
    return found


def row(world: World, studies: Iterable[dict[str, float]]) -> dict[str, Any]:
    """Return the means over all studies of a world, and in how many a gain was claimed."""
    found = list(studies)
    means = {key: float(np.mean([study[key] for study in found])) for key in found[0]}
    counts = {f"num_{key}": round(means[key] * len(found)) for key in ("false", "true")}
    print(world.name, means, file=sys.stderr)
    return world._asdict() | means | counts


def outside(rows: Sequence[Mapping[str, Any]], studies: int) -> list[str]:
    """Return where more is claimed under noise than may be."""
    lines = []
    for found in rows:
        if found["num_false"] > MOST_FALSE * studies:
            lines.append(f"{found['name']}: {found['num_false']} of {studies} false gains")
    return lines


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as Markdown."""
    columns = ("num_cases", "num_seeds", "num_false", "num_true")
    lines = [["world", *columns, "interval holds", "apparent gain", "honest gain"], ["---"] * (len(columns) + 4)]
    for found in rows:
        figures = [f"{found['holds']:.3f}", f"{found['apparent']:.4f}", f"{found['honest']:.4f}"]
        lines.append([found["name"], *(str(found[key]) for key in columns), *figures])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=STUDIES)
    studies, began = parser.parse_args().studies, time.perf_counter()
    with ProcessPoolExecutor() as pool:
        found = [pool.map(partial(simulate, world=world), range(studies), chunksize=20) for world in WORLDS]
        rows = [row(world, drawn) for world, drawn in zip(WORLDS, found, strict=True)]
    result = {"studies": studies, "most_false": MOST_FALSE, "rows": rows, "outside": outside(rows, studies)}
    result["seconds"] = round(time.perf_counter() - began, 1)
    RESULT.write_text(json.dumps(result | {"machine": machine()}, indent=2) + "\n")
    print(table(rows), *outside(rows, studies), sep="\n")


if __name__ == "__main__":
    main()
