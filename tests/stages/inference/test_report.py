import json

import nibabel
import numpy as np
import pytest

from tests.stages.models import AFFINE, SHAPE, Above, with_network
from tumorseg.errors import InputError
from tumorseg.schema.dataset import Region
from tumorseg.sources.inputs import open_inputs
from tumorseg.stages.inference.case_report import label_groups
from tumorseg.stages.inference.ensembles import alone
from tumorseg.stages.inference.predict_cases import predict_cases

VOXEL_ML = 2.0 * 1.5 * 1.0 / 1000


def report_in(folder):
    return json.loads((folder / "report.json").read_text())


def test_the_report_tells_what_the_mask_holds(model, cases, tmp_path):
    made = predict_cases(alone(model), cases, tmp_path / "out")
    mask = np.asanyarray(nibabel.load(made.files["a"]).dataobj).T
    first, second = model.plan.dataset.foreground
    found = report_in(tmp_path / "out")["cases"]["a"]["labels"]
    places = np.argwhere(mask == model.plan.dataset.labels[first])
    assert found[first]["volume_ml"] == pytest.approx(len(places) * VOXEL_ML)
    assert found[first]["box"] == np.stack([places.min(0), places.max(0) + 1], axis=1).tolist()
    assert 1 <= found[first]["num_components"] < len(places)
    assert found[second] == {"volume_ml": 0.0, "box": None, "num_components": 0}


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_boxes_are_in_the_order_in_which_the_image_is_stored(model, tmp_path, signs):
    """Whichever way the axes of a file point."""
    stored = np.zeros((2, *SHAPE), np.float32)
    stored[0, 1:3, 4:9, 0:2] = 9.0
    stored[1, 0, 0, 0] = 1.0
    (tmp_path / "in").mkdir()
    for number, channel in enumerate(stored):
        image = nibabel.Nifti1Image(channel.T, AFFINE @ np.diag([*signs, 1.0]))
        nibabel.save(image, tmp_path / "in" / f"a_{number:04d}.nii.gz")
    cases = open_inputs([tmp_path / "in"], ["T1", "T2"]).cases
    predict_cases(alone(with_network(model, Above(1.0))), cases, tmp_path / "out")
    found = report_in(tmp_path / "out")["cases"]["a"]["labels"]["kidney_left"]
    assert found["box"] == [[1, 3], [4, 9], [0, 2]]
    assert found["volume_ml"] == pytest.approx(2 * 5 * 2 * VOXEL_ML)


def test_regions_are_told_as_regions(model):
    dataset = model.plan.dataset
    whole = Region(name="whole", labels=(1, 2), value=1)
    core = Region(name="core", labels=(2,), value=2)
    assert label_groups(dataset.changed(regions=(whole, core)), None) == {"whole": (1, 2), "core": (2,)}
    assert label_groups(dataset, {"kidney_left": 1}) == {"kidney_left": (1,)}


def test_the_report_tells_what_made_it_and_what_it_took(model, cases, tmp_path):
    predict_cases(alone(model), cases, tmp_path / "out")
    report = report_in(tmp_path / "out")
    entry = report["cases"]["b"]
    (made_by,) = report["runs"].values()
    assert made_by["plan"] == model.plan.name
    assert made_by["configuration"] == "3d_fullres"
    assert made_by["weight_hashes"] == list(model.weight_hashes)
    assert made_by["engine"] == "torch"
    assert made_by["precision"] in ("bf16", "fp32")
    assert made_by["device"] == "cpu"
    assert made_by["versions"].keys() >= {"tumorseg", "torch", "numpy"}
    assert report["runs"].keys() == {entry["run"]}
    assert entry["seconds"].keys() >= {"read", "prepare", "network", "restore", "write"}
    assert all(seconds >= 0 for seconds in entry["seconds"].values())
    assert entry["peak_memory_bytes"] > 2**20
    assert "as the input's file stores them" in report["definitions"]["box"]


def test_cases_that_are_left_alone_keep_their_entry(model, cases, tmp_path):
    output = tmp_path / "out"
    predict_cases(alone(model), cases[:1], output)
    before = report_in(output)["cases"]["a"]
    assert predict_cases(alone(model), cases, output).left_alone == ("a",)
    report = report_in(output)
    assert report["cases"]["a"] == before
    assert report["cases"].keys() == {"a", "b"}


def test_entries_of_another_model_are_dropped_with_what_it_found(model, cases, tmp_path):
    output = tmp_path / "out"
    predict_cases(alone(model), cases, output)
    other = with_network(model, Above(1.0))._replace(weight_hashes=("other",))
    predict_cases(alone(other), cases[:1], output)
    report = report_in(output)
    assert report["cases"].keys() == {"a"}
    assert [run["weight_hashes"] for run in report["runs"].values()] == [["other"]]


def test_only_what_was_measured_differs_between_runs(model, cases, tmp_path):
    reports = []
    for name in ("one", "two"):
        predict_cases(alone(model), cases, tmp_path / name)
        report = report_in(tmp_path / name)
        for entry in report["cases"].values():
            assert entry.pop("seconds")
            assert entry.pop("peak_memory_bytes")
        reports.append(report)
    assert reports[0] == reports[1]


def test_the_report_has_a_line_a_case_and_its_keys_in_order(model, cases, tmp_path):
    predict_cases(alone(model), cases, tmp_path / "out")
    text = (tmp_path / "out" / "report.json").read_text()
    assert json.dumps(json.loads(text), sort_keys=True) == json.dumps(json.loads(text))
    assert text.splitlines()[1:4] == ['  "cases": {', *text.splitlines()[2:4]]
    assert [line.split(":")[0] for line in text.splitlines()[2:4]] == ['    "a"', '    "b"']


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"schema_version": 2}', '{"schema_version": 1, "runs": [], "cases": {}}']
)
def test_a_report_that_is_none_is_told_in_one_line(model, cases, tmp_path, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text(text)
    with pytest.raises(InputError, match=r"report\.json: is no report of form 1 .*; move it aside") as caught:
        predict_cases(alone(model), cases, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_case_whose_entry_is_gone_is_made_anew(model, cases, tmp_path):
    predict_cases(alone(model), cases, tmp_path / "out")
    (tmp_path / "out" / "report.json").unlink()
    assert predict_cases(alone(model), cases, tmp_path / "out").left_alone == ()
    assert report_in(tmp_path / "out")["cases"].keys() == {"a", "b"}


def test_an_image_of_one_voxel_size_has_the_volume_of_its_voxels(model, cases, tmp_path):
    everything = with_network(model, Above(-100.0))
    predict_cases(alone(everything), cases[:1], tmp_path / "out")
    found = report_in(tmp_path / "out")["cases"]["a"]["labels"]["kidney_left"]
    assert found["volume_ml"] == pytest.approx(np.prod(SHAPE) * VOXEL_ML)
    assert (found["box"], found["num_components"]) == ([[0, size] for size in SHAPE], 1)
