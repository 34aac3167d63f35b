"""The judge of a study, with scores made up instead of trainings."""

import json
import time

import pytest

from tests.stages.selection.conftest import small_plan
from tests.tuning.small_studies import study_of
from tumorseg.errors import PlanError, StorageError, TrainingError
from tumorseg.schema.base import record_hash
from tumorseg.schema.tuning import CaseScores, Ended, Proxy, Score
from tumorseg.stages.tuning.opening import Opened
from tumorseg.stages.tuning.study_checks import MOST_UNFIT
from tumorseg.stages.tuning.study_clock import StudyClock
from tumorseg.stages.tuning.study_judge import StudyJudge
from tumorseg.storage.study_attempts import begin_attempt
from tumorseg.storage.study_folder import StudyFolder
from tumorseg.tracking.study_progress import Standing
from tumorseg.tuning.engine import Engine
from tumorseg.tuning.lengths import SCORING, Time, final_iterations_of, proxy_of
from tumorseg.tuning.spaces import own_values, resolved

FOLDS = (("case_0",), ("case_1", "case_2"), ("case_3", "case_4", "case_5"))
SPLIT = {"training": ("case_0", "case_3", "case_4"), "scored": ("case_5",)}
PROXY = Proxy(iterations=18, rungs=(2, 6, 18), most_cases=8)
FINISHED, STOPPED = Ended(state="finished"), Ended(state="stopped")


class Bench:
    """A study on a disk; opened anew, it is the same one."""

    def __init__(self, root, toy, **fields):
        self.plan = small_plan(toy.plan, "tuned", folds=FOLDS)
        usual = {"most_trials": 3, "proxy": PROXY, "final_iterations": 36, "split": SPLIT}
        study = study_of(record_hash(self.plan), **(usual | fields))
        space = resolved(study.space, self.plan, "3d_fullres")
        self.study = study.changed(space=space)
        self.folder = StudyFolder(root)
        self.standings: list[Standing] = []

    def open(self, clock=time.monotonic):
        own = own_values(self.study.space, self.plan, "3d_fullres")
        self.engine = Engine(self.study, own, str(self.folder.journal))
        opened = Opened(self.study, self.plan, {})
        return StudyJudge(
            opened, self.engine, StudyClock(self.folder, clock), num_workers=1, tell=self.standings.append
        )


@pytest.fixture
def bench(tmp_path, toy):
    return Bench(tmp_path, toy)


def score_of(iteration, dsc, seconds=1.0):
    cases = {case_id: CaseScores(dsc={"core": dsc}) for case_id in ("case_1", "case_2")}
    return Score(iteration=iteration, values=(dsc,), cases=cases, seconds=seconds)


def run(judge, task, dsc):
    for index, rung in enumerate(task.rungs):
        judge.report(task, index, score_of(rung, dsc))
    judge.end(task, FINISHED)


def run_all(bench, judge=None):
    """Run a study to its end, opening it anew for each task if no judge is given."""
    stems = []
    while (task := (judge or bench.open()).ask()) is not None:
        stems.append(task.stem)
        run(judge or bench.open(), task, 0.5 + 0.1 * (task.number or 0))
    return stems


def test_trials_come_first_the_plan_as_it_is_before_all_and_then_what_judges(bench):
    stems = run_all(bench, bench.open())
    assert stems[:3] == ["trial-00000", "trial-00001", "trial-00002"]
    # The default and two candidates, on one fold with two seeds; seeds go round last.
    numbers = ("0000", "0002", "0001")
    assert stems[3:] == [f"final-{number}-fold1-seed{seed}" for seed in (1, 2) for number in numbers]


def test_opened_anew_for_every_step_a_study_is_the_same(bench, tmp_path, toy):
    other = Bench(tmp_path / "other", toy)
    other.folder.root.mkdir()
    assert run_all(bench) == run_all(other, other.open())
    assert [trial.values for trial in bench.open().trials()] == [trial.values for trial in other.open().trials()]


def test_what_runs_is_found_again_and_what_is_told_twice_counts_once(bench):
    task = bench.open().ask()
    judge = bench.open()
    assert judge.running() == [task]
    for _ in range(2):
        judge.report(task, 0, score_of(2, 0.4, seconds=7.0))
    run(judge, task, 0.4)
    judge.end(task, FINISHED)
    assert judge.running() == []
    (trial,) = judge.trials()
    assert (trial.state, trial.seconds) == ("finished", 9.0)
    run_all(bench, judge)
    # Of the end, what was given out and has not ended.
    assert judge.running() == []


def test_a_final_training_that_was_lost_with_its_coordinator_runs_on(bench):
    judge = bench.open()
    task = judge.ask()
    while task.number is not None:
        run(judge, task, 0.5)
        task = judge.ask()
    again = bench.open()
    assert again.running() == [task]
    assert not again.report(task, 0, score_of(36, 0.7))
    again.end(task, FINISHED)
    assert bench.open().final.scores()[task.stem].values == (0.7,)
    assert again.contenders()[0].number == 0


def test_a_plan_that_cannot_be_trained_ends_the_study_with_the_reason(bench):
    judge = bench.open()
    task = judge.ask()
    with pytest.raises(TrainingError, match="its own trial failed: the loss is not finite"):
        judge.end(task, Ended(state="failed", message="the loss is not finite"))
    with pytest.raises(TrainingError, match="its own trial failed"):
        bench.open()


def test_a_trial_that_fails_is_told_and_counts(bench):
    judge = bench.open()
    run(judge, judge.ask(), 0.5)
    judge.end(judge.ask(), Ended(state="failed", message="case_1: cannot be read"))
    run(judge, judge.ask(), 0.6)
    states = [(trial.state, trial.message) for trial in judge.trials()]
    assert states == [("finished", ""), ("failed", "case_1: cannot be read"), ("finished", "")]


def test_without_a_candidate_there_is_nothing_to_judge(tmp_path, toy):
    bench = Bench(tmp_path, toy, most_trials=1)
    judge = bench.open()
    run(judge, judge.ask(), 0.5)
    assert judge.ask() is None
    assert [trial.number for trial in judge.contenders()] == [0]
    # Nor are there further trials, whatever limit is asked for now.
    more = Bench(tmp_path, toy, most_trials=5)
    assert more.open().ask() is None


def test_time_is_kept_for_the_end_and_trials_beyond_it_are_stopped(tmp_path, toy):
    # A whole trial takes 3 s; 6 trainings that judge, of twice the length, 41 s with the slack.
    bench = Bench(tmp_path, toy, most_trials=None, hours=100 / 3600)
    judge = bench.open()
    first = judge.ask()
    assert not judge.should_end(first)
    run(judge, first, 0.5)
    second = judge.ask()
    assert not judge.should_end(second)
    state = json.loads(bench.folder.state.read_text())
    bench.folder.state.write_text(json.dumps(state | {"seconds": 60.0}))
    later = bench.open()
    assert later.should_end(second)
    later.end(second, STOPPED)
    final = later.ask()
    # Nobody but the default reached the end.
    assert final is None
    assert [trial.state for trial in later.trials()] == ["finished", "pruned"]


def test_what_judges_is_stopped_when_the_time_is_over(tmp_path, toy):
    bench = Bench(tmp_path, toy, hours=100 / 3600)
    judge = bench.open()
    task = judge.ask()
    while task.number is not None:
        run(judge, task, 0.5 + 0.1 * task.number)
        task = judge.ask()
    assert not judge.should_end(task)
    state = json.loads(bench.folder.state.read_text())
    bench.folder.state.write_text(json.dumps(state | {"seconds": 100.0}))
    later = bench.open()
    assert later.should_end(task)
    later.end(task, STOPPED)
    assert later.ask() is None
    assert later.final.scores() == {}


def test_a_trial_over_the_memory_budget_never_runs(tmp_path, toy):
    space = {
        "parameters": [{"name": "choice", "field": "batch_size", "options": [2, 4096], "weight": 0.01}],
    }
    bench = Bench(tmp_path, toy, space=space, most_trials=2)
    judge = bench.open()
    default = judge.ask()
    assert default.values == {"batch_size": bench.plan.configurations["3d_fullres"].batch_size}
    run(judge, default, 0.5)
    task = judge.ask()
    assert task.values == {"batch_size": 2}
    unfit = [trial for trial in judge.trials() if trial.state == "failed"]
    assert {trial.values["batch_size"] for trial in unfit} == {4096}
    assert all("more than the memory budget" in trial.message for trial in unfit)


def test_a_plan_that_is_unsound_for_trials_is_refused(tmp_path, toy):
    bench = Bench(tmp_path, toy, split={"training": ["case_3"], "scored": ["nobody"]})
    with pytest.raises(PlanError, match="the plan as it is cannot be trained shortly"):
        bench.open().ask()


def test_it_is_told_how_a_study_stands(bench):
    run_all(bench, bench.open())
    trials = [one for one in bench.standings if one.phase == "trials"]
    assert list(dict.fromkeys((one.num_done, one.total) for one in trials)) == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert trials[-1].best == "best dsc 0.7000 (trial 2)"
    assert [(one.num_done, one.total) for one in bench.standings if one.phase == "judging"][-1] == (6, 6)


def fail(bench, judge, task):
    """A worker takes a task on, and cannot do it."""
    begin_attempt(bench.folder, task, 0)
    judge.end(task, Ended(state="failed", message="the loss is not finite"))


def test_trials_that_were_trained_count_however_they_ended(bench):
    judge = bench.open()
    run(judge, judge.ask(), 0.5)
    for _ in range(2):
        fail(bench, judge, judge.ask())
    assert judge.ask() is None
    assert len(judge.trials()) == 3


@pytest.mark.slow
def test_a_study_all_of_whose_trials_fail_ends_with_the_reason(tmp_path, toy):
    bench = Bench(tmp_path, toy, most_trials=None, hours=1.0)
    judge = bench.open()
    run(judge, judge.ask(), 0.5)
    for _ in range(MOST_UNFIT):
        fail(bench, judge, judge.ask())
    with pytest.raises(TrainingError, match=f"{MOST_UNFIT} trials in a row have failed, the last one: the loss is not"):
        judge.ask()


def test_a_plan_over_its_own_budget_can_be_tuned_within_what_it_takes(tmp_path, toy):
    bench = Bench(tmp_path, toy)
    budget = bench.plan.budget.changed(vram_bytes=2**29)
    bench.plan = bench.plan.changed(budget=budget)
    bench.study = bench.study.changed(plan_hash=record_hash(bench.plan))
    judge = bench.open()
    run(judge, judge.ask(), 0.5)
    assert judge.ask().number == 1
    assert [trial.state for trial in judge.trials()] == ["finished", "running"]


def test_a_trial_whose_memory_was_not_counted_when_the_coordinator_was_killed_is_asked_for_again(bench):
    judge = bench.open()
    run(judge, judge.ask(), 0.5)
    drawn = bench.engine.ask()
    later = bench.open()
    assert later.running() == []
    task = later.ask()
    assert (task.number, task.values) == (drawn.number, drawn.values)


def test_another_storage_than_the_studys_is_refused(bench):
    judge = bench.open()
    run(judge, judge.ask(), 0.5)
    judge.ask()
    bench.folder.journal.unlink()
    with pytest.raises(StorageError, match="has 2 trials, and the study's storage 0; give the --storage with which"):
        bench.open()


@pytest.mark.slow
@pytest.mark.parametrize(("judges", "most"), [((1,), 24), ((0, 1), 22)])
def test_a_time_is_enough_for_many_trials_and_for_judging_two_candidates(tmp_path, toy, judges, most):
    step_s, hours = 0.3, 1.5
    training = toy.plan.training.changed(epochs=1000, iterations_per_epoch=250)
    proxy = proxy_of(training, time=Time(hours, step_s, 2 * len(judges)))
    final = final_iterations_of(training, proxy)
    bench = Bench(tmp_path, toy, most_trials=None, hours=hours, proxy=proxy, final_iterations=final, judges=judges)
    now = [0.0]
    judge = bench.open(lambda: now[0])
    while (task := judge.ask()) is not None:
        for index, rung in enumerate(task.rungs):
            seconds = SCORING * step_s * (rung - (task.rungs[index - 1] if index else 0))
            now[0] += seconds
            judge.report(task, index, score_of(rung, 0.5 + 0.001 * (task.number or 0), seconds))
        assert not judge.should_end(task)
        judge.end(task, FINISHED)
    assert now[0] <= 3600 * hours
    # None is stopped here; in a study two fifths are, and there are more.
    assert most <= len(judge.trials()) <= 2 * most
    assert len(judge.contenders()) >= 3


def test_a_time_that_is_too_short_to_search_is_told_once_the_first_trial_is_over(tmp_path, toy, caplog):
    bench = Bench(tmp_path, toy, most_trials=None, hours=0.01)
    now = [0.0]
    judge = bench.open(lambda: now[0])
    task = judge.ask()
    now[0] = 30.0
    for index, rung in enumerate(task.rungs):
        judge.report(task, index, score_of(rung, 0.5, 10.0))
    judge.end(task, FINISHED)
    assert "--hours 0.01 is too short to search: a trial takes 0:30" in caplog.text
    assert judge.ask() is None
