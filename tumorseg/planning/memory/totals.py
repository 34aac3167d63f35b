"""The memory that a whole plan needs, against its budget."""

from tumorseg.planning.memory.budgets import CONTEXT_BYTES, MARGIN, needed_bytes
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.rehearsal import Setting, setting_of
from tumorseg.schema.extensions import External
from tumorseg.schema.plan import MemoryCount, Plan, Reason
from tumorseg.schema.targets import targets_of

COUNTED_REASON = Reason(
    rule="allocations of a training step and of inference, followed on the networks themselves, for the configuration "
    f"that needs most; {MARGIN:.0%} for unused blocks and {CONTEXT_BYTES >> 20} MiB for CUDA's context on top",
    inputs={"margin": MARGIN, "context_bytes": CONTEXT_BYTES},
)
"""Why a plan predicts the memory that it does."""


def predict_memory(plan: Plan, counter: MemoryCounter) -> Plan:
    """Return the plan with the memory counted for what it holds now; none where only other packages know its networks.

    Raises:
        PlanError: another package's loss is not installed in the plan's version.
    """
    counts = count_configurations(plan, counter)
    predicted = max((needed_bytes(count) for count in counts.values()), default=None)
    update = {"counts": counts, "predicted_bytes": predicted}
    reasons = plan.reasons if predicted is None else plan.reasons | {"budget.predicted_bytes": COUNTED_REASON}
    return plan.changed(budget=plan.budget.changed(**update), reasons=reasons)


def count_configurations(plan: Plan, counter: MemoryCounter) -> dict[str, MemoryCount]:
    """Return the memory of each configuration, but those with a network of another package."""
    setting = plan_setting(plan)
    counts = {}
    for name, configuration in sorted(plan.configurations.items()):
        if not isinstance(configuration.network, External):
            own = setting_of(setting, configuration)
            counts[name] = counter.count(configuration, own, num_gpus=plan.budget.num_gpus)
    return counts


def plan_setting(plan: Plan) -> Setting:
    """Return what a plan's networks are trained on, the channels being those of images."""
    precision = plan.step_precision
    has_average = plan.training.ema is not None
    return Setting(len(plan.dataset.channels), targets_of(plan.dataset), precision, has_average)
