"""`tumorseg plan explain`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.output import show
from tumorseg.cli.paths import OUTPUT, PATH

if TYPE_CHECKING:
    from tumorseg.planning.reading.explanation import Explanation
    from tumorseg.schema.plan import Reason


@click.command()
@click.argument("plan_path", metavar="PLAN", type=PATH)
@click.option("--html", type=OUTPUT, help="Write a page with everything and pictures of the networks.")
@click.option("--picture", type=OUTPUT, metavar="FILE.svg|png", help="Draw the networks of all configurations.")
@click.pass_obj
def command(settings: Settings, /, *, plan_path: Path, **options: Any) -> None:
    """Tell what each value of a plan is, the rule behind it, the figures that led to it, and what else could be.

    And what each network looks like: stages with their shapes, receptive field and memory.
    """
    from tumorseg.reports.explanation import explanation_text
    from tumorseg.stages.opening.loaded import read_plan
    from tumorseg.stages.planning.explain import ExplainPlanRequest, explain_plan

    explanation = explain_plan(ExplainPlanRequest(plan=read_plan(plan_path), **options))
    written = [f"written to {path}" for path in options.values() if path is not None]
    show(settings, _json(explanation), "\n".join([explanation_text(explanation), *written]))


def _json(explanation: "Explanation") -> dict[str, Any]:
    """Return every value by its dotted field, and the networks by their configuration."""
    values = {}
    for item, reason in explanation.leaves():
        entry = {"value": item.value, "meaning": item.meaning, "is_set_by_user": item.is_set_by_user}
        values[item.field] = entry | _reason_json(reason)
    networks = {}
    for section in explanation.sections:
        if section.configuration:
            networks[section.configuration] = section.anatomy.model_dump(mode="json") if section.anatomy else None
    return {"plan": explanation.name, "dataset": explanation.dataset, "values": values, "networks": networks}


def _reason_json(reason: "Reason | None") -> dict[str, Any]:
    """Return the same keys whether or not a value has a reason."""
    if reason is None:
        return {"rule": None, "inputs": {}, "alternative": None}
    return {"rule": reason.rule, "inputs": reason.inputs, "alternative": reason.alternative}
