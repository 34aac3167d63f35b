"""The process of one part: its rows go to a file, one after the other.

python -m benchmarks.gpu.part training --rows rows.jsonl --seconds 120 --device cuda
"""

import argparse
import json
import time
from importlib import import_module
from pathlib import Path

from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.sizes import Row, Size, lacking


def main() -> None:
    """Measure a part; one whose package is not installed says so in its only row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[part.name for part in PARTS])
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--seconds", type=float, required=True, help="after which this process is ended")
    options = parser.parse_args()
    size = Size(options.device, options.dry_run, time.monotonic() + options.seconds)
    with options.rows.open("w", encoding="utf-8") as file:

        def tell(row: Row) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()

        try:
            measure = import_module(f"benchmarks.gpu.{options.name}").measure
            measure(size, tell)
        except ModuleNotFoundError as error:
            tell({"skipped": lacking(error)})


if __name__ == "__main__":
    main()
