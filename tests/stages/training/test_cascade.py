import json
import shutil
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from tests.stages.conftest import Toy
from tests.stages.models import model_of
from tests.toys import LABELS
from tumorseg.errors import PlanError
from tumorseg.planning.choices.augmentation import cascade_augmentation
from tumorseg.schema.cases import preprocessing_of
from tumorseg.schema.ensembles import Combination
from tumorseg.schema.plan import Plan
from tumorseg.schema.settings import Setting
from tumorseg.stages.inference.ensembles import alone
from tumorseg.stages.inference.method import PredictOptions
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.predict import PredictRequest, predict
from tumorseg.stages.inference.predict_array import predict_array
from tumorseg.stages.inference.predict_cases import predict_cases
from tumorseg.stages.inference.predictions import mask_hash
from tumorseg.stages.inference.previous_sources import KnownPrevious
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.fold_folders import TrainOptions, read_run
from tumorseg.stages.opening.loaded import Roots, open_planned_dataset
from tumorseg.stages.selection.setting_notes import CaseTask, HeldOut
from tumorseg.stages.selection.setting_runs import measure_case
from tumorseg.stages.training.cascade import known_to
from tumorseg.stages.training.preprocess import PreprocessRequest, preprocess
from tumorseg.stages.training.previous_segmentations import keep_previous
from tumorseg.stages.training.request import Trained, TrainRequest
from tumorseg.stages.training.train import train
from tumorseg.stages.training.validate import ValidateRequest, validate
from tumorseg.storage.cases import CaseStore
from tumorseg.storage.hashing import hash_files
from tumorseg.storage.layout import FoldFolder, work_folder

pytestmark = pytest.mark.slow
"""Three short trainings come first."""

LOWRES, CASCADE = "3d_lowres", "3d_cascade_fullres"
FOLDS = (("case_0", "case_1", "case_4"), ("case_2", "case_3", "case_5"))
SHORT = TrainOptions(epochs=1, iterations=1)


class Cascade(NamedTuple):
    toy: Toy
    plan: Plan

    @property
    def roots(self) -> Roots:
        return self.toy.roots

    def model(self, configuration=CASCADE) -> Path:
        return work_folder(self.roots.work, "Toy").model(self.plan.name, configuration)

    def fold(self, number, configuration=CASCADE) -> FoldFolder:
        return FoldFolder(self.model(configuration) / f"fold_{number}")

    def train(self, fold, configuration=CASCADE, options=SHORT, **fields) -> Trained:
        return train(
            TrainRequest(
                roots=self.roots,
                plan=self.plan,
                configuration=configuration,
                fold=str(fold),
                options=options,
                device="cpu",
                jobs=1,
                **fields,
            )
        )


def cascade_plan(plan: Plan, **changes) -> Plan:
    """Return a plan with a coarser configuration and a cascade beside it, as the planner makes them of large images."""
    full = plan.configurations["3d_fullres"]
    network = full.network.model_copy(update={"features_per_stage": (4, 6, 8)})
    full = full.model_copy(update={"network": network})
    coarse = full.model_copy(update={"spacing_mm": tuple(1.5 * edge for edge in full.spacing_mm)})
    augmentation = cascade_augmentation(full.augmentation)
    cascade = full.model_copy(update={"previous_configuration": LOWRES, "augmentation": augmentation})
    configurations = plan.configurations | {LOWRES: coarse, CASCADE: cascade}
    fields = {"configurations": configurations, "folds": FOLDS, "name": "cascade"} | changes
    return Plan.model_validate(plan.model_copy(update=fields).model_dump())


@pytest.fixture(scope="module")
def coarse(toy, tmp_path_factory) -> Cascade:
    """Both folds of the coarse configuration, in a work folder of their own."""
    work = tmp_path_factory.mktemp("cascade") / "runs"
    shutil.copytree(toy.roots.work / "Toy", work / "Toy", ignore=shutil.ignore_patterns("models"))
    made = Cascade(toy._replace(roots=toy.roots.model_copy(update={"work": work})), cascade_plan(toy.plan))
    for fold in (0, 1):
        assert made.train(fold, LOWRES).is_finished
    return made


@pytest.fixture(scope="module")
def cascade(coarse) -> Cascade:
    """Its first fold trained too."""
    assert coarse.train(0).is_finished
    return coarse


@pytest.fixture
def copied(cascade, tmp_path) -> Cascade:
    """A copy to be changed."""
    shutil.copytree(cascade.roots.work, tmp_path / "runs")
    roots = cascade.roots.model_copy(update={"work": tmp_path / "runs"})
    return cascade._replace(toy=cascade.toy._replace(roots=roots))


class Echo(nn.Module):
    """A network that says what it is shown of the previous segmentation."""

    def __init__(self, num_channels=2):
        super().__init__()
        self.num_channels = num_channels

    def forward(self, images):
        labels = images[:, self.num_channels :]
        assert labels.shape[1] == 2
        return torch.cat((1 - labels.sum(1, keepdim=True), labels), dim=1)


def echo_of(cascade, files, mirroring_axes=(0, 1, 2)):
    configuration = cascade.plan.configurations[CASCADE]
    inference = configuration.inference.model_copy(update={"mirroring_axes": mirroring_axes})
    configuration = configuration.model_copy(update={"inference": inference})
    known = KnownPrevious(files, ("known",))
    return model_of(cascade.plan, configuration, Echo(), "echo", known)


def corners(folder, data, case_id):
    """Write a segmentation in a case's own grid that no flip or exchange of axes maps onto itself."""
    image = nibabel.load(data / case_id / "T1.nii.gz")
    found = np.zeros(image.shape, np.uint8)
    x, y, z = image.shape
    found[: x // 2, : y // 3, : z // 4] = LABELS["shell"]
    found[x // 2 :, : y // 4, z // 2 :] = LABELS["core"]
    path = folder / f"{case_id}.nii.gz"
    nibabel.save(nibabel.Nifti1Image(found, image.affine), path)
    return path


def hashes_of(*paths):
    return [state.digest for state in hash_files(map(str, paths)).values()]


def weights_in(folder):
    return json.loads((folder / "predictions.json").read_text())["weight_hashes"]


def rewrite(path, field, value):
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))


def test_a_cascade_is_trained_and_scored_on_its_held_out_cases(cascade):
    metrics = json.loads(cascade.fold(0).metrics.read_text())
    assert {case["case_id"] for case in metrics["cases"]} == set(FOLDS[0])


def test_validation_is_shown_what_the_model_of_the_same_fold_found(cascade):
    cascade_weights, lowres_weights = hashes_of(cascade.fold(0).latest, cascade.fold(0, LOWRES).latest)
    assert weights_in(cascade.fold(0).validation) == [cascade_weights, lowres_weights]
    known = known_to(cascade.fold(0), read_run(cascade.fold(0)))
    assert known.files == {case_id: cascade.fold(0, LOWRES).prediction(case_id) for case_id in FOLDS[0]}


def test_validating_again_does_nothing_and_training_again_neither(cascade):
    files = [*cascade.roots.work.rglob("*.b2nd"), *cascade.model().rglob("*.nii.gz"), cascade.fold(0).latest]
    before = {path: path.stat().st_mtime_ns for path in files}
    validate(ValidateRequest(roots=cascade.roots, model=cascade.fold(0).root, device="cpu"))
    assert cascade.train(0).is_finished
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_the_model_folder_predicts_by_itself_as_a_whole_by_fold_and_an_array(cascade, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(cascade.model(), moved)
    images = [cascade.toy.data / "case_1" / f"{name}.nii.gz" for name in ("T1", "T2")]
    for number, image in enumerate(images):
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(image, tmp_path / "in" / f"case_000{number}.nii.gz")
    array = np.stack([nibabel.load(image).get_fdata(dtype=np.float32).T for image in images])
    expected = predict_array(load_model([cascade.model()], "cpu"), array, nibabel.load(images[0]).affine)
    for model in (moved, moved / "fold_0"):
        output = tmp_path / f"of {model.name}"
        made = predict(PredictRequest(models=(model,), inputs=(tmp_path / "in",), output=output, device="cpu"))
        assert np.array_equal(np.asanyarray(nibabel.load(made.files["case"]).dataobj).T, expected)
        used = (cascade.fold(0).latest, cascade.fold(0, LOWRES).latest, cascade.fold(1, LOWRES).latest)
        assert weights_in(output) == hashes_of(*used)


def test_the_previous_model_is_linked_and_not_copied(cascade):
    kept = next(cascade.model().glob("previous/*/fold_1/latest.ckpt"))
    assert kept.samefile(cascade.fold(1, LOWRES).latest)


def test_stored_previous_segmentations_lie_on_the_voxels_of_the_labels(copied):
    """Whatever the orientation, spacing or obliqueness of a case: the true labels, shown as previous, are the reference."""
    for number, held_out in enumerate(FOLDS):
        for case_id in held_out:
            shutil.copy(copied.toy.data / case_id / "seg.nii.gz", copied.fold(number, LOWRES).prediction(case_id))
    spec = preprocessing_of(copied.plan, copied.plan.configurations[CASCADE])
    stored = preprocess(PreprocessRequest(roots=copied.roots, plan=copied.plan, configurations=(CASCADE,), jobs=1))
    files = {case_id: copied.fold(fold, LOWRES).prediction(case_id) for fold in (0, 1) for case_id in FOLDS[fold]}
    dataset = open_planned_dataset(copied.plan, copied.roots)
    names = keep_previous(dataset, stored[CASCADE], files, spec, jobs=1)
    store = CaseStore(stored[CASCADE].folder, stored[CASCADE].keys, names)
    seen = set()
    for case_id in store.case_ids:
        box = tuple((1, size) for size in store.shape(case_id))
        _, indices = store.read(case_id, box)
        assert np.array_equal(store.read_previous(case_id, box), indices)
        seen |= set(np.unique(indices))
    assert seen == {0, 1, 2}


def test_only_previous_segmentations_of_changed_files_are_redone(copied):
    case_id = FOLDS[1][0]
    lowres = copied.fold(1, LOWRES)
    shutil.copy(copied.toy.data / case_id / "seg.nii.gz", lowres.prediction(case_id))
    record = json.loads(lowres.predictions.read_text())
    mask = lowres.prediction(case_id)
    record["cases"][case_id]["files"][mask.name] = mask_hash(mask)  # as if validation had found it
    lowres.predictions.write_text(json.dumps(record))
    before = set(copied.roots.work.rglob("previous_*.b2nd"))
    times = {path: path.stat().st_mtime_ns for path in before}
    copied.train(1, has_validation=False)
    new = set(copied.roots.work.rglob("previous_*.b2nd")) - before
    assert len(before) == 6
    assert len(new) == 1
    assert {path: path.stat().st_mtime_ns for path in before} == times


@pytest.mark.parametrize("mirroring", [False, True])
def test_a_network_is_shown_the_previous_segmentation_where_it_lies(cascade, tmp_path, mirroring):
    dataset = open_planned_dataset(cascade.plan, cascade.roots)
    files = {case.case_id: corners(tmp_path, cascade.toy.data, case.case_id) for case in dataset.cases}
    made = predict_cases(
        alone(echo_of(cascade, files)), dataset.cases, tmp_path / "out", options=PredictOptions(mirroring)
    )
    for case_id, path in made.files.items():
        shown, said = (np.asanyarray(nibabel.load(file).dataobj) for file in (files[case_id], path))
        for value in (LABELS["shell"], LABELS["core"]):
            both, total = np.sum((shown == value) & (said == value)), np.sum(shown == value) + np.sum(said == value)
            assert 2 * both / total > 0.9  # two resamplings lie between


def test_what_the_previous_model_finds_is_shown_where_it_found_it(cascade):
    """Through the whole of prediction, in every orientation: a previous model that finds what is bright."""
    bright = cascade.plan.configurations[LOWRES]

    class Bright(nn.Module):
        def forward(self, images):
            inside = (images[:, :1] > 1.0).float()
            return torch.cat((1 - inside, inside, torch.zeros_like(inside) - 1), dim=1)

    previous = model_of(cascade.plan, bright, Bright(), "bright")
    model = echo_of(cascade, {})._replace(previous=previous)
    for number in (1, 2, 4):
        images = [nibabel.load(cascade.toy.data / f"case_{number}" / f"{name}.nii.gz") for name in ("T1", "T2")]
        array = np.stack([image.get_fdata(dtype=np.float32).T for image in images])
        array[:, :6] = array[:, :6].min()  # no longer symmetric
        first = predict_array(previous, array, images[0].affine)
        found = predict_array(model, array, images[0].affine)
        both = np.sum((found > 0) & (first > 0))
        assert first.any()
        assert 2 * both / (np.sum(found > 0) + np.sum(first > 0)) > 0.9


def test_regions_are_shown_as_the_labels_that_they_are_painted_with(cascade):
    regions = [{"name": "whole", "labels": [2, 7], "value": 2}, {"name": "core", "labels": [7], "value": 7}]
    dataset = cascade.plan.dataset.model_validate(cascade.plan.dataset.model_dump() | {"regions": regions})
    plan = cascade.plan.model_copy(update={"dataset": dataset})

    class Found(nn.Module):
        def forward(self, images):  # whole, core
            return torch.cat((images[:, :1] - 1.0, images[:, 1:2] - 1.5), dim=1)

    class Shown(nn.Module):
        def forward(self, images):
            shell, core = images[:, 2:3], images[:, 3:4]
            assert ((shell + core) <= 1).all()
            return torch.cat((shell + core, core), dim=1) - 0.5

    previous = model_of(plan, plan.configurations[LOWRES], Found(), "found")
    model = model_of(plan, plan.configurations[CASCADE], Shown(), "shown", previous)
    images = [nibabel.load(cascade.toy.data / "case_3" / f"{name}.nii.gz") for name in ("T1", "T2")]
    array = np.stack([image.get_fdata(dtype=np.float32).T for image in images])
    first, found = (predict_array(one, array, images[0].affine) for one in (previous, model))
    assert set(np.unique(first)) == set(np.unique(found)) == {0, 2, 7}
    assert np.mean(first == found) > 0.97


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda made: shutil.rmtree(made.model(LOWRES)), "fold 0 is not trained, fold 1 is not trained"),
        (
            lambda made: made.fold(1, LOWRES).predictions.unlink(),
            "finds in the cases that it holds out; fold 1 is not val",
        ),
        (lambda made: made.fold(1, LOWRES).prediction("case_3").unlink(), "fold 1 is not validated on every case"),
        (lambda made: made.fold(1, LOWRES).latest.unlink(), "fold 1 is not trained to its end"),
        (
            lambda made: shutil.copy(made.fold(0, LOWRES).predictions, made.fold(1, LOWRES).predictions),
            "fold 1 was validated with earlier weights",
        ),
        (
            lambda made: shutil.copy(
                made.fold(0, LOWRES).prediction("case_0"), made.fold(1, LOWRES).prediction("case_3")
            ),
            r"fold 1 holds segmentations that were changed by hand \(case_3\)",
        ),
        (
            lambda made: rewrite(made.fold(0, LOWRES).predictions, "method_hash", "0" * 32),
            "fold 0 was validated otherwise than its plan and this version say",
        ),
    ],
)
def test_folds_of_the_previous_configuration_that_are_not_ready_are_named(copied, spoil, message):
    spoil(copied)
    with pytest.raises(PlanError, match=message) as caught:
        copied.train(0)
    assert "\n" not in str(caught.value)


def test_a_previous_configuration_of_another_plan_is_refused(copied):
    coarse = copied.plan.configurations[LOWRES].model_copy(update={"spacing_mm": (3.0, 3.0, 3.0)})
    other = copied.plan.model_copy(update={"configurations": copied.plan.configurations | {LOWRES: coarse}})
    with pytest.raises(PlanError, match="fold 0 was trained with another plan, fold 1 was trained with another plan"):
        copied._replace(plan=other).train(0)


def test_a_changed_cascade_goes_with_the_same_previous_model(copied):
    cascade = copied.plan.configurations[CASCADE].model_copy(update={"batch_size": 1})
    other = copied.plan.model_copy(update={"configurations": copied.plan.configurations | {CASCADE: cascade}})
    assert copied._replace(plan=other).train(1, has_validation=False).is_finished


def test_a_retrained_previous_model_ends_what_was_begun_with_the_earlier_one(copied):
    copied.train(1, LOWRES, SHORT.model_copy(update={"seed": 5}), restart=True)
    with pytest.raises(PlanError, match="another training of the previous configuration"):
        copied.train(0)
    with pytest.raises(PlanError, match="another training of the previous configuration"):
        validate(ValidateRequest(roots=copied.roots, model=copied.fold(0).root, device="cpu"))
    assert copied.train(1, has_validation=False).is_finished
    with pytest.raises(PlanError, match="trained with segmentations of different previous models"):
        load_model([copied.model()], "cpu")
    assert len(list((copied.model() / "previous").iterdir())) == 2
    for fold in (0, 1):
        assert isinstance(load_model([copied.fold(fold).root], "cpu").previous, Model)


def test_folds_of_the_previous_configuration_are_of_one_plan(copied):
    path = copied.fold(1, LOWRES).run
    path.write_text(path.read_text().replace(read_run(copied.fold(1, LOWRES)).plan_hash, "0" * 32))
    with pytest.raises(PlanError, match="holds folds of different plans"):
        copied.train(0)


def test_a_fold_away_from_its_previous_model_says_so(cascade, tmp_path):
    shutil.copytree(cascade.fold(0).root, tmp_path / "fold_0")
    with pytest.raises(
        PlanError, match="fold_0 is a cascade, and the previous model that it was trained with is missing"
    ):
        load_model([tmp_path / "fold_0"], "cpu")


def test_every_case_is_trained_on_with_what_was_found_in_it_unseen(copied):
    done = copied.train("all")
    assert done.is_finished
    assert read_run(done.folder).previous == read_run(copied.fold(0)).previous


def test_a_plan_without_folds_has_no_cascade_to_train(coarse):
    other = coarse._replace(plan=coarse.plan.model_copy(update={"folds": ()}))
    with pytest.raises(
        PlanError, match="has no folds, so no 3d_lowres model can segment a case that it was not trained"
    ):
        other.train("all")


def test_cases_that_no_fold_holds_out_are_named(coarse):
    dataset = open_planned_dataset(coarse.plan, coarse.roots)
    stored = preprocess(PreprocessRequest(roots=coarse.roots, plan=coarse.plan, configurations=(CASCADE,), jobs=1))
    spec = preprocessing_of(coarse.plan, coarse.plan.configurations[CASCADE])
    with pytest.raises(PlanError, match="no fold holds out 3 cases of Toy \\(case_2, case_3, case_5\\)"):
        keep_previous(dataset, stored[CASCADE], dict.fromkeys(FOLDS[0], Path("x")), spec, jobs=1)


def test_a_cascade_is_timed_with_its_previous_model_and_scored_by_what_never_saw_the_case(cascade, tmp_path):
    dataset = open_planned_dataset(cascade.plan, cascade.roots)
    case = next(case for case in dataset.cases if case.case_id in FOLDS[0])
    folder = cascade.fold(0)
    setting = Setting(num_folds=1, mirroring=False, overlap=0.5, precision="auto", engine="torch")
    task = CaseTask(HeldOut(case, (folder.root,)), Combination(), (setting,), "cpu", tmp_path)
    (note,) = measure_case(task).notes
    coarse, full = note.shapes[1], note.shapes[0]
    assert all(few <= many for few, many in zip(coarse, full, strict=True))
    assert coarse != full
    report = json.loads(folder.metrics.read_text()) if folder.metrics.is_file() else {"cases": []}
    scored = {one["label"]: one["dsc"] for one in report["cases"] if one["case_id"] == case.case_id}
    assert {name: note.dsc[name] for name in scored} == pytest.approx(scored)
    assert measure_case(task).notes == (note,)
