"""What `doctor` found as plain text."""

from collections import Counter

from tumorseg.reports.tables import terminal_table
from tumorseg.schema.health import GRADES, DoctorReport


def doctor_text(report: DoctorReport) -> str:
    """Return the table of checks, what to do about each that is not in order, and a line that counts them."""
    rows = [{"check": one.name, "grade": one.grade, "found": one.found} for one in report.checks]
    # Sorting keeps the order of checks within a grade.
    gravest_first = sorted(report.checks, key=lambda one: GRADES.index(one.grade))
    advice = [f"{one.name}: {one.advice}" for one in gravest_first if one.advice]
    counts = Counter(one.grade for one in report.checks)
    total = ", ".join(f"{counts[grade]} x {grade}" for grade in GRADES if counts[grade])
    parts = [terminal_table(rows), "\n".join(["what to do:", *advice]) if advice else "", total]
    return "\n\n".join(filter(None, parts))
