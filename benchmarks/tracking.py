"""What mirroring a training to MLflow costs it: the same training with and without, by turns.

    python -m benchmarks.tracking [--data-root ../shared/data] [--rounds 3] [--epochs 10]

On Task04_Hippocampus with preset fast_prototyping, on the CPU, mirrored to a database. The time of a training is that of its
epochs, by its log: start-up and preprocessing are the same. Results go to benchmarks/results/tracking.json.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.hippocampus import tumorseg
from benchmarks.machine import machine

RESULT = Path(__file__).parent / "results" / "tracking.json"
ITERATIONS = 40


def trained_seconds(roots: list[str], plan: str, epochs: int, options: list[str]) -> float:
    """Train fold 0 from the beginning and return the seconds of its epochs."""
    length = ["--epochs", str(epochs), "--iterations", str(ITERATIONS), "--validation", "none", "--restart"]
    trained = tumorseg(*roots, "train", "-p", plan, "--fold", "0", "--device", "cpu", *length, *options)
    lines = (Path(trained["folder"]) / "log.jsonl").read_text().splitlines()
    return sum(float(json.loads(line)["seconds"]) for line in lines)


def main() -> None:
    """Run all rounds and write the figures down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", default="../shared/data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    kinds = {"without": ["--no-mlflow"], "with": []}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    # The last process beside a training may still be sending when the folder is removed.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        roots, plan = ["-q", "--data-root", arguments.data_root, "--work", f"{work}/runs"], f"{work}/plan.json"
        tumorseg(*roots, "plan", "-d", "MSD_Hippocampus", "--preset", "fast_prototyping", "-o", plan)
        tumorseg(*roots, "preprocess", "-p", plan)
        for _ in range(arguments.rounds):
            for kind, options in kinds.items():
                seconds[kind].append(round(trained_seconds(roots, plan, arguments.epochs, options), 2))
    result = {
        "iterations": arguments.epochs * ITERATIONS,
        "seconds": seconds,
        "ratio": round(median(seconds["with"]) / median(seconds["without"]), 4),
        "machine": machine(),
    }
    RESULT.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
