"""The coordinator, step by step, beside workers that are played."""

import pytest

from tests.stages.tuning.played import LEASE_S, STEP_S, NoCrew, Player, Table
from tests.stages.tuning.synthetic import RUNGS
from tumorseg.stages.tuning.coordinator import MOST_LOST
from tumorseg.storage.study_attempts import begun_attempts
from tumorseg.storage.study_workers import read_beats, remove_beat, write_beat


@pytest.fixture
def table(tmp_path):
    return Table(tmp_path / "study")


def test_tasks_are_opened_one_for_each_worker_that_lives(table):
    table.step()
    assert table.files() == [("trial-00000", 0, "")]
    # Left over from an earlier day: it does not count.
    write_beat(table.folder, "old-1", 7)
    players = [Player(table.folder, f"node-{number}") for number in range(3)]
    table.wait(2 * STEP_S, *players)
    assert [stem for stem, _, _ in table.files()] == ["trial-00000", "trial-00001", "trial-00002"]
    table.wait(LEASE_S, *players[:2])
    players[0].claim()
    players[0].score(*RUNGS)
    table.wait(STEP_S, *players[:2])
    # One is gone: the next task waits until one more has ended.
    assert [stem for stem, _, _ in table.files()] == ["trial-00001", "trial-00002"]
    assert table.judge.ended == {0: ("finished", "")}


def test_rungs_are_reported_in_their_order_and_a_task_ends_with_its_last_line(table):
    table.step()
    player = Player(table.folder, "node-1")
    claim = player.claim()
    player.score(RUNGS[0])
    table.step()
    assert list(table.judge.reported) == [(0, 0)]
    with player.place.values.open("a") as file:
        file.write('{"iteration": 8')
    table.step()
    assert list(table.judge.reported) == [(0, 0)]
    with player.place.values.open("a") as file:
        file.write(', "values": [0.25]}\n')
    table.step()
    assert table.judge.reported[0, 1] == 0.25
    player.score(RUNGS[2])
    table.step()
    assert table.judge.ended == {0: ("finished", "")}
    assert not claim.holds()
    assert table.files() == [("trial-00001", 0, "")]


def test_a_task_is_stopped_at_the_first_rung_that_says_so_however_far_its_worker_has_come(tmp_path):
    table = Table(tmp_path / "study", stops=lambda number, index: index == 1)
    table.step()
    player = Player(table.folder, "node-1")
    claim = player.claim()
    player.score(*RUNGS)
    table.step()
    assert list(table.judge.reported) == [(0, 0), (0, 1)]
    assert table.judge.ended == {0: ("stopped", "")}
    assert table.folder.stop("trial-00000").exists()
    assert not claim.holds()


def test_a_task_that_has_come_to_its_end_is_not_stopped_there(tmp_path):
    table = Table(tmp_path / "study", stops=lambda number, index: index == 2)
    table.step()
    player = Player(table.folder, "node-1")
    player.claim()
    player.score(*RUNGS)
    table.step()
    assert table.judge.ended == {0: ("finished", "")}


def test_a_task_ends_as_its_worker_says(table):
    table.step()
    player = Player(table.folder, "node-1")
    player.claim()
    player.score(RUNGS[0])
    player.end("failed", "no memory")
    table.step()
    assert table.judge.ended == {0: ("failed", "no memory")}
    assert len(table.judge.reported) == 1


def test_a_task_that_is_given_back_is_opened_again_and_goes_on(table):
    table.step()
    player = Player(table.folder, "node-1")
    player.claim()
    player.score(RUNGS[0])
    table.step()
    player.end("released")
    remove_beat(table.folder, player.name)
    for attempt in range(1, 5):
        table.step()
        assert table.files() == [("trial-00000", attempt, "")]
        other = Player(table.folder, f"node-{attempt + 1}")
        other.claim()
        assert [score.iteration for score in other.known] == [RUNGS[0]]
        other.end("released")
        remove_beat(table.folder, other.name)
    table.step()
    last = Player(table.folder, "last")
    last.claim()
    last.score(*RUNGS[1:])
    table.step()
    # To be given back is no fault, however often.
    assert table.judge.ended == {0: ("finished", "")}


def test_a_silent_worker_loses_its_task_after_the_lease_by_the_coordinators_clock_alone(table):
    table.step()
    silent, other = Player(table.folder, "node-1"), Player(table.folder, "node-2")
    claim = silent.claim()
    silent.score(RUNGS[0])
    table.step(0)
    table.wait(LEASE_S - STEP_S, other)
    assert claim.holds()
    table.wait(STEP_S, other)
    assert not claim.holds()
    assert ("trial-00000", 1, "") in table.files()
    assert silent.name not in read_beats(table.folder)
    other.claim()
    assert [score.iteration for score in other.known] == [RUNGS[0]]


def test_a_worker_that_counts_keeps_its_task_for_ever(table):
    table.step()
    player = Player(table.folder, "node-1")
    claim = player.claim()
    table.wait(10 * LEASE_S, player)
    assert claim.holds()


def test_late_lines_of_a_worker_that_was_given_up_count_nothing(table):
    table.step()
    stopped, other = Player(table.folder, "node-1"), Player(table.folder, "node-2")
    stopped.claim()
    table.wait(LEASE_S + STEP_S, other)
    other.claim()
    assert other.taken.file.attempt == 1
    stopped.beat()
    with stopped.place.values.open("a") as file:
        for rung in RUNGS:
            file.write(f'{{"iteration": {rung}, "values": [99.0]}}\n')
    stopped.end("failed", "late")
    table.step()
    assert table.judge.reported == {}
    other.score(*RUNGS)
    table.step()
    assert 99.0 not in table.judge.reported.values()
    assert table.judge.ended == {0: ("finished", "")}


def test_a_coordinator_that_was_stopped_itself_gives_nobody_up(table):
    table.step()
    player = Player(table.folder, "node-1")
    claim = player.claim()
    table.step()
    table.step(10 * LEASE_S)
    assert claim.holds()
    player.beat()
    table.step()
    table.wait(LEASE_S, player)
    assert claim.holds()


def test_a_worker_that_leaves_without_a_word_is_not_waited_for(table):
    table.step()
    player = Player(table.folder, "node-1")
    claim = player.claim()
    table.step()
    remove_beat(table.folder, player.name)
    table.step(0)
    assert not claim.holds()
    assert table.files() == [("trial-00000", 1, "")]


def test_the_death_of_a_worker_here_opens_its_task_at_once(tmp_path):
    crew = NoCrew(["here-1-", "here-2-"])
    table = Table(tmp_path / "study", crew=crew)
    table.step()
    table.step()
    player = Player(table.folder, "here-1-ab")
    player.claim()
    table.step()
    player.score(RUNGS[0])
    # As Python does when a bug ends it: the counter goes first, and the process a little later.
    remove_beat(table.folder, player.name)
    table.step(0)
    assert player.taken.holds()
    crew.die("here-1-", "a bug")
    table.step(0)
    assert not player.taken.holds()
    assert ("trial-00000", 1, "") in table.files()
    # What it wrote counts.
    assert list(table.judge.reported) == [(0, 0)]
    assert crew.progress[-2:] == [False, True]
    table.step(0)
    assert not crew.progress[-1]


def test_a_dead_worker_here_is_struck_out_with_its_counter(tmp_path):
    crew = NoCrew(["here-1-"])
    table = Table(tmp_path / "study", crew=crew)
    table.step()
    Player(table.folder, "here-1-ab")
    table.step()
    crew.die("here-1-", "killed")
    table.step()
    assert read_beats(table.folder) == {}


def test_a_worker_here_that_is_silent_is_killed(tmp_path):
    crew = NoCrew(["here-1-"])
    table = Table(tmp_path / "study", crew=crew)
    table.step()
    player = Player(table.folder, "here-1-ab")
    player.claim()
    table.wait(LEASE_S + STEP_S)
    assert crew.killed == [player.name]


def test_a_task_over_which_workers_are_lost_in_a_row_fails_with_the_cause(tmp_path):
    crew = NoCrew()
    table = Table(tmp_path / "study", crew=crew)
    table.step()
    for number in range(MOST_LOST):
        assert table.judge.ended == {}
        Player(table.folder, f"here-{number}-ab").claim()
        table.step()
        crew.prefixes.append(f"here-{number}-")
        crew.die(f"here-{number}-", "was killed by signal 9")
        table.step()
    assert table.judge.ended == {0: ("failed", "3 workers in a row were lost over it: was killed by signal 9")}
    assert begun_attempts(table.folder, "trial-00000") == [0, 1, 2]
    assert table.files() == [("trial-00001", 0, "")]


def test_a_task_that_gets_on_between_deaths_does_not_fail(tmp_path):
    crew = NoCrew()
    table = Table(tmp_path / "study", crew=crew)
    table.step()
    for number in range(2 * len(RUNGS)):
        player = Player(table.folder, f"here-{number}-ab")
        player.claim()
        if number % 2:
            player.score(RUNGS[number // 2])
        table.step()
        if not table.judge.ended:
            crew.prefixes.append(f"here-{number}-")
            crew.die(f"here-{number}-", "killed")
        table.step()
    assert table.judge.ended == {0: ("finished", "")}


def test_lines_that_cannot_be_found_of_a_task_that_has_finished_are_a_loss(table):
    table.step()
    player = Player(table.folder, "node-1")
    player.claim()
    player.score(RUNGS[1])
    player.end("finished")
    table.step()
    assert table.judge.reported == {}
    assert table.files() == [("trial-00000", 1, "")]


def test_a_task_whose_time_is_over_is_stopped(table):
    table.step()
    player = Player(table.folder, "node-1")
    claim = player.claim()
    table.judge.should_end = lambda task: task.number == 0
    table.step()
    assert table.judge.ended == {0: ("stopped", "the time was over")}
    assert table.folder.stop("trial-00000").exists()
    assert not claim.holds()


def test_a_study_without_more_to_do_is_over_without_any_worker(tmp_path):
    table = Table(tmp_path / "study", most=0)
    assert not table.step()
    assert table.crew.progress == []


def test_the_judge_is_asked_again_once_a_task_has_ended(tmp_path):
    table = Table(tmp_path / "study", most=1)
    table.step()
    player, idle = Player(table.folder, "node-1"), Player(table.folder, "node-2")
    player.claim()
    table.wait(3 * STEP_S, player, idle)
    # What comes after the last trial is not known before that has ended.
    table.judge.most = 2
    table.wait(STEP_S, player, idle)
    assert table.judge.asked == [0]
    player.score(*RUNGS)
    assert table.step()
    assert table.judge.asked == [0, 1]
    idle.claim()
    idle.score(*RUNGS)
    assert not table.step()
    assert set(table.judge.ended) == {0, 1}
