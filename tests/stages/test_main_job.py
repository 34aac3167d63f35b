import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch

from tests.stages.conftest import plan_toy
from tests.toys import LABELS, save, toy_arrays, write_toy
from tumorseg.engine.averaging import NetworkForward
from tumorseg.errors import InputError, PlanError, StorageError, TrainingError, TumorsegError
from tumorseg.schema.base import record_hash
from tumorseg.schema.dataset import Case, ImageFile
from tumorseg.stages.evaluation.evaluate import EvaluateRequest, evaluate
from tumorseg.stages.inference.folds import weights_file
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.predict import PredictRequest, predict
from tumorseg.stages.inference.predict_array import predict_array
from tumorseg.stages.opening.fold_folders import TrainOptions
from tumorseg.stages.opening.loaded import Roots, read_plan
from tumorseg.stages.opening.reading import read_case_image
from tumorseg.stages.planning.plan import PlanRequest, plan
from tumorseg.stages.training.preprocess import PreprocessRequest, preprocess
from tumorseg.stages.training.request import TrainRequest
from tumorseg.stages.training.train import train
from tumorseg.stages.training.validate import ValidateRequest, validate
from tumorseg.storage.cases import CaseStore
from tumorseg.storage.checkpoints import load_checkpoint, save_checkpoint
from tumorseg.storage.layout import FoldFolder
from tumorseg.storage.locks import hold_folder


def request_of(toy, **fields):
    return TrainRequest(roots=toy.roots, plan=toy.plan, device="cpu", jobs=1, **fields)


def test_the_plan_on_disk_is_the_plan_returned_and_knows_its_source(toy):
    assert read_plan(toy.plan_path) == toy.plan
    note = json.loads((toy.roots.work / "Toy" / "source.json").read_text())
    assert note["dataset"] == str(toy.data)
    assert note["data_root"] == str(toy.data.parent)


def test_labels_with_gaps_keep_their_values(toy):
    assert toy.plan.dataset.labels == LABELS


def test_planning_again_gives_the_same_bytes(toy, tmp_path):
    before = toy.plan_path.read_bytes()
    plan_toy(toy.plan_path.parent, toy.data)
    assert toy.plan_path.read_bytes() == before


def test_planning_from_the_fingerprint_alone_gives_the_same_decisions(toy, tmp_path):
    found = toy.roots.work / "Toy" / "fingerprint.json"
    written = plan(PlanRequest(fingerprint=found, preset="fast_prototyping", output=tmp_path / "toy.json"))
    assert written.plan.configurations == toy.plan.configurations
    assert written.plan.folds == toy.plan.folds
    assert written.plan.dataset == toy.plan.dataset


def test_preprocessing_brings_every_case_to_the_plans_grid_and_axis_order(toy):
    stored = preprocess(PreprocessRequest(roots=toy.roots, plan=toy.plan, jobs=1))["3d_fullres"]
    store = CaseStore(stored.folder, stored.keys)
    for case_id in store.case_ids:
        image, indices = store.read(case_id, tuple((0, size) for size in store.shape(case_id)))
        assert image.shape == (2, *store.shape(case_id))
        assert image.dtype == np.float32
        assert set(np.unique(indices)) <= {0, 1, 2}
    assert store.num_locations("case_5", 1) == 0
    assert store.num_locations("case_0", 1) > 0


def test_a_second_preprocessing_writes_nothing(toy):
    request = PreprocessRequest(roots=toy.roots, plan=toy.plan, jobs=1)
    preprocess(request)
    cases = toy.roots.work / "Toy" / "cases"
    before = {path: path.stat().st_mtime_ns for path in cases.rglob("*")}
    preprocess(request)
    assert {path: path.stat().st_mtime_ns for path in cases.rglob("*")} == before


def test_another_patch_size_or_loss_redoes_no_case(toy):
    configuration = toy.plan.configurations["3d_fullres"]
    other = configuration.model_copy(update={"batch_size": 7})
    changed = toy.plan.model_copy(update={"configurations": toy.plan.configurations | {"3d_fullres": other}})
    first = preprocess(PreprocessRequest(roots=toy.roots, plan=toy.plan, jobs=1))["3d_fullres"]
    assert preprocess(PreprocessRequest(roots=toy.roots, plan=changed, jobs=1))["3d_fullres"] == first


def test_training_leaves_a_complete_model_folder(trained):
    names = {path.name for path in trained.folder.root.iterdir()}
    expected = {"plan.json", "run.json", "log.jsonl", "progress.png", "latest.ckpt", "best.ckpt", "validation"}
    assert expected <= names
    lines = [json.loads(line) for line in trained.folder.log.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1]
    for field in ("train_losses", "loss_weights", "lr", "dsc", "seconds", "data_wait_fraction", "memory_bytes"):
        assert field in lines[0]


def test_validation_scores_exactly_the_held_out_cases_at_full_resolution(toy, trained):
    metrics = json.loads(trained.folder.metrics.read_text())
    assert {case["case_id"] for case in metrics["cases"]} == set(toy.plan.folds[0])
    assert {case["label"] for case in metrics["cases"]} == {"shell", "core"}
    for case_id in toy.plan.folds[0]:
        reference = nibabel.load(toy.data / case_id / "seg.nii.gz")
        assert nibabel.load(trained.folder.validation / f"{case_id}.nii.gz").shape == reference.shape


@pytest.mark.slow
def test_an_all_background_case_is_scored_by_the_empty_mask_policy(toy, trained, tmp_path):
    done = predict(PredictRequest(models=(trained.folder.root,), inputs=(toy.data,), output=tmp_path, device="cpu"))
    report = evaluate(
        EvaluateRequest(
            roots=toy.roots, predictions=(tmp_path,), references=(toy.data,), dataset="Toy", output=tmp_path, jobs=1
        )
    )
    empty = [case for case in report.cases if case.case_id == "case_5"]
    assert len(done.files) == 6
    assert len(empty) == 2
    for case in empty:
        assert case.scores["dsc"] in (None, 0.0)
        assert case.scores["hd95_mm"] is None


def test_training_that_is_finished_does_nothing_when_asked_again(toy, trained):
    before = trained.folder.latest.read_bytes()
    again = train(request_of(toy, fold="0"))
    assert again.is_finished
    assert again.metrics == trained.metrics
    assert trained.folder.latest.read_bytes() == before


def test_validate_alone_repeats_the_scores(toy, trained):
    found = validate(ValidateRequest(roots=toy.roots, model=trained.folder.root, device="cpu"))
    assert found == trained.metrics


def test_every_case_is_trained_on_with_fold_all(toy, tmp_path):
    done = train(request_of(toy, fold="all", configuration="2d"))
    assert done.is_finished
    assert done.metrics is None
    log = [json.loads(line) for line in done.folder.log.read_text().splitlines()]
    assert log[-1]["validation_loss"] is None
    assert log[-1]["dsc"] == {}
    made = predict(PredictRequest(models=(done.folder.root.parent,), inputs=(toy.data,), output=tmp_path, device="cpu"))
    assert len(made.files) == 6
    with pytest.raises(PlanError, match="trained on every case"):
        validate(ValidateRequest(roots=toy.roots, model=done.folder.root))


def test_options_of_train_are_resolved_once_into_the_folds_plan(toy):
    options = TrainOptions(epochs=1, iterations=2, seed=3)
    done = train(request_of(toy, fold="1", options=options, has_validation=False))
    resolved = read_plan(done.folder.plan).training
    assert (resolved.epochs, resolved.iterations_per_epoch, resolved.seed) == (1, 2, 3)
    with pytest.raises(PlanError, match="--epochs 1, --iterations 2, --seed 3"):
        train(request_of(toy, fold="1", options=TrainOptions(seed=5), has_validation=False))
    again = train(
        request_of(toy, fold="1", options=TrainOptions(epochs=1, iterations=1), has_validation=False, restart=True)
    )
    aside = [path for path in again.folder.root.parent.iterdir() if path.name.startswith("fold_1.")]
    assert len(aside) == 1
    assert read_plan(again.folder.plan).training.iterations_per_epoch == 1


@pytest.mark.slow
def test_hours_become_iterations_before_the_first_step(toy):
    options = TrainOptions(max_hours=1e-6)  # less than a step on any machine
    done = train(request_of(toy, fold="2", options=options, has_validation=False))
    resolved = read_plan(done.folder.plan).training
    assert resolved.max_hours == 1e-6
    assert (resolved.epochs, resolved.iterations_per_epoch) == (1, 1)
    lines = done.folder.log.read_text().splitlines()
    assert len(lines) == resolved.epochs


def test_a_folder_of_another_plan_is_not_trained_into(toy, trained):
    other = toy.plan.model_copy(update={"training": toy.plan.training.model_copy(update={"seed": 99})})
    with pytest.raises(PlanError) as caught:
        train(TrainRequest(roots=toy.roots, plan=other, fold="0", device="cpu"))
    assert record_hash(toy.plan) in str(caught.value)
    assert record_hash(other) in str(caught.value)


@pytest.mark.parametrize("fold", ["6", "99", "x", "-1", "00", "٣"])
def test_a_fold_that_is_not_there_is_refused(toy, fold):
    with pytest.raises(PlanError, match="no fold"):
        train(request_of(toy, fold=fold))


def test_predictions_have_exactly_the_inputs_geometry(toy, trained, tmp_path):
    made = predict(PredictRequest(models=(trained.folder.root,), inputs=(toy.data,), output=tmp_path, device="cpu"))
    for case_id, path in made.files.items():
        source = toy.data / case_id / "T1.nii.gz"
        a, b = nibabel.load(source), nibabel.load(path)
        assert a.shape == b.shape
        assert np.array_equal(a.affine, b.affine)
        assert set(np.unique(np.asanyarray(b.dataobj))) <= set(LABELS.values())
        x, y = SimpleITK.ReadImage(str(source)), SimpleITK.ReadImage(str(path))
        assert x.GetSize() == y.GetSize()
        assert x.GetDirection() == y.GetDirection()
        assert x.GetOrigin() == y.GetOrigin()


def test_one_image_stored_in_any_order_is_segmented_alike(trained, tmp_path):
    channels, _ = toy_arrays(3)
    affine = np.diag([1.0, 1.1, 1.2, 1.0])
    codes = ("RAS", "LPS", "PIR", "SAL", "ILA")
    for code in codes:
        for number in range(2):
            save(channels[..., number], affine, tmp_path / "in" / f"case{code}_000{number}.nii.gz", code)
    made = predict(
        PredictRequest(models=(trained.folder.root,), inputs=(tmp_path / "in",), output=tmp_path / "out", device="cpu")
    )
    found = [
        np.asanyarray(nibabel.as_closest_canonical(nibabel.load(made.files[f"case{code}"])).dataobj) for code in codes
    ]
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_an_array_is_segmented_like_its_file(toy, trained, tmp_path):
    made = predict(
        PredictRequest(
            models=(trained.folder.root,), inputs=(toy.data / "manifest.csv",), output=tmp_path, device="cpu"
        )
    )
    model = load_model([trained.folder.root], "cpu")
    images = [nibabel.load(toy.data / "case_1" / f"{name}.nii.gz") for name in ("T1", "T2")]
    array = np.stack([image.get_fdata(dtype=np.float32).T for image in images])
    found = predict_array(model, array, images[0].affine)
    assert np.array_equal(found, np.asanyarray(nibabel.load(made.files["case_1"]).dataobj).T)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 5, 5, 5), np.float32), "3 channels, the model needs 2: T1, T2"),
        (np.zeros((5, 5, 5), np.float32), "3 axes"),
        (np.full((2, 5, 5, 5), np.nan, np.float32), "NaN"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(trained, image, message):
    with pytest.raises(InputError, match=message):
        predict_array(load_model([trained.folder.root], "cpu"), image, np.eye(4))


@pytest.mark.slow
def test_folds_are_averaged_and_can_be_chosen(toy, trained, tmp_path):
    train(request_of(toy, fold="3", has_validation=False))
    model = trained.folder.root.parent
    assert len(load_model([model], "cpu", folds=["0", "3"]).networks) == 2
    with pytest.raises(PlanError, match="no fold 4"):
        load_model([model], "cpu", folds=["4"])
    assert len(load_model([model, model / "fold_0"], "cpu").networks) == len(load_model([model], "cpu").networks)
    both, *alone = (load_model([model], "cpu", folds=folds) for folds in (["0", "3"], ["0"], ["3"]))
    tiles = torch.randn(1, 2, *both.configuration.patch_size, generator=torch.Generator().manual_seed(0))
    views = [NetworkForward(found.networks, (), 3, nullcontext, found.device)(tiles) for found in (both, *alone)]
    assert torch.allclose(views[0], (views[1] + views[2]) / 2, atol=1e-5)
    assert not torch.allclose(views[1], views[2], atol=1e-3)


def test_an_unfinished_fold_is_left_out_unless_it_is_named(toy, trained, tmp_path, caplog):
    model = tmp_path / "model"
    for fold in ("fold_0", "fold_1", "fold_2"):
        shutil.copytree(trained.folder.root, model / fold)
    state = load_checkpoint(model / "fold_1" / "latest.ckpt")
    state["progress"]["iteration"] -= 1
    save_checkpoint(model / "fold_1" / "latest.ckpt", state)
    (model / "fold_2" / "latest.ckpt").unlink()
    (model / "fold_2" / "best.ckpt").unlink()
    with caplog.at_level("WARNING", "tumorseg"):
        assert len(load_model([model], "cpu").networks) == 1
    assert "left out, because their training is not finished: fold_1, fold_2" in caplog.text
    assert weights_file(FoldFolder(model / "fold_0")).name == "latest.ckpt"
    assert weights_file(FoldFolder(model / "fold_1")).name == "best.ckpt"
    assert len(load_model([model], "cpu", folds=["0", "1"]).networks) == 2


def test_a_fold_is_trained_by_one_process_at_a_time(toy, trained):
    for restart in (False, True):
        with (
            hold_folder(trained.folder.root, doing="trained", error=TrainingError),
            pytest.raises(TrainingError, match="is being trained by another process"),
        ):
            train(request_of(toy, fold="0", restart=restart))
    assert trained.folder.latest.is_file()


def test_a_fold_is_validated_by_one_process_at_a_time(toy, trained):
    with (
        hold_folder(trained.folder.validation, doing="written to", error=StorageError),
        pytest.raises(StorageError, match="validation is being written to by another process"),
    ):
        validate(ValidateRequest(roots=toy.roots, model=trained.folder.root, device="cpu"))


def test_a_held_out_case_whose_mask_was_edited_is_no_score_and_the_others_are(toy, trained, tmp_path):
    fold = FoldFolder(tmp_path / "fold_0")
    shutil.copytree(trained.folder.root, fold.root)
    mask = fold.prediction(toy.plan.folds[0][0])
    shutil.copy(trained.folder.prediction(toy.plan.folds[0][1]), mask)
    request = ValidateRequest(roots=toy.roots, model=fold.root, device="cpu")
    with pytest.raises(TumorsegError, match="was changed since predict wrote it"):
        validate(request)
    held_out = set(toy.plan.folds[0])
    metrics = json.loads(fold.metrics.read_text())
    assert metrics["failed"] == [toy.plan.folds[0][0]]
    assert {case["case_id"] for case in metrics["cases"]} == held_out - set(metrics["failed"])
    mask.unlink()
    assert validate(request) == trained.metrics


def test_what_a_killed_process_left_half_written_is_removed(toy, trained):
    leftover = trained.folder.root / ".latest.ckpt.a1b2c3d4"
    leftover.write_bytes(b"half")
    train(request_of(toy, fold="0"))
    assert not leftover.exists()
    assert trained.folder.latest.is_file()


def test_a_restart_that_cannot_begin_leaves_the_earlier_training_in_place(toy, trained):
    with pytest.raises(InputError, match="not there"):
        train(request_of(toy, fold="0", restart=True, dataset="Nowhere"))
    assert trained.folder.latest.is_file()


def test_a_plan_is_called_as_its_file(toy, tmp_path):
    shutil.copy(toy.plan_path, tmp_path / "renamed.json")
    assert read_plan(tmp_path / "renamed.json").name == "renamed"


def test_folds_of_different_models_are_not_averaged(toy, trained):
    done = train(request_of(toy, fold="4", configuration="2d", has_validation=False))
    with pytest.raises(PlanError, match="different plans or configurations"):
        load_model([trained.folder.root, done.folder.root], "cpu")


def test_evaluation_without_a_dataset_scores_every_value_found(toy, tmp_path):
    reference = toy.data / "case_0" / "seg.nii.gz"
    report = evaluate(EvaluateRequest(predictions=(reference,), references=(reference,), output=tmp_path, jobs=1))
    assert {case.label: case.scores["dsc"] for case in report.cases} == {"label_2": 1.0, "label_7": 1.0}
    assert (tmp_path / "metrics.csv").read_text().startswith("case_id,")


def test_a_reference_without_prediction_is_an_error(toy, trained, tmp_path):
    files = sorted(trained.folder.validation.glob("*.nii.gz"))
    with pytest.raises(TumorsegError, match="found no prediction"):
        evaluate(EvaluateRequest(predictions=tuple(files), references=(toy.data,), output=tmp_path))


def test_a_prediction_on_another_grid_is_an_error_that_names_the_case(toy, tmp_path):
    _, labels = toy_arrays(0)
    save(np.roll(labels, 1)[:-1], np.eye(4), tmp_path / "in" / "case_0.nii.gz")
    with pytest.raises(TumorsegError, match=r"case_0.*voxels"):
        evaluate(
            EvaluateRequest(
                predictions=(tmp_path / "in",), references=(toy.data / "case_0" / "seg.nii.gz",), output=tmp_path / "o"
            )
        )
    written = json.loads((tmp_path / "o" / "metrics.json").read_text())
    assert (written["cases"], written["failed"]) == ([], ["seg"])


def test_the_scores_of_the_other_cases_are_written_when_one_fails(toy, tmp_path):
    for number in range(2):
        _, labels = toy_arrays(number)
        save(labels[number:], np.eye(4), tmp_path / "in" / f"case_{number}.nii.gz")
        save(labels, np.eye(4), tmp_path / "reference" / f"case_{number}.nii.gz")
    with pytest.raises(TumorsegError, match="case_1"):
        evaluate(
            EvaluateRequest(predictions=(tmp_path / "in",), references=(tmp_path / "reference",), output=tmp_path / "o")
        )
    written = json.loads((tmp_path / "o" / "metrics.json").read_text())
    assert {case["case_id"] for case in written["cases"]} == {"case_0"}
    assert written["failed"] == ["case_1"]


def test_one_prediction_is_scored_against_one_reference_of_another_name_with_a_warning(toy, tmp_path, caplog):
    prediction = tmp_path / "other.nii.gz"
    shutil.copy(toy.data / "case_0" / "seg.nii.gz", prediction)
    reference = toy.data / "case_0" / "seg.nii.gz"
    with caplog.at_level("WARNING", "tumorseg"):
        evaluate(EvaluateRequest(predictions=(prediction,), references=(reference,), output=tmp_path / "o", jobs=1))
    assert "prediction other is scored against reference seg" in caplog.text


def test_changed_labels_are_not_validated_against(toy, trained, tmp_path):
    moved = tmp_path / "Toy"
    shutil.copytree(toy.data, moved)
    case_id = toy.plan.folds[0][0]
    _, labels = toy_arrays(2)
    save(np.zeros_like(labels), np.eye(4), moved / case_id / "seg.nii.gz")
    before = trained.folder.metrics.read_bytes()
    with pytest.raises(PlanError, match="was made for Toy with content"):
        validate(ValidateRequest(roots=toy.roots, model=trained.folder.root, device="cpu", dataset=str(moved)))
    assert trained.folder.metrics.read_bytes() == before


def test_a_dataset_that_moved_is_found_below_the_data_root(tmp_path):
    toy = plan_toy(tmp_path, write_toy(tmp_path / "data" / "Toy", num_cases=3))
    (tmp_path / "new").mkdir()
    toy.data.rename(tmp_path / "new" / "Toy")
    roots = Roots(data_root=tmp_path / "new", work=toy.roots.work)
    request = PreprocessRequest(roots=roots, plan=toy.plan, configurations=("3d_fullres",), jobs=1)
    assert len(preprocess(request)["3d_fullres"].keys) == 3


def test_the_work_folder_of_a_dataset_is_not_taken_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_toy(tmp_path / "data" / "Toy", num_cases=3)
    roots = Roots(data_root=tmp_path / "data", work=Path())
    request = PlanRequest(roots=roots, dataset="Toy", preset="fast_prototyping", output=tmp_path / "toy.json", jobs=1)
    made = plan(request).plan
    assert (tmp_path / "Toy" / "fingerprint.json").is_file()
    assert len(preprocess(PreprocessRequest(roots=roots, plan=made, configurations=("2d",), jobs=1))["2d"].keys) == 3


def test_another_group_of_a_case_is_seen_although_its_files_are_the_same(tmp_path):
    data = write_toy(tmp_path / "data" / "Toy", num_cases=4)
    plan_toy(tmp_path, data)
    manifest = data / "manifest.csv"
    header, *rows = manifest.read_text().splitlines()
    grouped = [f"{row},p{number // 2}" for number, row in enumerate(rows)]
    manifest.write_text("\n".join([f"{header},group", *grouped]) + "\n")
    folds = plan_toy(tmp_path, data).plan.folds
    assert sorted(folds) == [("case_0", "case_1"), ("case_2", "case_3")]


def test_a_moved_dataset_is_found_by_d(toy, tmp_path):
    moved = tmp_path / "elsewhere" / "Renamed"
    moved.parent.mkdir()
    moved.symlink_to(toy.data)
    found = preprocess(
        PreprocessRequest(roots=Roots(work=tmp_path / "runs"), plan=toy.plan, dataset=str(moved), jobs=1)
    )
    assert len(found["3d_fullres"].keys) == 6


@pytest.mark.slow
def test_regions_are_trained_predicted_and_scored(tmp_path):
    write_toy(tmp_path / "data" / "Regions", num_cases=3)
    regions = tmp_path / "regions.json"
    whole = [{"name": "whole", "labels": ["shell", "core"], "value": 2}, {"name": "core", "labels": [7], "value": 7}]
    regions.write_text(json.dumps(whole))
    roots = Roots(data_root=tmp_path / "data", work=tmp_path / "runs")
    made = plan(
        PlanRequest(
            roots=roots, dataset="Regions", preset="fast_prototyping", regions=str(regions), output=tmp_path / "r.json"
        )
    ).plan
    options = TrainOptions(epochs=1, iterations=2)
    done = train(TrainRequest(roots=roots, plan=made, fold="0", device="cpu", options=options, jobs=1))
    assert done.metrics is not None
    assert set(done.metrics.summary) == {"whole", "core"}
    predicted = nibabel.load(next(done.folder.validation.glob("*.nii.gz")))
    assert set(np.unique(np.asanyarray(predicted.dataobj))) <= {0, 2, 7}


def test_a_channel_on_a_grid_of_its_own_is_interpolated_onto_the_first_with_a_warning(tmp_path, caplog):
    affine, coarse = np.diag([1.0, 1.1, 1.2, 1.0]), np.diag([2.5, 2.0, 3.0, 1.0])
    coarse[:3, 3] = (-4.0, -7.0, -2.0)

    def ramp(shape, affine):  # linear in the world, so that linear interpolation is exact
        x, y, z = (affine @ [*map(np.ravel, np.indices(shape)), np.ones(np.prod(shape))])[:3].reshape(3, *shape)
        return (x + 2 * y + 3 * z).astype(np.float32)

    save(ramp((19, 22, 17), affine), affine, tmp_path / "ct.nii.gz", "LPS")
    save(ramp((12, 18, 9), coarse), coarse, tmp_path / "pt.nii.gz", "RAS")  # coarser, of a larger field of view
    case = Case(case_id="a", images=[ImageFile(path=str(tmp_path / name)) for name in ("ct.nii.gz", "pt.nii.gz")])
    with caplog.at_level("WARNING", "tumorseg"):
        found = read_case_image(case)
    assert "pt.nii.gz is on another grid than" in caplog.text
    assert np.allclose(found.image[1], found.image[0], atol=1e-3)
