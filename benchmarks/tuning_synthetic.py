"""What samplers and pruners of `tune` are worth on objectives whose optimum is known, against random search.

    python -m benchmarks.tuning_synthetic [--seeds 50] [--part trials|front|pruning]

Landscapes are drawn by seed: eight parameters or nine, as the default space has them, some of them conditional, effects that multiply and
interact, noise of trainings, and a plan that is off the optimum. Goes row by row to benchmarks/results/tuning_synthetic.json, so
that it can be interrupted and started again; a row is kept where it is there.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks.machine import machine
from tumorseg.schema.tuning import (
    ChoiceParameter,
    Condition,
    InnerSplit,
    Objective,
    Proxy,
    Pruner,
    RealParameter,
    Sampler,
    Space,
    Study,
    Values,
)
from tumorseg.tuning.conditions import counting
from tumorseg.tuning.engine import Engine

RESULT = Path(__file__).parent / "results" / "tuning_synthetic.json"
MOST_TRIALS = 200
"""Of random search; its gain after them is the final one."""
SHARE = 0.9
"""Of the final gain, that is to be reached."""
OFF = 0.2
"""Standard deviation of the plan's values around the optimum, as a share of each range."""
NOISE = 0.002
"""Standard deviation of the DSC between trainings of one plan."""
PRESETS = ("dice_ce", "dice_focal", "dice_topk", "tversky")
RUNGS = (100, 300, 900)
FRONT_TRIALS = 80
MOST_SEEDS = {"gp": 10}
"""Of samplers that take long over each draw."""


class World:
    """A landscape: where its optimum is, and the plan off it."""

    def __init__(self, seed: int) -> None:
        """Draw it.

        Args:
            seed: that says all of it.
        """
        generator = np.random.default_rng([seed, 77])
        self.seed = seed
        self.optimum = generator.uniform(0.15, 0.85, size=7)
        self.plan = np.clip(self.optimum + generator.normal(0, OFF, size=7), 0.02, 0.98)
        self.preset_loss = generator.permutation([0.0, 0.01, 0.02, 0.03])
        self.best_optimizer, self.plan_optimizer = generator.choice(["sgd", "adamw"], size=2)
        self.plan_preset = str(generator.choice(PRESETS))

    @cached_property
    def space(self) -> Space:
        """The parameters, with the plan's values at their centres."""
        name = ChoiceParameter(field="optimizer.name", options=("sgd", "adamw"), center=str(self.plan_optimizer))
        preset = ChoiceParameter(field="loss.preset", options=PRESETS, center=self.plan_preset)
        focal = Condition(field="loss.preset", values=("dice_focal",))
        sgd = Condition(field="optimizer.name", values=("sgd",))
        numbers = [
            RealParameter(field="optimizer.lr", low=1e-4, high=1e-1, scale="log"),
            RealParameter(field="optimizer.weight_decay", low=1e-6, high=1e-2, scale="log"),
            RealParameter(field="optimizer.momentum", low=0.8, high=0.995, when=sgd),
            RealParameter(field="loss.gamma", low=0.5, high=4, when=focal),
            RealParameter(field="augmentation.strength", low=0, high=3),
            RealParameter(field="foreground_fraction", low=0.1, high=1),
            RealParameter(field="schedule.power", low=0.3, high=2),
        ]
        centred = [one.changed(center=_value(one, place)) for one, place in zip(numbers, self.plan, strict=True)]
        return Space(parameters=(name, *centred[:3], preset, *centred[3:]))

    @property
    def plan_values(self) -> Values:
        """The plan's own values of the parameters that count."""
        own = {parameter.field: parameter.center for parameter in self.space.parameters}
        return counting(self.space, own)

    def dsc(self, values: Values) -> float:
        """Return the DSC of values, without noise; .9 at the optimum."""
        off = self._off(values)
        lr = off.get("optimizer.lr", 0.0)
        # Decay pulls as the learning rate does, and more augmentation asks for more foreground.
        decay = off["optimizer.weight_decay"] + 0.5 * lr
        mixed = off["augmentation.strength"] - off["foreground_fraction"]
        if values["optimizer.name"] != self.best_optimizer:
            lr += 0.15
        losses = [0.6 * lr**2, 0.15 * decay**2, 0.15 * off["augmentation.strength"] ** 2, 0.1 * mixed**2]
        losses += [0.1 * off["foreground_fraction"] ** 2, 0.08 * off["schedule.power"] ** 2]
        losses += [0.1 * off.get("optimizer.momentum", 0.0) ** 2, 0.06 * off.get("loss.gamma", 0.0) ** 2]
        losses.append(float(self.preset_loss[PRESETS.index(str(values["loss.preset"]))]))
        return 0.9 * math.prod(1 - loss for loss in losses)

    def seconds(self, values: Values) -> float:
        """Return an objective that works against the DSC: what the foreground share costs."""
        return 10 + 20 * (1 + self._off(values)["foreground_fraction"])

    def noisy(self, values: Values, number: int, step: int = 0) -> float:
        """Return the DSC that one training comes to."""
        return self.dsc(values) + NOISE * float(np.random.default_rng([self.seed, number, step]).standard_normal())

    def _off(self, values: Values) -> dict[str, float]:
        """Return by how much of its range each number is off the optimum."""
        numbers = [one for one in self.space.parameters if isinstance(one, RealParameter)]
        optimum = zip(numbers, self.optimum, strict=True)
        places = {one.field: (one, place) for one, place in optimum if one.field in values}
        return {field: _place(one, float(str(values[field]))) - place for field, (one, place) in places.items()}


def study_of(
    world: World,
    sampler: Sampler,
    pruner: Pruner = "none",
    *,
    rungs: Sequence[int] = (1,),
    objectives: Sequence[Objective] = ("dsc",),
) -> Study:
    """Return a study of a landscape."""
    return Study(
        tumorseg_version="0",
        name="synthetic",
        plan_name="synthetic",
        plan_hash=f"{world.seed}",
        configuration="3d_fullres",
        objectives=tuple(objectives),
        sampler=sampler,
        pruner=pruner,
        seed=world.seed,
        space=world.space,
        proxy=Proxy(iterations=rungs[-1], rungs=tuple(rungs), most_cases=1),
        split=InnerSplit(training=("a",), scored=("b",)),
        judges=(1,),
        final_iterations=1,
        final_seeds=(1,),
    )


class Tried(NamedTuple):
    """A trial of a search."""

    values: Values
    scored: tuple[float, ...]
    iterations: int
    is_pruned: bool


def search(
    world: World, study: Study, num_trials: int, score: Callable[[Values, int, int], tuple[float, ...]]
) -> list[Tried]:
    """Run a study of one worker.

    Args:
        world: the landscape.
        study: of it.
        num_trials: how many.
        score: returns the objectives of values, the trial's number and the rung's steps.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(study, world.plan_values, f"{folder}/journal.log")
        for _ in range(num_trials):
            asked = engine.ask()
            for index, steps in enumerate(study.proxy.rungs):
                scored = score(asked.values, asked.number, steps)
                if is_pruned := engine.report(asked.number, index, scored):
                    engine.prune(asked.number)
                    break
            else:
                engine.finish(asked.number)
            found.append(Tried(asked.values, scored, steps, is_pruned))
    return found


def gains(world: World, tried: Sequence[Tried]) -> list[float]:
    """Return what the best trial so far, chosen by its noisy score, truly gains over the plan, after each trial."""
    own = world.dsc(tried[0].values)
    found, best = [], tried[0]
    for trial in tried:
        best = max(best, trial, key=lambda one: one.scored[0])
        found.append(world.dsc(best.values) - own)
    return found


def trials_to(found: Sequence[float], gain: float) -> int:
    """Return the number of trials until a gain is reached; one more than there are where it is not."""
    return next((number for number, one in enumerate(found, start=1) if one >= gain), len(found) + 1)


def trials_row(seed: int, sampler: Sampler = "tpe", num_trials: int = MOST_TRIALS) -> dict[str, Any]:
    """Return how many trials a sampler and random search need for most of the final gain of either."""
    world = World(seed)

    def score(values: Values, number: int, steps: int) -> tuple[float, ...]:
        return (world.noisy(values, number, steps),)

    random = gains(world, search(world, study_of(world, "random"), num_trials, score))
    ours = gains(world, search(world, study_of(world, sampler), num_trials // 2, score))
    possible = 0.9 - world.dsc(world.plan_values)
    return {
        "seed": seed,
        "sampler": sampler,
        "random": trials_to(random, SHARE * random[-1]),
        "ours": trials_to(ours, SHARE * random[-1]),
        # The same of the gain that ours ends with, which random search may never reach.
        "random_to_ours": trials_to(random, SHARE * ours[-1]),
        "ours_to_ours": trials_to(ours, SHARE * ours[-1]),
        "random_gain": random[-1],
        "gain_of_a_quarter": ours[num_trials // 4 - 1],
        "possible_gain": possible,
    }


def front_row(seed: int, sampler: Sampler = "tpe", num_trials: int = FRONT_TRIALS) -> dict[str, Any]:
    """Return the share of the hypervolume of the known front that the trials of a study dominate."""
    world = World(seed)
    objectives: tuple[Objective, ...] = ("dsc", "seconds")

    def score(values: Values, number: int, steps: int) -> tuple[float, ...]:
        return world.dsc(values), world.seconds(values)

    best = _volume(_known_front(world))
    row: dict[str, Any] = {"seed": seed, "sampler": sampler}
    for name in ("random", sampler):
        tried = search(world, study_of(world, name, objectives=objectives), num_trials, score)
        row["random" if name == "random" else "ours"] = _volume([one.scored for one in tried]) / best
    return row


def pruning_row(seed: int, pruner: Pruner = "median", num_trials: int = 60) -> dict[str, Any]:
    """Return what a pruner saves in a study whose trials are the same with it and without, and whether its winner is."""
    world = World(seed)

    def score(values: Values, number: int, steps: int) -> tuple[float, ...]:
        return (_learnt(world, values, steps) * world.noisy(values, number, steps),)

    whole = search(world, study_of(world, "random", rungs=RUNGS), num_trials, score)
    pruned = search(world, study_of(world, "random", pruner, rungs=RUNGS), num_trials, score)
    winner = _winner(whole)
    return {
        "seed": seed,
        "pruner": pruner,
        "saved": 1 - sum(one.iterations for one in pruned) / sum(one.iterations for one in whole),
        "same_winner": float(_winner(pruned) == winner),
        "lost": world.dsc(whole[winner].values) - world.dsc(whole[_winner(pruned)].values),
    }


def _learnt(world: World, values: Values, steps: int) -> float:
    """Return the share of its DSC that a training has after some steps: low learning rates take longer."""
    pace = 1 + 0.3 * world._off(values)["optimizer.lr"]
    return 1 - 0.3 * math.exp(-4 * pace * steps / RUNGS[-1])


def _winner(tried: Sequence[Tried]) -> int:
    return max(range(len(tried)), key=lambda one: -math.inf if tried[one].is_pruned else tried[one].scored[0])


def _known_front(world: World) -> list[tuple[float, ...]]:
    """Return the best DSC for each of many foreground shares, all other values at their best."""
    numbers = [one for one in world.space.parameters if isinstance(one, RealParameter)]
    best: Values = {one.field: _value(one, place) for one, place in zip(numbers, world.optimum, strict=True)}
    best |= {"optimizer.name": str(world.best_optimizer), "loss.preset": PRESETS[int(world.preset_loss.argmin())]}
    foreground = next(one for one in numbers if one.field == "foreground_fraction")
    strength = next(one for one in numbers if one.field == "augmentation.strength")
    found: list[tuple[float, ...]] = []
    for place in np.linspace(0, 1, 400):
        off = float(place - world.optimum[5])
        # Where the strength's own loss and that of its mixture with the foreground balance.
        balanced = world.optimum[4] + off * 0.1 / (0.15 + 0.1)
        values = best | {foreground.field: _value(foreground, place), strength.field: _value(strength, balanced)}
        found.append((world.dsc(values), world.seconds(values)))
    return found


def _volume(points: Sequence[tuple[float, ...]]) -> float:
    """Return the area that points (DSC, seconds) dominate, above a DSC of .7 and below 45 seconds."""
    area, reached = 0.0, 0.7
    ends = [*sorted(points, key=lambda point: point[1]), (0.0, 45.0)]
    for (dsc, seconds), (_, after) in pairwise(ends):
        reached = max(reached, dsc)
        area += (reached - 0.7) * max(min(after, 45.0) - min(seconds, 45.0), 0.0)
    return area


def _place(parameter: RealParameter, value: float) -> float:
    low, high, at = parameter.low, parameter.high, value
    if parameter.scale == "log":
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)


def _value(parameter: RealParameter, place: float) -> float:
    low, high = parameter.low, parameter.high
    if parameter.scale == "log":
        return float(low * (high / low) ** place)
    return float(low + place * (high - low))


PARTS: dict[str, tuple[tuple[str, ...], Callable[[int, Any], dict[str, Any]]]] = {
    "trials": (("tpe", "gp", "nsga2"), trials_row),
    "front": (("tpe", "nsga2"), front_row),
    "pruning": (("median", "hyperband"), pruning_row),
}
"""What is run of each part, and what makes a row of it."""


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the median over seeds of each figure, and the share of seeds whose winner is the same."""
    keys = [key for key, value in rows[0].items() if isinstance(value, int | float) and key != "seed"]
    found = {key: float(median(row[key] for row in rows)) for key in keys}
    if "same_winner" in found:
        found["same_winner"] = float(np.mean([row["same_winner"] for row in rows]))
    return {"seeds": float(len(rows))} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--part", choices=PARTS, action="append")
    asked = parser.parse_args()
    result: dict[str, Any] = (
        json.loads(RESULT.read_text()) if RESULT.is_file() else {"summary": {}, "rows": {}, "seconds": 0.0}
    )
    for part in asked.part or PARTS:
        names, make = PARTS[part]
        for name in names:
            rows = result["rows"].setdefault(f"{part} {name}", [])
            for seed in range(len(rows), min(asked.seeds, MOST_SEEDS.get(name, asked.seeds))):
                began = time.perf_counter()
                rows.append(make(seed, name))
                result["seconds"] = round(result["seconds"] + time.perf_counter() - began, 1)
                RESULT.write_text(json.dumps(result | {"machine": machine()}, indent=1) + "\n")
                print(part, rows[-1], file=sys.stderr)
            if rows:
                result["summary"][f"{part} {name}"] = summary(rows)
                print(part, name, json.dumps(summary(rows)))
    RESULT.write_text(json.dumps(result | {"machine": machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
