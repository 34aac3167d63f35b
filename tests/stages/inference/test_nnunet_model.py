"""Models of nnU-Net v2 predict as they do there.

`tests/nnunet/tumours` and `sarcoma` are model folders that nnunetv2 2.8.1 trained, and its segmentation of one LPS-stored case
(made by tests/nnunet/make_models.py).
"""

import contextlib
import json
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.nnunet.documents import configuration, plans
from tumorseg.errors import PlanError, StorageError
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.predict import PredictRequest, predict
from tumorseg.stages.inference.predict_array import predict_array
from tumorseg.storage.nnunet_checkpoints import load_nnunet_checkpoint

FROZEN = Path(__file__).parents[2] / "nnunet"
SHAPE = (14, 30, 26)


def write_model(root, *, folds=("0",), name="checkpoint_final.pth", network="plain_3d", cascade=False, **notes):
    """Write a model folder of nnU-Net around one of the frozen networks: two MR channels, three classes."""
    frozen = torch.load(FROZEN / f"{network}.pt", weights_only=True)
    planned = configuration("3d_fullres", [8, 24, 24], [2.0, 1.0, 1.5], architecture=frozen["architecture"])
    planned |= {"normalization_schemes": ["ZScoreNormalization"] * 2, "use_mask_for_norm": [False] * 2}
    known = {"3d_fullres": planned, "3d_lowres": planned}
    if cascade:
        known["3d_fullres"] = planned | {"previous_stage": "3d_lowres"}
    root.mkdir(parents=True)
    (root / "plans.json").write_text(json.dumps(plans(configurations=known)))
    dataset = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "kidney_left": 1, "kidney_right": 2},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(dataset))
    for fold in folds:
        checkpoint = {
            "network_weights": frozen["weights"],
            "_best_ema": np.float64(0.5),
            "logging": {"ema_fg_dice": [np.float32(0.25), np.int64(3), np.bool_(True)]},
            "init_args": {"configuration": "3d_fullres", "fold": 0, "device": torch.device("cuda:0")},
            "trainer_name": "nnUNetTrainer_250epochs",
            "inference_allowed_mirroring_axes": (0, 2),
        }
        (root / f"fold_{fold}").mkdir()
        torch.save(checkpoint | notes, root / f"fold_{fold}" / name)
    return root


def smooth_image():
    noise = np.random.default_rng(3).normal(size=(2, *SHAPE))
    return ndimage.gaussian_filter(noise, (0, 2, 2, 2)).astype(np.float32) * 100 + 5


def affine_of(directions, spacing=(1.5, 0.9, 3.0)):
    return np.diag([*(sign * edge for sign, edge in zip(directions, spacing, strict=True)), 1.0])


def write_case(folder, image, affine):
    """Write channels as nnU-Net calls their files."""
    folder.mkdir(parents=True)
    for number, channel in enumerate(image):
        nibabel.save(nibabel.Nifti1Image(channel.transpose(2, 1, 0), affine), folder / f"case_{number:04d}.nii.gz")
    return folder


def labels_in(path):
    return np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0)


def test_a_model_folder_predicts(tmp_path):
    model = write_model(tmp_path / "model")
    inputs = write_case(tmp_path / "in", smooth_image(), affine_of((-1, -1, 1)))
    request = PredictRequest(models=(model,), inputs=(inputs,), output=tmp_path / "out", device="cpu")
    (path,) = predict(request).files.values()
    assert path.name == "case.nii.gz"
    assert np.allclose(nibabel.load(path).affine, affine_of((-1, -1, 1)))
    assert set(np.unique(labels_in(path))) == {0, 1, 2}


@pytest.mark.parametrize("directions", [(1, 1, 1), (-1, 1, 1), (-1, -1, -1)])
def test_axes_are_taken_as_stored(tmp_path, directions):
    model = load_model([write_model(tmp_path / "model")], "cpu")
    image = smooth_image()
    stored = predict_array(model, image, affine_of((-1, -1, 1)), mirroring=False)
    assert np.array_equal(predict_array(model, image, affine_of(directions), mirroring=False), stored)


def test_an_image_whose_axes_are_swapped_is_segmented_otherwise(tmp_path):
    """So the tests of stored axes can fail: the plan's transpose and anisotropy matter."""
    model = load_model([write_model(tmp_path / "model")], "cpu")
    image, affine = smooth_image(), affine_of((1, 1, 1))
    swapped = predict_array(model, image.transpose(0, 3, 2, 1), affine_of((1, 1, 1), (3.0, 0.9, 1.5)), mirroring=False)
    assert (swapped.transpose(2, 1, 0) != predict_array(model, image, affine, mirroring=False)).mean() > 0.02


def test_mirroring_is_what_the_checkpoint_allows(tmp_path, caplog):
    allowed = load_model([write_model(tmp_path / "a")], "cpu").configuration.inference
    assert (allowed.mirroring, allowed.mirroring_axes) == (True, (0, 2))
    assert "kidney_left and kidney_right differ by their side only" in caplog.text
    forbidden = write_model(tmp_path / "b", inference_allowed_mirroring_axes=None)
    assert load_model([forbidden], "cpu").configuration.inference.mirroring is False


def test_folds_are_averaged_but_for_the_one_of_all_cases(tmp_path):
    model = write_model(tmp_path / "model", folds=("0", "1", "all"))
    assert len(load_model([model], "cpu").networks) == 2
    assert len(load_model([model], "cpu", ["all"]).networks) == 1
    assert len(load_model([model / "fold_0", model / "fold_1"], "cpu").networks) == 2
    with pytest.raises(PlanError, match="has no fold 7; it has 0, 1, all"):
        load_model([model], "cpu", ["7"])


def test_a_model_of_all_cases_alone_predicts(tmp_path):
    assert len(load_model([write_model(tmp_path / "model", folds=("all",))], "cpu").networks) == 1


def test_unfinished_folds_are_left_out_unless_there_is_no_other(tmp_path, caplog):
    model = write_model(tmp_path / "model", folds=("0", "1"), name="checkpoint_best.pth")
    assert len(load_model([model], "cpu").networks) == 2
    assert "checkpoint_best.pth predicts" in caplog.text
    (model / "fold_1" / "checkpoint_best.pth").rename(model / "fold_1" / "checkpoint_final.pth")
    assert len(load_model([model], "cpu").networks) == 1
    assert "left out" in caplog.text


def test_an_empty_fold_is_refused(tmp_path):
    model = write_model(tmp_path / "model")
    (model / "fold_1").mkdir()
    with pytest.raises(StorageError, match=r"fold_1: found none of checkpoint_final\.pth"):
        load_model([model], "cpu", ["1"])
    with pytest.raises(PlanError, match="holds no fold"):
        load_model([write_model(tmp_path / "none", folds=())], "cpu")


def test_folds_of_two_models_are_refused(tmp_path):
    a, b = write_model(tmp_path / "a"), write_model(tmp_path / "b")
    with pytest.raises(PlanError, match="the models given are several"):
        load_model([a, b / "fold_0"], "cpu")


def test_folds_that_disagree_are_refused(tmp_path):
    model = write_model(tmp_path / "model", folds=("0", "1"))
    other = write_model(tmp_path / "other", inference_allowed_mirroring_axes=(0,))
    (other / "fold_0" / "checkpoint_final.pth").rename(model / "fold_1" / "checkpoint_final.pth")
    with pytest.raises(PlanError, match="the folds differ"):
        load_model([model], "cpu")


def test_mirroring_of_an_axis_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(PlanError, match="mirroring_axes"):
        load_model([write_model(tmp_path / "model", inference_allowed_mirroring_axes=(3,))], "cpu")


def test_a_cascade_is_refused_by_name(tmp_path):
    with pytest.raises(PlanError, match="3d_fullres needs the segmentation of 3d_lowres as an input"):
        load_model([write_model(tmp_path / "model", cascade=True)], "cpu")


def test_weights_of_another_network_are_refused_with_the_file(tmp_path):
    weights = torch.load(FROZEN / "residual_3d.pt", weights_only=True)["weights"]
    with pytest.raises(PlanError, match=r"checkpoint_final\.pth: the checkpoint lacks the weights encoder"):
        load_model([write_model(tmp_path / "model", network_weights=weights)], "cpu")


@pytest.mark.parametrize("value", [Path("x"), np.zeros(3), ValueError("x")])
def test_objects_in_a_checkpoint_are_refused_in_one_line(tmp_path, value):
    with pytest.raises(StorageError, match=r"checkpoint_final\.pth: holds objects of .*, which may run code") as error:
        load_model([write_model(tmp_path / "model", my_object=value)], "cpu")
    assert "\n" not in str(error.value)


def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path):
    model = write_model(tmp_path / "model")
    path = model / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(StorageError, match="damaged") as error:
        load_model([model], "cpu")
    assert "\n" not in str(error.value)
    for other in ({"model": 1}, {"network_weights": {1: torch.ones(1)}}, {"network_weights": {"a": sparse()}}):
        torch.save(other, path)
        with pytest.raises(StorageError, match="found no `network_weights`"):
            load_model([model], "cpu")


def sparse():
    return torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.int64), torch.ones(1), (2,), check_invariants=True)


@pytest.mark.parametrize("seed", range(40))
def test_a_checkpoint_of_changed_bytes_is_read_or_refused(tmp_path, seed):
    path = tmp_path / "checkpoint_final.pth"
    torch.save(
        {"network_weights": {"a": torch.ones(2)}, "trainer_name": "x", "init_args": {"configuration": "2d"}}, path
    )
    content, chance = bytearray(path.read_bytes()), np.random.default_rng(seed)
    start = content.index(b"network_weights") - 30  # within what the tensors are rebuilt from
    for place in chance.integers(start, start + 300, 3):
        content[place] = chance.integers(256)
    path.write_bytes(content)
    with contextlib.suppress(StorageError):
        load_nnunet_checkpoint(path)


def test_a_pickle_of_another_protocol_is_refused_without_warnings_of_torch(tmp_path):
    path = tmp_path / "checkpoint_final.pth"
    torch.save({"network_weights": {"a": torch.ones(2)}}, path, _use_new_zipfile_serialization=False, pickle_protocol=2)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x80\x02", b"\x80\x00"))
    assert path.read_bytes() != content
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with contextlib.suppress(StorageError):
            load_nnunet_checkpoint(path)
    assert told == []


def test_plans_that_are_none_are_refused(tmp_path):
    model = write_model(tmp_path / "model")
    (model / "plans.json").write_text("[]")
    with pytest.raises(PlanError, match="found no `dataset_name`"):
        load_model([model], "cpu")


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(("name", "case"), [("sarcoma", "STS_002"), ("tumours", "BraTS2021_00006")])
def test_a_real_case_stored_lps_is_segmented_as_nnunet_does(real_data, tmp_path, name, case):
    inputs = tmp_path / "in"
    inputs.mkdir()
    for number, source in enumerate(real_files(real_data, case)):
        assert nibabel.aff2axcodes(nibabel.load(source).affine) == ("L", "P", "S")
        (inputs / f"{case}_{number:04d}.nii.gz").symlink_to(source)
    places = {"models": (FROZEN / name,), "inputs": (inputs,), "output": tmp_path / "out"}
    found = labels_in(predict(PredictRequest(**places, device="cpu", precision="fp32")).files[case])
    expected = np.load(FROZEN / name / "segmentation.npz")["segmentation"]
    assert len(np.unique(expected)) >= 2
    same = found == expected
    assert same.mean() >= 0.999
    assert same[(found > 0) | (expected > 0)].mean() >= 0.999
    assert (found[:, :, ::-1] == expected).mean() < 0.97, "a segmentation that a flip leaves alone shows nothing"


def real_files(real_data, case):
    if case.startswith("STS"):
        return sorted((real_data / "Dataset051_SarcomaPETCT" / "imagesTr").glob(f"{case}_*"))
    return [real_data / "BraTS2021" / case / f"{case}_{channel}.nii.gz" for channel in ("flair", "t1", "t1ce", "t2")]
