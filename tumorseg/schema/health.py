"""What `doctor` finds on a machine."""

from typing import Literal

from tumorseg.schema.base import Record

Grade = Literal["ok", "note", "warning", "blocker"]
"""ok: as it should be. note: to know. warning: a run will be slow, or may break. blocker: it will break."""
GRADES: tuple[Grade, ...] = ("blocker", "warning", "note", "ok")
"""The gravest first."""


class Check(Record):
    """One thing that was looked at."""

    name: str
    """What it is."""
    grade: Grade
    """How grave what was found is."""
    found: str
    """What was found, in one line."""
    advice: str = ""
    """What to do; empty where there is nothing to be done."""


class DoctorReport(Record):
    """The result of `doctor`."""

    checks: tuple[Check, ...]
    """In the order of a run's needs: packages, processor, GPU, folders, plan."""

    @property
    def has_blockers(self) -> bool:
        """Whether a run on this machine would break."""
        return any(check.grade == "blocker" for check in self.checks)
