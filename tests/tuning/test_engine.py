import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.tuning_synthetic import World, study_of
from tumorseg.errors import PlanError, StorageError
from tumorseg.schema.tuning import ChoiceParameter, InnerSplit, RealParameter, Space, Start, WholeParameter
from tumorseg.tuning.engine import MEMORY, Engine
from tumorseg.tuning.storages import answering

WORLD = World(3)
RUNGS = (100, 300, 900)


def scored(values, number, index, objectives=("dsc",)):
    """Return what a trial scores at a rung; of several objectives each in its own way."""
    dsc = WORLD.noisy(values, number, index) * (0.8 + 0.1 * index)
    return (dsc, WORLD.seconds(values))[: len(objectives)]


def go_on(engine, num_trials):
    """Do what a coordinator does from wherever it is: settle what runs, telling it again from the first rung, then ask."""
    while True:
        for number, values in engine.running().items():
            settle(engine, number, values)
        if len(engine.trials()) >= num_trials and not any(trial.state == "running" for trial in engine.trials()):
            return engine
        engine.hand_out(engine.ask().number)


def handed_out(engine):
    """Return a trial that is asked for and run."""
    asked = engine.ask()
    engine.hand_out(asked.number)
    return asked


def settle(engine, number, values):
    if number == 6:
        engine.fail(number, "too large", over_bytes=2**20)
        return
    for index in range(len(RUNGS)):
        if engine.report(number, index, scored(values, number, index, engine.study.objectives)):
            engine.prune(number)
            return
    engine.finish(number)


@pytest.fixture
def journal(tmp_path):
    return str(tmp_path / "journal.log")


def opened(journal, sampler="tpe", pruner="median", **fields):
    study = study_of(WORLD, sampler, pruner, rungs=RUNGS)
    return Engine(study.changed(**fields) if fields else study, WORLD.plan_values, journal)


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
def test_the_same_seed_gives_the_same_trials(sampler, tmp_path):
    found = [go_on(opened(str(tmp_path / name), sampler), 11).trials() for name in ("a", "b")]
    assert found[0] == found[1]
    assert go_on(opened(str(tmp_path / "c"), sampler, seed=4), 11).trials()[1:] != found[0][1:]


@pytest.mark.parametrize("objectives", [("dsc",), pytest.param(("dsc", "seconds"), marks=pytest.mark.slow)])
def test_a_gaussian_process_goes_on_the_same_after_any_kill(objectives, tmp_path):
    whole = go_on(opened(str(tmp_path / "whole"), "gp", objectives=objectives), 11)
    parts = str(tmp_path / "parts")
    for num_trials in range(1, 12):
        go_on(opened(parts, "gp", objectives=objectives), num_trials)
    assert opened(parts, "gp", objectives=objectives).trials() == whole.trials()


@pytest.mark.parametrize(
    ("sampler", "pruner", "objectives"),
    [
        ("tpe", "median", ("dsc",)),
        ("tpe", "hyperband", ("dsc",)),
        ("nsga2", "median", ("dsc", "seconds")),
        ("random", "none", ("dsc",)),
    ],
)
def test_a_kill_at_any_moment_changes_no_trial(sampler, pruner, objectives, tmp_path, journal):
    whole = go_on(opened(journal, sampler, pruner, objectives=objectives), 10).trials()
    assert {trial.state for trial in whole} >= {"finished", "failed"}
    lines = (tmp_path / "journal.log").read_bytes().splitlines(keepends=True)
    # Steps of 13 are prime to the lines of a trial, so that kills come at every kind of write.
    for count in range(0, len(lines), 13):
        # The file as a kill leaves it: some lines, and half of one.
        cut = tmp_path / f"cut{count}.log"
        cut.write_bytes(b"".join(lines[:count]) + lines[count][: len(lines[count]) // 2])
        assert go_on(opened(str(cut), sampler, pruner, objectives=objectives), 10).trials() == whole


def test_a_study_opened_anew_for_each_operation_gives_the_same_trials(tmp_path):
    whole = go_on(opened(str(tmp_path / "whole")), 10).trials()
    parts = str(tmp_path / "parts")
    for _ in range(10):
        asked = opened(parts).ask()
        if asked.number == 6:
            opened(parts).fail(6, "too large", over_bytes=2**20)
            continue
        for index in range(len(RUNGS)):
            if opened(parts).report(asked.number, index, scored(asked.values, asked.number, index)):
                opened(parts).prune(asked.number)
                break
        else:
            opened(parts).finish(asked.number)
    assert opened(parts).trials() == whole


def test_a_trial_that_was_not_handed_out_comes_again_and_one_that_was_runs(journal):
    asked = opened(journal).ask()
    engine = opened(journal)
    assert engine.running() == {}
    assert engine.ask() == engine.ask() == asked
    engine.hand_out(0)
    assert engine.running() == opened(journal).running() == {0: asked.values}
    assert engine.ask().number == 1
    engine.fail(1, "too large")
    engine.hand_out(1)
    assert engine.running().keys() == {0}
    assert engine.ask().number == 2


def test_what_is_told_twice_counts_once(journal):
    engine = opened(journal)
    for _ in range(6):
        asked = engine.ask()
        for index in range(3):
            engine.report(asked.number, index, (0.8 + index / 100,))
        engine.finish(asked.number)
    worse = handed_out(engine).number
    assert [engine.report(worse, 0, (score,)) for score in (0.5, 0.99)] == [True, True]
    engine.prune(worse)
    before = engine.trials()
    engine.finish(worse)
    engine.prune(worse)
    engine.fail(worse, "late")
    engine.fail(0, "late", over_bytes=5)
    assert engine.report(worse, 1, (0.9,)) is True
    assert engine.report(0, 2, (0.1,)) is False
    assert engine.trials() == before
    assert [trial.state for trial in before[-2:]] == ["finished", "pruned"]
    assert [score.values for score in before[-1].scores] == [(0.5,)]


def test_a_trial_without_a_score_does_not_finish(journal):
    engine = opened(journal)
    with pytest.raises(ValueError, match="trial 0 ends without a score"):
        engine.finish(engine.ask().number)


def test_trials_begin_with_the_plans_own_values_and_the_starts(journal):
    start = Start(
        title="SGD", source="paper", values={"optimizer.name": "sgd", "optimizer.lr": 0.01, "loss.preset": "dice_ce"}
    )
    study = study_of(WORLD, "tpe")
    engine = Engine(study.changed(space=study.space.changed(starts=(start,))), WORLD.plan_values, journal)
    default, begun, drawn = (handed_out(engine) for _ in range(3))
    assert (default.title, begun.title, drawn.title) == ("default", "SGD", "")
    assert default.values == WORLD.plan_values
    # Where it says nothing the plan's own value stands.
    own = {field: value for field, value in WORLD.plan_values.items() if field in begun.values}
    assert begun.values == {**begun.values, **own, **start.values}
    assert "optimizer.momentum" in begun.values
    assert drawn.values not in (default.values, begun.values)


def test_a_parameter_is_drawn_only_where_its_condition_holds(journal):
    engine = opened(journal, "random")
    asked = [handed_out(engine).values for _ in range(40)]
    for values in asked:
        assert ("optimizer.momentum" in values) == (values["optimizer.name"] == "sgd")
        assert ("loss.gamma" in values) == (values["loss.preset"] == "dice_focal")
    assert {values["optimizer.name"] for values in asked} == {"sgd", "adamw"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=12, deadline=None)
@given(
    options=st.lists(JSON, min_size=2, max_size=5, unique_by=repr).filter(
        lambda options: all(one not in options[:place] for place, one in enumerate(options))
    ),
    number=st.floats(1e-6, 1e3),
    whole=st.integers(1, 40),
    data=st.data(),
)
def test_values_of_every_kind_come_back_from_the_storage(options, number, whole, data, tmp_path_factory):
    parameters = (
        ChoiceParameter(field="choice", options=tuple(options)),
        RealParameter(field="real", low=1e-6, high=1e3, scale="log"),
        WholeParameter(field="whole", low=1, high=40),
    )
    own = {"choice": data.draw(st.sampled_from(options)), "real": number, "whole": whole}
    study = study_of(WORLD, "random").changed(space=Space(parameters=parameters))
    journal = str(tmp_path_factory.mktemp("study") / "journal.log")
    asked = handed_out(Engine(study, own, journal))
    assert asked.values == own
    assert [type(value) for value in asked.values.values()] == [type(value) for value in own.values()]
    again = Engine(study, own, journal)
    assert again.running() == {0: own}
    assert again.ask().values["choice"] in options


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"optimizer.lr": 3.0}, "optimizer.lr is 3, outside of its range, 0.0001 to 0.1; widen it"),
        ({"optimizer.lr": True}, "optimizer.lr is true; expected a number of its range"),
        (
            {"loss.preset": "dice"},
            'loss.preset is "dice", which is none of its options, dice_ce, dice_focal, dice_topk, tversky',
        ),
    ],
)
def test_a_value_that_the_space_does_not_have_is_refused_before_there_is_a_study(values, told, tmp_path, journal):
    study = study_of(WORLD, "tpe")
    start = Start(title="start", source="paper", values=values)
    with pytest.raises(PlanError, match=told):
        Engine(study.changed(space=study.space.changed(starts=(start,))), WORLD.plan_values, journal)
    assert not list(tmp_path.iterdir())


def test_a_trial_beyond_the_memory_budget_is_failed_and_kept_away_from(journal):
    engine = opened(journal)
    asked = engine.ask()
    engine.fail(asked.number, "needs 1 GB more", over_bytes=2**30)
    trial = engine.trials()[0]
    assert (trial.state, trial.message) == ("failed", "needs 1 GB more")
    assert engine._trials()[0].constraints == {MEMORY: 2**30}
    assert len(go_on(engine, 12).trials()) == 12


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "random"])
def test_trials_that_end_without_a_score_block_nothing(sampler, journal):
    engine = opened(journal, sampler)
    for number in range(14):
        asked = engine.ask()
        if number % 3 == 0:
            engine.fail(asked.number, "out of disk")
        elif number % 3 == 1:
            engine.prune(asked.number)
        else:
            settle(engine, asked.number, asked.values)
    assert len(engine.trials()) == 14


def test_of_one_objective_the_best_is_the_front_and_of_two_all_that_none_beats(tmp_path):
    single = opened(str(tmp_path / "one"), "random", "none")
    double = opened(str(tmp_path / "two"), "random", "none", objectives=("dsc", "hd95"))
    assert single.pareto() == ()
    scores = [(0.8, 5.0), (0.9, 9.0), (0.85, 5.0), (0.7, 4.0), (0.9, 10.0)]
    for dsc, hd95 in scores:
        for engine, values in ((single, (dsc,)), (double, (dsc, hd95))):
            number = engine.ask().number
            engine.report(number, 0, values)
            engine.finish(number)
    assert single.pareto() == (1, 4)
    assert double.pareto() == (1, 2, 3)


@pytest.mark.parametrize("objectives", [("dsc",), ("dsc", "seconds")])
def test_importances_name_what_matters_and_need_some_trials(objectives, journal):
    engine = opened(journal, "random", "none", objectives=objectives)
    assert engine.importances() == {}
    for _ in range(24):
        asked = engine.ask()
        # Nothing but the learning rate matters.
        score = 0.9 - abs(WORLD._off(asked.values)["optimizer.lr"]) / 3
        engine.report(asked.number, 0, (score, 1.0)[: len(objectives)])
        engine.finish(asked.number)
    found = engine.importances()
    assert next(iter(found)) == "optimizer.lr"
    assert found["optimizer.lr"] > 0.3
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"plan_hash": "other"}, "whose plan is 3, not other; give another name"),
        ({"objectives": ("hd95",)}, r"whose objectives is \['dsc'\], not \['hd95'\]"),
        ({"configuration": "2d"}, "whose configuration is 3d_fullres, not 2d"),
        ({"seed": 8}, "of another split, seed, length, sampler or pruner; give another name"),
        ({"judges": (3,)}, "of another split, seed"),
        ({"split": InnerSplit(training=("a",), scored=("c",))}, "of another split, seed"),
        ({"tumorseg_version": "9"}, "whose tumorseg_version is 0, not 9; give another name"),
    ],
)
def test_another_plans_study_is_refused_and_stays_as_it_was(fields, told, tmp_path, journal):
    go_on(opened(journal), 2)
    before = (tmp_path / "journal.log").read_bytes()
    with pytest.raises(PlanError, match=told):
        opened(journal, **fields)
    assert (tmp_path / "journal.log").read_bytes() == before


def test_a_study_goes_on_with_more_trials_hours_and_another_end(journal):
    go_on(opened(journal), 2)
    more = opened(journal, most_trials=50, hours=3.0, final_iterations=77, final_seeds=(8, 9, 10))
    assert len(go_on(more, 3).trials()) == 3


def test_studies_of_two_names_share_a_storage(journal):
    go_on(opened(journal), 2)
    assert len(go_on(opened(journal, name="second", plan_hash="other"), 1).trials()) == 1
    assert len(opened(journal).trials()) == 2


def test_a_study_that_is_not_ours_is_refused(journal):
    opened(journal)._optuna.set_user_attr("tumorseg", {})
    with pytest.raises(PlanError, match="a study synthetic that tumorseg did not make; give another name"):
        opened(journal)


def test_hyperband_is_refused_for_several_objectives(journal):
    with pytest.raises(PlanError, match="hyperband prunes by one objective, and the study has dsc, hd95"):
        opened(journal, "tpe", "hyperband", objectives=("dsc", "hd95"))


@pytest.mark.slow
def test_a_database_holds_the_same_trials_as_a_journal(tmp_path, journal):
    in_journal = go_on(opened(journal), 9).trials()
    database = f"sqlite:///{tmp_path / 'study.db'}"
    for num_trials in (3, 9):
        go_on(opened(database), num_trials)
    assert opened(database).trials() == in_journal


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (
            "postgresql://me:secret@127.0.0.1:1/study?sslmode=disable",
            "postgresql://me:***@127.0.0.1:1/study does not answer: connection",
        ),
        (
            "postgresql://127.0.0.1:1/study?password=secret&sslmode=secret2",
            'postgresql://127.0.0.1:1/study does not answer: connection is bad: invalid sslmode value: "***"',
        ),
        (
            "sqlite:////nowhere/at/all/study.db",
            "sqlite:////nowhere/at/all/study.db does not answer: unable to open database file",
        ),
        ("mysql://me:secret@127.0.0.1/study", "mysql://me:***@127.0.0.1/study needs the package MySQLdb; install it"),
        ("postgresql://me:secret@host:port/study", "postgresql://… is no address of a database"),
        ("://me:secret@host/study", "://… is no address of a database"),
        ("nosuch://me:secret@host/study", "nosuch://me:***@host/study is no address of a database"),
        # However it is cut, a part of the password would be told.
        ("postgresql://me:not@secret@127.0.0.1:1/study", "postgresql://… has an @ other than the one between"),
        ("postgresql://me:not@a/secret@127.0.0.1:1/study", "postgresql://… has an @ other than the one between"),
        ("postgresql://h:1/study?password=not@secret", "postgresql://… has an @ other than the one between"),
        ("/nowhere/at/all/journal.log", "/nowhere/at/all/journal.log: No such file or directory"),
    ],
)
def test_a_storage_that_does_not_answer_is_named_in_one_line_within_seconds(address, told):
    began = time.monotonic()
    with pytest.raises(StorageError) as error:
        opened(address)
    assert str(error.value).startswith(told)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("the disk that secret is on"), "sqlite:///x.db does not answer: the disk that *** is on; go on"),
        (SQLAlchemyError("no secret, but secrets"), "sqlite:///x.db does not answer: no ***, but secrets; go on"),
        (SQLAlchemyError(""), "sqlite:///x.db does not answer: SQLAlchemyError; go on"),
    ],
)
def test_what_an_address_has_in_its_options_is_masked_in_the_words_of_others(error, told):
    with pytest.raises(StorageError) as found, answering("sqlite:///x.db?key=secret"):
        raise error
    assert str(found.value).startswith(told)


def test_another_package_that_is_missing_is_no_driver():
    with pytest.raises(ImportError, match="numpy is broken"), answering("sqlite:///x.db"):
        raise ImportError("numpy is broken")


def test_the_path_of_a_database_may_have_an_at(tmp_path):
    (tmp_path / "me@work").mkdir()
    assert opened(f"sqlite:///{tmp_path}/me@work/study.db").ask().number == 0


def test_a_database_that_stops_answering_is_named_too(tmp_path):
    engine = opened(f"sqlite:///{tmp_path / 'folder.db'}")
    engine.ask()
    (tmp_path / "folder.db").write_bytes(b"no database" * 100)
    with pytest.raises(StorageError, match=r"folder\.db does not answer: file is not a database"):
        engine.ask()


def test_a_damaged_journal_is_named(tmp_path, journal):
    go_on(opened(journal), 1)
    lines = (tmp_path / "journal.log").read_bytes().splitlines(keepends=True)
    (tmp_path / "journal.log").write_bytes(b"".join([*lines[:2], b"{]\n", *lines[2:]]))
    with pytest.raises(StorageError, match="journal is damaged"):
        opened(journal)


def test_optuna_writes_nothing_to_the_terminal_and_leaves_no_other_file(tmp_path, journal, capfd):
    go_on(opened(journal), 9)
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["journal.log"]
