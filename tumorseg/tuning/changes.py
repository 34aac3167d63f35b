"""A plan's document with fields of one configuration changed: how all of tuning sets values."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import JsonValue

from tumorseg.errors import PlanError
from tumorseg.losses.presets import deep_supervision_weights
from tumorseg.planning.deciding_fields import DECIDING
from tumorseg.planning.overrides import set_field
from tumorseg.schema.base import parse_record
from tumorseg.schema.fields import Place, places, rank
from tumorseg.schema.networks import NETWORKS
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.tuning import Values

SOURCE = "the space's"
"""What error messages call a field by."""
WEIGHTS = "loss.deep_supervision_weights"
"""Field that follows the network: a weight for each of its outputs."""


class Changed(NamedTuple):
    """A document with values set."""

    document: dict[str, Any]
    """All of the plan but its reasons."""
    values: Values
    """Those that changed something, in the order in which they were set, and those that followed."""


def tuned_configuration(plan: Plan, name: str) -> Configuration:
    """Return the configuration that is tuned.

    Raises:
        PlanError: the plan has none of that name, or it is a cascade.
    """
    if name not in plan.configurations:
        known = ", ".join(plan.configurations)
        raise PlanError(f"plan {plan.name} has no configuration {name}; choose one of {known}")
    configuration = plan.configurations[name]
    if configuration.previous_configuration is not None:
        previous = configuration.previous_configuration
        raise PlanError(
            f"configuration {name} is a cascade, for whose trials {previous} would have to be trained on each split of the "
            f"cases; tune {previous} or another configuration that is none"
        )
    return configuration


def document_of(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON, without its reasons."""
    return plan.model_dump(mode="json", exclude={"reasons"})


def places_in(document: Mapping[str, Any], configuration: str, field: str) -> list[Place]:
    """Return the places from a plan's document down to a field of a configuration.

    Raises:
        PlanError: there is no such field; the message lists those that there are.
    """
    return places(Plan, document, f"configurations.{configuration}.{field}", source=SOURCE, error=PlanError)


def set_values(document: Mapping[str, Any], configuration: str, values: Values) -> Changed:
    """Return a plan's document with fields of a configuration set, not validated yet.

    Fields further out are set first, so that none undoes another; the loss is given a weight for each output of the
    network. A value that is there already is not set: naming a preset would begin with its defaults again.

    Args:
        document: as in JSON, without reasons; it stays as it is.
        configuration: name.
        values: by field within the configuration.

    Raises:
        PlanError: a field that does not exist, or a value that it cannot have.
    """
    changed = Changed(dict(document), {})
    for field in sorted(values, key=lambda one: rank(one, DECIDING)):
        changed = _with_value(changed, configuration, field, values[field])
    has_network = any(field.startswith("network.") for field in changed.values)
    if not has_network or WEIGHTS in values:
        return changed
    fitting = _fitting_weights(changed.document["configurations"][configuration])
    return changed if fitting is None else _with_value(changed, configuration, WEIGHTS, fitting)


def _with_value(changed: Changed, configuration: str, field: str, value: JsonValue) -> Changed:
    if places_in(changed.document, configuration, field)[-1].value == value:
        return changed
    full = f"configurations.{configuration}.{field}"
    document = set_field(changed.document, full, value, source=SOURCE).document
    return Changed(document, {**changed.values, field: value})


def _fitting_weights(configuration: Mapping[str, Any]) -> JsonValue:
    """Return a weight for each output of a configuration's network, or None if its loss has as many already."""
    record = NETWORKS.get(configuration["network"]["name"])
    # Of another package's network nothing is known before it is built.
    if record is None:
        return None
    network = parse_record(record, configuration["network"], source="network", error=PlanError)
    if len(configuration["loss"]["deep_supervision_weights"]) == network.num_supervised:
        return None
    return list(deep_supervision_weights(network.num_supervised))


def parsed_configuration(document: Mapping[str, Any], name: str) -> Configuration:
    """Return a configuration of a plan's document, validated by itself.

    Raises:
        PlanError: it is unsound; the message names the fields at fault.
    """
    found = document["configurations"][name]
    return parse_record(Configuration, found, source=f"configurations.{name}", error=PlanError)
