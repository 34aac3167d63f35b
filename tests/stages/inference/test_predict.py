import json
import logging
import os
import shutil

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from tests.stages.inference.test_nnunet_model import write_model
from tests.stages.models import AFFINE, SHAPE, Above, small_model, with_network, write_image
from tumorseg.cli.main import run
from tumorseg.errors import InputError, PlanError, StorageError
from tumorseg.sources.inputs import open_inputs
from tumorseg.stages.inference.ensembles import alone
from tumorseg.stages.inference.method import METHOD_VERSION, PredictOptions
from tumorseg.stages.inference.predict import PredictRequest, predict
from tumorseg.stages.inference.predict_array import predict_array
from tumorseg.stages.inference.predict_cases import predict_cases
from tumorseg.storage.locks import hold_folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def cases(tmp_path):
    for seed, name in enumerate("abc"):
        write_image(tmp_path / "in", name, seed)
    return open_inputs([tmp_path / "in"], ["T1", "T2"]).cases


def other_model(model):
    """Return one that finds other things and has other weights."""
    return with_network(model, Above(1.0))._replace(weight_hashes=("other",))


def with_overlap(model, overlap):
    inference = model.configuration.inference.model_copy(update={"overlap": overlap})
    return model._replace(configuration=model.configuration.model_copy(update={"inference": inference}))


def masks_in(folder):
    return {path.name.removesuffix(".nii.gz"): path.read_bytes() for path in folder.glob("*.nii.gz")}


def record_in(folder):
    return json.loads((folder / "predictions.json").read_text())


def labels(path):
    return np.asanyarray(nibabel.load(path).dataobj).T


def test_what_is_done_is_left_alone_and_what_another_plan_made_is_not(model, cases, tmp_path):
    output = tmp_path / "out"
    assert predict_cases(alone(model), cases, output).left_alone == ()
    times = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    assert predict_cases(alone(model), cases, output).left_alone == ("a", "b", "c")
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == times
    (output / "b.nii.gz").unlink()
    assert predict_cases(alone(model), cases, output).left_alone == ("a", "c")
    planned = with_overlap(model, 0.25)  # the weights are the same
    assert predict_cases(alone(planned), cases, output).left_alone == ()
    assert predict_cases(alone(planned), cases, output, options=PredictOptions(mirroring=False)).left_alone == ()
    assert record_in(output)["method_version"] == METHOD_VERSION


def test_a_changed_image_is_segmented_anew_and_a_label_is_not_looked_at(model, cases, tmp_path):
    labelled = [case.model_copy(update={"label": str(tmp_path / "no" / "such.nii.gz")}) for case in cases]
    predict_cases(alone(model), labelled, tmp_path / "out")
    write_image(tmp_path / "in", "b", seed=9)
    assert predict_cases(alone(model), cases, tmp_path / "out").left_alone == ("a", "c")


class Cascade(nn.Module):
    """A network that repeats the previous segmentation that it is shown."""

    def forward(self, images):
        shown = images[:, 2:]
        return torch.cat((1 - shown.sum(1, keepdim=True), shown), dim=1)


class Corner(nn.Module):
    """A network that finds one corner of whatever it sees, so that mirrored views contradict each other."""

    def forward(self, images):
        found = torch.zeros_like(images[:, :1])
        found[..., : images.shape[-1] // 2] = 3.0
        return torch.cat((torch.ones_like(found), found, torch.zeros_like(found)), dim=1)


@pytest.fixture
def cascade(model):
    first = with_network(model, Corner())
    planned = model.configuration.model_copy(update={"previous_configuration": "3d_lowres"})
    hashes = ("cascade", *first.weight_hashes)
    return with_network(model, Cascade())._replace(configuration=planned, weight_hashes=hashes, previous=first)


def test_a_cascades_previous_model_is_mirrored_only_if_the_cascade_is(cascade, cases, tmp_path):
    array = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    for mirroring in (True, False):
        first = predict_array(cascade.previous, array, AFFINE, mirroring=mirroring)
        assert np.array_equal(predict_array(cascade, array, AFFINE, mirroring=mirroring), first)
        options = PredictOptions(mirroring)
        made = predict_cases(alone(cascade), cases, tmp_path / f"{mirroring}", options=options).files
        first_made = predict_cases(
            alone(cascade.previous), cases, tmp_path / f"first {mirroring}", options=options
        ).files
        assert all(np.array_equal(labels(made[name]), labels(first_made[name])) for name in made)
    assert not np.array_equal(first, predict_array(cascade.previous, array, AFFINE, mirroring=True))


def test_the_plan_of_a_cascades_previous_model_counts(cascade, cases, tmp_path):
    predict_cases(alone(cascade), cases, tmp_path / "out")
    assert predict_cases(alone(cascade), cases, tmp_path / "out").left_alone == ("a", "b", "c")
    other = cascade._replace(previous=with_overlap(cascade.previous, 0.25))
    assert predict_cases(alone(other), cases, tmp_path / "out").left_alone == ()


@pytest.mark.parametrize("is_of_the_same_model", [True, False])
def test_a_mask_that_was_changed_by_hand_is_kept_and_is_no_result(model, cases, tmp_path, is_of_the_same_model):
    output = tmp_path / "out"
    predict_cases(alone(model), cases, output)
    shutil.copy(output / "a.nii.gz", output / "b.nii.gz")
    edited = (output / "b.nii.gz").read_bytes()
    made = predict_cases(alone(model if is_of_the_same_model else other_model(model)), cases, output)
    assert [failure.case_id for failure in made.failures] == ["b"]
    assert "b.nii.gz was changed since predict wrote it" in made.failures[0].message
    assert made.left_alone == (("a", "c") if is_of_the_same_model else ())
    assert (output / "b.nii.gz").read_bytes() == edited


class Meddling(nn.Module):
    """A network during whose work somebody replaces an image, at once and whole: another lane may read it meanwhile."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.num_written = 0

    def forward(self, images):
        self.num_written += 1
        drafts = self.path.parent.with_name("drafts")
        write_image(drafts, "b", seed=100 + self.num_written)
        (drafts / self.path.name).replace(self.path)
        return Above()(images)


def test_an_image_that_changes_while_it_is_segmented_is_noticed(model, cases, tmp_path):
    image = tmp_path / "in" / "b_0000.nii.gz"
    made = predict_cases(alone(with_network(model, Meddling(image))), cases, tmp_path / "out")
    assert [failure.case_id for failure in made.failures] == ["b"]
    assert f"{image}: was changed while it was" in made.failures[0].message
    assert masks_in(tmp_path / "out").keys() == {"a", "c"}
    assert predict_cases(alone(model), cases, tmp_path / "out").left_alone == ("a", "c")


class Interrupted(nn.Module):
    """A network that is interrupted at its second case."""

    def __init__(self):
        super().__init__()
        self.num_seen = 0

    def forward(self, images):
        self.num_seen += 1
        if self.num_seen > 1:
            raise KeyboardInterrupt
        return Above(1.0)(images)


def test_masks_of_two_models_are_told_apart_after_an_interruption(model, cases, tmp_path):
    output = tmp_path / "out"
    predict_cases(alone(model), cases, output)
    options = PredictOptions(mirroring=False)
    with pytest.raises(KeyboardInterrupt):
        predict_cases(alone(with_network(other_model(model), Interrupted())), cases, output, options=options)
    record = record_in(output)
    (done,) = record["cases"]  # two cases are on their way at once, and either may come first
    assert record["replaceable"].keys() == {f"{other}.nii.gz" for other in "abc" if other != done}
    assert predict_cases(alone(other_model(model)), cases, output, options=options).left_alone == (done,)
    predict_cases(alone(other_model(model)), cases, tmp_path / "fresh", options=options)
    assert masks_in(output) == masks_in(tmp_path / "fresh")


def test_a_kill_between_a_mask_and_its_record_costs_that_case_only(model, cases, tmp_path):
    output = tmp_path / "out"
    predict_cases(alone(model), cases, output)
    record = record_in(output)
    del record["cases"]["b"]
    record["replaceable"]["b.nii.gz"] = None  # as it stands while b is written
    (output / "predictions.json").write_text(json.dumps(record))
    (output / "b.nii.gz").write_bytes((output / "a.nii.gz").read_bytes())
    (output / ".b.nii.gz.a1b2c3d4").write_bytes(b"half")
    (output / ".b.txt.a1b2c3d4").write_bytes(b"a user's")
    assert predict_cases(alone(model), cases, output).left_alone == ("a", "c")
    predict_cases(alone(model), cases, tmp_path / "fresh")
    assert masks_in(output) == masks_in(tmp_path / "fresh")
    assert [path.name for path in output.glob(".*")] == [".b.txt.a1b2c3d4"]


def test_masks_of_other_cases_by_another_model_are_told(model, cases, tmp_path, caplog):
    predict_cases(alone(model), cases, tmp_path / "out")
    with caplog.at_level(logging.WARNING):
        predict_cases(alone(other_model(model)), cases[:1], tmp_path / "out")
    assert "holds 2 other files too, which another model or other options made: b.nii.gz, c.nii.gz" in caplog.text
    assert predict_cases(alone(model), cases, tmp_path / "out").left_alone == ()  # b and c are no longer vouched for


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"weight_hashes": ["w"], "mirroring": true, "cases": {"a": "hash"}, "begun": ["a"]}', "record of form 1"),
        ('{"schema_version": 2}', "record of form 2, expected 3: another version of tumorseg made these masks"),
        ('{"schema_version": 3}', "method_hash: missing"),
        ("[]", "record of form None"),
        ("{", "is not JSON"),
    ],
)
def test_a_record_that_cannot_be_trusted_is_refused_in_one_line(model, cases, tmp_path, text, told):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.json").write_text(text)
    with pytest.raises(InputError, match=told) as caught:
        predict_cases(alone(model), cases, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not masks_in(tmp_path / "out")


def request_of(tmp_path, output, *inputs):
    write_image(tmp_path / "in", "a")
    chosen = inputs or sorted((tmp_path / "in").glob("a_*"))
    if not (tmp_path / "model").is_dir():
        write_model(tmp_path / "model")
    return PredictRequest(
        models=(tmp_path / "model",), inputs=chosen, output=tmp_path / output, mirroring=False, device="cpu"
    )


def test_a_folder_is_written_to_by_one_process_at_a_time(tmp_path):
    request = request_of(tmp_path, "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for output in ("out", "link"):
        with (
            hold_folder(tmp_path / "out", doing="written to", error=StorageError),
            pytest.raises(StorageError, match="out is being written to by another process; wait for it"),
        ):
            predict(request.model_copy(update={"output": tmp_path / output}))
    assert not list((tmp_path / "out").iterdir())
    assert predict(request).files.keys() == {"a"}


def test_a_single_case_becomes_the_file_that_is_named_and_nothing_beside_it(tmp_path):
    made = predict(request_of(tmp_path, "masks/mine.nii.gz"))
    assert made.files == {"a": tmp_path / "masks" / "mine.nii.gz"}
    assert os.listdir(tmp_path / "masks") == ["mine.nii.gz"]
    predict(request_of(tmp_path, "out"))
    assert (tmp_path / "out" / "a.nii.gz").read_bytes() == made.files["a"].read_bytes()
    before = made.files["a"].read_bytes()
    with pytest.raises(InputError, match=r"mine\.nii\.gz: is there already"):
        predict(request_of(tmp_path, "masks/mine.nii.gz"))
    assert made.files["a"].read_bytes() == before
    assert predict(request_of(tmp_path, "masks/plain.NII")).files["a"].stat().st_size > 352


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("mask.png", "not written in this format; expected a folder, or for one case a new file that ends in .nii.gz"),
        ("mask.mhd", "not written in this format"),
        ("mask.dcm", "a DICOM file holds one object; give --format seg or rtstruct alone"),
        ("taken.nii.gz", "is a folder with the name of a file"),
        ("taken", "is there already; expected a folder"),
        ("in/a_0000.nii.gz", "is there already"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_model_is_looked_for(tmp_path, output, told):
    (tmp_path / "taken.nii.gz").mkdir()
    (tmp_path / "taken").write_text("a file")
    request = request_of(tmp_path, output).model_copy(update={"models": (tmp_path / "nowhere",)})
    with pytest.raises(InputError, match=told):
        predict(request)


def test_several_cases_are_no_single_file(tmp_path):
    write_image(tmp_path / "in", "b")
    with pytest.raises(InputError, match=r"is one file, and the inputs are 2 cases \(a, b\); give one case, or a fold"):
        predict(request_of(tmp_path, "new/x.nii.gz", tmp_path / "in"))
    assert not (tmp_path / "new").exists()


def test_several_models_are_refused_with_a_hint_at_what_combines_them(tmp_path):
    request = request_of(tmp_path, "out")
    write_model(tmp_path / "other")
    several = request.model_copy(update={"models": (tmp_path / "model", tmp_path / "other")})
    with pytest.raises(PlanError, match=r"models of different plans are combined by `tumorseg ensemble`") as caught:
        predict(several)
    assert "\n" not in str(caught.value)
    folds = request.model_copy(update={"models": (tmp_path / "model" / "fold_0", tmp_path / "model")})
    assert predict(folds).files.keys() == {"a"}


def test_the_command_counts_what_it_did_and_what_it_left_alone(tmp_path, capsys):
    request = request_of(tmp_path, "out")
    arguments = ["predict", "-m", request.models[0], "-i", tmp_path / "in", "-o", request.output, "--no-mirroring"]
    command = [str(word) for word in (*arguments, "--device", "cpu")]
    assert run(["--json", *command]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["num_segmented"], shown["num_left_alone"]) == (1, 0)
    write_image(tmp_path / "in", "b", seed=1)
    assert run(command) == 0
    assert "1 cases segmented, 1 left alone as already done, in" in capsys.readouterr().out
