"""Plan, preprocess, train fold 0 and validate on Task04_Hippocampus, as a user would, and write down what came of it.

    python -m benchmarks.hippocampus [--data-root ../shared/data] [--max-hours 0.2] [--device cpu]

The result goes to benchmarks/results/hippocampus.json, of a length other than the default to hippocampus_<hours>h.json beside it:
machine, commit, minutes, epochs, the lr at the end of each tenth of the training, held-out DSC per label.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine

DEFAULT_HOURS = 0.2
BARS = {"Anterior": 0.84, "Posterior": 0.82}
MOST_EXTRA_MINUTES = 8.0
"""Beyond the hours that the training is given: planning, preprocessing, full-size validation."""
RESULTS = Path(__file__).parent / "results"


def result_file(max_hours: float) -> Path:
    """Return where the figures of a length are kept."""
    return RESULTS / ("hippocampus.json" if max_hours == DEFAULT_HOURS else f"hippocampus_{max_hours:g}h.json")


def lr_by_tenths(log: list[dict[str, Any]]) -> list[float]:
    """Return the lr of the last step of the epoch in which each tenth of the training ends."""
    last_epochs = [math.ceil(tenth * len(log) / 10) - 1 for tenth in range(1, 11)]
    return [float(f"{log[epoch]['lr']:.3g}") for epoch in last_epochs]


def tumorseg(*arguments: str) -> dict[str, Any]:
    """Run a verb and return what it prints as JSON."""
    command = [sys.executable, "-m", "tumorseg", "--json", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run(data_root: str, max_hours: float, device: str, work: str) -> dict[str, Any]:
    """Run the job and return its figures."""
    roots = ["--data-root", data_root, "--work", f"{work}/runs"]
    plan = f"{work}/hippocampus.json"
    started = time.perf_counter()
    planning = ["plan", "-d", "MSD_Hippocampus", "--preset", "fast_prototyping", "--max-hours", str(max_hours)]
    tumorseg(*roots, *planning, "-o", plan)
    planned = time.perf_counter()
    tumorseg(*roots, "preprocess", "-p", plan)
    preprocessed = time.perf_counter()
    trained = tumorseg(*roots, "train", "-p", plan, "--fold", "0", "--device", device)
    ended = time.perf_counter()
    lines = (Path(trained["folder"]) / "log.jsonl").read_text().splitlines()
    log = [json.loads(line) for line in lines]
    summary = trained["metrics"]["summary"]
    return {
        "minutes": {
            "plan": round((planned - started) / 60, 2),
            "preprocess": round((preprocessed - planned) / 60, 2),
            "train_and_validate": round((ended - preprocessed) / 60, 2),
            "in_all": round((ended - started) / 60, 2),
        },
        "epochs": len(log),
        "iterations": log[-1]["iteration"],
        "lr_by_tenths": lr_by_tenths(log),
        "cases": len({case["case_id"] for case in trained["metrics"]["cases"]}),
        "held_out": {
            label: {
                "dsc": round(found["dsc"]["mean"], 4),
                "dsc_ci95": [round(bound, 4) for bound in found["dsc"]["ci95"]],
                "nsd": round(found["nsd"]["mean"], 4),
                "hd95_mm": round(found["hd95_mm"]["mean"], 3),
            }
            for label, found in summary.items()
        },
    }


def main() -> int:
    """Run, write the result, and say whether the bars are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", default="../shared/data")
    parser.add_argument("--max-hours", type=float, default=DEFAULT_HOURS)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        figures = run(options.data_root, options.max_hours, options.device, work)
    scores = {label: found["dsc"] for label, found in figures["held_out"].items()}
    minutes = options.max_hours * 60 + MOST_EXTRA_MINUTES
    is_met = figures["minutes"]["in_all"] <= minutes and all(scores[label] >= bar for label, bar in BARS.items())
    bars = {"dsc": BARS, "minutes": minutes, "is_met": is_met}
    command = " ".join(["python", "-m", "benchmarks.hippocampus", "--max-hours", str(options.max_hours)])
    RESULTS.mkdir(exist_ok=True)
    result = {"command": command, "machine": machine(), "bars": bars, **figures}
    result_file(options.max_hours).write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    print(json.dumps(result, indent=2, sort_keys=True))
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
