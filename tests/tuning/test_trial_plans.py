"""The plan of a trial: other values, a short training, the inner split."""

import pytest

from tests.planning.measured import COUNTER
from tests.tuning.reference_plans import reference_plan
from tumorseg.errors import PlanError
from tumorseg.planning.overrides import apply_overrides, parse_override
from tumorseg.planning.reading.soundness import Parsed, check_plan
from tumorseg.schema.base import record_hash
from tumorseg.schema.extensions import External
from tumorseg.schema.tuning import InnerSplit, Proxy, RealParameter, Space, Study, Task
from tumorseg.tuning.trial_plans import over_budget, trial_plan, with_values

FAST, BRAIN, LIVER = "BrainTumour__fast_prototyping", "BrainTumour__optimized", "LiverCT__optimized"
FULL = "3d_fullres"


def study_of(plan, configuration=FULL):
    others = [case_id for fold in plan.folds[1:] for case_id in fold]
    return Study(
        tumorseg_version="1",
        name="s",
        plan_name=plan.name,
        plan_hash=record_hash(plan),
        configuration=configuration,
        objectives=("dsc",),
        sampler="tpe",
        pruner="none",
        seed=0,
        space=Space(parameters=(RealParameter(field="optimizer.lr", low=1e-4, high=1e-1),)),
        proxy=Proxy(iterations=300, rungs=(100, 300), most_cases=4),
        split=InnerSplit(training=tuple(others[4:]), scored=tuple(others[:4])),
        judges=(0,),
        final_iterations=1000,
        final_seeds=(7,),
    )


def task_of(values=(), *, rungs=(100, 300), fold=None, seed=5):
    number = None if fold is not None else 3
    return Task(
        tumorseg_version="1", stem="00003", number=number, values=dict(values), fold=fold, seed=seed, rungs=rungs
    )


def trial_of(name=FAST, values=(), **options):
    plan = reference_plan(name)
    return trial_plan(study_of(plan), plan, task_of(values, **options))


def test_a_trial_holds_out_the_scored_cases_and_trains_on_no_case_of_a_judging_fold():
    plan = reference_plan(FAST)
    split, trial = study_of(plan).split, trial_of()
    assert trial.folds == (split.scored,)
    assert set(plan.folds[0]) <= trial.not_trained_on(0)
    assert not set(split.training) & trial.not_trained_on(0)
    assert set(trial.kept_from_training[0]) == set(plan.folds[0])


def test_where_the_split_holds_all_cases_none_is_kept_from_training():
    plan = reference_plan(FAST)
    cases = [case_id for fold in plan.folds for case_id in fold]
    study = study_of(plan).changed(split=InnerSplit(training=tuple(cases[2:]), scored=tuple(cases[:2])))
    assert trial_plan(study, plan, task_of()).kept_from_training == ()


def test_what_trials_do_not_see_is_kept_from_training_though_no_fold_names_it():
    plan = reference_plan(FAST)
    study = study_of(plan)
    kept = study.changed(split=study.split.changed(kept=("unnamed", *plan.folds[0])))
    trial = trial_plan(kept, plan, task_of())
    assert "unnamed" not in set().union(*plan.folds)
    assert trial.kept_from_training == (tuple(sorted(("unnamed", *plan.folds[0]))),)


def test_a_training_that_is_judged_has_the_plans_folds():
    plan, trial = reference_plan(FAST), trial_of(fold=1, rungs=(1000,), seed=9)
    assert (trial.folds, trial.kept_from_training, trial.training.seed) == (plan.folds, plan.kept_from_training, 9)


def test_the_plans_own_values_train_the_plans_own_configuration():
    plan, trial = reference_plan(FAST), trial_of()
    assert trial.configurations == plan.configurations
    assert trial.default_configuration == FULL
    assert (trial.training.max_hours, trial.training.validation_iterations) == (None, 1)


@pytest.mark.parametrize(
    ("rungs", "epochs", "length"),
    [
        ((100, 300), 30, 10),
        ((200, 400, 800), 40, 20),
        ((1000,), 50, 20),
        ((7,), 7, 1),
        ((101, 202), 202, 1),
        ((997,), 997, 1),
        ((199, 597, 1791), 1791, 1),
    ],
)
def test_every_rung_is_the_end_of_an_epoch_of_a_twentieth_at_most(rungs, epochs, length):
    training = trial_of(rungs=rungs).training
    assert (training.epochs, training.iterations_per_epoch) == (epochs, length)
    assert all(rung % length == 0 for rung in rungs)


def test_deep_supervision_takes_the_weights_of_the_loss_along():
    plan = reference_plan(FAST)
    flat = with_values(plan, FULL, {"network.deep_supervision": False}).configurations[FULL]
    assert flat.loss.deep_supervision_weights == (1.0,)
    again = with_values(
        with_values(plan, FULL, {"network.deep_supervision": False}), FULL, {"network.deep_supervision": True}
    )
    assert again.configurations[FULL] == plan.configurations[FULL]


def test_weights_that_are_set_themselves_stay():
    plan = reference_plan(FAST)
    num_outputs = plan.configurations[FULL].network.num_supervised
    weights = [1.0] * num_outputs
    values = {"network.features_per_stage": [8] * (num_outputs + 1), "loss.deep_supervision_weights": weights}
    assert list(with_values(plan, FULL, values).configurations[FULL].loss.deep_supervision_weights) == weights


def test_other_configurations_stay_as_they_are():
    plan = reference_plan(FAST)
    trial = with_values(plan, FULL, {"optimizer.lr": 0.01})
    assert trial.configurations[FULL].optimizer.lr == 0.01
    assert trial.configurations["2d"] == plan.configurations["2d"]


def test_another_optimizer_takes_the_plans_own_rate_only_if_told():
    plan = reference_plan(FAST)
    own = plan.configurations[FULL].optimizer.lr
    told = {"optimizer.name": "sgd", "optimizer.lr": own}
    assert with_values(plan, FULL, told).configurations[FULL].optimizer.lr == own
    assert with_values(plan, FULL, {"optimizer.name": "sgd"}).configurations[FULL].optimizer.lr == 0.01


def test_a_value_that_is_unsound_is_told_by_its_field():
    with pytest.raises(
        PlanError, match=r"^configurations\.3d_fullres: optimizer\.lr: expected 100 or less, found 1000\.0$"
    ):
        trial_of(values={"optimizer.lr": 1000.0, "sampling.foreground_fraction": 0.5})


def test_a_field_that_is_none_is_told():
    with pytest.raises(
        PlanError, match=r"the space's configurations\.3d_fullres\.optimizer\.l: there is no such field"
    ):
        trial_of(values={"optimizer.l": 1.0})


def test_a_network_that_is_unsound_is_told():
    with pytest.raises(PlanError, match="features_per_stage"):
        trial_of(values={"network.features_per_stage": [8]})


def test_what_makes_the_plan_unsound_is_told_but_not_what_the_plan_has_itself():
    with pytest.raises(PlanError, match="batch_size 1 cannot be divided into 2 parts"):
        trial_of(values={"batch_size": 1, "gradient_accumulation": 2})
    plan = reference_plan(FAST)
    tight = plan.changed(budget=plan.budget.changed(vram_bytes=1))
    assert any(found.severity == "error" for found in check_plan(Parsed.of(tight), {}))
    assert trial_plan(study_of(tight), tight, task_of()).folds == (study_of(tight).split.scored,)


def test_a_split_of_cases_that_the_plan_leaves_out_is_refused():
    plan = reference_plan(FAST)
    study = study_of(plan)
    excluded = plan.changed(dataset=plan.dataset.changed(excluded=("gone",)))
    strange = study.changed(split=InnerSplit(training=study.split.training, scored=("gone",)))
    with pytest.raises(PlanError, match="folds name cases that the plan does not use"):
        trial_plan(strange, excluded, task_of())


def test_a_fold_that_the_plan_does_not_have_is_refused():
    with pytest.raises(PlanError, match=r"00003 is to train fold 5, but plan .* has 5 folds from 0 on"):
        trial_of(fold=5)


def test_a_cascade_is_refused():
    plan = reference_plan(LIVER)
    with pytest.raises(PlanError, match="is a cascade"):
        trial_plan(study_of(plan, "3d_cascade_fullres"), plan, task_of())


def test_a_network_of_another_package_keeps_its_loss():
    plan = reference_plan(FAST)
    network = External(name="mine", distribution="mine", version="1", parameters={"width": 8})
    configuration = plan.configurations[FULL].changed(network=network)
    other = plan.changed(configurations={**plan.configurations, FULL: configuration})
    changed = with_values(other, FULL, {"network.parameters.width": 16}).configurations[FULL]
    assert changed.network.parameters == {"width": 16}
    assert changed.loss == configuration.loss
    assert over_budget(other.changed(default_configuration=FULL), COUNTER) == 0


def test_a_trial_beyond_the_budget_is_told_by_how_much():
    plan = reference_plan(FAST).changed(default_configuration=FULL)
    assert over_budget(plan, COUNTER) < 0
    tight = plan.changed(budget=plan.budget.changed(vram_bytes=1))
    assert over_budget(tight, COUNTER) > 0
    assert over_budget(plan, COUNTER) - over_budget(tight, COUNTER) == 1 - plan.budget.vram_bytes


def test_only_the_studys_configuration_is_counted():
    plan = apply_overrides(reference_plan(FAST), [parse_override("configurations.2d.batch_size=4000")])
    assert over_budget(plan.changed(default_configuration="2d"), COUNTER) > 0
    assert over_budget(plan.changed(default_configuration=FULL), COUNTER) < 0


def test_a_wider_network_is_counted_to_need_more():
    plan = reference_plan(FAST)
    configuration = plan.configurations[FULL]
    wider = [2 * features for features in configuration.network.features_per_stage]
    trial = trial_of(values={"network.features_per_stage": wider})
    assert over_budget(trial, COUNTER) > over_budget(trial_of(), COUNTER)
