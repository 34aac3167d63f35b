import shutil
from typing import NamedTuple

import pytest

from tests.stages.selection.conftest import small_plan
from tests.tuning.small_studies import study_of
from tumorseg import __version__
from tumorseg.errors import PlanError, TrainingError
from tumorseg.schema.base import record_hash
from tumorseg.schema.tuning import Task
from tumorseg.stages.opening.fold_folders import fold_plan, read_run
from tumorseg.stages.tuning import train_task as module
from tumorseg.stages.tuning.train_task import StudyContext, train_task
from tumorseg.stages.tuning.worker import Attempt
from tumorseg.storage.checkpoints import load_checkpoint, save_checkpoint
from tumorseg.storage.study_folder import AttemptFolder
from tumorseg.tracking.epochs import read_epochs

FOLDS = (("case_0", "case_1"), ("case_2",), ("case_3", "case_4", "case_5"))
SPLIT = {"training": ("case_0", "case_1", "case_5"), "scored": ("case_3", "case_4")}


class Bench(NamedTuple):
    context: StudyContext

    def task(self, **fields):
        usual = {
            "tumorseg_version": __version__,
            "stem": "trial-0001",
            "number": 1,
            "values": {},
            "seed": 0,
            "rungs": (2, 4),
        }
        return Task.model_validate(usual | fields)

    def run(self, attempt, **fields):
        return list(train_task(self.context, self.task(**fields), attempt))


@pytest.fixture(scope="module")
def bench(toy):
    plan = small_plan(toy.plan, "tuned", folds=FOLDS)
    study = study_of(record_hash(plan), split=SPLIT, objectives=("dsc", "hd95", "seconds"))
    return Bench(StudyContext(study, plan, toy.roots, device="cpu", num_workers=0))


@pytest.fixture(scope="module")
def whole(bench, tmp_path_factory):
    """A trial without interruption: its folder and its scores."""
    attempt = Attempt(tmp_path_factory.mktemp("whole") / "0")
    return AttemptFolder(attempt.folder), bench.run(attempt)


def after(number):
    """Return a wish to stop that comes with the so-manieth time of asking."""
    asked = []

    def should_stop():
        asked.append(None)
        return len(asked) >= number

    return should_stop


def weights(folder):
    return {name: tensor.tolist() for name, tensor in load_checkpoint(folder.fold.latest)["network"].items()}


def figures(scores):
    """Return what does not depend on the machine's pace."""
    found = []
    for score in scores:
        cases = {case_id: case.model_dump(exclude={"seconds"}) for case_id, case in score.cases.items()}
        found.append((score.iteration, score.values[:2], cases))
    return found


def test_a_trial_is_scored_at_each_rung_on_the_scored_cases_alone(bench, whole):
    _, scores = whole
    assert [score.iteration for score in scores] == [2, 4]
    for score in scores:
        assert set(score.cases) == set(SPLIT["scored"])
        assert len(score.values) == 3
        assert 0 <= score.values[0] <= 1
        assert score.values[2] == pytest.approx(sum(one.seconds for one in score.cases.values()) / 2)
        assert 0 < score.values[2] < score.seconds
        for case in score.cases.values():
            assert set(case.hd95) == {"shell", "core"}
            assert case.nsd == {}


def test_it_trains_on_the_training_cases_alone_with_its_own_values(bench, whole):
    plan = fold_plan(whole[0].fold)
    assert plan.folds == (SPLIT["scored"],)
    assert set(plan.kept_from_training[0]) == {"case_2"}
    assert read_run(whole[0].fold).plan_hash != record_hash(bench.context.plan)
    assert read_epochs(whole[0].fold.log)[-1]["iteration"] == 4


def test_only_the_training_is_left_and_cases_are_not_preprocessed_twice(bench, whole, tmp_path):
    store = bench.context.roots.work / "Toy" / "cases"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    bench.run(Attempt(tmp_path / "0"), rungs=(1,))
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before
    assert {path.name for path in whole[0].root.iterdir()} - {".fold.lock"} == {"fold"}
    names = {path.name for path in whole[0].fold.root.iterdir()}
    assert names == {"plan.json", "run.json", "environment.json", "log.jsonl", "latest.ckpt"}


@pytest.mark.parametrize("number", [2, 3])
def test_one_that_was_stopped_goes_on_elsewhere_and_ends_with_the_same_bits(bench, whole, tmp_path, number):
    first = Attempt(tmp_path / "0", should_stop=after(number))
    assert bench.run(first) == []
    stopped = load_checkpoint(AttemptFolder(first.folder).fold.latest)["progress"]["iteration"]
    assert 0 < stopped < 4
    second = Attempt(tmp_path / "1", previous=first.folder)
    assert figures(bench.run(second)) == figures(whole[1])
    assert weights(AttemptFolder(second.folder)) == weights(whole[0])
    # The earlier attempt's files are as they were, whoever still writes there.
    assert load_checkpoint(AttemptFolder(first.folder).fold.latest)["progress"]["iteration"] == stopped


def test_a_rung_that_was_told_before_is_not_scored_again(bench, whole, tmp_path):
    folder, scores = whole
    attempt = Attempt(tmp_path / "1", previous=folder.root, scores=tuple(scores[:1]))
    assert figures(bench.run(attempt)) == figures(scores[1:])
    done = Attempt(tmp_path / "2", previous=attempt.folder, scores=tuple(scores))
    assert bench.run(done) == []


def test_an_attempt_after_one_that_left_nothing_begins_anew(bench, tmp_path):
    (tmp_path / "0" / "fold").mkdir(parents=True)
    attempt = Attempt(tmp_path / "1", previous=tmp_path / "0")
    assert [score.iteration for score in bench.run(attempt, rungs=(1,))] == [1]


def test_a_checkpoint_is_left_now_and_then_and_changes_nothing(bench, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINT_EVERY_S", 0.0)
    attempt = Attempt(tmp_path / "0")
    scores = train_task(bench.context, bench.task(rungs=(4,)), attempt)
    assert figures(scores) == figures(whole[1][1:])
    assert weights(AttemptFolder(attempt.folder)) == weights(whole[0])


@pytest.mark.parametrize("number", [3, 6])
def test_one_that_is_told_to_stop_while_it_is_scored_yields_nothing_more(bench, whole, tmp_path, number):
    # Asked before anything, at the network's pass for each of two cases, after them, and before each one that is scored.
    folder, scores = whole
    attempt = Attempt(tmp_path / "1", previous=folder.root, scores=(scores[0],), should_stop=after(number))
    assert bench.run(attempt) == []
    assert not (attempt.folder / "masks").exists()


def test_a_training_that_is_judged_is_scored_on_what_its_fold_holds_out(bench, tmp_path):
    attempt = Attempt(tmp_path / "0")
    (score,) = bench.run(attempt, number=None, fold=2, rungs=(2,), seed=5, values={"optimizer.lr": 0.003})
    assert set(score.cases) == set(FOLDS[2])
    plan = fold_plan(AttemptFolder(attempt.folder).fold)
    assert plan.folds == FOLDS
    assert plan.training.seed == 5
    assert plan.configurations["3d_fullres"].optimizer.lr == 0.003


def test_a_value_that_makes_the_plan_unsound_is_refused_before_anything_is_written(bench, tmp_path):
    with pytest.raises(PlanError, match="weight_decay"):
        bench.run(Attempt(tmp_path / "0"), values={"optimizer.weight_decay": -1.0})
    assert not (tmp_path / "0").exists()


def test_a_network_whose_answer_is_not_finite_fails_the_task_in_one_line(bench, whole, tmp_path):
    before = AttemptFolder(tmp_path / "before")
    shutil.copytree(whole[0].fold.root, before.fold.root)
    state = load_checkpoint(before.fold.latest)
    for tensor in state["network"].values():
        tensor.fill_(float("nan"))
    save_checkpoint(before.fold.latest, state)
    with pytest.raises(TrainingError, match="2 of 2 cases cannot be predicted, such as case_") as caught:
        bench.run(Attempt(tmp_path / "1", previous=before.root))
    assert "\n" not in str(caught.value)
