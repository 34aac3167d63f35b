import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stages.tuning.synthetic import synthetic_study, task_of, write_study
from tumorseg import __version__
from tumorseg.errors import PlanError, StorageError, is_plain
from tumorseg.schema.tuning import CaseScores, Ended, Score
from tumorseg.storage.layout import work_folder
from tumorseg.storage.study_attempts import (
    append_score,
    begin_attempt,
    begun_attempts,
    previous_attempt,
    read_ended,
    read_scores,
    write_ended,
)
from tumorseg.storage.study_folder import StudyFolder, close_study, names_in, read_study, reopen_study, text_of
from tumorseg.storage.study_tasks import (
    claim_task,
    claimed_tasks,
    open_task,
    open_tasks,
    remove_task_files,
    settle_task,
)
from tumorseg.storage.study_workers import new_worker, read_beats, remove_beat, worker_prefix, write_beat

TASK = task_of(3, {"x": 0.5})


def score(iteration, value=0.5):
    return Score(iteration=iteration, values=(value,))


@pytest.fixture
def folder(tmp_path):
    return write_study(tmp_path / "study")


def test_files_of_a_study_lie_where_the_design_says():
    root = work_folder(Path("runs"), "A").studies / "s"
    study = StudyFolder(root)
    assert root == Path("runs/A/studies/s")
    names = (study.study, study.plan, study.journal, study.result, study.report)
    assert [path.name for path in names] == ["study.json", "plan.json", "journal.log", "tuning.json", "report.html"]
    assert study.attempt("trial-00003", 1).values == root / "tasks" / "trial-00003" / "1" / "values.jsonl"
    assert study.attempt("trial-00003", 1).fold.latest == root / "tasks" / "trial-00003" / "1" / "fold" / "latest.ckpt"


def test_a_study_is_read_as_it_was_written(folder):
    assert read_study(folder, __version__) == synthetic_study()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is no study's folder: expected study.json"),
        ("{", "is not JSON"),
        ("[]", "was written by tumorseg None"),
        (
            '{"version": 1, "tumorseg_version": "0.0.1"}',
            r"was written by tumorseg 0\.0\.1 \(study files of version 1\)",
        ),
    ],
)
def test_a_folder_that_is_no_study_of_this_version_is_refused_in_one_line(tmp_path, text, message):
    folder = StudyFolder(tmp_path)
    if text is not None:
        folder.study.write_text(text)
    with pytest.raises(PlanError, match=message) as caught:
        read_study(folder, __version__)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_study_is_over_while_it_is_closed(folder):
    assert not folder.is_closed()
    close_study(folder)
    assert folder.is_closed()
    reopen_study(folder)
    reopen_study(folder)
    assert not folder.is_closed()


def test_a_task_is_claimed_once_whoever_asks(folder):
    for number in range(5):
        open_task(folder, task_of(number, {"x": 0.1}), 0)
    claims = []

    def claim_all(worker):
        while (claim := claim_task(folder, worker, __version__)) is not None:
            claims.append(claim)

    threads = [threading.Thread(target=claim_all, args=(f"w-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claim.task.number for claim in claims) == list(range(5))
    assert open_tasks(folder) == []
    assert {file.path for file in claimed_tasks(folder)} == {claim.file.path for claim in claims}
    assert all(claim.holds() for claim in claims)


def test_the_first_task_is_claimed_first_and_read_as_it_was_opened(folder):
    for number in (10, 9, 3):
        open_task(folder, task_of(number, {"x": 0.1}), number)
    claim = claim_task(folder, "w-1", __version__)
    assert claim.task == task_of(3, {"x": 0.1})
    assert (claim.file.stem, claim.file.attempt, claim.file.worker) == ("trial-00003", 3, "w-1")
    assert claim_task(StudyFolder(folder.root / "none"), "w-1", __version__) is None


def test_a_task_of_another_version_stays_open_and_is_refused_in_one_line(folder):
    open_task(folder, TASK.changed(tumorseg_version="9.9"), 0)
    with pytest.raises(PlanError, match=r"written by tumorseg 9\.9") as caught:
        claim_task(folder, "w-1", __version__)
    assert "\n" not in str(caught.value)
    assert len(open_tasks(folder)) == 1
    open_tasks(folder)[0].path.write_text("{")
    with pytest.raises(PlanError, match="it is not JSON; remove the file"):
        claim_task(folder, "w-1", __version__)


def test_a_file_that_is_being_written_is_no_task(folder):
    open_task(folder, TASK, 0)
    (folder.open / ".trial-00001.0.json.abcdefgh").write_text("{")
    assert [file.stem for file in open_tasks(folder)] == ["trial-00003"]


@pytest.mark.parametrize("stem", ["", "Trial", "a.b", "a@b", "../a", "-a", "a/b"])
def test_a_name_that_some_file_system_would_not_take_is_refused(folder, stem):
    with pytest.raises(ValueError, match="must consist of"):
        open_task(folder, TASK.changed(stem=stem), 0)


def test_of_two_attempts_the_earlier_can_be_taken_back_alone(folder):
    for attempt in (0, 1):
        open_task(folder, TASK, attempt)
    old = claim_task(folder, "w-1", __version__)
    remove_task_files(folder, TASK.stem, below=1)
    assert not old.holds()
    assert [file.attempt for file in open_tasks(folder)] == [1]


def test_a_settled_task_has_no_file_and_no_checkpoint_and_a_flag(folder):
    open_task(folder, TASK, 0)
    open_task(folder, task_of(4, {}), 0)
    claim = claim_task(folder, "w-1", __version__)
    begin_attempt(folder, claim.task, 0)
    fold = folder.attempt(TASK.stem, 0).fold
    fold.root.mkdir()
    for path in (fold.latest, fold.best, fold.log):
        path.write_text("")
    settle_task(folder, TASK.stem)
    assert not claim.holds()
    assert folder.stop(TASK.stem).exists()
    assert names_in(fold.root) == ["log.jsonl"]
    assert [file.stem for file in open_tasks(folder)] == ["trial-00004"]


def test_an_attempt_begins_with_what_those_before_it_have_reached(folder):
    assert begin_attempt(folder, TASK, 0) == ()
    assert previous_attempt(folder, TASK.stem, 0) is None
    first = folder.attempt(TASK.stem, 0)
    append_score(first.values, score(4))
    # Died before it trained: what it had is the first one's.
    assert begin_attempt(folder, TASK, 1) == (score(4),)
    fold = first.fold
    fold.root.mkdir()
    fold.latest.write_text("")
    append_score(folder.attempt(TASK.stem, 1).values, score(8))
    known = (score(4), score(8))
    assert begin_attempt(folder, TASK, 2) == known
    assert previous_attempt(folder, TASK.stem, 2) == first.root
    assert read_scores(folder.attempt(TASK.stem, 2).values, 0)[0] == list(known)
    assert begun_attempts(folder, TASK.stem) == [0, 1, 2]


def test_lines_after_a_gap_are_not_gone_on_from(folder):
    begin_attempt(folder, TASK, 0)
    append_score(folder.attempt(TASK.stem, 0).values, score(8))
    assert begin_attempt(folder, TASK, 1) == ()


numbers = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(max_size=5).filter(is_plain)
labels = st.dictionaries(names, st.none() | numbers, max_size=2)
cases = st.dictionaries(names, st.builds(CaseScores, dsc=labels, hd95=labels), max_size=2)
scores = st.builds(
    Score,
    iteration=st.integers(1, 1000),
    values=st.lists(numbers, max_size=3).map(tuple),
    cases=cases,
    seconds=st.floats(0, 1e6),
)


@settings(max_examples=12, deadline=None)
@given(st.lists(scores, min_size=1, max_size=3), st.data())
def test_scores_are_read_as_they_were_written_however_far_the_writing_has_come(tmp_path_factory, written, data):
    path = tmp_path_factory.mktemp("values") / "values.jsonl"
    for one in written:
        append_score(path, one)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    found, start = read_scores(path, 0)
    assert found == written[: len(found)]
    path.write_bytes(whole)
    rest, end = read_scores(path, start)
    assert found + rest == written
    assert end == len(whole)


def test_a_damaged_line_is_told_in_one_line(folder):
    path = folder.root / "values.jsonl"
    assert read_scores(path, 0) == ([], 0)
    path.write_text("nothing\n")
    with pytest.raises(StorageError, match=r"values\.jsonl: ") as caught:
        read_scores(path, 0)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_or_written_is_told_with_the_file(folder):
    for action in (lambda: read_scores(folder.root, 0), lambda: append_score(folder.root, score(1))):
        with pytest.raises(StorageError, match="study: "):
            action()
    with pytest.raises(StorageError, match=r"study\.json: cannot be listed"):
        names_in(folder.study)
    with pytest.raises(StorageError, match="cannot be read"):
        text_of(folder.root)
    assert text_of(folder.root / "none") is None


def test_a_task_ends_as_its_worker_says(folder):
    attempt = folder.attempt(TASK.stem, 0)
    assert read_ended(attempt) is None
    write_ended(attempt, Ended(state="failed", message="no memory"))
    assert read_ended(attempt) == Ended(state="failed", message="no memory")


def test_workers_are_known_by_their_counters_and_logs_are_no_workers(folder):
    write_beat(folder, "node-1-12", 4)
    write_beat(folder, "node-1-13", 0)
    folder.log(0).write_text("…")
    assert read_beats(folder) == {"node-1-12": "4\n", "node-1-13": "0\n"}
    (folder.workers / ".node-1-12.abcdefgh").write_text("5")
    remove_beat(folder, "node-1-12")
    remove_beat(folder, "node-1-12")
    assert sorted(names_in(folder.workers)) == ["local-0.log", "node-1-13"]


def test_a_worker_has_a_name_of_its_own_that_any_file_system_takes():
    assert worker_prefix(12, "Node_1.Cluster") == "node-1-cluster-12-"
    assert len(worker_prefix(12, "x" * 300)) < 60
    assert worker_prefix(12, "…") == "machine-12-"
    assert new_worker().startswith(worker_prefix(os.getpid()))
    assert len({new_worker() for _ in range(100)}) == 100


def test_bytes_that_are_no_text_are_told(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"{\xff")
    with pytest.raises(StorageError, match=r"a\.json: found bytes that are not UTF-8 at position 1; remove the file"):
        text_of(path)
