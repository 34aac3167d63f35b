import json
import os
import signal
import threading

import pytest

from tumorseg.cli.main import run
from tumorseg.errors import Stopped
from tumorseg.stages.opening.each_case import each_case
from tumorseg.stages.opening.stopping import SIGNALS, UntilStopped, handled, is_stop_asked, stop_on_signal
from tumorseg.stages.training.validate import ValidateRequest, validate


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_a_wish_and_the_handlers_come_back(number):
    before = [signal.getsignal(one) for one in SIGNALS]
    with stop_on_signal() as wish:
        assert not is_stop_asked()
        os.kill(os.getpid(), number)
        assert wish.is_asked
        assert is_stop_asked()
    assert not is_stop_asked()
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_nested_stages_share_one_wish_which_survives_the_inner_one():
    with stop_on_signal() as outer:
        with stop_on_signal() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
        assert inner is outer
        assert is_stop_asked()


def test_a_function_can_be_stoppable_more_than_once():
    @stop_on_signal()
    def ask():
        os.kill(os.getpid(), signal.SIGUSR1)
        return is_stop_asked()

    assert [ask(), ask()] == [True, True]
    assert not is_stop_asked()


def test_a_thread_that_is_not_the_main_one_changes_no_handler_and_shares_the_wish():
    found = []

    def work():
        with stop_on_signal() as wish, handled(lambda number: None):
            found.append((wish, signal.getsignal(signal.SIGTERM)))

    def run():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    before = signal.getsignal(signal.SIGTERM)
    run()
    with stop_on_signal() as wish:
        during = signal.getsignal(signal.SIGTERM)
        run()
    assert found == [(found[0][0], before), (wish, during)]
    assert found[0][0] is not wish


def test_items_end_where_a_stop_is_asked_for():
    items = UntilStopped([1, 2, 3])
    with stop_on_signal() as wish:
        seen = []
        for item in items:
            seen.append(item)
            if item == 2:
                wish.ask()
    assert seen == [1, 2]
    assert items.has_more


def test_a_stop_after_the_last_item_leaves_none():
    items = UntilStopped([1])
    with stop_on_signal() as wish:
        for _ in items:
            wish.ask()
    assert not items.has_more


@pytest.mark.parametrize("jobs", [1, 2])
def test_cases_that_have_begun_are_finished_and_no_further_one_begins(jobs):
    done = []
    tasks = ((f"case {number}", number) for number in range(9))
    with stop_on_signal():

        def take(case_id, value):
            done.append(value)
            os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(Stopped, match=r"^\d of 9 cases of this run are done and kept$"):
            each_case(abs, tasks, take, num_cases=9, expected_bytes=0, jobs=jobs, steps=None)
    # With two workers each may have been at a case.
    assert 1 <= len(done) <= 2 * jobs


def told_to_stop(arguments):
    """Run a command that a signal reaches before its first case."""
    with stop_on_signal() as wish:
        wish.ask()
        return run([str(argument) for argument in arguments])


def test_a_stopped_command_leaves_with_75_and_says_what_is_kept(toy, tmp_path, capsys):
    places = ["--data-root", toy.roots.data_root, "--work", tmp_path]
    assert told_to_stop([*places, "preprocess", "-p", toy.plan_path, "--jobs", 1]) == 75
    told = capsys.readouterr()
    assert told.err.endswith(
        "stopped by a signal: 0 of 6 cases of this run are done and kept; the same command goes on\n"
    )
    assert told.out == ""


def test_a_training_that_is_stopped_while_it_preprocesses_has_a_result_all_the_same(toy, tmp_path, capsys):
    places = ["--json", "--data-root", toy.roots.data_root, "--work", tmp_path]
    arguments = ["train", "-p", toy.plan_path, "--fold", 0, "--device", "cpu", "--jobs", 1, "--no-mlflow"]
    assert told_to_stop([*places, *arguments]) == 75
    told = capsys.readouterr()
    assert json.loads(told.out)["is_finished"] is False
    assert "0 of 6 cases of this run are done and kept; the same command goes on" in told.err


def test_no_case_is_predicted_after_the_wish_to_stop(trained, toy, tmp_path, capsys):
    images, masks = toy.data / "manifest.csv", tmp_path / "masks"
    arguments = ["predict", "-m", trained.folder.root, "-i", images, "-o", masks, "--device", "cpu"]
    assert told_to_stop(arguments) == 75
    assert "0 of 6 cases are predicted and kept" in capsys.readouterr().err
    assert not list(masks.glob("*.nii.gz"))


def test_no_case_is_validated_after_the_wish_to_stop(trained, toy):
    with stop_on_signal() as wish:
        wish.ask()
        with pytest.raises(Stopped, match=r"of \d cases are predicted and kept"):
            validate(ValidateRequest(roots=toy.roots, model=trained.folder.root, device="cpu"))
