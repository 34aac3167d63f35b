"""A study as it may come out: trials that were finished, pruned and failed, two candidates, one of them a gain."""

from pathlib import Path

import numpy as np

from tumorseg.schema.plan import Plan
from tumorseg.schema.tuning import Judged, Score, Trial, TuningResult, Verdict
from tumorseg.storage.json_files import read_record

PLANS = Path(__file__).parents[2] / "plans"
RUNGS = (150, 300, 600)
SPACE = {
    "parameters": [
        {
            "name": "choice",
            "field": "loss.preset",
            "options": ["dice_ce", "dice_focal", "dice_topk"],
            "center": "dice_ce",
        },
        {"name": "choice", "field": "optimizer.name", "options": ["adamw", "sgd"], "center": "adamw"},
        {"name": "real", "field": "optimizer.lr", "low": 1e-4, "high": 0.05, "scale": "log", "center": 0.002},
        {"name": "real", "field": "optimizer.weight_decay", "low": 1e-6, "high": 0.1, "scale": "log", "center": 0.01},
        {
            "name": "real",
            "field": "optimizer.momentum",
            "low": 0.8,
            "high": 0.999,
            "center": 0.9,
            "when": {"field": "optimizer.name", "values": ["sgd"]},
        },
        {"name": "real", "field": "sampling.foreground_fraction", "low": 0.1, "high": 0.9, "center": 0.33},
        {
            "name": "real",
            "field": "augmentation.transforms.gaussian_noise.probability",
            "low": 0,
            "high": 0.6,
            "center": 0.1,
        },
        {"name": "whole", "field": "augmentation.strength", "low": 0, "high": 3, "center": 1},
    ],
    "starts": [{"title": "sgd as nnU-Net", "source": "Isensee 2021 <nnU-Net>", "values": {"optimizer.name": "sgd"}}],
}
IMPORTANCES = {"optimizer.lr": 0.46, "loss.preset": 0.21, "sampling.foreground_fraction": 0.17, "optimizer.name": 0.09}


def tuned_plan() -> Plan:
    """Return the plan that the study refines."""
    return read_record(Plan, PLANS / "BrainTumour__fast_prototyping.json")


def drawn_values(rng: np.random.Generator) -> dict[str, object]:
    """Return values of one trial."""
    found: dict[str, object] = {
        "loss.preset": str(rng.choice(["dice_ce", "dice_focal", "dice_topk"])),
        "optimizer.name": str(rng.choice(["adamw", "sgd"], p=(0.7, 0.3))),
        "optimizer.lr": float(0.002 * np.exp(rng.normal(0, 1))),
        "optimizer.weight_decay": float(np.exp(rng.uniform(np.log(1e-6), np.log(0.1)))),
        "sampling.foreground_fraction": float(rng.uniform(0.1, 0.9)),
        "augmentation.transforms.gaussian_noise.probability": float(rng.uniform(0, 0.6)),
    }
    if found["optimizer.name"] == "sgd":
        found["optimizer.momentum"] = float(rng.uniform(0.8, 0.999))
    return found


def drawn_trial(number: int, rng: np.random.Generator, objectives: tuple[str, ...]) -> Trial:
    """Return a trial: every third is pruned, every eleventh failed, the first has the plan's own values."""
    values = drawn_values(rng) if number else {}
    title = {0: "default", 1: "sgd as nnU-Net"}.get(number, "")
    if number and number % 11 == 0:
        message = "needs 9.1 GB, 1.1 GB more than the <budget> of 8.0 GB; it was not run"
        return Trial(number=number, state="failed", values=values, message=message)
    skill = 0.86 - 0.02 * abs(float(np.log(values.get("optimizer.lr", 0.002) / 0.004))) + float(rng.normal(0, 0.006))
    reached = RUNGS[: 1 + int(rng.integers(2))] if number % 3 == 2 else RUNGS
    scores = []
    for iteration in reached:
        dsc = skill - 0.08 * (600 - iteration) / 600
        figures = {"dsc": dsc, "nsd": dsc + 0.05, "hd95": 30 * (1 - dsc), "seconds": float(1 + rng.random())}
        scores.append(Score(iteration=iteration, values=tuple(figures[name] for name in objectives), seconds=42.0))
    state = "finished" if reached == RUNGS else "pruned"
    return Trial(
        number=number, title=title, state=state, values=values, scores=tuple(scores), seconds=42.0 * len(reached)
    )


def tuning_result(
    objectives: tuple[str, ...] = ("dsc",), num_trials: int = 36, *, is_gain: bool = True
) -> TuningResult:
    """Return what a study found."""
    plan, rng = tuned_plan(), np.random.default_rng(0)
    trials = tuple(drawn_trial(number, rng, objectives) for number in range(num_trials))
    finished = [trial for trial in trials if trial.state == "finished" and trial.number]
    best = sorted(finished, key=lambda trial: -trial.scores[-1].values[0])[:2]
    document = {
        "tumorseg_version": "0.1.0",
        "name": "BrainTumour",
        "plan_name": plan.name,
        "plan_hash": "0" * 32,
        "configuration": "3d_fullres",
        "objectives": objectives,
        "sampler": "tpe",
        "pruner": "median",
        "seed": 0,
        "space": SPACE,
        "proxy": {"iterations": 600, "rungs": RUNGS, "most_cases": 8},
        "split": {"training": list(plan.folds[2] + plan.folds[3]), "scored": list(plan.folds[0])},
        "judges": (1,),
        "final_iterations": 2400,
        "final_seeds": (101, 102),
        "most_trials": num_trials or None,
        "hours": 1.5,
    }
    judged = [
        Judged(
            title="the plan as it was", number=0, values={}, mean=0.861, by_training={"1 101": 0.859, "1 102": 0.863}
        )
    ]
    verdicts = []
    for trial, gain in zip(best, (0.0123, 0.0041), strict=False):
        means = {"1 101": 0.861 + gain - 0.001, "1 102": 0.861 + gain + 0.001}
        judged.append(
            Judged(
                title=f"trial {trial.number}",
                number=trial.number,
                values=trial.values,
                mean=0.861 + gain,
                by_training=means,
            )
        )
        is_one = is_gain and gain > 0.01
        low = 0.0034 if is_one else -0.0047
        verdicts.append(
            Verdict(
                number=trial.number,
                gain=gain,
                ci95=(low, 2 * gain - low),
                p=0.004,
                p_holm=0.008 if is_one else 0.21,
                is_gain=is_one,
            )
        )
    chosen = best[0].number if is_gain and best else None
    claim = f"Trial {chosen} gains 0.0123 DSC (0.0034 to 0.0212)." if chosen else "No candidate was shown to be better."
    return TuningResult(
        study=document,
        trials=trials,
        pareto=tuple(trial.number for trial in best),
        importances=IMPORTANCES if best else {},
        judged=tuple(judged),
        verdicts=tuple(verdicts),
        chosen=chosen,
        claim=claim,
        seconds=5312.0,
        worker_seconds=9921.0,
    )


def differences_of(result: TuningResult) -> dict[int, dict[str, float]]:
    """Return gains of each candidate case by case."""
    rng = np.random.default_rng(1)
    found = {}
    for verdict in result.verdicts:
        gains = rng.normal(verdict.gain, 0.02, 26)
        found[verdict.number] = {f"case_{number:03}": float(gain) for number, gain in enumerate(gains)}
    return found
