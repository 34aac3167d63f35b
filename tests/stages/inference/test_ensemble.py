"""`tumorseg ensemble`: models combined over cases in files, and kept as one model."""

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import nibabel
import numpy as np
import pytest

from tests.stages.members import AFFINE, NESTED, base_model, image_of, write_inputs, write_trained
from tumorseg.cli.main import run
from tumorseg.errors import InputError, PlanError
from tumorseg.stages.inference.ensemble import EnsembleRequest, ensemble
from tumorseg.stages.inference.ensembles import load_ensemble, together
from tumorseg.stages.inference.maps import MapRequest
from tumorseg.stages.inference.outputs import Outputs
from tumorseg.stages.inference.predict import PredictRequest, predict
from tumorseg.stages.inference.predict_array import predict_array_probabilities
from tumorseg.stages.inference.runtime import RuntimeOptions

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return base_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def models(base, tmp_path_factory):
    """Return the folders of two models: one of two folds, and one in another axis order; both are validated."""
    root = tmp_path_factory.mktemp("models")
    scores = {"kidney_left": 0.8, "kidney_right": 0.4}
    first = write_trained(root, base, "first", folds=("0", "1"), seed=1, scores=scores)
    scores = {"kidney_left": 0.4, "kidney_right": 0.5}
    second = write_trained(root, base, "second", seed=2, scores=scores, plan={"transpose": (2, 0, 1)})
    return first, second


@pytest.fixture
def inputs(tmp_path):
    return write_inputs(tmp_path / "in")


def request_of(models, inputs, output, **fields):
    # Without an output nothing runs.
    running = {} if output is None else {"device": "cpu", "engine": "torch", "precision": "fp32"}
    return EnsembleRequest(models=models, inputs=() if inputs is None else (inputs,), output=output, **running | fields)


def labels_in(path):
    """Return label values (Z, Y, X) in RAS order."""
    return np.asanyarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj).T


def masks_in(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.nii.gz")}


def report_in(folder):
    return json.loads((folder / "report.json").read_text())


def test_masks_are_those_of_the_models_together_whatever_the_order_of_stored_axes(models, inputs, tmp_path):
    done = ensemble(request_of(models, inputs, tmp_path / "out"))
    assert done.predicted.files.keys() == set(NAMES)
    assert done.models == ("first/3d_fullres", "second/3d_fullres")
    loaded = together(
        [load_ensemble([one], "cpu", runtime=RuntimeOptions(engine="torch", precision="fp32")).lead for one in models]
    )
    for seed, name in enumerate(NAMES):
        expected = predict_array_probabilities(loaded, image_of(seed), AFFINE)
        second, first = np.sort(expected.probabilities, axis=0)[-2:]
        is_clear = first - second > 1e-4
        found = labels_in(done.predicted.files[name])
        np.testing.assert_array_equal(found[is_clear], expected.segmentation[is_clear])
        assert is_clear.mean() > 0.9
        assert len(np.unique(found)) > 1


def test_a_folder_is_gone_on_with_and_the_report_tells_of_all_models(models, inputs, tmp_path):
    request = request_of(models, inputs, tmp_path / "out")
    ensemble(request)
    before = masks_in(tmp_path / "out")
    (tmp_path / "out" / "b.nii.gz").unlink()
    assert ensemble(request).predicted.left_alone == ("a", "c")
    assert masks_in(tmp_path / "out") == before
    other = ensemble(request.changed(method="vote"))
    assert other.predicted.left_alone == ()
    (told,) = report_in(tmp_path / "out")["runs"].values()
    assert told["method"] == "vote"
    assert [(one["plan"], one["configuration"], one["num_folds"]) for one in told["members"]] == [
        ("first", "3d_fullres", 2),
        ("second", "3d_fullres", 1),
    ]
    assert told["num_folds"] == 3
    assert len(told["weight_hashes"]) == 3
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith((".", "tmp"))]


def test_maps_are_of_the_combined_probabilities_and_of_all_voters(models, inputs, tmp_path):
    outputs = Outputs(maps=MapRequest(probabilities=True, entropy=True, disagreement=True))
    done = ensemble(request_of(models, inputs, tmp_path / "out", outputs=outputs))
    files = done.predicted.all_files["a"]
    assert [path.parent.name for path in files] == ["out", "probabilities", "entropy", "disagreement"]
    loaded = together(
        [load_ensemble([one], "cpu", runtime=RuntimeOptions(engine="torch", precision="fp32")).lead for one in models]
    )
    expected = predict_array_probabilities(loaded, image_of(0), AFFINE).probabilities
    found = np.moveaxis(nibabel.load(files[1]).get_fdata(), -1, 0).transpose(0, 3, 2, 1)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    doubt = nibabel.load(files[3]).get_fdata()
    assert 0 < doubt.max() <= 1
    assert doubt[0].max() == 0  # outside the crop box


def test_masks_are_confined_to_labels_and_confined_ones_are_others(models, inputs, tmp_path):
    request = request_of(models, inputs, tmp_path / "out", only_labels=("kidney_right",))
    files = ensemble(request).predicted.files
    assert {value for path in files.values() for value in np.unique(labels_in(path))} == {0, 2}
    with pytest.raises(InputError, match="the model finds no spleen"):
        ensemble(request.changed(only_labels=("spleen",)))


def test_shards_fill_a_folder_side_by_side(models, inputs, tmp_path):
    ensemble(request_of(models, inputs, tmp_path / "whole"))
    for shard in ("1/2", "2/2"):
        ensemble(request_of(models, inputs, tmp_path / "parts", shard=shard))
    assert masks_in(tmp_path / "parts") == masks_in(tmp_path / "whole")


def test_a_single_case_becomes_the_file_that_is_named(models, inputs, tmp_path, monkeypatch):
    # What the second model says goes beside the file: the system's folder may be small.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    files = tuple(sorted(inputs.glob("a_*")))
    request = request_of(models, None, tmp_path / "mine.nrrd").changed(inputs=files)
    assert ensemble(request).predicted.files == {"a": tmp_path / "mine.nrrd"}
    assert (tmp_path / "mine.nrrd").is_file()


def test_what_is_saved_predicts_the_same_masks_which_are_then_done(models, inputs, tmp_path):
    request = request_of(models, inputs, tmp_path / "out", method="weighted", save=tmp_path / "mine")
    done = ensemble(request)
    assert done.combination.weights == {"kidney_left": (0.8, 0.4), "kidney_right": (0.4, 0.5)}
    fields = {"device": "cpu", "engine": "torch", "precision": "fp32"}
    again = PredictRequest(models=(tmp_path / "mine",), inputs=(inputs,), output=tmp_path / "out", **fields)
    assert predict(again).left_alone == NAMES
    predict(again.changed(output=tmp_path / "fresh"))
    assert masks_in(tmp_path / "fresh") == masks_in(tmp_path / "out")
    assert ensemble(request_of(models, None, None, method="weighted", save=tmp_path / "mine")).predicted is None


def test_folds_of_one_model_are_averaged_as_predict_does(models, inputs, tmp_path):
    folds = (models[0] / "fold_0", models[0] / "fold_1")
    done = ensemble(request_of(folds, inputs, tmp_path / "out"))
    assert done.models == ("first/3d_fullres",)
    fields = {"device": "cpu", "engine": "torch", "precision": "fp32"}
    direct = PredictRequest(models=(models[0],), inputs=(inputs,), output=tmp_path / "out", **fields)
    assert predict(direct).left_alone == NAMES


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"weights": (1.0, 2.0)}, "--weights: mean knows no weights; give --method weighted or vote"),
        ({"method": "vote", "weights": (1.0,)}, r"found 1, expected 2, one for each model \(first/3d_fullres, second/"),
        ({"method": "vote", "weights": (0.0, 0.0)}, "--weights: found nothing above 0"),
        ({"inputs": ()}, "found inputs or an output alone, expected both"),
        ({"inputs": (), "output": None}, "found nothing to do"),
        ({"inputs": (), "output": None, "save": "mine"}, "--precision: does nothing where nothing is segmented"),
        (
            {"inputs": (), "output": None, "save": "mine", "precision": None, "engine": None},
            "--device: does nothing where nothing is segmented, as a saved model does not keep it; give -i and -o too",
        ),
        (
            {"method": "staple", "outputs": Outputs(maps=MapRequest(entropy=True))},
            "--entropy: STAPLE makes a mask of the models' masks, and no probabilities",
        ),
        ({"outputs": Outputs(maps=MapRequest(disagreement=True)), "shard": "3/2"}, "--shard 3/2: expected i/n"),
    ],
)
def test_options_that_contradict_each_other_are_refused_before_any_work(models, inputs, tmp_path, fields, told):
    request = request_of(models, inputs, tmp_path / "out").changed(**fields)
    with pytest.raises(InputError, match=told) as caught:
        ensemble(request)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_validated_has_no_weight_of_its_own(base, models, inputs, tmp_path):
    unknown = write_trained(tmp_path, base, "unknown")
    request = request_of((models[0], unknown), inputs, tmp_path / "out", method="weighted")
    with pytest.raises(
        InputError, match=r"fold_0 is not validated, .* run `tumorseg validate -m .*fold_0`, or give --w"
    ):
        ensemble(request)
    everything = write_trained(tmp_path, base, "everything", folds=("all",))
    with pytest.raises(InputError, match="no fold says which cases it held out"):
        ensemble(request.changed(models=(models[0], everything)))
    nested = write_trained(tmp_path, base, "nested", dataset={"regions": NESTED}, scores={"both": 0.9, "right": 0.8})
    with pytest.raises(
        InputError, match="has no score of both, right, which other models of the ensemble find; give --w"
    ):
        ensemble(request.changed(models=(nested, models[0])))


def test_a_label_that_no_model_finds_weighs_all_alike(base, models, tmp_path, caplog):
    scores = {"kidney_left": 0.3, "kidney_right": 0.1}
    zero = [write_trained(tmp_path, base, name, scores=scores | {"kidney_right": 0.1}) for name in ("x", "y")]
    for path in zero:
        metrics = path / "fold_0" / "validation" / "metrics.json"
        document = json.loads(metrics.read_text())
        for case in document["cases"]:
            if case["label"] == "kidney_right" and case["dsc"] is not None:
                case["dsc"] = 0.0
        metrics.write_text(json.dumps(document))
    with caplog.at_level(logging.WARNING):
        done = ensemble(request_of(tuple(zero), None, None, method="weighted", save=tmp_path / "mine"))
    assert done.combination.weights == {"kidney_left": (0.3, 0.3)}
    assert "kidney_right is in no held-out case of a model, or no model finds it" in caplog.text


def test_models_that_cannot_be_combined_are_refused_before_anything_is_written(base, models, inputs, tmp_path):
    labels = {"labels": {"background": 0, "kidney_left": 1, "kidney_right": 3}}
    other = write_trained(tmp_path, base, "other", dataset=labels)
    with pytest.raises(
        PlanError, match="first/3d_fullres and other/3d_fullres cannot be combined: the labels of the fi"
    ):
        ensemble(request_of((models[0], other), inputs, tmp_path / "out"))
    with pytest.raises(PlanError, match="cannot be combined"):
        ensemble(request_of((models[0], other), None, None, save=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def command_of(models, *words):
    named = [word for model in models for word in ("-m", str(model))]
    return ["ensemble", *named, *map(str, words), "--device", "cpu", "--engine", "torch", "--precision", "fp32"]


def test_the_command_tells_what_it_did(models, inputs, tmp_path, capsys):
    words = ("-i", inputs, "-o", tmp_path / "out", "--method", "weighted", "--weights", "2,1", "--save", tmp_path / "m")
    assert run(["--json", *command_of(models, *words)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["num_segmented"], shown["saved"]) == (3, str(tmp_path / "m"))
    assert shown["combination"]["weights"] == {"kidney_left": [2.0, 1.0], "kidney_right": [2.0, 1.0]}
    assert shown["models"] == ["first/3d_fullres", "second/3d_fullres"]
    assert run(command_of(models, *words)) == 0
    told = capsys.readouterr().out
    assert "mean of first/3d_fullres, second/3d_fullres" in told
    assert "kidney_left: weights 2, 1" in told
    assert "0 cases segmented, 3 left alone as already done, in" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-o", "out"), "give both -i and -o, or neither of them and --save"),
        ((), "give -i and -o, or --save, or all of them"),
        (
            ("--save", "m", "--method", "vote", "--weights", "1,x"),
            "expected numbers of at least 0, separated by commas",
        ),
        (("--save", "m", "--method", "vote", "--weights", "-1,1"), "expected numbers of at least 0"),
        (("--save", "m", "--method", "median"), "'median' is not one of"),
    ],
)
def test_usage_that_means_nothing_exits_with_2(models, capsys, words, told):
    assert run(command_of(models, *words)) == 2
    assert told in capsys.readouterr().err


def started(models, *words):
    command = [sys.executable, "-m", "tumorseg", "-q", *command_of(models, *words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize("most_kills", [2, pytest.param(10, marks=pytest.mark.long)])
def test_ensembles_that_are_killed_leave_nothing_half_written_and_go_on(base, inputs, tmp_path, most_kills):
    models = tuple(
        write_trained(tmp_path, base, name, seed=seed, plan={"transpose": transpose})
        for seed, (name, transpose) in enumerate({"x": (0, 1, 2), "y": (2, 0, 1)}.items())
    )
    for number in range(6):
        for channel in range(2):
            os.link(inputs / f"a_{channel:04d}.nii.gz", inputs / f"more{number}_{channel:04d}.nii.gz")
    began = time.monotonic()
    words = ("-i", inputs, "-o", tmp_path / "whole", "--save", tmp_path / "whole model")
    assert started(models, *words).wait(120) == 0
    seconds, expected = time.monotonic() - began, masks_in(tmp_path / "whole")
    moments, kept = random.Random(0), load_ensemble([tmp_path / "whole model"], "cpu").weight_hashes
    out, save = tmp_path / "out", tmp_path / "model"
    num_kills = 0
    while num_kills < most_kills:
        process = started(models, "-i", inputs, "-o", out, "--save", save)
        try:
            assert process.wait(moments.uniform(0.3, 0.95) * seconds) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            num_kills += 1
        else:
            shutil.rmtree(out)
            shutil.rmtree(save)
            continue
        there = masks_in(out)
        assert there.items() <= expected.items()
        if save.exists():
            assert load_ensemble([save], "cpu").weight_hashes == kept
    assert started(models, "-i", inputs, "-o", out, "--save", save).wait(120) == 0
    assert masks_in(out) == expected
    names = {path.name for path in out.iterdir() if not path.name.endswith(".nii.gz")}
    assert names == {"predictions.json", "report.json"}
    assert load_ensemble([save], "cpu").weight_hashes == kept
