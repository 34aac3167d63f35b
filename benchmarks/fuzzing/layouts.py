"""Small datasets in every layout that a document describes."""

import gzip
import json
from pathlib import Path

import nibabel
import numpy as np

from benchmarks.fuzzing.images import AFFINE, intensities, labels

LABELS = {"background": 0, "core": 1, "rim": 2}
IDS = ("case_a", "case_b")


def save(path: Path, array: np.ndarray) -> None:
    """Write an image whose bytes are those of every other run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, AFFINE)
    path.write_bytes(gzip.compress(image.to_bytes(), mtime=0))


def write_cases(folder: Path, ids: tuple[str, ...] = IDS) -> None:
    """Write two channels and a label of each case, as nnU-Net lays them out."""
    for number, case_id in enumerate(ids):
        for channel in range(2):
            save(folder / "imagesTr" / f"{case_id}_{channel:04d}.nii.gz", intensities() + 10 * number + channel)
        save(folder / "labelsTr" / f"{case_id}.nii.gz", labels())


def write_nnunet(folder: Path) -> None:
    """Write dataset.json of nnU-Net, with files as it lies about them, and listed."""
    listed = {}
    for case_id in IDS:
        images = [f"imagesTr/{case_id}_{channel:04d}.nii.gz" for channel in range(2)]
        listed[case_id] = {"images": images, "label": f"labelsTr/{case_id}.nii.gz"}
    regions = {"labels": {"background": 0, "whole": [1, 2], "core": 1}, "regions_class_order": [2, 1]}
    for name, more in {"plain": {}, "listed": {"dataset": listed}, "regions": regions}.items():
        write_cases(folder / name / "set")
        content = {
            "channel_names": {"0": "CT", "1": "PET"},
            "labels": LABELS,
            "numTraining": 2,
            "file_ending": ".nii.gz",
            **more,
        }
        (folder / name / "set" / "dataset.json").write_text(json.dumps(content))


def write_msd(folder: Path) -> None:
    """Write dataset.json of the Decathlon."""
    pairs = []
    for case_id in IDS:
        save(folder / "one" / "set" / "imagesTr" / f"{case_id}.nii.gz", np.stack([intensities()] * 2, -1))
        save(folder / "one" / "set" / "labelsTr" / f"{case_id}.nii.gz", labels())
        pairs.append({"image": f"./imagesTr/{case_id}.nii.gz", "label": f"./labelsTr/{case_id}.nii.gz"})
    names = {str(value): name for name, value in LABELS.items()}
    content = {"name": "Set", "modality": {"0": "FLAIR", "1": "T1w"}, "labels": names, "training": pairs, "test": []}
    (folder / "one" / "set" / "dataset.json").write_text(json.dumps(content))


def write_manifest(folder: Path) -> None:
    """Write a manifest in JSON."""
    write_cases(folder / "one" / "set")
    cases = []
    for case_id in IDS:
        images = {name: f"imagesTr/{case_id}_{number:04d}.nii.gz" for number, name in enumerate(("CT", "PET"))}
        cases.append(
            {"case_id": case_id, "images": images, "label": f"labelsTr/{case_id}.nii.gz", "group": "a", "site": "b"}
        )
    regions = [{"name": "whole", "labels": [1, 2], "value": 2}]
    content = {"name": "Set", "channels": ["CT", "PET"], "labels": LABELS, "regions": regions, "cases": cases}
    (folder / "one" / "set" / "manifest.json").write_text(json.dumps(content))


def write_table(folder: Path) -> None:
    """Write a manifest as a table."""
    write_cases(folder / "one" / "set")
    lines = ["case_id,CT,PET,label,group,site,label:core=1,label:rim=2"]
    for case_id in IDS:
        lines.append(
            f"{case_id},imagesTr/{case_id}_0000.nii.gz,imagesTr/{case_id}_0001.nii.gz,labelsTr/{case_id}.nii.gz,a,b,,"
        )
    (folder / "one" / "set" / "manifest.csv").write_text("\n".join(lines) + "\n")
