"""Watch over silent workers: they compute, wait, or have been stopped."""

from dataclasses import dataclass, field
from time import monotonic

from tumorseg.workers.machine import STOPPED, ProcessState

TELL_EVERY_S = 60.0
"""How often a worker that waits is named."""
MOST_STOPPED_S = 5.0
"""How long a worker may be stopped while its parent runs."""
LONGEST_LOOK_S = 1.0
"""Most that one look counts: where the parent was stopped along with its workers (Ctrl-Z), the time between is not theirs."""
LEAST_SHARE = 0.02
"""Share of a processor below which a worker is taken to wait."""


@dataclass
class Watch:
    """Observations of a worker since it began its case."""

    began_s: float = field(default_factory=monotonic)
    """When the case began; all times are of the monotonic clock."""
    stopped_s: float = 0.0
    """How long it has been stopped without a break."""
    looked_s: float = field(default_factory=monotonic)
    """Time of the last look."""
    reported_s: float = field(default_factory=monotonic)
    """Time of the last word on it, or of its beginning."""
    cpu_s: float = 0.0
    """Processor time that it had taken by then."""

    @classmethod
    def begin(cls, state: ProcessState | None) -> "Watch":
        """Return the watch of a worker that begins a case now; what it has computed before does not count."""
        return cls(cpu_s=0.0 if state is None else state.cpu_s)

    @property
    def is_stopped(self) -> bool:
        """Return whether it has been stopped for too long."""
        return self.stopped_s >= MOST_STOPPED_S

    def look(self, state: ProcessState | None, now_s: float) -> str | None:
        """Note what a worker does, and return what is to be reported of one that waits, once a minute.

        Args:
            state: of its process; None where the system does not tell.
            now_s: the time.
        """
        passed_s = min(now_s - self.looked_s, LONGEST_LOOK_S)
        self.looked_s = now_s
        is_stopped = state is not None and state.letter in STOPPED
        self.stopped_s = self.stopped_s + passed_s if is_stopped else 0.0
        since_s = now_s - self.reported_s
        if since_s < TELL_EVERY_S:
            return None
        waits = state is None or state.cpu_s - self.cpu_s < LEAST_SHARE * since_s
        # Also where there is nothing to report: each minute is judged by itself.
        self.reported_s, self.cpu_s = now_s, 0.0 if state is None else state.cpu_s
        return f"a worker has been at it for {now_s - self.began_s:.0f} s{_doing(state)}" if waits else None


def _doing(state: ProcessState | None) -> str:
    if state is None:
        return ""
    what = "waits for a disk or a network" if state.letter == "D" else "does not compute"
    return f" and {what} (state {state.letter}); it is waited for"
