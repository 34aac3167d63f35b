"""How a training stands, decided from what was found of it."""

from typing import Any, NamedTuple

from tumorseg.schema.alive import SignOfLife
from tumorseg.schema.logs import EpochLog
from tumorseg.schema.quantities import duration_text
from tumorseg.schema.standing import RUNNING, TrainingState

SILENT_S = 120.0
"""Without a sign for so long, a training on another machine seems dead; it gives one every few seconds."""
STILL_S = 300.0
"""Without a step for so long, a training that lives may hang, or its disk does."""
GOES_ON = "the same command goes on"


class Found(NamedTuple):
    """What there is of a training."""

    sign: SignOfLife | None = None
    """Its sign of life."""
    sign_age_s: float = 0.0
    """How old it is, by the clock of its file system."""
    is_alive: bool | None = None
    """Whether the process whose sign it is lives; None where only its own machine can tell."""
    is_begun: bool = False
    """Whether the folder holds what a training begins with."""
    iteration: int = 0
    """Steps of the epochs that are logged."""
    num_iterations: int | None = None
    """Planned; None where that is not known yet."""
    last: EpochLog | None = None
    """The latest epoch that is logged."""
    has_checkpoint: bool = False
    """Whether it can be gone on with."""
    has_scores: bool = False
    """Whether its held-out cases are scored."""
    problem: str = ""
    """What is unreadable, and why."""
    remark: str = ""
    """Why its sign of life is unreadable, without which it can be judged."""


class Verdict(NamedTuple):
    """How a training stands."""

    state: TrainingState
    """In a word."""
    note: str = ""
    """What there is to know or to do."""


def judge(found: Found) -> Verdict:
    """Return how a training stands."""
    if found.problem:
        return Verdict("broken", found.problem)
    if found.sign is None:
        verdict = _judge_files(found)
        return verdict._replace(note="; ".join(filter(None, [found.remark, verdict.note])))
    if found.sign.phase in RUNNING:
        return _judge_running(found, found.sign)
    if found.sign.phase == "failed" and not _is_done(found):
        return Verdict("failed", found.sign.message)
    if found.sign.phase == "stopped" and not _is_done(found):
        return Verdict("stopped", f"{found.sign.message}; {GOES_ON}")
    return _judge_files(found)


def _judge_running(found: Found, sign: SignOfLife) -> Verdict:
    """Return how a training stands that has told of no end."""
    phase: Any = sign.phase
    if found.is_alive:
        still = sign.beat_at - sign.moved_at
        # Preparing and validating take cases, of which one may take long.
        is_still = sign.phase == "training" and still > STILL_S
        return Verdict(phase, f"no step for {duration_text(still)}" if is_still else "")
    if found.is_alive is None:
        if found.sign_age_s < SILENT_S:
            return Verdict(phase)
        return Verdict(
            "silent", f"look on {sign.process.host} for process {sign.process.process_id}; if it is gone, {GOES_ON}"
        )
    if _is_done(found):
        return Verdict("finished")
    if sign.phase == "validating":
        return Verdict("not validated", f"killed while validating; {GOES_ON}, or tumorseg validate")
    return Verdict("killed", f"while {sign.phase}; {GOES_ON}")


def _judge_files(found: Found) -> Verdict:
    """Return how a training stands whose process has ended by itself, or told nothing."""
    if found.last is not None and not found.has_checkpoint:
        return Verdict("broken", "latest.ckpt is missing; give --restart")
    is_trained = found.num_iterations is not None and found.iteration >= found.num_iterations
    if is_trained and (found.has_scores or (found.sign is not None and not found.sign.has_validation)):
        return Verdict("finished")
    if is_trained:
        return Verdict("not validated", "tumorseg validate scores it")
    if found.sign is not None and found.sign.phase == "finished":
        return Verdict("finished")
    return Verdict("stopped", f"told nothing of its end; {GOES_ON}")


def _is_done(found: Found) -> bool:
    """Return whether a training is trained and scored, whatever its process said: `validate` may have been given later."""
    is_trained = found.num_iterations is not None and found.iteration >= found.num_iterations
    return is_trained and found.has_checkpoint and found.has_scores
