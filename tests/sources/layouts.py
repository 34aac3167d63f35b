"""Writes the same small cases in every layout."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np

from tests.dicoms import Grid, write_seg, write_series

SHAPE = (5, 6, 7)
AFFINE = np.diag([-0.7, -0.9, 3.1, 1.0])
IDS = ("case_b", "case_a", "case_c")
BRATS = ("t1", "t1ce", "t2", "flair")


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)


def image(number, channel):
    return np.full(SHAPE, 10 * number + channel, np.int16)


def label(number, values=(0, 1, 2, 4)):
    return np.resize(np.roll(np.array(values, np.uint8), number), SHAPE)


def write_json(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")


def write_msd(folder, ids=IDS, modality=("FLAIR", "T1w")):
    pairs = []
    for number, case_id in enumerate(ids):
        channels = [image(number, channel) for channel in range(len(modality))]
        save(folder / f"imagesTr/{case_id}.nii.gz", np.stack(channels, axis=-1) if len(channels) > 1 else channels[0])
        save(folder / f"labelsTr/{case_id}.nii.gz", label(number))
        pairs.append({"image": f"./imagesTr/{case_id}.nii.gz", "label": f"./labelsTr/{case_id}.nii.gz"})
    content = {
        "modality": {str(number): name for number, name in enumerate(modality)},
        "labels": {"0": "background", "1": "edema", "2": "core", "4": "enhancing"},
        "training": pairs,
        "test": [],
    }
    write_json(folder / "dataset.json", content)
    return folder


def write_nnunet(folder, ids=IDS, **changes):
    for number, case_id in enumerate(ids):
        for channel in range(2):
            save(folder / f"imagesTr/{case_id}_{channel:04d}.nii.gz", image(number, channel))
        save(folder / f"labelsTr/{case_id}.nii.gz", label(number))
    content = {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, "edema": 1, "core": 2, "enhancing": 4},
        "file_ending": ".nii.gz",
        **changes,
    }
    write_json(folder / "dataset.json", content)
    return folder


def write_nnunet_listed(folder):
    write_nnunet(folder)
    entries = {
        case_id: {
            "images": [f"imagesTr/{case_id}_{channel:04d}.nii.gz" for channel in range(2)],
            "label": f"labelsTr/{case_id}.nii.gz",
        }
        for case_id in IDS
    }
    edit_json(folder, dataset=entries)
    return folder


def write_brats(folder, ids=IDS, endings=("_t1", "_t1ce", "_t2", "_flair", "_seg")):
    *channels, label_ending = endings
    for number, case_id in enumerate(ids):
        for channel, ending in enumerate(channels):
            save(folder / case_id / f"{case_id}{ending}.nii.gz", image(number, channel))
        save(folder / case_id / f"{case_id}{label_ending}.nii.gz", label(number))
    return folder


def write_brats_2023(folder, ids=IDS):
    return write_brats(folder, ids, ("-t1n", "-t1c", "-t2w", "-t2f", "-seg"))


def write_brats_2018(folder, ids=IDS):
    """Cases lie in folders of grades."""
    write_brats(folder / "HGG", ids[:2])
    for number, case_id in enumerate(ids[2:], start=2):
        for channel, name in enumerate(BRATS):
            save(folder / "LGG" / case_id / f"{case_id}_{name}.nii.gz", image(number, channel))
        save(folder / "LGG" / case_id / f"{case_id}_seg.nii.gz", label(number))
    return folder


def write_pairs(folder, ids=IDS):
    for number, case_id in enumerate(ids):
        save(folder / "images" / f"{case_id}.nii.gz", image(number, 0))
        save(folder / "labels" / f"{case_id}.nii.gz", label(number))
    return folder


def write_pairs_beside(folder, ids=IDS):
    for number, case_id in enumerate(ids):
        save(folder / f"{case_id}.nii.gz", np.stack([image(number, channel) for channel in range(2)], axis=-1))
        save(folder / f"{case_id}_seg.nii.gz", label(number))
    return folder


def write_hecktor(folder, ids=IDS):
    for number, case_id in enumerate(ids):
        for channel, ending in enumerate(("__CT", "__PT")):
            save(folder / "imagesTr" / f"{case_id}{ending}.nii.gz", image(number, channel))
        save(folder / "labelsTr" / f"{case_id}.nii.gz", label(number))
    return folder


def write_hecktor_2021(folder, ids=IDS):
    for number, case_id in enumerate(ids):
        for channel, ending in enumerate(("_ct", "_pt")):
            save(folder / "hecktor_nii" / f"{case_id}{ending}.nii.gz", image(number, channel))
        save(folder / "hecktor_nii" / f"{case_id}_gtvt.nii.gz", label(number))
    return folder


def write_dicom(folder, ids=IDS, names=("edema", "enhancing", "necrosis")):
    """Every case is a study of CT and PET, its three labels in one SEG."""
    grid = Grid(np.diag([-1.0, -1.0, 1.0]), (0.7, 0.9, 3.1), (0, 0, 0))
    for number, case_id in enumerate(ids):
        series = [
            write_series(
                folder / case_id / kind.lower(),
                image(number, channel).T,
                grid,
                kind=kind,
                name="{index}",
                patient=case_id,
                study=f"1.{number}",
                series=f"1.{number}.{channel}",
            )
            for channel, kind in enumerate(("CT", "PT"))
        ]
        masks = {name: value == label(number).T for name, value in zip(names, (1, 2, 4), strict=True)}
        write_seg(folder / case_id / "seg", series[0], masks)
    return folder


def write_images(folder, ids=IDS, channels=("T1", "T2")):
    for number, case_id in enumerate(ids):
        for channel, name in enumerate(channels):
            save(folder / f"{name}/{case_id}.nii.gz", image(number, channel))
        save(folder / f"labels/{case_id}.nii.gz", label(number))


def write_csv(folder, ids=IDS):
    write_images(folder, ids)
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["case_id", "T1", "T2", "label", "group", "site", "label:edema=1", "label:core=2", "label:et=4"])
        for case_id in ids:
            paths = [f"T1/{case_id}.nii.gz", f"T2/{case_id}.nii.gz", f"labels/{case_id}.nii.gz"]
            rows.writerow([case_id, *paths, "patient", "here", "", "", ""])
    return folder


def write_json_manifest(folder, ids=IDS, **changes):
    write_images(folder, ids)
    cases = [
        {
            "case_id": case_id,
            "images": {"T2": f"T2/{case_id}.nii.gz", "T1": f"T1/{case_id}.nii.gz"},
            "label": f"labels/{case_id}.nii.gz",
            "site": "there",
        }
        for case_id in ids
    ]
    content = {
        "channels": ["T1", {"name": "T2", "kind": "mr"}],
        "labels": {"edema": 1, "core": 2, "et": 4},
        "cases": cases,
    }
    write_json(folder / "manifest.json", {**content, **changes})
    return folder


def edit_json(folder: Path, name="dataset.json", **changes):
    path = folder / name
    write_json(path, {**json.loads(path.read_text()), **changes})
    return folder
