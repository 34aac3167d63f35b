"""Writes frozen.json: what other packages measure on the masks of cases.py.

Their versions cannot live beside ours, so each part runs in an environment of its own, from the root of the repository:

    python3.10 -m venv old
    old/bin/pip install numpy==1.24.3 scipy==1.11.1 pandas==1.3.4 nibabel==5.1.0 connected-components-3d==3.12.1 medpy==0.5.2
    old/bin/python -m tests.ops.metrics.make_frozen old --brats-2023 DIR --brats-2024 DIR --autopet DIR

    python3.11 -m venv new
    new/bin/pip install panoptica==2.1.7 brats-evaluation==0.0.10
    new/bin/python -m tests.ops.metrics.make_frozen new

The folders are checkouts of the public repositories rachitsaluja/BraTS-2023-Metrics (43c9052), rachitsaluja/BraTS-2024-Metrics (f1131e3)
and lab-midas/autoPET. The surface-distance algorithm is the copy that the first has. Nothing of them is kept but numbers.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

from tests.ops.metrics import cases

FROZEN = Path(__file__).parent / "frozen.json"
TOLERANCE_MM = 1.5
CHALLENGES = {
    "brats_gli": ("metrics", "BraTS-GLI", ("WT", "TC", "ET")),
    "brats_men": ("metrics", "BraTS-MEN", ("WT", "TC", "ET")),
    "brats_met": ("metrics", "BraTS-MET", ("WT", "TC", "ET")),
    "brats_2024_gli": ("metrics_GLI", "BraTS-GLI", ("WT", "TC", "NETC", "SNFH", "ET", "RC")),
    "brats_2024_ssa": ("metrics_SSA", "BraTS-SSA", ("WT", "TC", "ET")),
    "brats_2024_ped": ("metrics_PED", "BraTS-PED", ("WT", "TC")),
    "brats_2024_met": ("metrics_MET", "BraTS-MET", ("WT", "TC", "ET", "RC")),
    "brats_2024_men_rt": ("metrics_MEN_RT", "BraTS-MEN-RT", ("GTV",)),
}


@contextlib.contextmanager
def inside(folder):
    """Work in a folder, as the scripts write beside themselves."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def save(array, path):
    """Write an array (Z, Y, X) as an image of 1 mm."""
    import nibabel

    nibabel.save(nibabel.Nifti1Image(array.T.astype(np.int16), np.eye(4)), path)


def border_hausdorff(distances, percent):
    """Return the Hausdorff distance between border voxels, in place of surface elements; lesions that are missed are infinitely far."""
    from scipy import ndimage

    reference, prediction, spacing = distances
    if not prediction.any() or not reference.any():
        return np.inf
    borders = [mask & ~ndimage.binary_erosion(mask) for mask in (prediction > 0, reference > 0)]
    to = [ndimage.distance_transform_edt(~border, sampling=spacing) for border in borders]
    return max(np.percentile(to[1][borders[0]], percent), np.percentile(to[0][borders[1]], percent))


def official(module, challenge, names, maps):
    """Return what a challenge's script says of each structure: TP, FP, FN, DSC and HD95."""
    with tempfile.TemporaryDirectory() as folder, inside(folder), contextlib.redirect_stdout(io.StringIO()):
        files = ["pred.nii.gz", "gt.nii.gz"]
        for path, array in zip(files, maps, strict=True):
            save(array, path)
        result = module.get_LesionWiseResults(*files, challenge)
    table = result[0] if isinstance(result, tuple) else result
    columns = ["Num_TP", "Num_FP", "Num_FN", "LesionWise_Score_Dice", "LesionWise_Score_HD95"]
    rows = {row["Labels"]: [float(row[column]) for column in columns] for _, row in table.iterrows()}
    return {name: rows[name] for name in names}


def brats(folder, maps, presets):
    """Return the results of one year's challenges, with surface elements' HD95 and with border voxels'."""
    sys.path.insert(0, str(folder))
    for name in [name for name in sys.modules if name.startswith(("metrics", "surface_distance"))]:
        del sys.modules[name]
    found = {}
    for preset in presets:
        file, challenge, names = CHALLENGES[preset]
        module = importlib.import_module(file)
        theirs = official(module, challenge, names, maps)
        surface = module.surface_distance
        kept = surface.compute_surface_distances, surface.compute_robust_hausdorff
        surface.compute_surface_distances = lambda *given: given
        surface.compute_robust_hausdorff = border_hausdorff
        bordered = official(module, challenge, names, maps)
        surface.compute_surface_distances, surface.compute_robust_hausdorff = kept
        found[preset] = {name: [*theirs[name], bordered[name][4]] for name in names}
    sys.path.remove(str(folder))
    return found


def old_pair(prediction, reference):
    """Return what surface-distance, MedPy and autoPET say of two masks."""
    import surface_distance
    import val_script
    from medpy.metric import binary

    spacing = cases.ANISOTROPIC
    surfels = surface_distance.compute_surface_distances(reference, prediction, spacing)
    both = prediction, reference
    return {
        "surface_distance": {
            "hd95_mm": surface_distance.compute_robust_hausdorff(surfels, 95),
            "hd_mm": surface_distance.compute_robust_hausdorff(surfels, 100),
            "nsd": surface_distance.compute_surface_dice_at_tolerance(surfels, TOLERANCE_MM),
            "masd_mm": np.mean(surface_distance.compute_average_surface_distance(surfels)),
            "dsc": surface_distance.compute_dice_coefficient(reference, prediction),
        },
        "medpy": {
            "dsc": binary.dc(*both),
            "iou": binary.jc(*both),
            "precision": binary.precision(*both),
            "recall": binary.recall(*both),
            "hd_mm": binary.hd(*both, voxelspacing=spacing),
            "hd95_mm": binary.hd95(*both, voxelspacing=spacing),
            "assd_mm": binary.assd(*both, voxelspacing=spacing),
        },
        "autopet": {
            "false_positive_ml": val_script.false_pos_pix(reference, prediction) * np.prod(spacing) / 1000,
            "false_negative_ml": val_script.false_neg_pix(reference, prediction) * np.prod(spacing) / 1000,
        },
    }


def old(document, args):
    """Fill in what the old environment has."""
    sys.path += [str(args.autopet)]
    for number, row in enumerate(document["maps"]):
        maps = cases.label_maps(number)
        row |= brats(args.brats_2023, maps, [name for name in CHALLENGES if "2024" not in name])
        row |= brats(args.brats_2024, maps, [name for name in CHALLENGES if "2024" in name])
    sys.path.insert(0, str(args.brats_2023))
    for number, row in enumerate(document["pairs"]):
        row |= old_pair(*cases.pair(number))


def panoptic(prediction, reference):
    """Return what panoptica says of two masks and of their components."""
    from panoptica import (
        ConnectedComponentsInstanceApproximator,
        InputType,
        Metric,
        NaiveThresholdMatching,
        Panoptica_Evaluator,
    )

    evaluator = Panoptica_Evaluator(
        expected_input=InputType.SEMANTIC,
        instance_approximator=ConnectedComponentsInstanceApproximator(),
        instance_matcher=NaiveThresholdMatching(),
        instance_metrics=[Metric.IOU],
        global_metrics=[Metric.DSC, Metric.IOU, Metric.HD95, Metric.ASSD, Metric.HD, Metric.clDSC],
    )
    arrays = prediction.astype(np.uint8), reference.astype(np.uint8)
    result = next(iter(evaluator.evaluate(*arrays, voxelspacing=(1.0, 1.0, 1.0)).values()))
    return {
        "panoptic_quality": result.pq,
        "segmentation_quality": result.sq,
        "recognition_quality": result.rq,
        "dsc": result.global_bin_dsc,
        "iou": result.global_bin_iou,
        "cl_dice": result.global_bin_cldsc,
        "hd95_mm": result.global_bin_hd95,
        "hd_mm": result.global_bin_hd,
        "masd_mm": result.global_bin_assd,
    }


def brats_2025(maps, config, parse):
    """Return what BraTS's package says of each structure: TP, FP, FN, DSC and HD95, null where it is undefined."""
    import pandas
    from brats_evaluation import config_path, evaluate_single_exam
    from panoptica import Panoptica_Evaluator

    with tempfile.TemporaryDirectory() as folder, inside(folder), contextlib.redirect_stdout(io.StringIO()):
        for path, array in zip(("pred.nii.gz", "gt.nii.gz"), maps, strict=True):
            save(array, path)
        evaluator = Panoptica_Evaluator.load_from_config(str(config_path(config)))
        found = evaluate_single_exam("pred.nii.gz", "gt.nii.gz", "case", evaluator)
        Path("all.json").write_text(json.dumps({"metrics": [found]}))
        parse("all.json", "all.csv")
        table = pandas.read_csv("all.csv").iloc[0]
    columns = ("all_instance_tp", "all_instance_fp", "all_instance_fn", "lesionwise_dsc_mean", "lesionwise_hd95_mean")
    names = [name for name in found if isinstance(found[name], dict)]
    rows = {name: [float(table[f"{column}_{name}"]) for column in columns] for name in names}
    # Its tables have an infinite distance as 373 where all of a prediction is missing.
    return {name.upper(): [None if np.isnan(one) else min(one, 373.0) for one in row] for name, row in rows.items()}


def new(document, args):
    """Fill in what the new environment has."""
    from brats_evaluation import metrics_parser

    for number, row in enumerate(document["pairs"]):
        row["panoptica"] = panoptic(*cases.pair(number))

    def parse_mets(source, table):
        metrics_parser.parse_mets_results(source, 20.0, 0.1, table)

    for number, row in enumerate(document["maps"]):
        maps = cases.label_maps(number)
        row["brats_2025"] = brats_2025(maps, "gli", metrics_parser.parse_seg_results)
        row["brats_2025_met"] = brats_2025(maps, "mets", parse_mets)


def voxels(arrays):
    """Return what tells whether arrays are those that were measured."""
    return [[int(array.sum()), int(np.flatnonzero(array).sum())] for array in arrays]


def main():
    """Write the part of one environment into the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("old", "new"))
    for name in ("--brats-2023", "--brats-2024", "--autopet"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    document = json.loads(FROZEN.read_text()) if FROZEN.is_file() else {"pairs": [], "maps": []}
    document["pairs"] = document["pairs"] or [{"voxels": voxels(cases.pair(n))} for n in range(cases.NUM_PAIRS)]
    document["maps"] = document["maps"] or [{"voxels": voxels(cases.label_maps(n))} for n in range(cases.NUM_MAPS)]
    {"old": old, "new": new}[args.part](document, args)
    text = json.dumps(document, indent=1, sort_keys=True)
    # Rows of numbers on one line each.
    text = re.sub(r"\[\s+([^\[\]]*?)\s+\]", lambda row: "[" + re.sub(r"\s+", " ", row[1]) + "]", text)
    FROZEN.write_text(text + "\n")


if __name__ == "__main__":
    main()
