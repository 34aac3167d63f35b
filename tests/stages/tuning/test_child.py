import pytest

from tests.planning.measured import COUNTER, planned
from tests.stages.selection.conftest import small_plan
from tests.tuning.small_studies import study_of
from tumorseg.errors import PlanError
from tumorseg.planning.overrides import SET_BY_USER
from tumorseg.planning.reading.difference import diff_plans
from tumorseg.planning.reading.soundness import Parsed, check_plan
from tumorseg.schema.base import record_hash
from tumorseg.schema.tuning import Judged, Trial, TuningResult, Verdict
from tumorseg.stages.opening.fold_folders import TrainOptions
from tumorseg.stages.opening.loaded import read_plan
from tumorseg.stages.planning.written_plans import Place
from tumorseg.stages.training.request import TrainRequest
from tumorseg.stages.training.train import train
from tumorseg.stages.tuning.child import child_path, child_plan, write_child
from tumorseg.storage.layout import work_folder

VALUES = {"optimizer.lr": 0.002, "optimizer.momentum": 0.9}
GAIN = Verdict(number=3, gain=0.02, ci95=(0.01, 0.03), p=0.001, p_holm=0.003, is_gain=True)
NO_GAIN = Verdict(number=3, gain=0.004, ci95=(-0.01, 0.02), p=0.2, p_holm=0.6, is_gain=False)


def result_of(plan, verdicts=(GAIN,), values=VALUES, **study):
    chosen = next((one.number for one in verdicts if one.is_gain), None)
    judged = [
        Judged(title=f"trial {number}", number=number, values=values if number else {}, mean=0.8, by_training={})
        for number in (0, 3)
    ]
    return TuningResult(
        study=study_of(record_hash(plan), **study),
        trials=(Trial(number=0, state="finished", values={}), Trial(number=3, state="finished", values=values)),
        pareto=(3,),
        importances={},
        judged=tuple(judged),
        verdicts=verdicts,
        chosen=chosen,
        claim="What was found.",
        seconds=10.0,
        worker_seconds=20.0,
    )


@pytest.fixture(scope="module")
def parent():
    return planned()


def child_of(plan, result, name="child"):
    return child_plan(plan, result, name=name, counter=COUNTER)


def warnings_of(plan):
    return [found.kind for found in check_plan(Parsed.of(plan), {})]


def test_without_a_gain_the_child_is_the_parent_and_says_why(parent):
    child = child_of(parent, result_of(parent, (NO_GAIN,)))
    assert child.name == "child"
    assert child.parent == record_hash(parent)
    assert [one.field for one in diff_plans(parent, child).differences] == ["parent"]
    reason = child.reasons["parent"]
    assert (reason.source, reason.rule) == ("tuned", "What was found.")
    assert reason.inputs["gain"] == 0.004
    assert "trial 3, whose gain is not certain" in reason.alternative
    assert {field: one for field, one in child.reasons.items() if field != "parent"} == parent.reasons


def test_a_study_that_could_judge_nothing_has_a_child_too(parent):
    child = child_of(parent, result_of(parent, ()))
    assert child.configurations == parent.configurations
    assert "gain" not in child.reasons["parent"].inputs


def test_a_gain_is_carried_by_the_tuned_configuration_alone_with_its_evidence(parent):
    momentum = parent.configurations["3d_fullres"].optimizer.momentum
    child = child_of(parent, result_of(parent))
    changed = [one.field for one in diff_plans(parent, child).differences if not one.field.startswith("budget.")]
    assert changed == [
        "parent",
        "configurations.3d_fullres.optimizer.lr",
        "configurations.3d_fullres.optimizer.momentum",
    ]
    reason = child.reasons["configurations.3d_fullres.optimizer.momentum"]
    assert reason.source == "tuned"
    assert reason.alternative == f"the parent's: {momentum}"
    evidence = {"study": "study", "trial": 3, "gain": 0.02, "ci95": [0.01, 0.03], "p_holm": 0.003, "iterations": 40}
    assert reason.inputs.items() >= (evidence | {"value": 0.9}).items()
    assert child.reasons["parent"].alternative == "the parent's own values"
    assert warnings_of(child) == warnings_of(parent)


def test_a_value_that_is_the_parents_own_is_nobodys_change(parent):
    lr = parent.configurations["3d_fullres"].optimizer.lr
    child = child_of(parent, result_of(parent, values={"optimizer.lr": lr, "optimizer.momentum": 0.9}))
    field = "configurations.3d_fullres.optimizer.lr"
    assert child.reasons.get(field) == parent.reasons.get(field)


def test_another_loss_and_optimizer_leave_no_reason_that_says_the_user_set_them(parent):
    values = {"loss.preset": "dice_focal", "optimizer.name": "adamw", "optimizer.lr": 1e-3}
    child = child_of(parent, result_of(parent, values=values))
    assert child.configurations["3d_fullres"].loss.preset == "dice_focal"
    assert SET_BY_USER not in {reason.rule for reason in child.reasons.values()}
    assert child.reasons["configurations.3d_fullres.loss.preset"].source == "tuned"
    assert warnings_of(child) == warnings_of(parent)


def test_memory_is_counted_again_and_a_measurement_of_another_network_forgotten(parent):
    verified = parent.changed(
        budget=parent.budget.changed(measured_bytes=3 << 30, device="A100", versions={"torch": "2"})
    )
    features = verified.configurations["3d_fullres"].network.features_per_stage
    halved = {"network.features_per_stage": [width // 2 for width in features]}
    child = child_of(verified, result_of(verified, values=halved))
    assert child.budget.counts.keys() == parent.configurations.keys()
    assert (child.budget.measured_bytes, child.budget.device, child.budget.versions) == (None, "predicted", None)
    # The rate of learning takes no memory.
    for same in (result_of(verified), result_of(verified, (NO_GAIN,))):
        assert child_of(verified, same).budget == verified.budget


def test_a_name_that_no_file_can_have_is_refused(parent):
    with pytest.raises(PlanError, match="a plan cannot be called"):
        child_of(parent, result_of(parent), "a/b")


def test_train_accepts_the_child_that_was_written_beside_its_parent(toy, tmp_path):
    parent = small_plan(toy.plan, "parent")
    path = tmp_path / "parent.json"
    place = Place(child_path(path), work_folder(tmp_path / "runs", "Toy"), path)
    assert place.output.name == "parent__tuned.json"
    result = result_of(parent, values={"optimizer.lr": 0.002, "optimizer.weight_decay": 0.001})
    written = write_child(parent, result, place=place, counter=COUNTER)
    child = read_plan(place.output)
    assert child == written
    options = TrainOptions(epochs=1, iterations=1)
    done = train(
        TrainRequest(
            roots=toy.roots,
            plan=child,
            fold="1",
            options=options,
            dataset=str(toy.data),
            device="cpu",
            jobs=1,
            has_validation=False,
        )
    )
    assert done.is_finished
    assert write_child(parent, result_of(parent, (NO_GAIN,)), place=place, counter=COUNTER).parent == record_hash(
        parent
    )
    place.output.write_text(place.output.read_text() + " ")
    with pytest.raises(PlanError, match="was edited"):
        write_child(parent, result, place=place, counter=COUNTER)
    assert write_child(parent, result, place=place, counter=COUNTER, force=True) == child
