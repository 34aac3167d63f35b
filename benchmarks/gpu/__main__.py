"""Every GPU test and benchmark on the machine at hand, in at most ten minutes: `make gpu`.

    python -m benchmarks.gpu                              all parts; the result goes to benchmarks/results/gpu.json
    python -m benchmarks.gpu --parts tests training       some of them
    python -m benchmarks.gpu --minutes 4 --result FILE    in less time, to another file
    python -m benchmarks.gpu --dry-run --device cpu       the same code at a tiny size in seconds, without a GPU; nothing is kept

It needs no network and installs nothing. A part whose packages are not there is skipped, and says which; one that fails or takes
longer than it may is told as that, and the others go on. The file is written after each part.
"""

import argparse
import importlib.util
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import MOST_S, PARTS, ROOT, Outcome, Part, run_part
from benchmarks.gpu.sizes import Size
from benchmarks.gpu.tables import condensed, shown
from benchmarks.machine import machine

RESULT = ROOT / "benchmarks" / "results" / "gpu.json"
DRY_FACTOR = 4
"""Of the limits in a dry run, which hang on nothing but how long imports take."""
NO_GPU = (
    "this machine has no CUDA device that torch sees; `python -m benchmarks.gpu --dry-run --device cpu` tries all parts on the "
    "processor"
)


def main() -> int:
    """Run the parts; return 1 if anything failed."""
    options = parse()
    size = Size(options.device, options.dry_run)
    if (problem := lacks(size)) is not None:
        print(problem, file=sys.stderr)
        return 1
    # Or a part would outlive this process and hold the GPU.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    result: dict[str, Any] = {"machine": machine(), "dry_run": size.is_tiny, "parts": {}}
    began = time.perf_counter()
    outcomes: dict[str, Outcome] = {}
    for part in PARTS:
        if part.name in options.parts:
            left_s = 60 * options.minutes - (time.perf_counter() - began)
            outcomes[part.name] = tried(part, size, left_s)
            result["parts"][part.name] = outcomes[part.name]._asdict()
            result["seconds"] = round(time.perf_counter() - began, 1)
            keep(result, options)
    # Once more, all of them together: what was printed on the way may be far above.
    for name, outcome in outcomes.items():
        print(shown(name, outcome), flush=True)
    return int(not all(outcome.is_sound for outcome in outcomes.values()))


def tried(part: Part, size: Size, left_s: float) -> Outcome:
    """Run a part within its limit and what is left of all."""
    if left_s <= 0:
        return Outcome("over its limit", 0.0, "nothing was left of the time of all parts", [])
    print(f"{part.name} …", file=sys.stderr, flush=True)
    # Whoever tries the parts on a processor may have other things running there.
    limit_s = part.limit_s * (DRY_FACTOR if size.is_tiny else 1)
    outcome = run_part(part.name, size, min(limit_s, left_s))
    print(f"{part.name}: {outcome.status} after {outcome.seconds:g} s", file=sys.stderr, flush=True)
    return outcome._replace(rows=condensed(outcome.rows)) if part.name == "tests" else outcome


def keep(result: dict[str, Any], options: argparse.Namespace) -> None:
    """Write what there is so far; a dry run is kept only where it is told to be."""
    file: Path | None = options.result or (None if options.dry_run else RESULT)
    if file is not None:
        file.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def lacks(size: Size) -> str | None:
    """Return why nothing can be measured here; None if something can."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed for this Python; call another one, as in `make gpu PYTHON=/opt/venv/bin/python`"
    if size.device == "cpu" and not size.is_tiny:
        return "--device cpu goes with --dry-run: a processor would take hours for what is measured here"
    import torch

    return NO_GPU if size.device == "cuda" and not torch.cuda.is_available() else None


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [part.name for part in PARTS]
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dry-run", action="store_true", help="everything at a tiny size")
    parser.add_argument("--minutes", type=float, default=MOST_S / 60, help="for all parts together")
    parser.add_argument("--result", type=Path, help="file for the result")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
