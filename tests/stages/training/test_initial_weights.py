import json
import logging
import shutil

import pytest
import torch
from safetensors.torch import save_file

from tests.stages.inference.test_nnunet_model import write_model
from tumorseg.engine.learner import Learner
from tumorseg.errors import PlanError
from tumorseg.networks.nnunet_weights import nnunet_name
from tumorseg.planning.overrides import Override, apply_overrides
from tumorseg.schema.base import parse_record
from tumorseg.schema.initial_weights import InitialWeights
from tumorseg.schema.plan import Configuration
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.stages.inference.nnunet_model import read_nnunet_model
from tumorseg.stages.training.given_weights import open_initial
from tumorseg.stages.training.initial_weights import begin_with
from tumorseg.stages.training.request import TrainRequest
from tumorseg.stages.training.train import train
from tumorseg.storage.checkpoints import load_checkpoint
from tumorseg.storage.layout import work_folder

RESIDUAL = {
    "name": "residual_unet",
    "features_per_stage": [4, 6, 8],
    "blocks_per_stage": [1, 2, 2],
    "decoder_convs_per_stage": [1, 1],
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
    "kernel_sizes": [[3, 3, 3]] * 3,
}


def learner_of(plan):
    configuration, targets = plan.configurations[plan.default_configuration], targets_of(plan.dataset)
    num_channels = num_inputs(configuration, targets)
    return Learner(configuration, plan.training, num_channels=num_channels, targets=targets, device="cpu")


def begun(plan, path, fold="0"):
    """Return a learner that begins with the weights of a path, and the report."""
    learner = learner_of(plan)
    name = plan.default_configuration
    return learner, begin_with(learner, open_initial(path, fold), plan, configuration=name, fold=fold)


def with_fields(plan, **fields):
    return apply_overrides(plan, [Override(field=field, value=value) for field, value in fields.items()])


def copied(trained, tmp_path):
    shutil.copytree(trained.folder.root, tmp_path / "fold_0")
    return tmp_path / "fold_0"


@pytest.fixture(scope="module")
def weights(trained):
    found = load_checkpoint(trained.folder.latest)["network"]
    return {name: tensor.contiguous() for name, tensor in found.items()}


def test_the_same_model_gives_all_its_weights(toy, trained, weights):
    learner, report = begun(toy.plan, trained.folder.root)
    assert report.count("matched") == len(report.tensors) == len(weights)
    assert report.layout == "tumorseg"
    assert report.unused == report.warnings == ()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in learner.network.state_dict().items())


def test_a_model_folder_gives_the_fold_that_held_out_the_same_cases(toy, trained):
    report = begun(toy.plan, trained.folder.root.parent)[1]
    assert report.source == str(trained.folder.latest)
    assert report.warnings == ()


def test_weights_that_have_seen_the_held_out_cases_are_told(toy, trained, caplog):
    with caplog.at_level(logging.INFO, logger="tumorseg"):
        report = begun(toy.plan, trained.folder.root, fold="1")[1]
    held_out = toy.plan.folds[1]
    assert f"it was trained on {len(held_out)} of the cases that fold 1 holds out ({held_out[0]}" in report.warnings[0]
    summary, warning = caplog.messages
    assert (
        f"of {len(report.tensors)} tensors {len(report.tensors)} matched, 0 adapted, 0 skipped; 0 of the file not used"
        in summary
    )
    assert report.warnings[0] in warning


def test_a_checkpoint_file_is_known_by_its_folder(toy, trained):
    assert begun(toy.plan, trained.folder.best)[1].count("skipped") == 0


def test_labels_and_channels_may_be_others(toy, trained, weights):
    dataset = toy.plan.dataset
    labels = {"background": 0, "shell": 2, "other": 7}
    (t1, t2), fewer = dataset.channels, toy.plan.configurations["3d_fullres"]
    alone = fewer.changed(normalization=fewer.normalization[:1])
    other = toy.plan.changed(
        dataset=dataset.changed(labels=labels, channels=(t2,)), configurations={"3d_fullres": alone}
    )
    learner, report = begun(other, trained.folder.root)
    skipped = {one.name for one in report.tensors if one.outcome == "skipped"}
    assert skipped == {name for name in weights if name.startswith("heads.")} == set(report.unused)
    (adapted,) = (one for one in report.tensors if one.outcome == "adapted")
    assert adapted.note == "2 input channels averaged for 1"
    first = learner.network.state_dict()[adapted.name]
    torch.testing.assert_close(first[:, 0], weights[adapted.name].sum(1))
    assert t1 != t2


def test_another_order_of_channels_is_told(toy, trained):
    swapped = toy.plan.changed(dataset=toy.plan.dataset.changed(channels=toy.plan.dataset.channels[::-1]))
    (warning,) = begun(swapped, trained.folder.root, fold="all")[1].warnings
    assert warning.startswith("its channels are T1, T2, those here T2, T1")


def test_a_cascade_sees_the_images_of_its_full_resolution_model_as_before(toy, trained, weights):
    name = toy.plan.default_configuration
    configuration = toy.plan.configurations[name]
    cascade = configuration.changed(previous_configuration="3d_lowres")
    plan = toy.plan.changed(configurations={name: cascade, "3d_lowres": configuration})
    learner, report = begun(plan, trained.folder.root)
    (adapted,) = (one for one in report.tensors if one.outcome == "adapted")
    own, given = learner.network.state_dict()[adapted.name], weights[adapted.name]
    assert torch.equal(own[:, :2], given)
    assert own.shape[1] > 2
    assert not own[:, 2:].any()


def test_the_moving_average_begins_with_the_given_weights(toy, trained, weights):
    plan = with_fields(toy.plan, **{"training.ema.decay": 0.9})
    learner, _ = begun(plan, trained.folder.root)
    assert learner.predictor is not learner.network
    assert all(torch.equal(tensor, weights[name]) for name, tensor in learner.predictor.state_dict().items())


@pytest.mark.parametrize(("network", "fold"), [("plain_3d", "3"), ("residual_3d", "0")])
def test_a_model_of_nnunet_gives_all_its_weights(tmp_path, network, fold):
    root = write_model(tmp_path / "model", network=network, folds=("0", "1"))
    plan = read_nnunet_model([root], ()).plan
    plan = plan.changed(folds=(("a",), ("b",), ("c",), ("d",)))
    theirs = torch.load(root / "fold_0" / "checkpoint_final.pth", weights_only=False)["network_weights"]
    for path in (root, root / "fold_1", root / "fold_1" / "checkpoint_final.pth"):
        learner, report = begun(plan, path, fold)
        assert report.layout == "nnU-Net"
        assert report.count("matched") == len(report.tensors)
        assert report.unused == ()
        for one in report.tensors:
            assert torch.equal(learner.network.state_dict()[one.name], theirs[one.source])


def test_weights_of_a_cascade_of_nnunet_are_taken_from_a_file(tmp_path):
    plan = read_nnunet_model([write_model(tmp_path / "own")], ()).plan
    root = write_model(tmp_path / "model", cascade=True)
    _, report = begun(plan, root / "fold_0" / "checkpoint_final.pth", "all")
    assert {one.name.split(".")[0] for one in report.tensors if one.outcome != "matched"} == {"heads"}
    (warning,) = report.warnings
    assert "cannot be imported" in warning


def nnssl_checkpoint(tmp_path, network):
    """Write a file as nnssl writes it: its names, the shapes of the network, an image of one channel."""
    given = {}
    for name, tensor in network.state_dict().items():
        if name.startswith("heads."):
            continue
        shape = list(tensor.shape)
        if name == "stem.0.weight":
            shape[1] = 1
        given[nnunet_name(name, 3)] = torch.randn(shape)
    # As `all_modules` lists them, and the reconstruction that was learnt instead of labels.
    given |= {name.replace(".conv.", ".all_modules.0."): tensor for name, tensor in given.items() if ".conv." in name}
    given |= {f"decoder.{name}": tensor for name, tensor in given.items() if name.startswith("encoder.")}
    given["decoder.seg_layers.1.weight"] = torch.randn(1, 4, 1, 1, 1)
    adaptation = {
        "architecture_plans": {"arch_class_name": "ResEncL", "arch_kwargs": None},
        "pretrain_num_input_channels": 1,
        "recommended_downstream_patchsize": (160, 160, 160),
        "key_to_encoder": "encoder.stages",
        "key_to_stem": "encoder.stem",
        "keys_to_in_proj": ("encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0"),
    }
    path = tmp_path / "checkpoint_final.pth"
    torch.save({"network_weights": given, "nnssl_adaptation_plan": adaptation, "citations": ["Wald 2024"]}, path)
    return path, given


def test_a_residual_encoder_of_nnssl_gives_all_but_the_head(toy, tmp_path):
    name = toy.plan.default_configuration
    fields = toy.plan.configurations[name].model_dump() | {"network": RESIDUAL}
    configuration = parse_record(Configuration, fields, source="test", error=PlanError)
    plan = toy.plan.changed(configurations={name: configuration})
    learner = learner_of(plan)
    path, given = nnssl_checkpoint(tmp_path, learner.network)
    learner, report = begun(plan, path)
    assert report.layout == "nnssl"
    by_name = {one.name: one for one in report.tensors}
    assert by_name["stem.0.weight"].outcome == "adapted"
    assert by_name["stem.0.weight"].source == "encoder.stem.convs.0.conv.weight"
    assert {one.name for one in report.tensors if one.outcome == "skipped"} == {
        name for name in by_name if name.startswith("heads.")
    }
    assert report.unused == ("decoder.seg_layers.1.weight",)
    own = learner.network.state_dict()
    assert torch.equal(own["stages.1.1.second.0.weight"], given["encoder.stages.1.blocks.1.conv2.conv.weight"])
    assert torch.equal(own["stem.0.weight"][:, 1], given["encoder.stem.convs.0.conv.weight"][:, 0] / 2)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_in_a_file_of_its_own_gives_all_but_the_heads(toy, weights, tmp_path, prefix):
    named = {prefix + name: tensor for name, tensor in weights.items()}
    torch.save({"state_dict": named}, tmp_path / "weights.pt")
    save_file(named, tmp_path / "weights.safetensors")
    for name in ("weights.pt", "weights.safetensors"):
        learner, report = begun(toy.plan, tmp_path / name)
        assert {one.name for one in report.tensors if one.outcome != "matched"} == {
            name for name in weights if name.startswith("heads.")
        }
        assert torch.equal(learner.network.state_dict()["decoder.0.0.0.weight"], weights["decoder.0.0.0.weight"])


def test_what_fits_nowhere_is_refused_with_what_was_seen(toy, trained, weights, tmp_path):
    torch.save({"conv1.weight": torch.ones(2, 1, 3, 3, 3), "fc.bias": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(PlanError, match=r"none of its 2 tensors \(conv1\.weight, fc\.bias, …; layout: unknown\) fits"):
        begun(toy.plan, tmp_path / "other.pt")
    wide = {name: tensor.repeat(2, *[1] * (tensor.ndim - 1)) for name, tensor in weights.items()}
    torch.save(wide, tmp_path / "wide.pt")
    with pytest.raises(PlanError, match=r"another width"):
        begun(toy.plan, tmp_path / "wide.pt")
    # A decoder alone knows nothing.
    torch.save({name: tensor for name, tensor in weights.items() if name.startswith("decoder.")}, tmp_path / "half.pt")
    with pytest.raises(PlanError, match="fits the plan's encoder"):
        begun(toy.plan, tmp_path / "half.pt")


def test_parts_that_the_given_weights_lack_are_not_frozen(toy, weights, tmp_path):
    torch.save(
        {name: tensor for name, tensor in weights.items() if not name.startswith("stages.2.")}, tmp_path / "some.pt"
    )
    begun(with_fields(toy.plan, **{"training.fine_tuning.freeze": ["stages.0", "stages.1"]}), tmp_path / "some.pt")
    plan = with_fields(toy.plan, **{"training.fine_tuning.freeze": ["encoder"]})
    with pytest.raises(PlanError, match=r"have nothing for, the first stages\.2\.0\.0\.weight \(not there"):
        begun(plan, tmp_path / "some.pt")


def asked(toy, plan, **fields):
    fields = {"fold": "0", "device": "cpu", "jobs": 1, "has_validation": False} | fields
    return TrainRequest(roots=toy.roots, plan=plan, **fields)


def renamed(plan, name, **fields):
    return with_fields(plan.changed(name=name), **fields)


class KilledError(Exception):
    pass


@pytest.mark.slow
def test_a_training_is_begun_with_given_weights_and_goes_on_without_them(toy, trained, weights, tmp_path, monkeypatch):
    plan = renamed(toy.plan, "tuned", **{"training.fine_tuning": {"freeze": ["encoder"]}})
    given = copied(trained, tmp_path)

    # Killed before its first checkpoint: nothing holds the weights yet.
    def kill(*_, **__):
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr("tumorseg.stages.training.train.run_fit", kill)
        with pytest.raises(KilledError):
            train(asked(toy, plan, init=given))
    with pytest.raises(PlanError, match="has no checkpoint yet; give the same --init again"):
        train(asked(toy, plan))
    done = train(asked(toy, plan, init=given))
    report = parse_record(InitialWeights, done.folder.init.read_text(), source="init.json", error=PlanError)
    assert report.count("matched") == len(weights)
    assert json.loads(done.folder.run.read_text())["init"] == report.source_hash
    # The encoder is that of the given model, to the last bit; the heads have moved on.
    found = load_checkpoint(done.folder.latest)["network"]
    assert torch.equal(found["stages.0.0.0.weight"], weights["stages.0.0.0.weight"])
    assert not torch.equal(found["heads.0.weight"], weights["heads.0.weight"])
    # It goes on without the file, and not with another one.
    shutil.rmtree(given)
    assert train(asked(toy, plan)).is_finished
    save_file(weights, tmp_path / "other.safetensors")
    with pytest.raises(PlanError, match=r"was begun with another file .* leave out --init to continue"):
        train(asked(toy, plan, init=tmp_path / "other.safetensors"))
    # Its own weights outlive the folder that is moved aside.
    again = train(asked(toy, plan, init=done.folder.root, restart=True, has_validation=True))
    assert torch.equal(
        load_checkpoint(again.folder.latest)["network"]["stages.0.0.0.weight"], weights["stages.0.0.0.weight"]
    )
    page = (again.folder.validation / "report.html").read_text("utf-8")
    assert "Initial weights" in page
    assert f"{len(weights)} matched, 0 adapted, 0 skipped" in page


def test_a_training_that_was_begun_without_weights_takes_none(toy, trained, tmp_path):
    with pytest.raises(PlanError, match="was begun with weights that follow from the seed"):
        train(asked(toy, toy.plan, init=copied(trained, tmp_path)))


def test_a_training_is_not_begun_with_its_own_weights_because_its_model_is_named(toy, trained):
    model = work_folder(toy.roots.work, toy.plan.dataset.name).model("lonely", toy.plan.default_configuration)
    shutil.copytree(trained.folder.root, model / "fold_0")
    with pytest.raises(PlanError, match="no checkpoint in any fold but the one that is to be trained"):
        train(asked(toy, toy.plan.changed(name="lonely"), init=model))


@pytest.mark.parametrize("field", [{"freeze": ["heads"]}, {"layer_decay": 0.7}])
def test_a_plan_for_given_weights_is_not_trained_from_random_ones(toy, field):
    plan = renamed(toy.plan, "random", **{"training.fine_tuning": field})
    with pytest.raises(PlanError, match=r"give --init MODEL, or set training\.fine_tuning=null"):
        train(asked(toy, plan))


@pytest.mark.parametrize(
    ("freeze", "message"),
    [(["encoder", "stages.9"], r"no part stages\.9"), (["encoder", "decoder", "heads"], "names the whole network")],
)
def test_parts_that_cannot_be_frozen_are_refused_before_anything_is_read(toy, freeze, message):
    plan = renamed(toy.plan, "misnamed", **{"training.fine_tuning.freeze": freeze})
    with pytest.raises(PlanError, match=message):
        train(asked(toy, plan, dataset="/nowhere"))
