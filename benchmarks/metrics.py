"""Metrics: time against MONAI's, what all of them cost, and memory over many cases.

python -m benchmarks.metrics
"""

import argparse
import gc
import json
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from benchmarks.machine import machine
from tumorseg.ops.metrics.case import case_metrics, join_classes, score_segmentation
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.metrics import CaseMetrics
from tumorseg.schema.score_rules import ScoreRules
from tumorseg.schema.targets import Targets
from tumorseg.types import Segmentation

RESULT = Path(__file__).parent / "results" / "metrics.json"
SHAPE = (155, 240, 240)
SPACING = (1.0, 1.0, 1.0)
REGIONS = Targets(
    label_values=(0, 1, 2, 3),
    label_names=("background", "NETC", "SNFH", "ET"),
    ignore_value=None,
    region_names=("WT", "TC", "ET"),
    regions=((1, 2, 3), (1, 3), (3,)),
    region_values=(2, 1, 3),
)
NEEDED_SPEEDUP, MOST_COST = 10, 5
ROUNDS = 5
SMALL = (40, 48, 44)
NUM_CASES = 1000


def case(shape: tuple[int, ...], seed: int) -> tuple[Segmentation, Segmentation]:
    """Return a prediction and a reference of a tumour of three tissues, with specks, as networks and readers draw them."""
    rng = np.random.default_rng(seed)
    centre = np.reshape([size * place for size, place in zip(shape, (0.55, 0.4, 0.6), strict=True)], (3, 1, 1, 1))
    distance = np.sqrt((((np.indices(shape, dtype=np.float32) - centre) / np.reshape(shape, (3, 1, 1, 1))) ** 2).sum(0))
    shared = wavy(rng, shape)
    reference = tissues(distance + 0.05 * shared)
    prediction = tissues(distance + 0.05 * shared + 0.012 * wavy(rng, shape))
    for segmentation in (reference, prediction):
        for _ in range(6):
            corner = [int(rng.integers(0, size - 4)) for size in shape]
            window = tuple(slice(start, start + int(rng.integers(1, 5))) for start in corner)
            segmentation[window] = int(rng.integers(1, 4))
    return prediction, reference


def wavy(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return smooth noise (Z, Y, X) of mean 0 and standard deviation 1."""
    coarse = rng.normal(size=[max(size // 8, 2) for size in shape])
    zoom = [size / small for size, small in zip(shape, coarse.shape, strict=True)]
    smooth: np.ndarray = ndimage.zoom(coarse, zoom, order=1).astype(np.float32)
    return smooth / smooth.std()


def tissues(distance: np.ndarray) -> Segmentation:
    """Return labels by how far a voxel is from the centre: a core in a rim in an oedema."""
    return np.select([distance < 0.07, distance < 0.12, distance < 0.22], [1, 3, 2]).astype(np.int8)


def ours(metrics: tuple[str, ...], masks: tuple[Segmentation, Segmentation]) -> dict[str, Any]:
    found = score_segmentation(*masks, targets=REGIONS, spacing_mm=SPACING, rules=ScoreRules(metrics=metrics))
    return {name: score.scores for name, score in found.items()}


def monais(masks: tuple[Segmentation, Segmentation]) -> dict[str, dict[str, float]]:
    """Return HD95 and NSD of MONAI, of all regions in one batch, as its users call it."""
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    channels = []
    for segmentation in masks:
        regions = [join_classes(segmentation, classes) for classes in REGIONS.scored_classes]
        channels.append(torch.from_numpy(np.stack(regions))[None].float())
    prediction, reference = channels
    kept: dict[str, Any] = {"include_background": True, "spacing": SPACING}
    hd95 = compute_hausdorff_distance(prediction, reference, percentile=95, **kept)[0].tolist()
    nsd = compute_surface_dice(prediction, reference, [1.0] * len(hd95), **kept)[0].tolist()
    rows = zip(REGIONS.scored_names, hd95, nsd, strict=True)
    return {name: {"hd95_mm": distance, "nsd": share} for name, distance, share in rows}


def median_s(run: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Return the median time of a few runs."""
    times = []
    for _ in range(rounds):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return float(np.median(times))


def by_turns(runs: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the median time of each of some runs; one after another in each round, so that all see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            times[name].append(median_s(run, rounds=1))
    return {name: float(np.median(found)) for name, found in times.items()}


def speed() -> dict[str, Any]:
    """Time HD95 and NSD against MONAI's, and all metrics against DSC, NSD and HD95."""
    masks = case(SHAPE, seed=0)
    surfaces, basic = ("hd95_mm", "nsd"), ("dsc", "nsd", "hd95_mm")
    everything = tuple(name for name in METRICS if name != "cl_dice")
    found, theirs = ours(surfaces, masks), monais(masks)
    for name, scores in theirs.items():
        assert abs(scores["hd95_mm"] - found[name]["hd95_mm"]) < 1e-4, name
        assert abs(scores["nsd"] - found[name]["nsd"]) < 1e-6, name
    seconds = by_turns(
        {
            "ours: HD95, NSD": lambda: ours(surfaces, masks),
            "MONAI: HD95, NSD": lambda: monais(masks),
            "ours: DSC, NSD, HD95": lambda: ours(basic, masks),
            "ours: all but clDice": lambda: ours(everything, masks),
        }
    )
    seconds["ours: clDice"] = median_s(lambda: ours(("cl_dice",), masks), rounds=1)
    groups = {}
    for group in sorted({METRICS[name].group for name in everything}):
        names = tuple(name for name in everything if METRICS[name].group == group)
        groups[group] = round(median_s(lambda names=names: ours(names, masks), rounds=3), 3)
    return {
        "shape": list(SHAPE),
        "voxels": {
            name: int(np.isin(masks[1], of).sum())
            for name, of in zip(REGIONS.region_names, REGIONS.regions, strict=True)
        },
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "seconds_by_group": groups,
        "speedup": round(seconds["MONAI: HD95, NSD"] / seconds["ours: HD95, NSD"], 1),
        "cost_of_all": round(seconds["ours: all but clDice"] / seconds["ours: DSC, NSD, HD95"], 2),
    }


def memory() -> dict[str, Any]:
    """Score many cases one after another with all metrics; return the process's memory on the way."""
    rules = ScoreRules(metrics=tuple(name for name in METRICS if name != "cl_dice"))
    kept: list[CaseMetrics] = []
    mib = {}
    started = time.process_time()
    for number in range(NUM_CASES):
        masks = case(SMALL, seed=number)
        scores = score_segmentation(*masks, targets=REGIONS, spacing_mm=SPACING, rules=rules)
        kept += case_metrics(f"case_{number:04d}", scores)
        if number + 1 in (100, 250, 500, 750, NUM_CASES):
            gc.collect()
            mib[str(number + 1)] = round(_resident_mib(), 1)
    seconds = time.process_time() - started
    return {"shape": list(SMALL), "records": len(kept), "seconds": round(seconds, 1), "resident_mib_after": mib}


def _resident_mib() -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    result = {"speed": speed(), "memory": memory(), "machine": machine()}
    RESULT.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    print(json.dumps(result, indent=2))
    assert result["speed"]["speedup"] >= NEEDED_SPEEDUP
    assert result["speed"]["cost_of_all"] <= MOST_COST


if __name__ == "__main__":
    main()
