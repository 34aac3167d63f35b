"""Whether changed values make a plan unsound that was not so before."""

from tumorseg.errors import PlanError
from tumorseg.planning.reading.soundness import Parsed, check_plan
from tumorseg.schema.plan import Plan


def check_changed(changed: Plan, plan: Plan) -> None:
    """Check that a changed plan has no error that the plan itself does not have: those do not keep it from being trained.

    Raises:
        PlanError: it has one.
    """
    known = set(_errors(plan))
    if new := [message for message in _errors(changed) if message not in known]:
        raise PlanError(f"plan {changed.name}: {'; '.join(new)}")


def _errors(plan: Plan) -> list[str]:
    return [found.message for found in check_plan(Parsed.of(plan), {}) if found.severity == "error"]
