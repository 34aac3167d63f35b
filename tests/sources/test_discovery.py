import numpy as np
import pytest
from PIL import Image

from tests.dicoms import Grid, box_contour, write_rtstruct, write_series
from tests.sources import layouts
from tumorseg.errors import InputError
from tumorseg.sources.discovery import require_certain_labels
from tumorseg.sources.registry import open_dataset

Y, X = np.mgrid[:45, :37]
DISC = (Y - 20) ** 2 + (X - 17) ** 2 < 90


def write_volumes(folder, *labels):
    """Write a pair per label map."""
    for number, label in enumerate(labels):
        layouts.save(folder / "images" / f"c{number}.nii.gz", layouts.image(number, 0))
        layouts.save(folder / "labels" / f"c{number}.nii.gz", label)
    return folder


def write_pictures(folder, *labels, ending=".png"):
    for number, label in enumerate(labels):
        for part, array in (("images", (X + Y).astype(np.uint8)), ("labels", label)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / part / f"c{number}{ending if part == 'labels' else '.png'}")
    return folder


def write_manifest(folder, headings=""):
    names = sorted(path.name for path in (folder / "labels").iterdir())
    images = {name.split(".")[0]: path.name for path in (folder / "images").iterdir() for name in [path.name]}
    rows = [
        f"{name.split('.')[0]},images/{images[name.split('.')[0]]},labels/{name}{',' * headings.count(',')}"
        for name in names
    ]
    (folder / "manifest.csv").write_text("\n".join([f"case_id,CT,label{headings}", *rows]))
    return folder / "manifest.csv"


def opened(place):
    return open_dataset(str(place), place.parent)


def ball(value):
    return layouts.label(0, (0, value))


def test_masks_of_0_and_1_beside_masks_of_0_and_255_are_doubted(tmp_path):
    dataset = opened(write_volumes(tmp_path / "Set", ball(1), ball(255), ball(1)))
    (doubt,) = dataset.doubts
    assert dataset.labels == {"background": 0, "label_1": 1, "label_255": 255}
    assert "1 in 2 cases (c0, c2); 255 in 1 case (c1)" in doubt.message


def test_labels_that_a_manifest_states_are_not_doubted(tmp_path):
    folder = write_volumes(tmp_path / "Set", ball(1), ball(255))
    assert len(opened(write_manifest(folder)).doubts) == 1
    stated = opened(write_manifest(folder, ",label:liver=1,label:tumour=255"))
    assert (stated.labels, stated.doubts) == ({"background": 0, "liver": 1, "tumour": 255}, ())


def test_labels_that_a_dataset_json_states_are_not_doubted(tmp_path):
    folder = layouts.write_msd(tmp_path / "Set")
    for number, case_id in enumerate(layouts.IDS):
        layouts.save(folder / f"labelsTr/{case_id}.nii.gz", ball((1, 2, 4)[number]))
    assert opened(folder).doubts == ()


def test_labels_that_a_plan_knows_are_not_looked_for(tmp_path):
    folder = write_volumes(tmp_path / "Set", ball(1), ball(255))
    assert open_dataset(str(folder), tmp_path, labels={"background": 0, "liver": 1}).doubts == ()


def test_pairs_of_like_values_are_not_doubted(tmp_path):
    assert opened(layouts.write_pairs(tmp_path)).doubts == ()


def test_many_values_of_a_volume_are_not_doubted(tmp_path):
    atlas = np.arange(layouts.label(0).size, dtype=np.int16).reshape(layouts.SHAPE) // 4
    dataset = opened(write_volumes(tmp_path / "Set", atlas, atlas[::-1]))
    assert len(dataset.labels) > 50
    assert dataset.doubts == ()


def test_over_a_thousand_values_are_doubted_and_no_labels(tmp_path):
    intensities = np.arange(15 * 16 * 17, dtype=np.int16).reshape(15, 16, 17)
    dataset = opened(write_volumes(tmp_path / "Set", ball(1), intensities))
    (doubt,) = dataset.doubts
    assert dataset.labels == {"background": 0, "label_1": 1}
    assert doubt.case_ids == ("c1",)
    assert "over a thousand values" in doubt.message


@pytest.mark.parametrize("ending", [".jpg", ".JPEG"])
def test_masks_in_a_lossy_format_with_values_between_are_doubted(tmp_path, ending):
    mask = (255 * DISC).astype(np.uint8)
    dataset = opened(write_pictures(tmp_path / "Set", mask, mask[::-1], ending=ending))
    (doubt,) = dataset.doubts
    assert len(dataset.labels) > 3
    assert doubt.case_ids == ("c0", "c1")
    assert "lossy format (JPEG)" in doubt.message


def test_masks_in_a_lossy_format_that_kept_their_values_are_not_doubted(tmp_path):
    blocks = np.repeat(np.repeat(np.array([[0, 255], [255, 0]], np.uint8), 16, axis=0), 24, axis=1)
    folder = write_pictures(tmp_path / "Set", blocks, ending=".jpg")
    dataset = opened(folder)
    assert (dataset.labels, dataset.doubts) == ({"background": 0, "label_255": 255}, ())


def test_masks_with_smoothed_edges_in_pictures_are_doubted(tmp_path):
    smooth = np.asarray(Image.fromarray((255 * DISC).astype(np.uint8)).resize((61, 52), Image.Resampling.BILINEAR))
    sharp = (255 * DISC).astype(np.uint8)
    (doubt,) = opened(write_pictures(tmp_path / "Set", sharp, smooth)).doubts
    assert doubt.case_ids == ("c1",)
    assert "edges were smoothed" in doubt.message


def test_intensities_in_pictures_are_doubted(tmp_path):
    noise = np.random.default_rng(3).integers(60, 200, DISC.shape, dtype=np.uint8)
    (doubt,) = opened(write_pictures(tmp_path / "Set", (2 * DISC).astype(np.uint8), noise)).doubts
    assert doubt.case_ids == ("c1",)
    assert "as intensities do" in doubt.message


def test_pictures_of_twenty_classes_are_not_doubted(tmp_path):
    classes = (X // 8 + 5 * (Y // 12)).astype(np.uint8)
    dataset = opened(write_pictures(tmp_path / "Set", classes, classes[::-1]))
    assert (len(dataset.labels), dataset.doubts) == (20, ())


def test_a_label_file_that_cannot_be_read_fails_with_its_case_alone(tmp_path):
    folder = write_volumes(tmp_path / "Set", ball(1), ball(1))
    (folder / "labels" / "c0.nii.gz").write_bytes(b"no image")
    dataset = opened(folder)
    assert (len(dataset.cases), dataset.labels, dataset.doubts) == (2, {"background": 0, "label_1": 1}, ())


def test_names_of_structures_that_differ_in_spelling_are_doubted(tmp_path):
    volume = np.arange(4 * 9 * 11, dtype=np.int16).reshape(4, 9, 11)
    for number, name in enumerate(("GTV", "gtv", "GTV 1")):
        uids = {"patient": "ABC"[number], "study": f"1.2.{number + 5}.1", "series": f"1.2.{number + 5}.2"}
        series = write_series(tmp_path / "Set" / f"{number}", volume, **uids)
        contours = [box_contour(Grid(), index, (2, 3), (7, 5)) for index in (1, 2)]
        write_rtstruct(tmp_path / "Set" / f"{number}" / "rt.dcm", series, {name: contours})
    (doubt,) = opened(tmp_path / "Set").doubts
    assert "'GTV' in 1 case (A); 'GTV 1' in 1 case (C); 'gtv' in 1 case (B)" in doubt.message


def test_doubtful_labels_are_refused_in_one_line_unless_they_are_confirmed(tmp_path):
    dataset = opened(write_volumes(tmp_path / "Set", ball(1), ball(255)))
    with pytest.raises(InputError) as caught:
        require_certain_labels(dataset, "plan", is_confirmed=False)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("Set: plan needs certain labels; ")
    assert "255 in 1 case (c1)" in line
    assert line.endswith("--confirm-labels if they are meant so")
    require_certain_labels(dataset, "plan", is_confirmed=True)
    require_certain_labels(dataset.model_copy(update={"doubts": ()}), "plan", is_confirmed=False)
