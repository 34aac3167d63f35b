"""The precision that a training begins in, and keeps."""

import logging

from tumorseg.engine.precision import has_bf16
from tumorseg.engine.ranks import Ranks
from tumorseg.schema.plan import Plan, Reason

logger = logging.getLogger(__name__)

FIELD = "training.precision.cpu"


def as_computed(plan: Plan, device: str, ranks: Ranks) -> Plan:
    """Return a plan in the precision that the processors at hand compute in; a change is told, and noted in its reasons.

    Args:
        plan: of a training that begins.
        device: where.
        ranks: the processes that train together: one of them that lacks bf16 decides for all.
    """
    if device != "cpu" or plan.training.precision.cpu == "fp32":
        return plan
    if not ranks.any(not has_bf16()):
        return plan
    if ranks.rank == 0:
        logger.warning("this processor does not compute in bf16 (AVX512-BF16 or AMX): the training runs in fp32")
    reason = Reason(
        source="device",
        rule="fp32: bf16 was planned, and the processor does not compute in it",
        alternative="bf16 on a processor with AVX512-BF16 or AMX, which is faster (train --restart there)",
    )
    precision = plan.training.precision.changed(cpu="fp32")
    return plan.changed(training=plan.training.changed(precision=precision), reasons=plan.reasons | {FIELD: reason})


def tell_emulation(plan: Plan, device: str, ranks: Ranks) -> None:
    """Say that a training that began in bf16 goes on in it where a processor only emulates it."""
    if ranks.rank == 0 and device == "cpu" and plan.training.precision.cpu == "bf16" and not has_bf16():
        logger.warning("the training goes on in bf16, in which it began; this processor only emulates it, slowly")
