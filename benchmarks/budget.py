"""Whether `predict --budget` keeps its promise, on two cores and pinned to one, and what it chooses.

    python -m benchmarks.budget --model MODEL [--data-root ../shared/data] [--budgets 1s 3s 10s] [--cases 8]
    python -m benchmarks.budget --fold WORK/…/3d_fullres/fold_0 …

MODEL is a folder that `tumorseg select` made of Task04_Hippocampus. With --fold a model of that one fold is made and measured first, on
cases that the fold held out. Results go to benchmarks/results/budget.json.

Two times are held against each budget. A case alone, the largest of them: all parts of its entry in report.json but the network's, whose
seconds pass while the case waits for it. A folder of several: the whole command, minus the same command once more, which starts, times its
tiles and finds every case done; divided by the number of cases.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import machine
from tumorseg.schema.base import to_json
from tumorseg.schema.dataset import Case
from tumorseg.schema.ensembles import Combination
from tumorseg.stages.inference.ensemble_folder import save_ensemble
from tumorseg.stages.opening.fold_folders import fold_plan, read_run
from tumorseg.stages.opening.loaded import Roots, open_planned_dataset
from tumorseg.stages.opening.reading import largest_first
from tumorseg.stages.selection.measure_settings import SettingsRequest, measure_settings
from tumorseg.stages.selection.setting_notes import HeldOut
from tumorseg.storage.ensemble_layout import EnsembleFolder
from tumorseg.storage.layout import FoldFolder, engine_cache

RESULT = Path(__file__).parent / "results" / "budget.json"
PINS = {"two cores": "0,1", "one core": "0"}
"""As `taskset -c` takes them."""
ALLOWED = 1.2
"""Of a budget."""
_TOLD = re.compile(r"--budget \S+: (.*); ([\d.e+-]+) s are expected")


class Bench(NamedTuple):
    """What all runs share."""

    model: Path
    work: Path
    cases: Sequence[Case]
    """The largest first."""
    folder: Path
    """For results."""


def held_out_cases(fold: FoldFolder, data_root: Path) -> list[Case]:
    """Return the cases that a fold held out, the largest first."""
    plan = fold_plan(fold)
    dataset = open_planned_dataset(plan, Roots(data_root=data_root), "MSD_Hippocampus")
    held_out = set(plan.folds[int(read_run(fold).fold)])
    return largest_first(case for case in dataset.cases if case.case_id in held_out)


def make_model(fold: FoldFolder, cases: Sequence[Case], folder: Path) -> Path:
    """Make a model of one fold, and measure its settings on cases that it held out."""
    began = time.perf_counter()
    request = SettingsRequest(
        members=((fold.root,),),
        combination=Combination(),
        cases=tuple(HeldOut(case, (fold.root,)) for case in cases),
        device="cpu",
        keep=folder / "notes",
        cache=engine_cache(folder / "runs"),
    )
    table = measure_settings(request)
    print(f"  settings measured in {time.perf_counter() - began:.0f} s", flush=True)
    for row in table.rows:
        print(f"  {row.setting}: DSC {row.dsc}, NSD {row.nsd}, {row.seconds:.2f} s, {row.peak_bytes} bytes", flush=True)
    model = folder / "model"
    extra = {EnsembleFolder(model).settings.name: to_json(table).encode()}
    save_ensemble(model, [[fold.root]], combination=Combination(), extra=extra)
    return model


def predict(bench: Bench, cases: Sequence[Case], output: Path, *, budget: str, pin: str) -> tuple[float, str]:
    """Run the command, and return its seconds and what it said."""
    files: list[str] = []
    for case in cases:
        files += ("-i", case.images[0].path)
    command = ["taskset", "-c", pin, sys.executable, "-m", "tumorseg", "--work", str(bench.work / "runs"), "predict"]
    command += ["-m", str(bench.model), *files, "-o", str(output), "--device", "cpu", "--budget", budget]
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    return time.perf_counter() - began, done.stderr


def rows(bench: Bench, budgets: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a row for each budget and pin: what was chosen, what was expected, and what it took."""
    for name, pin in PINS.items():
        for budget in budgets:
            row: dict[str, Any] = {"cores": name, "budget": budget}
            row |= _measured(bench, budget, pin, bench.folder / f"{name} {budget}")
            print(f"  {row}", flush=True)
            yield row


def _measured(bench: Bench, budget: str, pin: str, output: Path) -> dict[str, Any]:
    seconds, said = predict(bench, bench.cases, output / "all", budget=budget, pin=pin)
    told = _TOLD.search(said)
    if told is None:
        return {"refused": said.strip().splitlines()[-1]}
    again, _ = predict(bench, bench.cases, output / "all", budget=budget, pin=pin)
    _, said_alone = predict(bench, bench.cases[:1], output / "one", budget=budget, pin=pin)
    alone = _TOLD.search(said_alone)
    return {
        "setting": told[1],
        "expected_s": float(told[2]),
        "num_cases": len(bench.cases),
        "s_a_case_in_a_folder": round((seconds - again) / len(bench.cases), 3),
        "setting_alone": None if alone is None else alone[1],
        "s_of_the_largest_alone": round(_own_seconds(output / "one"), 3) if alone else None,
    }


def _own_seconds(folder: Path) -> float:
    """Return what the one case of a folder took from its files to its mask."""
    (entry,) = json.loads((folder / "report.json").read_text())["cases"].values()
    return sum(seconds for part, seconds in entry["seconds"].items() if part != "network")


def is_kept(row: dict[str, Any]) -> bool:
    """Return whether a row's times are within what is allowed; a budget that was refused is not broken."""
    if "refused" in row:
        return True
    most_s = ALLOWED * float(row["budget"].removesuffix("s"))
    times = (row["s_a_case_in_a_folder"], row["s_of_the_largest_alone"])
    return all(seconds is None or seconds <= most_s for seconds in times)


def main() -> int:
    """Run, write the result, and say whether every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="made by `tumorseg select`")
    parser.add_argument("--fold", type=Path, help="trained fold to make a model of; tells the held-out cases too")
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--budgets", nargs="+", default=["1s", "2s", "4s", "10s"], help="in seconds")
    parser.add_argument("--cases", type=int, default=8)
    options = parser.parse_args()
    if options.fold is None:
        options.fold = next(options.model.glob("members/0/fold_*"))
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        cases = held_out_cases(FoldFolder(options.fold), options.data_root)
        model = options.model or make_model(FoldFolder(options.fold), cases, folder)
        bench = Bench(model, folder, cases[: options.cases], folder / "out")
        # Networks are converted once, which is no part of any case.
        predict(bench, cases[:1], folder / "first", budget="1h", pin=PINS["two cores"])
        found = list(rows(bench, options.budgets))
        table = json.loads(EnsembleFolder(model).settings.read_text())
    kept = all(map(is_kept, found))
    result = {"machine": machine(), "allowed": ALLOWED, "rows": found, "all_kept": kept, "settings": table}
    RESULT.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
