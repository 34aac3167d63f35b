"""Which models can be combined, and ensembles that are kept as one model."""

import json
import logging
import shutil

import numpy as np
import pytest

from tests.stages.inference.test_nnunet_model import write_model
from tests.stages.members import AFFINE, NESTED, base_model, image_of, member, write_folds, write_trained
from tumorseg.errors import InputError, PlanError
from tumorseg.schema.dataset import Region
from tumorseg.schema.ensembles import Combination, KeepLargest
from tumorseg.stages.inference.ensemble_folder import save_ensemble
from tumorseg.stages.inference.ensembles import alone, joint_name, load_ensemble, together
from tumorseg.stages.inference.method import PredictOptions
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.predict_array import predict_array
from tumorseg.stages.inference.provenance import method_of, method_of_model, run_entry
from tumorseg.stages.inference.runtime import RuntimeOptions
from tumorseg.stages.opening.fold_folders import read_run
from tumorseg.storage.checkpoints import load_checkpoint, save_checkpoint
from tumorseg.storage.layout import FoldFolder

TORCH = RuntimeOptions(engine="torch", precision="fp32")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return base_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def models(base, tmp_path_factory):
    """Return the folders of two models that were trained here, one of two folds, and of one of nnU-Net."""
    root = tmp_path_factory.mktemp("models")
    first = write_trained(root, base, "first", folds=("0", "1"), seed=1)
    second = write_trained(root, base, "second", seed=2, plan={"transpose": (2, 0, 1)})
    return first, second, write_model(root / "nnunet")


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def other_labels(base):
    return {"labels": {"background": 0, "kidney_left": 1, "kidney_right": 3}}


def test_models_whose_masks_mean_different_things_are_refused_by_name(base):
    lead = member(base, "a")
    with pytest.raises(
        PlanError, match="a/3d_fullres and b/2d cannot be combined: the labels of the first are kidney_"
    ):
        together((lead, member(base, "b", num_axes=2, dataset=other_labels(base))))
    nested = member(base, "c", dataset={"regions": NESTED})
    apart = member(base, "d", dataset={"regions": (NESTED[0], Region(name="right", labels=(1,), value=2))})
    with pytest.raises(
        PlanError, match=r"c/3d_fullres and d/3d_fullres .*right=kidney_right .painted 2., those of the"
    ):
        together((lead, nested, apart))
    swapped = member(base, "e", dataset={"regions": tuple(reversed(NESTED))})
    with pytest.raises(PlanError, match="give models of the same regions"):
        together((nested, swapped))


def test_an_ignored_label_and_the_datasets_name_make_no_difference(base):
    labels = {**base.plan.dataset.labels, "unsure": 9}
    other = member(base, "b", dataset={"labels": labels, "ignore_label": 9, "name": "Elsewhere"})
    assert together((member(base, "a"), other)).targets.ignore_value is None


def test_what_only_the_first_member_says_stays_where_another_brings_the_regions(base):
    first = member(base, "a", dataset={"name": "Mine"})
    both = together((first, member(base, "b", dataset={"regions": NESTED, "name": "Elsewhere"})))
    assert both.dataset == first.plan.dataset.changed(regions=NESTED)


def test_channels_of_one_name_and_different_kinds_are_refused(base):
    first, second = base.plan.dataset.channels
    ct = {"channels": (first, second.changed(kind="ct"))}
    with pytest.raises(PlanError, match="channel T2 is mr for the first and ct for the second"):
        together((member(base, "a"), member(base, "b", dataset=ct)))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"weights": {"spleen": (1.0, 2.0)}}, "weights of spleen: expected some of kidney_left, kidney_right"),
        ({"weights": {"kidney_left": (1.0,)}}, "weights of kidney_left: found 1, expected 2, one for each model"),
        ({"thresholds": {"kidney_left": 0.4}}, "thresholds of kidney_left: expected some of none"),
        ({"postprocessing": (KeepLargest(labels=("spleen",)),)}, "postprocessing keep_largest names spleen"),
    ],
)
def test_a_combination_that_speaks_of_what_is_not_there_is_refused(base, fields, told):
    with pytest.raises((PlanError, InputError), match=told) as caught:
        together((member(base, "a"), member(base, "b")), Combination(**fields))
    assert "\n" not in str(caught.value)


def test_an_ensemble_without_a_name_is_called_by_its_models():
    assert joint_name(["a/2d", "b/3d_fullres"]) == "a/2d + b/3d_fullres"
    long = ["x" * 30 + "/2d", "y" * 30 + "/2d", "z"]
    assert joint_name(long) == f"{long[0]} and 2 more"
    assert joint_name(["x" * 70, "y"]) == "ensemble of 2 models"


def test_a_saved_ensemble_is_complete_in_itself_and_answers_as_its_models_do(models, tmp_path):
    combination = Combination(weights={"kidney_left": (1.0, 2.0, 1.0)})
    document = save_ensemble(
        tmp_path / "moved" / "mine", [[one] for one in models], combination=combination, extra={"report.html": b"page"}
    )
    assert document.name == "mine"
    assert [one.folds for one in document.members] == [("0", "1"), ("0",), ("0",)]
    assert files_in(tmp_path / "moved" / "mine") == {
        "ensemble.json",
        "report.html",
        *(f"members/0/fold_{fold}/{name}" for fold in (0, 1) for name in ("plan.json", "run.json", "latest.ckpt")),
        *(f"members/1/fold_0/{name}" for name in ("plan.json", "run.json", "latest.ckpt")),
        *(f"members/2/{name}" for name in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth")),
    }
    shutil.copytree(tmp_path / "moved" / "mine", tmp_path / "mine")
    shutil.rmtree(tmp_path / "moved")
    loaded = load_ensemble([tmp_path / "mine"], "cpu", runtime=TORCH)
    assert (loaded.name, loaded.root, loaded.trust) == ("mine", tmp_path / "mine", None)
    assert [len(one.networks) for one in loaded.members] == [2, 1, 1]
    direct = together([load_model([one], "cpu", runtime=TORCH) for one in models], combination)
    image = image_of()
    assert np.array_equal(predict_array(loaded, image, AFFINE), predict_array(direct, image, AFFINE))
    assert method_of(loaded, PredictOptions()) == method_of(direct, PredictOptions())
    fewer = load_ensemble([tmp_path / "mine"], "cpu", ["0"], runtime=TORCH)
    assert [len(one.networks) for one in fewer.members] == [1, 1, 1]
    with pytest.raises(PlanError, match=r"members/1 has no fold 1; it has 0"):
        load_ensemble([tmp_path / "mine"], "cpu", ["1"], runtime=TORCH)


def test_a_fold_alone_is_saved_as_it_predicts(models, tmp_path):
    save_ensemble(tmp_path / "kept", [[models[0] / "fold_1"]], combination=Combination())
    kept = load_ensemble([tmp_path / "kept"], "cpu", runtime=TORCH)
    fold = load_model([models[0] / "fold_1"], "cpu", runtime=TORCH)
    assert kept.is_model
    assert method_of(kept, PredictOptions()) == method_of_model(fold, PredictOptions())
    told = run_entry(kept, PredictOptions())
    assert (told.plan, [(one.plan, one.num_folds) for one in told.members]) == ("kept", [("first", 1)])
    assert run_entry(alone(fold), PredictOptions()).members == ()


def test_what_is_saved_twice_stays_and_another_ensemble_is_refused(models, tmp_path):
    target = tmp_path / "mine"
    save_ensemble(target, [[models[0]], [models[1]]], combination=Combination())
    times = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    save_ensemble(target, [[models[0]], [models[1]]], combination=Combination())
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == times
    for members, combination in (
        ([[models[0]]], Combination()),
        ([[models[1]], [models[0]]], Combination()),
        ([[models[0]], [models[1]]], Combination(method="vote")),
    ):
        with pytest.raises(InputError, match="holds another ensemble") as caught:
            save_ensemble(target, members, combination=combination)
        assert "\n" not in str(caught.value)
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="is there already, and no ensemble"):
        save_ensemble(tmp_path / "taken", [[models[0]]], combination=Combination())
    assert not list((tmp_path / "taken").iterdir())


def test_a_folder_that_leads_out_of_itself_or_lacks_a_model_is_refused(models, tmp_path):
    save_ensemble(tmp_path / "mine", [[models[0]]], combination=Combination())
    document = json.loads((tmp_path / "mine" / "ensemble.json").read_text())
    for folder, told in (
        ("../elsewhere", "expected one inside the folder"),
        ("members/7", "lacks members/7"),
        ("members/\0", "a path that holds a null byte"),
        ("members/" + "a" * 300, "a path that is longer than a name can be"),
    ):
        document["members"][0]["folder"] = folder
        (tmp_path / "mine" / "ensemble.json").write_text(json.dumps(document))
        with pytest.raises(PlanError, match=told):
            load_ensemble([tmp_path / "mine"], "cpu")


def test_weights_that_were_replaced_are_refused_by_name(models, tmp_path):
    document = save_ensemble(tmp_path / "mine", [[models[0]], [models[2]]], combination=Combination())
    assert [len(one.weights) for one in document.members] == [2, 1]
    checkpoint = tmp_path / "mine" / "members" / "0" / "fold_1" / "latest.ckpt"
    checkpoint.unlink()
    shutil.copy(models[0] / "fold_0" / "latest.ckpt", checkpoint)
    with pytest.raises(
        PlanError, match=r"members/0 \(first/3d_fullres\) holds other weights than the ensemble was saved"
    ):
        load_ensemble([tmp_path / "mine"], "cpu", runtime=TORCH)
    assert len(load_ensemble([tmp_path / "mine"], "cpu", ["0", "0"], runtime=TORCH).weight_hashes) == 2


def test_an_ensemble_is_no_model_of_another_one_and_no_fold(models, tmp_path):
    target = tmp_path / "mine"
    save_ensemble(target, [[models[0]], [models[1]]], combination=Combination())
    for attempt in (
        lambda: load_ensemble([target, models[0]], "cpu"),
        lambda: save_ensemble(tmp_path / "more", [[target], [models[0]]], combination=Combination()),
        lambda: load_model([target], "cpu"),
        lambda: read_run(FoldFolder(target)),
    ):
        with pytest.raises(PlanError, match=r"mine is an ensemble, expected a model: .*takes an ensemble, by itself"):
            attempt()
    assert not (tmp_path / "more").exists()


def test_a_cascade_is_saved_with_the_model_that_it_is_shown(base, models, tmp_path):
    cascade = write_cascade(tmp_path, base)
    document = save_ensemble(tmp_path / "mine", [[cascade]], combination=Combination())
    assert document.members[0].configuration == "3d_cascade"
    assert "members/0/previous/known/fold_0/latest.ckpt" in files_in(tmp_path / "mine")
    kept = load_ensemble([tmp_path / "mine"], "cpu", runtime=TORCH)
    assert kept.lead.previous_model is not None
    assert np.array_equal(
        predict_array(kept, image_of(), AFFINE),
        predict_array(load_model([cascade], "cpu", runtime=TORCH), image_of(), AFFINE),
    )


def write_cascade(root, base):
    """Write a model folder of a cascade, and in it the model that it is shown."""
    plan = member(base, "cascading").plan
    full = plan.configurations["3d_fullres"]
    both = {"3d_lowres": full, "3d_cascade": full.changed(previous_configuration="3d_lowres")}
    plan = plan.changed(default_configuration="3d_lowres", configurations=both)
    model = root / "cascading" / "3d_cascade"
    write_folds(model / "previous" / "known", plan, "3d_lowres", seed=5)
    return write_folds(model, plan, "3d_cascade", seed=6, previous="known")


def test_overlap_is_changed_in_every_member_and_reports_keep_the_configurations_name(base):
    ensemble = together((member(base, "a", seed=1), member(base, "b", seed=2, num_axes=2)))
    changed = ensemble.changed_inference(overlap=0.25)
    assert [one.configuration.inference.overlap for one in changed.members] == [0.25, 0.25]
    told = run_entry(changed, PredictOptions())
    assert [(one.plan, one.configuration, one.num_folds) for one in told.members] == [
        ("a", "3d_fullres", 1),
        ("b", "2d", 1),
    ]
    assert method_of(changed, PredictOptions()) != method_of(ensemble, PredictOptions())
    one = alone(ensemble.lead).changed_inference(overlap=0.25)
    assert run_entry(one, PredictOptions()).configuration == "3d_fullres"


def test_all_that_shapes_a_mask_counts_in_the_hash_of_the_method(base):
    first, second = member(base, "a", seed=1), member(base, "b", seed=2)
    hashes = []
    for members, combination in (
        ((first, second), Combination()),
        ((second, first), Combination()),
        ((first,), Combination(postprocessing=(KeepLargest(labels=("kidney_left",)),))),
        ((first, second), Combination(method="vote")),
        ((first, second), Combination(weights={"kidney_left": (1.0, 2.0)})),
        ((first, second._replace(weight_hashes=("other",))), Combination()),
    ):
        hashes.append(method_of(together(members, combination), PredictOptions()))
    hashes.append(method_of(together((first, second)), PredictOptions(mirroring=False)))
    assert len(set(hashes)) == len(hashes)
    assert method_of(alone(first), PredictOptions()) == method_of_model(first, PredictOptions())


def test_a_fold_that_is_not_finished_is_saved_as_it_predicts_and_told_once(models, base, tmp_path, caplog):
    folder = write_trained(tmp_path, base, "unfinished", folds=("0",))
    checkpoint = folder / "fold_0" / "latest.ckpt"
    state = load_checkpoint(checkpoint)
    save_checkpoint(folder / "fold_0" / "best.ckpt", state)
    save_checkpoint(checkpoint, state | {"progress": {"iteration": 1, "losses": []}})
    with caplog.at_level(logging.WARNING):
        save_ensemble(tmp_path / "mine", [[folder]], combination=Combination())
        assert "members/0/fold_0/best.ckpt" in files_in(tmp_path / "mine")
        assert len(load_ensemble([tmp_path / "mine"], "cpu", runtime=TORCH).lead.networks) == 1
    assert caplog.text.count("is not finished; its best epoch so far predicts") == 1
