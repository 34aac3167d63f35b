"""Results on stdout: text for people, or one JSON object."""

import json
from typing import TYPE_CHECKING, Any

import click

from tumorseg.cli.main import Settings
from tumorseg.errors import escaped_lines, is_plain

if TYPE_CHECKING:
    from tumorseg.schema.comparisons import Comparison, Ranking
    from tumorseg.schema.metrics import MetricsReport
    from tumorseg.stages.opening.loaded import Roots


def roots_of(settings: Settings) -> "Roots":
    """Return the two folders of the global options as stages take them."""
    from tumorseg.stages.opening.loaded import Roots

    return Roots(data_root=settings.data_root, work=settings.work)


def show(settings: Settings, result: dict[str, Any], text: str) -> None:
    """Print a result the way that was asked for, with what it quotes of files escaped."""
    click.echo(_json(result) if settings.is_json else escaped_lines(text))


def _json(result: dict[str, Any]) -> str:
    # JSON has escapes of its own, which mean the same to who reads it.
    text = json.dumps(result, sort_keys=True, ensure_ascii=False)
    return text if is_plain(text) else "".join(sign if is_plain(sign) else json.dumps(sign)[1:-1] for sign in text)


def metrics_text(report: "MetricsReport") -> str:
    """Return the table of scores."""
    from tumorseg.reports.tables import summary_rows, terminal_table

    return terminal_table(summary_rows(report))


def subgroups_text(report: "MetricsReport") -> str:
    """Return the table of subgroups, empty where there are none."""
    from tumorseg.reports.tables import subgroup_rows, terminal_table

    return terminal_table(subgroup_rows(report))


def comparison_text(comparison: "Comparison") -> str:
    """Return the tables of a comparison, and what to bear in mind."""
    from tumorseg.reports.comparison_tables import comparison_lines

    return "\n".join(comparison_lines(comparison))


def ranking_text(ranking: "Ranking") -> str:
    """Return the tables of a ranking, and what to bear in mind."""
    from tumorseg.reports.comparison_tables import ranking_lines

    return "\n".join(ranking_lines(ranking))


def metrics_json(report: "MetricsReport") -> dict[str, Any]:
    """Return the scores as a JSON object."""
    return report.model_dump(mode="json")
