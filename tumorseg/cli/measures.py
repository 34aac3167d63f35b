"""Options that choose metrics and how they are measured."""

from typing import Any, NamedTuple

import click

from tumorseg.cli.numbers import MILLIMETRES


class Tolerance(NamedTuple):
    """A tolerance as an option states it."""

    label: str | None
    """None for all that have none of their own."""
    mm: float


class ToleranceType(click.ParamType[Tolerance]):
    """Option type for `MM` and `LABEL=MM`."""

    name = "[label=]mm"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Tolerance:
        """Return the tolerance, and the label that has it."""
        # From the right: a label may be called as it likes.
        label, equals, number = str(value).rpartition("=")
        if equals and not label:
            self.fail(f"{value!r} names no label; expected MM or LABEL=MM.", param, ctx)
        return Tolerance(label or None, float(MILLIMETRES.convert(number, param, ctx)))


class Metrics(click.ParamType[tuple[str, ...]]):
    """Option type for a list of metrics and groups of them."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the metrics' names, in the order of tables."""
        from tumorseg.schema.metric_names import chosen_metrics

        try:
            return value if isinstance(value, tuple) else chosen_metrics(str(value))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


metrics_option = click.option(
    "--metrics",
    type=Metrics(),
    default=(),
    show_default=False,
    metavar="LIST",
    help="Names and groups (overlap, surface, volume, lesions, …), `default`, `all`.  [default: dsc,nsd,hd95_mm,volume_error_ml; of "
    "tables what they hold]",
)
tolerance_option = click.option(
    "--tolerance",
    "tolerances",
    type=ToleranceType(),
    multiple=True,
    metavar="[LABEL=]MM",
    help="Of NSD and boundary IoU, for all labels or for one; may be given often.  [default: 1]",
)

lesions_option = click.option(
    "--lesions", metavar="RULES", help="Rules by which lesions are matched.  [default: brats_gli]"
)


def lesions_of(stated: str | None) -> dict[str, Any]:
    """Return the fields of `ScoreRules` that a choice of rules for lesions states.

    Raises:
        click.BadParameter: there are no such rules.
    """
    from tumorseg.schema.score_rules import lesion_preset

    if stated is None:
        return {}
    try:
        preset = lesion_preset(stated)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="--lesions") from None
    return {"lesions": preset.rules, "label_lesions": dict(preset.by_label)}


def tolerances_of(stated: tuple[Tolerance, ...]) -> dict[str, Any]:
    """Return the fields of a request that tolerances state.

    Raises:
        click.BadParameter: one is stated twice.
    """
    labels = [tolerance.label for tolerance in stated]
    if repeated := [label for label in labels if labels.count(label) > 1]:
        what = f"of {repeated[0]} " if repeated[0] else ""
        raise click.BadParameter(f"the tolerance {what}is given twice.", param_hint="--tolerance")
    found: dict[str, Any] = {
        "tolerances_mm": {tolerance.label: tolerance.mm for tolerance in stated if tolerance.label}
    }
    for tolerance in stated:
        if tolerance.label is None:
            found["tolerance_mm"] = tolerance.mm
    return found
