"""Label maps preprocessed with resampling, ours beside nnunetv2's, voxel by voxel.

    python -m benchmarks.labels --data-root ../shared/data --peer <python of an environment with nnunetv2 2.8.1>

Five cases of three sets go through both programs to a spacing other than their own: the plan is ours, exported for nnU-Net.
Goes to benchmarks/results/labels.json with machine and commit.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.machine import machine
from benchmarks.preprocessing import PROCESSES, Bench
from benchmarks.watching import watch
from tumorseg.ops.cropping import whole_box
from tumorseg.stages.opening.loaded import Roots, read_plan
from tumorseg.stages.training.preprocess import PreprocessRequest, preprocess
from tumorseg.storage.cases import CaseStore
from tumorseg.types import Image, Segmentation

RESULT = Path(__file__).parent / "results" / "labels.json"
CONFIGURATION = "3d_fullres"


class Subset(NamedTuple):
    """Cases of one dataset."""

    channel: str
    labels: tuple[str, ...]
    """Names of the values from 1."""
    spacing_mm: tuple[float, ...]
    """Planned instead of the median of the cases, in the plan's axis order."""
    image: str
    """File below the data root."""
    label: str
    cases: tuple[str, ...]


SUBSETS = {
    "Task04_Hippocampus": Subset(
        "T1",
        ("anterior", "posterior"),
        (1.2, 0.8, 1.5),
        "Task04_Hippocampus/imagesTr/{}.nii.gz",
        "Task04_Hippocampus/labelsTr/{}.nii.gz",
        ("hippocampus_004", "hippocampus_006"),
    ),
    "Dataset027_ACDC": Subset(
        "MR",
        ("RV", "MYO", "LV"),
        (8.0, 1.2, 1.2),
        "Dataset027_ACDC/imagesTr/{}_0000.nii.gz",
        "Dataset027_ACDC/labelsTr/{}.nii.gz",
        ("patient001_frame01", "patient001_frame02"),
    ),
    "CT_Liver_IRCADb17": Subset(
        "CT",
        ("liver", "tumour"),
        (2.0, 1.0, 1.0),
        "CT_Liver_IRCADb17/image.nii.gz",
        "CT_Liver_IRCADb17/label.nii.gz",
        ("liver",),
    ),
}

PEER = """
import sys
import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
raw, preprocessed, out, *cases = sys.argv[1:]
plans = PlansManager(preprocessed + "/nnUNetPlans.json")
configuration, dataset = plans.get_configuration("3d_fullres"), load_json(raw + "/dataset.json")
for case in cases:
    image, label = f"{raw}/imagesTr/{case}_0000.nii.gz", f"{raw}/labelsTr/{case}.nii.gz"
    data, seg, _ = DefaultPreprocessor(verbose=False).run_case([image], label, plans, configuration, dataset)
    np.save(f"{out}/{case}_image.npy", data)
    np.save(f"{out}/{case}_label.npy", seg[0])
"""


VERSIONS = """
import json
from importlib.metadata import version
print(json.dumps({name: version(name) for name in ("nnunetv2", "batchgenerators")}))
"""


def compare(bench: Bench, subset: Subset, number: int) -> dict[str, Any]:
    """Preprocess the cases of one dataset in both programs, and count the voxels that differ."""
    manifest = write_manifest(bench, subset, number)
    plan, name = bench.folder / f"plan_{number}.json", f"Dataset{900 + number}_Compared"
    spacing = f"configurations.{CONFIGURATION}.spacing_mm={json.dumps(subset.spacing_mm)}"
    bench.tumorseg("plan", "-d", str(manifest), "-o", str(plan), "--set", spacing)
    raw = bench.raw(str(manifest), name)
    preprocessed, out = Path(bench.nnunet["nnUNet_preprocessed"]) / name, bench.folder / f"peer_{number}"
    out.mkdir()
    bench.tumorseg("plan", "export", str(plan), "-o", str(preprocessed))
    watch([str(bench.peer), "-c", PEER, str(raw), str(preprocessed), str(out), *subset.cases], environment=bench.nnunet)
    roots = Roots(work=bench.folder / "runs")
    request = PreprocessRequest(
        plan=read_plan(plan), roots=roots, dataset=str(manifest), configurations=(CONFIGURATION,), jobs=PROCESSES
    )
    stored = preprocess(request)[CONFIGURATION]
    store = CaseStore(stored.folder, stored.keys)
    return {case: differences(read_all(store, case), read_peer(out, case)) for case in subset.cases}


def write_manifest(bench: Bench, subset: Subset, number: int) -> Path:
    """Write the chosen cases as a dataset of their own."""
    manifest = bench.folder / f"compared_{number}" / "manifest.csv"
    manifest.parent.mkdir()
    named = ",".join(f"label:{name}={value}" for value, name in enumerate(subset.labels, start=1))
    lines = [f"case_id,{subset.channel},label,{named}"]
    for case in subset.cases:
        image, label = (bench.data_root / path.format(case) for path in (subset.image, subset.label))
        lines.append(f"{case},{image},{label}{',' * len(subset.labels)}")
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def read_all(store: CaseStore, case_id: str) -> tuple[Image, Segmentation]:
    """Return a case's whole arrays."""
    return store.read(case_id, whole_box(store.shape(case_id)))


def read_peer(folder: Path, case_id: str) -> tuple[Image, Segmentation]:
    """Return what nnU-Net made, -1 (outside of the body) being background as in its training."""
    label = np.load(folder / f"{case_id}_label.npy")
    return np.load(folder / f"{case_id}_image.npy"), np.where(label == -1, 0, label)


def differences(own: tuple[Image, Segmentation], peer: tuple[Image, Segmentation]) -> dict[str, Any]:
    """Return how two preprocessed cases differ; foreground is what is so in either."""
    foreground = (own[1] > 0) | (peer[1] > 0)
    return {
        "shape": list(peer[1].shape),
        "foreground_voxels": int(foreground.sum()),
        "differing_voxels": int((own[1] != peer[1]).sum()),
        "most_intensity_difference": float(np.abs(own[0] - peer[0]).max()),
    }


def pool(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the share of the foreground voxels of all cases that have the same label."""
    cases = [found for dataset in results.values() for found in dataset.values()]
    total, differing = (sum(found[key] for found in cases) for key in ("foreground_voxels", "differing_voxels"))
    return {"num_cases": len(cases), "foreground_voxels": total, "equal_share": 1 - differing / total}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--peer", default="python", help="python of an environment with nnunetv2 2.8.1")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.data_root, options.peer, Path(folder))
        found = {name: compare(bench, subset, number) for number, (name, subset) in enumerate(SUBSETS.items())}
        versions = json.loads(watch([str(bench.peer), "-c", VERSIONS]).output)
    result = {"cases": found, "pooled": pool(found), "peer": versions, "machine": machine()}
    print(json.dumps(result, indent=2))
    RESULT.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
