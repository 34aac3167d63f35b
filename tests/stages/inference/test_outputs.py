import json
import re

import nibabel
import numpy as np
import pytest
from pydantic import ValidationError

from tests.dicoms import rewrite, write_series
from tests.stages.inference.test_nnunet_model import write_model
from tests.stages.models import Above, small_model, with_network, write_image
from tumorseg.cli.main import run
from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case, ImageFile, Region
from tumorseg.sources.inputs import open_inputs
from tumorseg.stages.inference.ensembles import alone
from tumorseg.stages.inference.maps import MapRequest
from tumorseg.stages.inference.method import PredictOptions
from tumorseg.stages.inference.outputs import Outputs, check_sources, kept_labels
from tumorseg.stages.inference.predict import PredictRequest, predict
from tumorseg.stages.inference.predict_array import predict_array, predict_array_probabilities
from tumorseg.stages.inference.predict_cases import Filling, predict_cases
from tumorseg.storage.images import read_geometry, read_reference, read_segmentation


def files_in(folder):
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in found}


def fill(model, cases, output, options=None, **outputs):
    made = predict_cases(
        alone(model), cases, output, options=options or PredictOptions(), filling=Filling(Outputs(**outputs))
    )
    assert not made.failures
    return made


@pytest.mark.parametrize("ending", ["nii.gz", "nii", "nrrd", "mha"])
def test_masks_are_the_same_in_every_format(model, cases, tmp_path, ending):
    fill(model, cases, tmp_path / "usual")
    made = fill(model, cases, tmp_path / ending, formats=(ending,))
    assert made.files["a"] == tmp_path / ending / f"a.{ending}"
    expected, found = (read_segmentation(str(tmp_path / one)) for one in ("usual/a.nii.gz", f"{ending}/a.{ending}"))
    assert np.array_equal(found.array, expected.array)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-6)
    assert fill(model, cases, tmp_path / ending, formats=(ending,)).left_alone == ("a", "b")


def test_maps_lie_in_folders_of_their_own_and_are_not_taken_for_cases(model, cases, tmp_path):
    maps = MapRequest(probabilities=True, entropy=True, disagreement=True)
    made = fill(model, cases, tmp_path / "out", maps=maps)
    kinds = ("probabilities", "entropy", "disagreement")
    assert made.all_files["a"] == tuple(
        tmp_path / "out" / name for name in ("a.nii.gz", *(f"{kind}/a.nii.gz" for kind in kinds))
    )
    masks = {f"{case}.nii.gz" for case in "ab"}
    others = {f"{kind}/{mask}" for kind in kinds for mask in masks}
    assert files_in(tmp_path / "out") == masks | others | {"predictions.json", "report.json"}
    probabilities = nibabel.load(tmp_path / "out" / "probabilities" / "a.nii.gz").get_fdata()
    mask = np.asanyarray(nibabel.load(tmp_path / "out" / "a.nii.gz").dataobj)
    assert np.array_equal(probabilities.argmax(axis=-1), mask)
    assert [case.case_id for case in open_inputs([tmp_path / "out"], ["mask"]).cases] == ["a", "b"]


def test_one_member_has_nobody_to_disagree_with(model, cases, tmp_path):
    with pytest.raises(InputError, match="--disagreement: found one fold and one view, expected several"):
        fill(model, cases, tmp_path / "out", PredictOptions(mirroring=False), maps=MapRequest(disagreement=True))
    assert not (tmp_path / "out").exists()


def test_what_is_asked_for_later_is_added_and_the_rest_stays(model, cases, tmp_path):
    output = tmp_path / "out"
    fill(model, cases, output, maps={"entropy": True})
    before = (output / "a.nii.gz").read_bytes(), (output / "entropy" / "a.nii.gz").read_bytes()
    assert fill(model, cases, output).left_alone == ("a", "b")
    assert fill(model, cases, output, maps={"probabilities": True}).left_alone == ()
    assert fill(model, cases, output, maps={"probabilities": True, "entropy": True}).left_alone == ("a", "b")
    assert ((output / "a.nii.gz").read_bytes(), (output / "entropy" / "a.nii.gz").read_bytes()) == before
    (output / "entropy" / "a.nii.gz").unlink()
    assert fill(model, cases, output, maps={"entropy": True}).left_alone == ("b",)


class Both(Above):
    """A network that finds either label."""

    def forward(self, images):
        found = super().forward(images)
        found[:, 2] = (images[:, 1] > 0) * 2.0
        return found


def test_only_some_labels_are_kept_with_their_values_and_make_other_results(model, cases, tmp_path):
    model = with_network(model, Both())
    first, second = model.plan.dataset.foreground
    whole = fill(model, cases, tmp_path / "whole").files["a"]
    options = PredictOptions(only_labels=(second,))
    part = fill(model, cases, tmp_path / "part", options=options).files["a"]
    values, kept = (np.asanyarray(nibabel.load(path).dataobj) for path in (whole, part))
    value = model.plan.dataset.labels[second]
    assert np.array_equal(kept, np.where(values == value, value, 0))
    assert set(np.unique(values)) == {0, *model.plan.dataset.foreground.values()}
    assert json.loads((tmp_path / "part" / "report.json").read_text())["cases"]["a"]["labels"].keys() == {second}
    assert fill(model, cases, tmp_path / "part").left_alone == ()
    everything = PredictOptions(only_labels=(second, first))
    assert fill(model, cases, tmp_path / "whole", options=everything).left_alone == ("a", "b")


def test_only_labels_that_the_model_finds_can_be_kept(model):
    dataset = model.plan.dataset
    first, second = dataset.foreground
    assert kept_labels([], dataset) is None
    with pytest.raises(
        InputError, match=rf"--only-labels: the model finds no spleen; it finds {first}, {second}; give"
    ):
        kept_labels([first, "spleen"], dataset)
    region = Region(name="whole", labels=tuple(dataset.foreground.values()), value=dataset.labels[second])
    painted = dataset.changed(regions=(region,))
    with pytest.raises(InputError, match=rf"finds no {first}; it finds {second}; give"):
        kept_labels([first], painted)


def test_two_label_maps_are_no_form_of_one_mask():
    with pytest.raises(ValidationError, match="found nrrd and mha, expected one format of label maps at most"):
        Outputs(formats=("nrrd", "seg", "mha"))
    with pytest.raises(ValidationError, match="at least one"):
        Outputs(formats=())


def test_dicom_objects_of_other_images_are_refused_before_anything_is_written(model, cases, tmp_path):
    for format_ in ("seg", "rtstruct"):
        told = rf"--format {format_}: 2 cases are no DICOM \(a, b\); give DICOM series, or ask for another format"
        with pytest.raises(InputError, match=told):
            fill(model, cases, tmp_path / "out", formats=(format_, "nii.gz"))
    assert not (tmp_path / "out").exists()
    check_sources(Outputs(formats=("nii.gz",)), cases)


@pytest.fixture
def series(tmp_path):
    """Two series of one study, as one case of both channels."""
    volumes = np.random.default_rng(5).integers(0, 900, (2, 6, 9, 7)).astype(np.uint16)
    images = []
    for number, volume in enumerate(volumes):
        folder = tmp_path / "dicom" / f"T{number + 1}"
        write_series(folder, volume, kind="MR", series=f"1.2.1.{number + 1}")
        images.append(ImageFile(path=str(folder)))
    return Case(case_id="study", images=tuple(images))


def test_dicom_objects_hold_the_mask(model, series, tmp_path):
    pytest.importorskip("highdicom", reason="writes SEG")
    output, outputs = tmp_path / "out", {"formats": ("nii.gz", "seg", "rtstruct")}
    model = with_network(model, Above(400.0 / 300))
    made = fill(model, [series], output, **outputs)
    assert files_in(output) >= {"study.nii.gz", "seg/study.dcm", "rtstruct/study.dcm"}
    mask = read_segmentation(str(made.files["study"])).array
    assert mask.any()
    grid, values = read_geometry(series.images[0].path), model.plan.dataset.foreground
    for kind in ("seg", "rtstruct"):
        found = read_reference([str(output / kind / "study.dcm")], grid, values)
        assert np.array_equal(found.array, mask)
    assert fill(model, [series], output, **outputs).left_alone == ("study",)
    assert fill(model, [series], output, **outputs, seg_type="labelmap").left_alone == ()
    first = (output / "rtstruct" / "study.dcm").read_bytes()
    fill(model, [series], tmp_path / "again", **outputs)
    assert (tmp_path / "again" / "rtstruct" / "study.dcm").read_bytes() == first


class Refused(Above):
    def forward(self, batch):
        raise AssertionError("the network ran")


@pytest.mark.parametrize(
    ("elements", "told"),
    [
        ({"StudyInstanceUID": None}, "without the UID of their study"),
        ({"ImagePositionPatient": [1e7, 0, 0]}, "within 100000 mm of the origin"),
    ],
)
def test_a_series_that_nothing_can_refer_to_is_refused_before_the_network_runs(model, tmp_path, elements, told):
    for number in (1, 2):
        for file in write_series(tmp_path / f"T{number}", np.arange(63, dtype=np.uint16).reshape(1, 9, 7), kind="MR"):
            rewrite(file, **elements)
    case = Case(case_id="far", images=tuple(ImageFile(path=str(tmp_path / f"T{number}")) for number in (1, 2)))
    filling = Filling(Outputs(formats=("nii.gz", "rtstruct")))
    made = predict_cases(alone(with_network(model, Refused(1.0))), [case], tmp_path / "out", filling=filling)
    (failure,) = made.failures
    assert told in failure.message


def test_a_dicom_object_may_be_all_there_is(model, series, tmp_path):
    made = fill(model, [series], tmp_path / "out", formats=("rtstruct",))
    assert made.files == {"study": tmp_path / "out" / "rtstruct" / "study.dcm"}
    assert files_in(tmp_path / "out") == {"rtstruct/study.dcm", "predictions.json", "report.json"}
    # A label map in any format may be asked for later.
    assert fill(model, [series], tmp_path / "out", formats=("mha",)).files["study"].name == "study.mha"


def request_of(tmp_path, output, **fields):
    write_image(tmp_path / "in", "a")
    if not (tmp_path / "model").is_dir():
        write_model(tmp_path / "model")
    return PredictRequest(
        models=(tmp_path / "model",),
        inputs=tuple(sorted((tmp_path / "in").glob("a_*"))),
        output=tmp_path / output,
        mirroring=False,
        device="cpu",
        **fields,
    )


@pytest.mark.parametrize("name", ["mine.nrrd", "mine.MHA", "mine.nii"])
def test_the_name_of_a_file_says_its_format(tmp_path, name):
    made = predict(request_of(tmp_path, name))
    assert made.files == {"a": tmp_path / name}
    predict(request_of(tmp_path, "out"))
    expected, found = (read_segmentation(str(tmp_path / one)) for one in ("out/a.nii.gz", name))
    assert np.array_equal(found.array, expected.array)


@pytest.mark.parametrize(
    ("output", "outputs", "told"),
    [
        ("a.nrrd", {"formats": ("mha",)}, "--format mha is asked for; leave --format out"),
        ("a.nii", {"formats": ("seg",)}, "--format seg is asked for"),
        ("a.dcm", {}, "a DICOM file holds one object; give --format seg or rtstruct alone"),
        ("a.dcm", {"formats": ("seg", "rtstruct")}, "holds one object"),
        ("a.nii.gz", {"maps": {"entropy": True}}, "is one file, and entropy are others; give a folder"),
        ("a.dcm", {"formats": ("seg",)}, "1 cases are no DICOM"),
    ],
)
def test_a_file_that_would_hold_something_else_is_refused(tmp_path, output, outputs, told):
    with pytest.raises(InputError, match=told):
        predict(request_of(tmp_path, output, outputs=Outputs(**outputs)))
    assert not (tmp_path / output).exists()


def test_a_file_has_no_shards(tmp_path):
    with pytest.raises(InputError, match="is one file, and has no shards"):
        predict(request_of(tmp_path, "a.nrrd", shard="1/2"))


def test_probabilities_of_an_array_decide_its_segmentation(model):
    affine = np.diag([1.0, -1.5, 2.0, 1.0])
    image = np.random.default_rng(0).normal(size=(2, 9, 11, 7)).astype(np.float32)
    found = predict_array_probabilities(model, image, affine, mirroring=False)
    assert np.array_equal(found.segmentation, predict_array(model, image, affine, mirroring=False))
    assert found.probabilities.shape == (3, 9, 11, 7)
    np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(found.probabilities.argmax(axis=0), found.segmentation)
    assert found.names == ("background", *model.plan.dataset.foreground)


def test_the_command_writes_and_lists_what_is_asked_for(tmp_path, capsys):
    request = request_of(tmp_path, "out")
    only = next(iter(small_model(tmp_path / "other").plan.dataset.foreground))
    arguments = ["--json", "predict", "-m", request.models[0], "-i", tmp_path / "in", "-o", request.output]
    options = ["--format", "nrrd", "--entropy", "--only-labels", only, "--precision", "fp32", "--device", "cpu"]
    assert run([str(word) for word in (*arguments, *options, "--no-mirroring")]) == 0
    shown = json.loads(capsys.readouterr().out)
    expected = [str(tmp_path / "out" / name) for name in ("a.nrrd", "entropy/a.nii.gz")]
    assert (shown["files"], shown["outputs"]) == ({"a": expected[0]}, {"a": expected})
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert (record["precision"], record["only_labels"]) == ("fp32", [only])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--format", "nrrd", "--format", "mha"], "found nrrd and mha, expected one format"),
        (["--seg-type", "labelmap", "--format", "rtstruct"], "--seg-type labelmap: found no --format seg"),
    ],
)
def test_what_does_not_go_together_is_a_wrong_use_of_the_command(tmp_path, capsys, options, told):
    assert run(["predict", "-m", "m", "-i", "i", "-o", str(tmp_path / "out"), *options]) == 2
    assert re.search(told, capsys.readouterr().err)
