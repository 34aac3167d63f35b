import gzip
import json
import resource
import subprocess
import sys

import nibabel
import numpy as np
import pytest

from tests.toys import save, toy_arrays, write_toy
from tumorseg.cli.main import run


def rewrite(path, change):
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(change(np.asanyarray(image.dataobj).copy()), image.affine), path)


def with_nan(array):
    array[2, 3, 4] = np.nan
    return array


def with_unknown_label(array):
    array[1, 1, 1] = 9
    return array


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def shift(path, distance_mm=5):
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[:3, 3] += distance_mm
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj), affine), path)


def spoil_header(path):
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[123] = 7  # a unit of length that NIfTI does not know
    data[252:256] = (1).to_bytes(2, sys.byteorder) + (0).to_bytes(2, sys.byteorder)  # the qform counts, not the sform
    data[256:268] = np.array([0.9, 0.9, 0.9], np.float32).tobytes()  # no quaternion
    path.write_bytes(gzip.compress(bytes(data)))


DEFECTS = {
    "missing channel file": ("T2.nii.gz", lambda path: path.unlink(), "T2.nii.gz"),
    "label of another shape": ("seg.nii.gz", lambda path: rewrite(path, lambda a: a[:-1]), "voxels"),
    "channel of another study": ("T2.nii.gz", lambda path: shift(path, 50), "are they of one study?"),
    "label elsewhere in the world": ("seg.nii.gz", shift, "mm away"),
    "NaN voxels": ("T1.nii.gz", lambda path: rewrite(path, with_nan), "NaN"),
    "unknown label value": ("seg.nii.gz", lambda path: rewrite(path, with_unknown_label), "9 (1 voxels)"),
    "senseless unit and quaternion": ("T1.nii.gz", spoil_header, "T1.nii.gz"),
    "truncated file": ("T1.nii.gz", truncate, "T1.nii.gz"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_bad_case_fails_the_plan_with_one_line_and_the_others_are_kept(defect, tmp_path, capfd):
    data = write_toy(tmp_path / "Bad", num_cases=4)
    name, break_it, told = DEFECTS[defect]
    break_it(data / "case_2" / name)
    arguments = ["--data-root", str(tmp_path), "--work", str(tmp_path / "runs"), "plan", "-d", "Bad", "--jobs", "1"]
    assert run([*arguments, "-o", str(tmp_path / "bad.json")]) == 1
    shown = capfd.readouterr().err
    assert "case_2" in shown
    assert told in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "bad.json").exists()
    assert len(list((tmp_path / "runs" / "Bad" / "measurements").glob("*.json"))) == 3
    assert shown.count("case_2  ") == 1


def test_a_plan_with_an_unknown_key_is_refused_by_name(toy, tmp_path, capfd):
    text = toy.plan_path.read_text().replace('"schema_version"', '"unknown_key": 1,\n  "schema_version"')
    (tmp_path / "bad.json").write_text(text)
    assert run(["--work", str(tmp_path), "preprocess", "-p", str(tmp_path / "bad.json")]) == 1
    shown = capfd.readouterr().err
    assert "unknown_key" in shown
    assert [line[:5] for line in shown.splitlines() if not line.startswith("hash")] == ["error"]


def test_a_plan_of_another_dataset_is_refused_with_both_hashes(toy, tmp_path, capfd):
    other = write_toy(tmp_path / "Toy", num_cases=3)
    arguments = ["--work", str(tmp_path / "runs"), "preprocess", "-p", str(toy.plan_path), "-d", str(other)]
    assert run(arguments) == 1
    shown = capfd.readouterr().err
    assert toy.plan.dataset.content_hash in shown
    assert [line[:5] for line in shown.splitlines() if not line.startswith("hash")] == ["error"]
    assert not (tmp_path / "runs" / "Toy" / "cases").exists()


def test_a_dataset_with_other_channels_or_labels_than_the_plan_is_refused(toy, real_or_other_channels, capfd):
    assert run(["preprocess", "-p", str(toy.plan_path), "-d", str(real_or_other_channels)]) == 1
    assert "is for channels ['T1', 'T2']" in capfd.readouterr().err


@pytest.fixture
def real_or_other_channels(tmp_path):
    (tmp_path / "Other").mkdir()
    channels, labels = toy_arrays(0)
    save(channels[..., 0], np.eye(4), tmp_path / "Other" / "a.nii.gz")
    save(labels, np.eye(4), tmp_path / "Other" / "a_seg.nii.gz")
    text = "case_id,T1,label,label:shell=2,label:core=7\na,a.nii.gz,a_seg.nii.gz,,\n"
    (tmp_path / "Other" / "manifest.csv").write_text(text)
    return tmp_path / "Other"


def test_a_wrong_number_of_channels_at_predict_is_refused(trained, tmp_path, capfd):
    channels, _ = toy_arrays(0)
    save(np.concatenate([channels, channels[..., :1]], axis=-1), np.eye(4), tmp_path / "in" / "one.nii.gz")
    arguments = ["predict", "-m", str(trained.folder.root), "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    assert run(arguments) == 1
    shown = capfd.readouterr().err
    assert "one" in shown
    assert "3" in shown
    assert "2" in shown
    assert "Traceback" not in shown
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_a_damaged_case_at_predict_leaves_the_others_finished(trained, tmp_path, capfd):
    channels, _ = toy_arrays(0)
    for name in ("good", "poor", "well"):
        save(channels, np.eye(4), tmp_path / "in" / f"{name}.nii.gz")
    truncate(tmp_path / "in" / "poor.nii.gz")
    arguments = ["predict", "-m", str(trained.folder.root), "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    assert run([*arguments, "--no-mirroring", "--device", "cpu"]) == 1
    assert "poor" in capfd.readouterr().err
    assert {path.name for path in (tmp_path / "out").glob("*.nii.gz")} == {"good.nii.gz", "well.nii.gz"}


def test_a_full_disk_is_one_line_and_leaves_no_half_written_case(toy, tmp_path):
    """Files may grow to 2 kB only, so the system itself refuses to write the store."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    arguments = [
        "--work",
        str(tmp_path),
        "-q",
        "preprocess",
        "-p",
        str(toy.plan_path),
        "-d",
        str(toy.data),
        "--jobs",
        "1",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tumorseg", *arguments], preexec_fn=limit, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr or "No space left" in done.stderr
    cases = tmp_path / "Toy" / "cases"
    assert not cases.exists() or not list(cases.iterdir())


def test_a_dataset_that_is_not_there_says_where_it_was_looked_for(tmp_path, capfd):
    assert run(["--data-root", str(tmp_path), "plan", "-d", "MSD_Spleen"]) == 1
    shown = capfd.readouterr().err
    assert str(tmp_path) in shown
    assert "Task09_Spleen" in shown


@pytest.mark.parametrize("device", ["cuda:77", "abacus", "mps"])
def test_a_device_that_is_not_there_is_refused(toy, device, capfd):
    arguments = ["--work", str(toy.roots.work), "train", "-p", str(toy.plan_path), "--fold", "0", "--device", device]
    assert run(arguments) == 1
    assert f"--device {device}" in capfd.readouterr().err.replace("'", "")


def test_a_damaged_checkpoint_is_one_line(toy, trained, tmp_path, capfd):
    import shutil

    copy = tmp_path / "fold_0"
    shutil.copytree(trained.folder.root, copy)
    (copy / "latest.ckpt").write_bytes(b"PK\x03\x04 nothing")
    assert run(["predict", "-m", str(copy), "-i", str(toy.data), "-o", str(tmp_path / "out")]) == 1
    shown = capfd.readouterr().err
    assert "damaged" in shown
    assert "Traceback" not in shown


def test_a_case_of_another_number_of_channels_at_predict_leaves_the_others_finished(trained, tmp_path, capfd):
    channels, _ = toy_arrays(0)
    save(channels, np.eye(4), tmp_path / "in" / "good.nii.gz")
    save(channels[..., 0], np.eye(4), tmp_path / "in" / "bad.nii.gz")
    arguments = ["predict", "-m", str(trained.folder.root), "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    assert run([*arguments, "--no-mirroring", "--device", "cpu"]) == 1
    assert "bad  found 1 channel(s), expected 2 (T1, T2)" in capfd.readouterr().err
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["good.nii.gz"]


def test_a_result_never_replaces_an_input(trained, tmp_path, capfd):
    channels, _ = toy_arrays(0)
    path = save(channels, np.eye(4), tmp_path / "scans" / "one.nii.gz")
    before = path.read_bytes()
    assert run(["predict", "-m", str(trained.folder.root), "-i", str(path), "-o", str(tmp_path / "scans")]) == 1
    assert "an input of case one" in capfd.readouterr().err
    assert path.read_bytes() == before
    other = save(channels[..., 0], np.eye(4), tmp_path / "labels" / "one.nii.gz")
    before = other.read_bytes()
    assert run(["predict", "-m", str(trained.folder.root), "-i", str(path), "-o", str(tmp_path / "labels")]) == 1
    assert "is there already and no result of predict" in capfd.readouterr().err
    assert other.read_bytes() == before


@pytest.mark.parametrize("name", ["..", ".hidden", "../up", " blank"])
def test_no_name_leads_out_of_the_work_folder(toy, tmp_path, name, capfd):
    document = json.loads(toy.plan_path.read_text())
    document["configurations"] = {name: document["configurations"]["3d_fullres"]}
    document["default_configuration"] = name
    (tmp_path / "evil.json").write_text(json.dumps(document))
    work = tmp_path / "deep" / "runs"
    assert run(["--work", str(work), "train", "-p", str(tmp_path / "evil.json"), "--fold", "0"]) == 1
    assert "configurations" in capfd.readouterr().err
    document = json.loads(toy.plan_path.read_text())
    document["dataset"]["name"] = name
    (tmp_path / "evil.json").write_text(json.dumps(document))
    assert run(["--work", str(work), "preprocess", "-p", str(tmp_path / "evil.json"), "-d", str(toy.data)]) == 1
    assert "dataset.name" in capfd.readouterr().err
    assert not (tmp_path / "deep").exists()


def test_work_inside_the_dataset_is_refused(toy, capfd):
    root = str(toy.data.parent)
    assert run(["--data-root", root, "--work", root, "plan", "-d", "Toy", "--jobs", "1"]) == 1
    assert "the dataset's own folder" in capfd.readouterr().err
    manifest = str(toy.data / "manifest.csv")
    assert run(["--work", root, "plan", "-d", manifest, "--jobs", "1"]) == 1
    assert run(["--work", root, "preprocess", "-p", str(toy.plan_path), "-d", manifest]) == 1
    assert not (toy.data / "hashes.json").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "-d", "Toy", "--vram", "nan"],
        ["plan", "-d", "Toy", "--vram", "1e308"],
        ["plan", "-d", "Toy", "--max-hours", "inf"],
        ["train", "-p", "p.json", "--fold", "0", "--max-hours", "nan"],
        ["evaluate", "-i", "a", "-r", "b", "-o", "c", "--tolerance", "nan"],
    ],
)
def test_numbers_that_mean_nothing_are_wrong_usage(arguments, capfd):
    assert run(arguments) == 2
    assert "Error: Invalid value" in capfd.readouterr().err


def test_regions_without_a_dataset_are_refused(toy, tmp_path, capfd):
    reference = str(toy.data / "case_0" / "seg.nii.gz")
    assert run(["evaluate", "-i", reference, "-r", reference, "--regions", "brats", "-o", str(tmp_path)]) == 1
    assert "give -d DATASET too" in capfd.readouterr().err
