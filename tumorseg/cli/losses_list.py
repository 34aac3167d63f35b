"""`tumorseg losses list`."""

from collections.abc import Iterator
from typing import Any

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.output import show


@click.command()
@click.pass_obj
def command(settings: Settings, /) -> None:
    """List presets (`--set loss.preset=NAME`) and the losses that they, or a plan, are made of."""
    from tumorseg.losses.catalogue import list_losses, list_presets

    presets, losses = list_presets(), list_losses()
    show(settings, {"presets": presets, "losses": losses}, "\n".join([*_presets(presets), "", *_losses(losses)]))


def _presets(presets: list[dict[str, Any]]) -> Iterator[str]:
    yield "Presets, for --set loss.preset=NAME (or a JSON file of your own)"
    for preset in presets:
        yield f"  {preset['name']}: {preset['sum']}"
        yield click.wrap_text(preset["when"], 100, "      ", "      ")
        yield click.wrap_text(f"from {preset['source']}", 100, "      ", "      ")


def _losses(losses: list[dict[str, Any]]) -> Iterator[str]:
    yield "Losses, for loss.components; what is marked with ~ may be a schedule such as"
    yield '  {"name": "linear", "start": 0, "end": 0.5}  (also cosine, step, warm_up)'
    for loss in losses:
        yield f"  {loss['name']}  ({loss['targets']})"
        yield f"      {loss['formula']}"
        yield f"      {loss['range']}; {loss['source']}; costs {loss['cost']}"
        for name, parameter in loss["parameters"].items():
            mark = " ~" if parameter["may_change"] else ""
            text = f"{name}{mark} = {_default(parameter['default'])}: {parameter['meaning']}"
            yield click.wrap_text(text, 100, "      ", "          ")


def _default(value: Any) -> str:
    """Return a default as it stands in JSON, but for texts, which go without quotes."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
