"""A sound nnU-Net dataset, and every way of breaking one of its cases."""

import gzip
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
from scipy import ndimage

SHAPE = (21, 19, 13)
AFFINE = np.array([[-0.9, 0, 0, 12.0], [0, -1.1, 0, -7.0], [0, 0, 2.5, 31.0], [0, 0, 0, 1]])
LABELS = {"background": 0, "kidney_left": 1, "kidney_right": 2, "tumour": 3}


class Files(NamedTuple):
    """The files of one case, and those of the case after it."""

    ct: Path
    t1: Path
    label: Path


def files_of(folder, case_id):
    images = [folder / "imagesTr" / f"{case_id}_{number:04d}.nii.gz" for number in range(2)]
    return Files(*images, folder / "labelsTr" / f"{case_id}.nii.gz")


def save(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def load(path):
    image = nibabel.load(path)
    return np.asanyarray(image.dataobj).copy(), image.affine.copy()


def texture(rng):
    coarse = rng.normal(size=(6, 5, 4))
    return ndimage.zoom(coarse, np.array(SHAPE) / coarse.shape, order=3)


def arrays(number):
    """Return CT (HU), T1 (integers, 0 outside) and labels (X, Y, Z) of a patient like no other."""
    rng = np.random.default_rng(number)
    body = np.zeros(SHAPE, bool)
    body[2:-2, 2:-2, 1:-1] = True
    ct = np.where(body, 40 + 60 * texture(rng), -1000).astype(np.int16)
    t1 = np.where(body, np.clip(300 + 70 * texture(rng), 1, None), 0).astype(np.int16)
    labels = np.zeros(SHAPE, np.uint8)
    dy, dz = rng.integers(0, 4, 2)
    labels[13:17, 5 + dy : 9 + dy, 3 + dz : 7 + dz] = LABELS["kidney_left"]  # x runs to the patient's left
    labels[4:8, 5 + dy : 9 + dy, 3 + dz : 7 + dz] = LABELS["kidney_right"]
    labels[14:17, 6 + dy : 8 + dy, 4 + dz : 6 + dz + int(rng.integers(1, 3))] = LABELS["tumour"]
    labels[4, 5 + dy, 3 + dz] = number % 2 * LABELS["kidney_right"]
    labels[7, 5 + dy, 3 + dz] = number // 2 % 2 * LABELS["kidney_right"]
    labels[4, 8 + dy, 6 + dz] = number // 4 % 2 * LABELS["kidney_right"]
    labels[13, 5 + dy, 3 + dz] = number // 8 % 2 * LABELS["kidney_left"]
    labels[13, 8 + dy, 6 + dz] = number // 16 % 2 * LABELS["kidney_left"]
    labels[13, 8 + dy, 3 + dz] = number // 32 % 2 * LABELS["kidney_left"]
    return ct, t1, labels


def write_case(folder, case_id, number):
    for path, array in zip(files_of(folder, case_id), arrays(number), strict=True):
        save(path, array)


def write_sound(folder, num_cases=12):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(num_cases):
        write_case(folder, f"sound_{chr(97 + number)}", number)
    describe(folder)
    return folder


def describe(folder, **changes):
    content = {"channel_names": {"0": "CT", "1": "T1"}, "labels": LABELS, "file_ending": ".nii.gz", **changes}
    (folder / "dataset.json").write_text(json.dumps(content))


def change(path, function):
    """Rewrite a file's voxels."""
    array, affine = load(path)
    save(path, function(array), affine)


def move(path, offset_mm):
    array, affine = load(path)
    affine[:3, 3] += offset_mm
    save(path, array, affine)


def put(value, *, where=(7, 6, 5)):
    def function(array):
        array = array.astype(np.float32) if not float(value).is_integer() else array
        array[where] = value
        return array

    return function


def edit_header(path, edit):
    """Change header bytes that nibabel would not write."""
    data = bytearray(gzip.decompress(path.read_bytes()))
    header = nibabel.Nifti1Header(bytes(data[:348]), check=False)
    edit(header)
    data[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(data)))


def singular(header):
    header["srow_x"] = header["srow_y"]


def no_spacing(header):
    header["sform_code"], header["qform_code"] = 0, 1
    header["pixdim"][2] = 0


def other_qform(header):
    header["qform_code"] = 1
    header["qoffset_x"] += 20


def flip_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(bytes(data))


def crop_grid(path):
    """Keep the place in the world, on a coarser grid."""
    array, affine = load(path)
    save(path, array[::2, ::2, ::2], affine @ np.diag([2, 2, 2, 1]))


def swap_sides(labels):
    return np.choose(labels, [0, 2, 1, 3]).astype(np.uint8)


def copy_case(source, target, names=Files._fields):
    for name in names:
        shutil.copy(getattr(source, name), getattr(target, name))


def noisy(array):
    rng = np.random.default_rng(5)
    return np.where(array > -1000, array * 1.02 + rng.normal(0, 2, array.shape), -1000).astype(np.int16)


def rescale(path, factor):
    array, affine = load(path)
    save(path, (array * factor).astype(np.float32), affine)


def respace(files, factor):
    for path in files:
        array, affine = load(path)
        save(path, array, affine @ np.diag([1, 1, factor, 1]))


def reorient(files, code):
    for path in files:
        image = nibabel.load(path)
        target = nibabel.orientations.axcodes2ornt(code)
        transform = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), target)
        image = nibabel.Nifti1Image(np.asanyarray(image.dataobj).copy(), image.affine)
        nibabel.save(image.as_reoriented(transform), path)


def turn(files, degrees):
    angle = np.radians(degrees)
    rotation = np.eye(4)
    rotation[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    for path in files:
        array, affine = load(path)
        save(path, array, rotation @ affine)


def zero(array):
    return np.zeros_like(array)


def blank_all(files):
    change(files.ct, zero)
    change(files.t1, zero)


def float_copy(image, label):
    change(image, lambda a: (a + 0.25).astype(np.float32))
    shutil.copy(image, label)


def speck(labels):
    labels[10, 15, 11] = LABELS["tumour"]
    return labels


DEFECTS = {
    "missing channel": (lambda f: f.t1.unlink(), {"missing_file"}),
    "truncated": (lambda f: f.ct.write_bytes(f.ct.read_bytes()[:-300]), {"unreadable_file"}),
    "no gzip": (lambda f: f.t1.write_bytes(b"<html>404</html>"), {"unreadable_file"}),
    "not compressed": (lambda f: f.t1.write_bytes(gzip.decompress(f.t1.read_bytes())), {"unreadable_file"}),
    "empty file": (lambda f: f.t1.write_bytes(b""), {"unreadable_file"}),
    "flipped bit": (lambda f: flip_bit(f.ct), {"unreadable_file"}),
    "no image at all": (lambda f: f.ct.write_bytes(gzip.compress(bytes(5000))), {"unreadable_file"}),
    "four volumes": (lambda f: change(f.t1, lambda a: np.stack([a] * 4, axis=-1)), {"channel_count"}),
    "singular affine": (lambda f: edit_header(f.t1, singular), {"bad_affine"}),
    "voxels of size zero": (lambda f: edit_header(f.ct, no_spacing), {"bad_affine"}),
    "NaN": (lambda f: change(f.t1, put(np.nan)), {"not_finite"}),
    "infinite": (lambda f: change(f.ct, put(np.inf)), {"not_finite"}),
    "blank": (blank_all, {"constant_image"}),
    "blank channel": (lambda f: change(f.t1, zero), {"constant_channel"}),
    "coarser channel": (lambda f: crop_grid(f.t1), {"channel_grid"}),
    "channel of another study": (lambda f: move(f.t1, 80), {"channel_elsewhere"}),
    "channel twice": (lambda f: shutil.copy(f.ct, f.t1), {"repeated_channel", "intensity_outlier"}),
    "label of another shape": (lambda f: change(f.label, lambda a: a[:-1]), {"label_shape"}),
    "label elsewhere": (lambda f: move(f.label, 5), {"label_grid"}),
    "label nearly there": (lambda f: move(f.label, 0.1), {"label_header"}),
    "label as float": (lambda f: change(f.label, lambda a: a.astype(np.float32)), {"label_type"}),
    "interpolated label": (lambda f: change(f.label, put(1.5)), {"non_integer_label"}),
    "NaN in label": (lambda f: change(f.label, put(np.nan)), {"non_integer_label"}),
    "unknown value": (lambda f: change(f.label, put(9, where=(5, 7, 6))), {"unknown_label", "tiny_components"}),
    "empty label": (lambda f: change(f.label, zero), {"empty_label"}),
    "no tumour": (lambda f: change(f.label, lambda a: np.where(a == 3, 1, a).astype(np.uint8)), {"label_not_in_case"}),
    "speck": (lambda f: change(f.label, speck), {"tiny_components"}),
    "image as label": (lambda f: shutil.copy(f.t1, f.label), {"label_is_image", "unknown_label"}),
    "float image as label": (lambda f: float_copy(f.t1, f.label), {"label_is_image", "non_integer_label"}),
    "large values": (lambda f: change(f.label, lambda a: a * np.float64(2**33)), {"non_integer_label"}),
    "no label": (lambda f: f.label.unlink(), {"missing_label_file"}),
    "truncated label": (lambda f: f.label.write_bytes(f.label.read_bytes()[:-40]), {"unreadable_file"}),
    "another scale": (lambda f: rescale(f.t1, 5000), {"intensity_outlier"}),
    "grey values for HU": (lambda f: change(f.ct, lambda a: (a + 1024) // 8), {"intensity_unit", "intensity_outlier"}),
    "thick slices": (lambda f: respace(f, 4), {"spacing_outlier"}),
    "other axes": (lambda f: reorient(f, "ASR"), {"orientation_outlier"}),
    "mirrored axes": (lambda f: reorient(f, "RPS"), {"orientation_outlier", "left_handed"}),
    "oblique": (lambda f: turn(f, 20), {"oblique"}),
    "swapped sides": (lambda f: change(f.label, swap_sides), {"sides_swapped"}),
    "two affines": (lambda f: edit_header(f.ct, other_qform), {"forms_disagree"}),
}
"""What is done to a case, and the kinds of findings that it must have: these and no others."""
PAIRS = {
    "copy": (lambda f, of: copy_case(of, f), {"duplicate"}),
    "copy with another label": (lambda f, of: copy_case(of, f, ("ct", "t1")), {"duplicate", "duplicate_labels_differ"}),
    "noisy copy": (lambda f, of: change_to(f.ct, of.ct, noisy), {"near_duplicate"}),
    "channel of another case": (lambda f, of: copy_case(of, f, ("t1",)), {"shared_channel"}),
    "label of another case": (lambda f, of: copy_case(of, f, ("label",)), {"duplicate_label"}),
}
"""The same of two cases; `duplicate` stands for the kind that the folds make of it."""


def change_to(path, source, function):
    array, affine = load(source)
    save(path, function(array), affine)


def id_of(name):
    return name.replace(" ", "_")


def write_broken(folder):
    """Write sound cases and one with each defect."""
    write_sound(folder)
    for number, (name, (break_it, _)) in enumerate(DEFECTS.items(), start=100):
        write_case(folder, id_of(name), number)
        break_it(files_of(folder, id_of(name)))
    for number, (name, (break_them, _)) in enumerate(PAIRS.items(), start=200):
        write_case(folder, id_of(name), number)
        write_case(folder, f"{id_of(name)}_original", number + 100)
        break_them(files_of(folder, id_of(name)), files_of(folder, f"{id_of(name)}_original"))
    return folder
