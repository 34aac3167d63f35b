"""Standing of trainings as plain text."""

from collections import Counter
from collections.abc import Sequence

from tumorseg.reports.tables import NOTHING, terminal_table
from tumorseg.schema.quantities import duration_text
from tumorseg.schema.standing import StatusReport, TrainingStanding

UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
"""Seconds of a unit of time; the largest that fits is shown."""
SHORTENED = ("dataset", "plan", "configuration")
"""Columns that say nothing where all rows have the same, which then stands above the table."""
LONGEST_NOTE = 120


def status_text(report: StatusReport) -> str:
    """Return the table of trainings, and a line that counts them."""
    if not report.trainings:
        return f"no training below {', '.join(report.folders)}"
    rows = [_row(one) for one in report.trainings]
    common = {name: str(rows[0][name]) for name in SHORTENED if len({row[name] for row in rows}) == 1}
    columns = [name for name in rows[0] if name not in common]
    if not any(row["note"] for row in rows):
        columns.remove("note")
    title = ", ".join(f"{name} {value}" for name, value in common.items() if value)
    return "\n\n".join(filter(None, [title, terminal_table(rows, columns), _count_text(report)]))


def ago_text(seconds: float | None) -> str:
    """Return how long ago something was, in one unit: `3 s ago`, `2 d ago`."""
    if seconds is None:
        return NOTHING
    size, unit = next((one for one in UNITS if seconds >= one[0]), UNITS[-1])
    return f"{int(seconds // size)} {unit} ago"


def _row(one: TrainingStanding) -> dict[str, object]:
    return {
        "dataset": one.dataset,
        "plan": one.plan,
        "configuration": one.configuration,
        "fold": one.fold,
        "state": one.state,
        "epoch": _of(one.epoch, one.num_epochs),
        "dsc (best)": f"{_score(one.dsc)} ({_score(one.best_dsc)})",
        "left": NOTHING if one.seconds_left is None else duration_text(one.seconds_left),
        "last sign": ago_text(one.seconds_silent),
        "note": one.note if len(one.note) <= LONGEST_NOTE else f"{one.note[: LONGEST_NOTE - 1]}…",
    }


def _of(number: int | None, total: int | None) -> str:
    """Return `12/50`, as far as it is known."""
    if number is None:
        return NOTHING
    return str(number) if total is None else f"{number}/{total}"


def _score(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def _count_text(report: StatusReport) -> str:
    """Return how many trainings there are of each state, the commonest first."""
    counts = Counter(one.state for one in report.trainings)
    told: Sequence[str] = [f"{count} {state}" for state, count in counts.most_common()]
    aside = f"; {report.num_aside} moved aside by --restart are not listed" if report.num_aside else ""
    total = len(report.trainings)
    return f"{total} training{'' if total == 1 else 's'}: {', '.join(told)}{aside}"
