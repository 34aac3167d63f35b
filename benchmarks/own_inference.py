"""Our command line with a clock around the passes of the network.

    python -m benchmarks.own_inference predict -m MODEL -i INPUTS -o OUTPUTS

Takes the arguments of `tumorseg`. The last line tells the seconds in which at least one pass ran: passes that run side by side
count once, so that all but them is what is left of the time on the clock.
"""

import json
import sys
import time
from collections.abc import Iterable

from tumorseg.cli.main import run
from tumorseg.engine.stopwatch import Stopwatch

Span = tuple[float, float]
"""Begin and end."""

SPANS: list[Span] = []
"""Of each pass."""
add_seconds = Stopwatch.add


def noted(stopwatch: Stopwatch, name: str, seconds: float) -> None:
    """Count seconds that have just passed, and note when a pass began and ended."""
    if name == "network":
        ended = time.perf_counter()
        SPANS.append((ended - seconds, ended))
    add_seconds(stopwatch, name, seconds)


def covered(spans: Iterable[Span]) -> float:
    """Return how long at least one of the spans lasted."""
    total, until = 0.0, float("-inf")
    for began, ended in sorted(spans):
        total += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return total


if __name__ == "__main__":
    Stopwatch.add = noted  # type: ignore[method-assign,assignment]
    code = run(sys.argv[1:])
    print("RESULT" + json.dumps({"network_s": covered(SPANS), "num_passes": len(SPANS)}))
    sys.exit(code)
