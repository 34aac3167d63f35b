"""What files leave open, from the command line to the end: stated once, kept in the plan, followed by every later verb."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.ops.test_grids import stored_as
from tests.stages.opening.test_reading import AFFINE, save, save_unplaced
from tumorseg.cli.main import run
from tumorseg.cli.stated import stated_of
from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case, Dataset, ImageFile
from tumorseg.stages.opening.loaded import read_plan
from tumorseg.stages.opening.stated import Stated, with_stated

pytestmark = pytest.mark.slow  # half a minute in all: whole commands, one after the other
SHAPE = (12, 26, 23)
MODEL = Path(__file__).parents[1] / "nnunet" / "sarcoma" / "fold_0"


def scan(number, shape=SHAPE):
    """Return an image that no reorientation leaves alone, and a ball in it (Z, Y, X)."""
    z, y, x = np.indices(shape)
    label = ((x - 9 - number) ** 2 + (y - 14) ** 2 + 4 * (z - 5) ** 2 < 40).astype(np.uint8)
    noise = np.random.default_rng(number).normal(0, 5, shape)
    return (100 + 2 * x + y + 3 * z + 150 * label + noise).astype(np.float32), label


def write_manifest(folder, cases, **fields):
    content = {"channels": ["MR"], "labels": {"ball": 1}, "cases": cases, **fields}
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


def write_pairs(folder, save_image=save, save_label=save, count=2):
    folder.mkdir(parents=True)
    cases = []
    for number in range(count):
        image, label = scan(number)
        save_image(folder / f"c{number}.nii.gz", image)
        save_label(folder / f"c{number}_label.nii.gz", label)
        cases.append({"case_id": f"c{number}", "images": [f"c{number}.nii.gz"], "label": f"c{number}_label.nii.gz"})
    return write_manifest(folder, cases)


def tumorseg(tmp_path, *arguments):
    return run(["--work", str(tmp_path / "work"), *map(str, arguments)])


def plan(tmp_path, data, *options):
    path = tmp_path / "p.json"
    code = tumorseg(
        tmp_path, "plan", "-d", data, "--preset", "fast_prototyping", "--jobs", 1, "--force", "-o", path, *options
    )
    return read_plan(path) if code == 0 else None


def test_a_stated_orientation_is_kept_in_the_plan_and_followed_by_preprocess(tmp_path, capsys):
    data = write_pairs(tmp_path / "d", save_unplaced, save_unplaced)
    made = plan(tmp_path, data, "--assume-orientation", "LPS")
    assert made.dataset.reading.assumed_orientation == "LPS"
    assert "--assume-orientation" in made.reasons["dataset.reading.assumed_orientation"].rule
    assert "WARNING" not in capsys.readouterr().err
    assert tumorseg(tmp_path, "preprocess", "-p", tmp_path / "p.json", "--jobs", 1) == 0
    placed = write_pairs(tmp_path / "placed", *[lambda path, array: save(path, array, lps())] * 2)
    same = plan(tmp_path, placed)
    stored = stored_images(tmp_path)
    assert tumorseg(tmp_path, "preprocess", "-p", tmp_path / "p.json", "--jobs", 1) == 0
    assert same.configurations["3d_fullres"].patch_size == made.configurations["3d_fullres"].patch_size
    fresh = [array for array in stored_images(tmp_path) if not any(np.array_equal(array, old) for old in stored)]
    assert not fresh  # the same arrays as of files that say so themselves


def lps():
    affine = np.diag([-1.2, -0.8, 3.0, 1.0])
    affine[:3, 3] = [10, 20, 30]
    return affine


def stored_images(tmp_path):
    import blosc2

    return [np.asarray(blosc2.open(str(path), mode="r")[:]) for path in sorted((tmp_path / "work").rglob("image.b2nd"))]


@pytest.mark.parametrize("verb", ["data check", "fingerprint", "plan", "data import"])
def test_every_verb_names_the_files_that_state_no_orientation(tmp_path, capsys, verb):
    data = write_pairs(tmp_path / "d", save_unplaced, save_unplaced)
    options = {
        "data import": ["-o", tmp_path / "out"],
        "plan": ["--preset", "fast_prototyping", "-o", tmp_path / "p.json"],
    }
    assert tumorseg(tmp_path, *verb.split(), "-d", data, "--jobs", 1, *options.get(verb, [])) == 0
    told = "".join(capsys.readouterr())
    for name in ("c0.nii.gz", "c1_label.nii.gz"):
        assert any(name in line and "--assume-orientation" in line for line in told.splitlines()), told


def test_an_imported_dataset_states_what_the_user_stated(tmp_path):
    data = write_pairs(tmp_path / "d", save_unplaced, save_unplaced)
    options = ("-o", tmp_path / "out", "--to", "manifest", "--jobs", 1, "--assume-orientation", "PIR")
    assert tumorseg(tmp_path, "data", "import", "-d", data, *options) == 0
    for path in sorted((tmp_path / "out").rglob("*.nii.gz")):
        image = nibabel.load(path)
        assert nibabel.aff2axcodes(image.affine) == ("P", "I", "R")
        assert image.header["sform_code"] > 0


def test_a_wrong_code_is_a_wrong_option(tmp_path, capsys):
    data = write_pairs(tmp_path / "d")
    assert tumorseg(tmp_path, "data", "check", "-d", data, "--assume-orientation", "RLS") == 2
    told = capsys.readouterr().err
    assert "one letter each of R/L, A/P and S/I" in told
    assert "RLS" in told


def test_a_paint_order_may_name_labels_with_commas_and_no_others():
    labels = {"background": 0, "PTV 54,0": 1, "Blase": 2}
    dataset = Dataset(
        name="D", channels=["CT"], labels=labels, cases=[Case(case_id="a", images=[ImageFile(path="/a.nii.gz")])]
    )
    stated = stated_of({"paint_order": '"PTV 54,0", Blase'})
    assert with_stated(dataset, stated).reading.paint_order == ("PTV 54,0", "Blase")
    for name in ("background", "GTV"):
        with pytest.raises(InputError, match=f"--paint-order: D has no label {name}; expected some of PTV 54,0, Blase"):
            with_stated(dataset, Stated(paint_order=("Blase", name)))


@pytest.mark.parametrize("code", ["LPS", "PIR"])
def test_labels_in_other_axes_are_taken_everywhere(tmp_path, capsys, code):
    def save_turned(path, array):
        save(path, *stored_as(array, AFFINE, code))

    data = write_pairs(tmp_path / "d", save, save_turned)
    assert tumorseg(tmp_path, "data", "check", "-d", data, "--jobs", 1) == 0
    told = capsys.readouterr().out
    assert "reoriented, without loss" in told
    assert "header" not in told
    assert plan(tmp_path, data) is not None
    assert tumorseg(tmp_path, "data", "import", "-d", data, "-o", tmp_path / "out", "--jobs", 1) == 0
    written = nibabel.load(tmp_path / "out" / "labelsTr" / "c1.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, scan(1)[1])
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-5)
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    for folder, write in ((predictions, save_turned), (references, save)):
        folder.mkdir()
        write(folder / "c1.nii.gz", scan(1)[1])
    assert tumorseg(tmp_path, "evaluate", "-i", predictions, "-r", references, "-o", tmp_path / "scores") == 0
    (case,) = json.loads((tmp_path / "scores" / "metrics.json").read_text())["cases"]
    assert (case["dsc"], case["hd95_mm"]) == (1.0, 0.0)


def test_a_label_half_a_voxel_off_is_told_without_the_advice_to_copy_a_header(tmp_path, capsys):
    def save_off(path, array):
        save(path, array, AFFINE + np.outer([0.3, 0, 0, 0], [0, 0, 0, 1]))

    data = write_pairs(tmp_path / "d", save, save_off)
    tumorseg(tmp_path, "data", "check", "-d", data, "--jobs", 1)
    told = capsys.readouterr().out
    assert "0.3 mm away" in told
    assert "copy" not in told


def write_pet(folder, count=3):
    """Write a CT, a PET whose field of view is wider, and lesions that were drawn on the PET."""
    folder.mkdir(parents=True)
    cases = []
    for number in range(count):
        pet, label = scan(number)
        affine = np.diag([4.0, 4, 4, 1])
        affine[:3, 3] = [-46, -52, -24]
        save(folder / f"pt{number}.nii.gz", pet / 100, affine)
        save(folder / f"l{number}.nii.gz", label, affine)
        _, y, x = np.indices((24, 20, 20))
        body = (x - 9.5) ** 2 + (y - 9.5) ** 2 < 64
        ct = np.where(body, np.random.default_rng(number).normal(40, 9, body.shape), -1000)
        around = np.diag([3.0, 3, 2, 1])
        around[:3, 3] = [-28, -28, -24]
        save(folder / f"ct{number}.nii.gz", ct.astype(np.int16), around)
        cases.append(
            {
                "case_id": f"c{number}",
                "images": [f"ct{number}.nii.gz", f"pt{number}.nii.gz"],
                "label": f"l{number}.nii.gz",
            }
        )
    return write_manifest(folder, cases, channels=["CT", "PET"])


def test_a_pet_that_is_wider_than_the_ct_is_planned_on_its_own_grid(tmp_path, capsys):
    data = write_pet(tmp_path / "d")
    assert tumorseg(tmp_path, "data", "check", "-d", data, "--jobs", 1) == 0
    assert "of whose voxels it does not cover" in capsys.readouterr().out
    made = plan(tmp_path, data)
    assert made.dataset.reading.grid_channel == "PET"
    assert [channel.outside_value for channel in made.dataset.channels] == [-1024, None]
    assert "labels lie" in made.reasons["dataset.reading.grid_channel"].rule
    assert made.fingerprint.intensities["CT"].min > -1001  # what the CT does not cover stays out
    assert "CT does not cover the whole grid in 3 of 3 cases" in capsys.readouterr().err
    assert tumorseg(tmp_path, "preprocess", "-p", tmp_path / "p.json", "--jobs", 1) == 0
    assert tumorseg(tmp_path, "data", "import", "-d", data, "-o", tmp_path / "out", "--jobs", 1) == 0
    images = [nibabel.load(tmp_path / "out" / "imagesTr" / f"c0_000{number}.nii.gz") for number in range(2)]
    assert images[0].shape == images[1].shape == SHAPE[::-1]
    assert np.asarray(images[0].dataobj).min() == -1024


def test_a_case_whose_label_lies_on_another_channel_than_the_others_is_named(tmp_path, capsys):
    data = write_pet(tmp_path / "d")
    ct = nibabel.load(data / "ct1.nii.gz")
    save(data / "l1.nii.gz", (np.indices(ct.shape[::-1])[0] > 12).astype(np.uint8), ct.affine)
    assert plan(tmp_path, data) is None
    told = capsys.readouterr().err
    assert "CT in 1 cases (c1); PET in 2 cases (c0, c2)" in told


def test_what_cropping_would_take_is_found_by_check_plan_and_kept_by_preprocess(tmp_path, capsys):
    def save_cut(path, array):
        cut = array.copy()
        cut[:, :, :8] = 0
        save(path, cut)

    data = write_pairs(tmp_path / "d", save_cut, save)
    assert tumorseg(tmp_path, "data", "check", "-d", data, "--jobs", 1) == 0
    assert "which cropping would take" in capsys.readouterr().out
    made = plan(tmp_path, data)
    assert made.cropping is False
    assert tumorseg(tmp_path, "preprocess", "-p", tmp_path / "p.json", "--jobs", 1) == 0
    voxels = [json.loads(path.read_text())["class_voxels"] for path in sorted((tmp_path / "work").rglob("case.json"))]
    assert sorted(found[1] for found in voxels)[-1] == max(int(scan(number)[1].sum()) for number in range(2))
    assert "of its" not in capsys.readouterr().err


def test_a_label_that_shrinks_on_its_way_to_the_store_is_named_with_its_case(tmp_path, capsys):
    data = write_pairs(tmp_path / "d")
    _, label = scan(1)
    label[:] = 0
    label[5, 14, 10] = 1  # a single voxel, lost on a coarser grid
    save(data / "c1_label.nii.gz", label)
    made = plan(tmp_path, data, "--set", "configurations.3d_fullres.spacing_mm=[6,4,4]")
    assert made is not None
    assert (
        tumorseg(tmp_path, "preprocess", "-p", tmp_path / "p.json", "--configuration", "3d_fullres", "--jobs", 1) == 0
    )
    assert "case c1: ball loses all of its 0.00288 ml" in capsys.readouterr().err


def predict(tmp_path, ct, name):
    folder = tmp_path / name
    folder.mkdir()
    radius = np.sqrt(((np.indices(ct.shape) - np.array([12, 20, 20])[:, None, None, None]) ** 2).sum(0))
    for number, channel in enumerate((ct, np.where(radius < 6, 8.0, 1.0), np.where(radius < 16, 300.0, 20.0))):
        save(folder / f"c_{number:04d}.nii.gz", channel.astype(np.float32), np.diag([2.0, 2, 3, 1]))
    return tumorseg(
        tmp_path,
        "predict",
        "-m",
        MODEL,
        "-i",
        folder,
        "-o",
        tmp_path / f"{name}_out",
        "--no-mirroring",
        "--device",
        "cpu",
    )


def phantom_ct():
    radius = np.sqrt(((np.indices((24, 40, 40)) - np.array([12, 20, 20])[:, None, None, None]) ** 2).sum(0))
    return np.where(radius < 16, 40.0, -1000.0) + np.where(radius < 6, 60.0, 0.0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda ct: ct + 1024, "cannot be in Hounsfield units"),
        (lambda ct: (ct + 1000) / 1100, "cannot be in Hounsfield units"),
    ],
)
def test_ct_in_another_unit_is_refused_by_predict(tmp_path, capsys, change, told):
    assert predict(tmp_path, change(phantom_ct()), "in") == 1
    assert told in capsys.readouterr().err
    assert not list((tmp_path / "in_out").glob("*.nii.gz"))


def test_a_channel_of_one_single_value_is_told_and_ct_in_hounsfield_units_is_not(tmp_path, capsys):
    assert predict(tmp_path, phantom_ct(), "hu") == 0
    assert "Hounsfield" not in capsys.readouterr().err
    assert predict(tmp_path, np.full((24, 40, 40), -1000.0), "constant") == 0
    assert "every voxel of CT is -1000" in capsys.readouterr().err


def test_predictions_and_references_without_a_common_value_are_no_scores(tmp_path, capsys):
    for folder, value in (("predictions", 1), ("references", 255)):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "c.nii.gz", scan(0)[1] * np.uint8(value))
    places = ("-i", tmp_path / "predictions", "-r", tmp_path / "references", "-o", tmp_path / "scores")
    assert tumorseg(tmp_path, "evaluate", *places) == 1
    assert "predictions hold the label values 1, references 255, none in common" in capsys.readouterr().err


def test_confirmed_labels_are_warnings_of_check_and_stand_in_the_plan(tmp_path, capsys):
    for number in range(4):
        image, label = scan(number)
        for part, array in (("images", image), ("labels", label * np.uint8(1 if number < 2 else 255))):
            (tmp_path / "d" / part).mkdir(parents=True, exist_ok=True)
            save(tmp_path / "d" / part / f"c{number}.nii.gz", array)
    data = tmp_path / "d"
    assert tumorseg(tmp_path, "data", "check", "-d", data, "--jobs", 1) == 1
    assert plan(tmp_path, data) is None
    assert tumorseg(tmp_path, "data", "import", "-d", data, "-o", tmp_path / "out", "--jobs", 1) == 1
    assert "255" in capsys.readouterr().err
    assert tumorseg(tmp_path, "data", "check", "-d", data, "--confirm-labels", "--jobs", 1) == 0
    made = plan(tmp_path, data, "--confirm-labels")
    assert "--confirm-labels" in made.reasons["dataset.labels"].rule


@pytest.mark.parametrize("verb", ["data check", "plan", "data import"])
def test_a_stated_label_that_no_case_has_stops_unless_it_is_confirmed(tmp_path, capsys, verb):
    data = write_pairs(tmp_path / "d")
    content = json.loads((data / "manifest.json").read_text())
    (data / "manifest.json").write_text(json.dumps(content | {"labels": {"ball": 1, "cyst": 2}}))
    options = {
        "data import": ["-o", tmp_path / "out"],
        "plan": ["--preset", "fast_prototyping", "-o", tmp_path / "p.json"],
    }
    command = [*verb.split(), "-d", data, "--jobs", 1, *options.get(verb, [])]
    assert tumorseg(tmp_path, *command) == 1
    assert "cyst" in "".join(capsys.readouterr())
    assert not (tmp_path / "out" / "dataset.json").exists()
    assert tumorseg(tmp_path, *command, "--confirm-labels") == 0


def test_a_mask_lies_where_an_image_without_orientation_was_taken_to_lie(tmp_path):
    from tumorseg.schema.dataset import ImageFile
    from tumorseg.storage.formats.nifti import is_nifti1
    from tumorseg.storage.image_writing import write_segmentation
    from tumorseg.storage.images import read_image

    header = (
        "NRRD0004\ntype: float\ndimension: 3\nsizes: 23 26 12\nspacings: 1.2 0.8 3\nencoding: raw\nendian: little\n\n"
    )
    path = tmp_path / "a.nrrd"
    path.write_bytes(header.encode() + scan(0)[0].astype("<f4").tobytes())
    volume = read_image(ImageFile(path=str(path)), "PIR")
    write_segmentation(tmp_path / "m.nii.gz", scan(0)[1], like=ImageFile(path=str(path)), affine=volume.affine)
    assert is_nifti1(str(tmp_path / "m.nii.gz"))
    written = nibabel.load(tmp_path / "m.nii.gz")
    assert nibabel.aff2axcodes(written.affine) == ("P", "I", "R")
    np.testing.assert_allclose(written.affine, volume.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, scan(0)[1])


def test_what_was_measured_before_is_still_told_by_plan(tmp_path, capsys):
    data = write_pairs(tmp_path / "d", save_unplaced, save_unplaced)
    assert tumorseg(tmp_path, "fingerprint", "-d", data, "--jobs", 1) == 0
    capsys.readouterr()
    made = plan(tmp_path, data)
    assert "4 files state no orientation (c0.nii.gz" in capsys.readouterr().err
    assert made.reasons["dataset.reading.assumed_orientation"].inputs["files"] == 4


def test_fix_lays_a_label_on_the_channel_that_it_was_drawn_on(tmp_path, capsys):
    data = write_pet(tmp_path / "d", count=1)
    label = nibabel.load(data / "l0.nii.gz")
    affine = label.affine.copy()
    affine[0, 3] += 1
    save(data / "l0.nii.gz", scan(0)[1], affine)
    tumorseg(tmp_path, "data", "check", "-d", data, "--jobs", 1, "--fix", tmp_path / "fixed")
    assert "header's grid taken from pt0.nii.gz" in capsys.readouterr().out
    np.testing.assert_allclose(nibabel.load(tmp_path / "fixed" / "l0.nii.gz").affine, label.affine, atol=1e-5)


def test_cases_without_a_label_are_imported_on_the_same_channels_grid(tmp_path):
    data = write_pet(tmp_path / "d", count=2)
    content = json.loads((data / "manifest.json").read_text())
    del content["cases"][1]["label"]
    (data / "manifest.json").write_text(json.dumps(content))
    assert tumorseg(tmp_path, "data", "import", "-d", data, "-o", tmp_path / "out", "--jobs", 1) == 0
    assert nibabel.load(tmp_path / "out" / "imagesTs" / "c1_0000.nii.gz").shape == SHAPE[::-1]


def test_links_that_plan_was_allowed_to_follow_are_followed_by_later_verbs(tmp_path, capsys):
    data = write_pairs(tmp_path / "elsewhere")
    folder = tmp_path / "Dataset001_Linked"
    for part, name in (("imagesTr", "c{}_0000.nii.gz"), ("labelsTr", "c{}.nii.gz")):
        (folder / part).mkdir(parents=True)
        for number in range(2):
            source = f"c{number}.nii.gz" if part == "imagesTr" else f"c{number}_label.nii.gz"
            (folder / part / name.format(number)).symlink_to(data / source)
    described = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "ball": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(described))
    assert plan(tmp_path, folder) is None
    assert "--allow-outside" in capsys.readouterr().err
    assert plan(tmp_path, folder, "--allow-outside") is not None
    for place in ([], ["-d", folder]):
        assert (
            tumorseg(tmp_path, "preprocess", "-p", tmp_path / "p.json", "--configuration", "2d", "--jobs", 1, *place)
            == 0
        )
