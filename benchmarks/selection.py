"""What `select` promised against what its model does on cases that no fold has seen.

    python -m benchmarks.selection SELECTED --baseline MODEL --data-root ../shared/data -d Task04_Hippocampus --held-out cases.txt
        --study hippocampus

SELECTED is a folder made by `tumorseg select`; MODEL the best single candidate, as its `selection.json` names it; the file has a case_id a
line, none of which any plan knows. Both segment these cases with one fold each (what the estimate is of) and with all; the gain is to lie within
the interval of `select`'s estimate. Results go to benchmarks/results/selection.json by the name of the study.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from tumorseg.schema.selection import Selection
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.evaluation.evaluate import EvaluateRequest, evaluate
from tumorseg.stages.inference.predict import PredictRequest, predict
from tumorseg.stages.opening.loaded import Roots

RESULT = Path(__file__).parent / "results" / "selection.json"


def held_out_scores(model: Path, options: argparse.Namespace, folds: Sequence[str]) -> dict[str, list[float]]:
    """Return the DSC of each label or region over the held-out cases, in their order; 1 where neither mask has it."""
    wanted = options.held_out.read_text().split()
    dataset = open_dataset(options.dataset, options.data_root)
    cases = {case.case_id: case for case in dataset.cases}
    with tempfile.TemporaryDirectory() as folder:
        inputs, references, masks = (Path(folder) / name for name in ("in", "references", "masks"))
        for place in (inputs, references):
            place.mkdir()
        for case_id in wanted:
            for number, image in enumerate(cases[case_id].images):
                (inputs / f"{case_id}_{number:04}.nii.gz").symlink_to(Path(image.path).resolve())
            (references / f"{case_id}.nii.gz").symlink_to(Path(cases[case_id].label_files[0]).resolve())
        predict(PredictRequest(models=(model,), inputs=(inputs,), output=masks, folds=tuple(folds), device="cpu"))
        roots = Roots(data_root=options.data_root)
        request = EvaluateRequest(
            predictions=(masks,),
            references=(references,),
            dataset=options.dataset,
            roots=roots,
            output=Path(folder) / "scores",
        )
        report = evaluate(request)
    found: dict[str, list[float]] = {}
    for one in sorted(report.cases, key=lambda case: case.case_id):
        dsc = one.scores["dsc"]
        found.setdefault(one.label, []).append(1.0 if dsc is None else dsc)
    return found


def study(options: argparse.Namespace) -> dict[str, Any]:
    """Compare the promise with what was held."""
    selection = Selection.model_validate_json((options.selected / "selection.json").read_text())
    promised = selection.gain
    found: dict[str, Any] = {
        "candidates": [one.name for one in selection.candidates],
        "chosen": selection.choice.text,
        "claim": selection.claim,
        "num_cases": promised.num_cases,
        "out_of_fold": {
            "baseline": promised.baseline,
            "selected": promised.selected,
            "gain": promised.gain,
            "ci95": promised.ci95,
        },
        "calibration": selection.calibration.model_dump(mode="json"),
    }
    for name, folds in (("first fold", options.first_fold), ("all folds", ())):
        scores = {which: held_out_scores(model, options, folds) for which, model in _models(options).items()}
        means = {which: np.mean(list(by_label.values()), axis=0) for which, by_label in scores.items()}
        gain = float(np.mean(means["selected"] - means["baseline"]))
        low, high = promised.ci95 or (None, None)
        found[f"held out, {name}"] = {
            "num_cases": len(means["selected"]),
            **{which: round(float(np.mean(values)), 4) for which, values in means.items()},
            "by_label": {which: _rounded(by_label) for which, by_label in scores.items()},
            "gain": round(gain, 4),
            "standard_error": round(
                float(np.std(means["selected"] - means["baseline"], ddof=1) / len(means["selected"]) ** 0.5), 4
            ),
            "is_within_interval": low is not None and high is not None and low <= gain <= high,
        }
    return found


def _models(options: argparse.Namespace) -> dict[str, Path]:
    return {"selected": options.selected, "baseline": options.baseline}


def _rounded(by_label: dict[str, list[float]]) -> dict[str, float]:
    return {label: round(float(np.mean(values)), 4) for label, values in by_label.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("selected", type=Path)
    parser.add_argument("--baseline", type=Path, required=True, help="model folder of the best single candidate")
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("-d", "--dataset", required=True)
    parser.add_argument("--held-out", type=Path, required=True, help="a case_id a line")
    parser.add_argument("--study", required=True, help="name of the row")
    parser.add_argument("--first-fold", nargs="*", default=["0"], help="folds that stand for one")
    parser.add_argument("--result", type=Path, default=RESULT)
    options = parser.parse_args()
    found = {**study(options), "machine": machine()}
    print(json.dumps(found, indent=2))
    results = json.loads(options.result.read_text()) if options.result.is_file() else {}
    options.result.write_text(json.dumps(results | {options.study: found}, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
