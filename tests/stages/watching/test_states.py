import pytest

from tests.tracking.test_epochs import log_of
from tumorseg.schema.alive import Process, SignOfLife
from tumorseg.stages.watching.states import SILENT_S, STILL_S, Found, judge

LAST = log_of(0)
DONE = {"iteration": 40, "num_iterations": 40, "last": LAST, "has_checkpoint": True}
HALF = {"iteration": 20, "num_iterations": 40, "last": LAST, "has_checkpoint": True}


def sign(phase, message="", *, still_s=0.0, has_validation=True):
    process = Process(host="gpu-7", process_id=4321, started_ticks=1, machine="m")
    return SignOfLife(
        phase=phase,
        message=message,
        process=process,
        began_at=0.0,
        beat_at=1000.0,
        num_beats=3,
        moved_at=1000.0 - still_s,
        has_validation=has_validation,
    )


@pytest.mark.parametrize("phase", ["preparing", "training", "validating"])
def test_a_training_whose_process_lives_does_what_it_says(phase):
    assert judge(Found(sign=sign(phase), is_alive=True)) == (phase, "")


def test_one_that_lives_and_takes_no_step_is_told_of():
    found = Found(sign=sign("training", still_s=STILL_S + 10), is_alive=True, **HALF)
    assert judge(found) == ("training", "no step for 5:10")


def test_a_case_may_take_long():
    found = Found(sign=sign("validating", still_s=STILL_S + 10), is_alive=True, **DONE)
    assert judge(found) == ("validating", "")


@pytest.mark.parametrize("phase", ["preparing", "training"])
def test_one_whose_process_is_gone_without_a_word_was_killed(phase):
    verdict = judge(Found(sign=sign(phase), is_alive=False, **HALF))
    assert verdict.state == "killed"
    assert verdict.note == f"while {phase}; the same command goes on"


def test_one_that_was_killed_while_it_validated_is_trained():
    verdict = judge(Found(sign=sign("validating"), is_alive=False, **DONE))
    assert verdict.state == "not validated"
    assert "killed while validating" in verdict.note


def test_a_sign_that_cannot_be_read_is_told_and_judged_without():
    verdict = judge(Found(is_begun=True, has_scores=True, remark="alive.json: is not JSON", **DONE))
    assert verdict == ("finished", "alive.json: is not JSON")
    verdict = judge(Found(is_begun=True, remark="alive.json: is not JSON", **DONE))
    assert verdict == ("not validated", "alive.json: is not JSON; tumorseg validate scores it")


def test_scores_that_came_later_count_more_than_the_last_word():
    for phase in ("validating", "stopped", "failed"):
        assert judge(Found(sign=sign(phase), is_alive=False, has_scores=True, **DONE)).state == "finished"


def test_one_on_another_machine_is_known_by_its_signs_alone():
    assert judge(Found(sign=sign("training"), sign_age_s=SILENT_S - 1, **HALF)).state == "training"
    verdict = judge(Found(sign=sign("training"), sign_age_s=SILENT_S + 1, **HALF))
    assert verdict.state == "silent"
    assert "gpu-7" in verdict.note
    assert "4321" in verdict.note


def test_one_that_failed_says_why():
    verdict = judge(Found(sign=sign("failed", "case 3: no such file"), is_alive=False, **HALF))
    assert verdict == ("failed", "case 3: no such file")


def test_one_that_was_stopped_goes_on():
    verdict = judge(Found(sign=sign("stopped", "a checkpoint is kept"), is_alive=False, **HALF))
    assert verdict == ("stopped", "a checkpoint is kept; the same command goes on")


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (Found(sign=sign("finished"), has_scores=True, **DONE), "finished"),
        (Found(sign=sign("finished", has_validation=False), **DONE), "finished"),
        (Found(sign=sign("finished"), **DONE), "not validated"),
        (Found(is_begun=True, has_scores=True, **DONE), "finished"),
        (Found(is_begun=True, **DONE), "not validated"),
        (Found(is_begun=True, **HALF), "stopped"),
        (Found(is_begun=True, num_iterations=40), "stopped"),
        (Found(is_begun=True, iteration=20, num_iterations=40, last=LAST), "broken"),
        (Found(problem="plan.json: is not JSON"), "broken"),
    ],
)
def test_files_tell_how_one_ended(found, state):
    assert judge(found).state == state
