import math

import pytest
import torch

from tests.engine.phantoms import CLASSES, batch_of, configuration_of, learner_of, weights_of
from tumorseg.engine.collapse import LabelTally
from tumorseg.engine.dividing import Division, Meeting, TooLarge, is_cpu_memory, memory_explained
from tumorseg.engine.faults import more_parts
from tumorseg.engine.learner import Inputs
from tumorseg.engine.ranks import ALONE, Ranks
from tumorseg.errors import TrainingError
from tumorseg.schema.optimizers import Sgd

WIDE = {"batch_size": 4, "optimizer": Sgd(lr=0.05)}


def wide_batch(number=0):
    parts = [batch_of(2 * number + half) for half in range(2)]
    return Inputs(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def short_of_memory(learner, most, *, backward=False):
    """Let passes of more patches than `most` run out of memory, in the forward pass or when their gradient comes back."""

    def forward(_module, images, output):
        if len(images[0]) > most and not backward:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        logits = output if isinstance(output, torch.Tensor) else output[0]
        if len(images[0]) > most and logits.requires_grad:
            logits.register_hook(out_of_memory)

    def out_of_memory(_gradient):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    learner.network.register_forward_hook(forward)
    return learner


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("most", "num_parts"), [(4, 1), (2, 2), (1, 4)])
def test_a_step_that_runs_out_of_memory_is_that_of_the_batch_in_parts(most, num_parts, backward):
    planned = learner_of(configuration_of(**WIDE, gradient_accumulation=num_parts))
    divided = short_of_memory(learner_of(configuration_of(**WIDE)), most, backward=backward)
    for number in range(3):
        assert divided.step(wide_batch(number), number) == planned.step(wide_batch(number), number)
    assert divided.division.num_parts == num_parts
    assert torch.equal(weights_of(divided), weights_of(planned))


@pytest.mark.parametrize("backward", [False, True])
def test_what_is_found_in_a_batch_counts_once_however_often_it_is_divided(backward):
    planned = learner_of(configuration_of(**WIDE, gradient_accumulation=2))
    divided = learner_of(configuration_of(**WIDE, gradient_accumulation=2))
    short_of_memory(divided, 1, backward=backward)
    for learner in (planned, divided):
        learner.tally = LabelTally(CLASSES)
        learner.step(wide_batch(), 0)
    assert divided.division.num_parts == 4
    assert divided.tally.take() == planned.tally.take() != {}


def test_the_same_random_numbers_are_drawn_again():
    learners = [learner_of(configuration_of(**WIDE, gradient_accumulation=parts)) for parts in (2, 1)]
    for learner in learners:
        learner.network.register_forward_pre_hook(lambda _, images: torch.dropout(images[0], 0.5, True))
    short_of_memory(learners[1], 2, backward=True)
    drawn = []
    for learner in learners:
        torch.manual_seed(5)
        learner.step(wide_batch(), 0)
        drawn.append((weights_of(learner), torch.rand(1)))
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert torch.equal(drawn[0][1], drawn[1][1])


def test_where_one_patch_alone_does_not_fit_the_error_says_what_to_do():
    learner = short_of_memory(learner_of(configuration_of(**WIDE)), 0)
    with pytest.raises(TrainingError, match=r"a batch in 4 parts, so that not even one patch .* --vram"):
        learner.step(wide_batch(), 0)


@pytest.mark.parametrize(("num_parts", "num_patches", "expected"), [(1, 4, 2), (2, 3, 3), (3, 3, None), (1, 1, None)])
def test_the_number_of_parts_is_doubled_until_each_is_a_patch(num_parts, num_patches, expected):
    assert more_parts(num_parts, num_patches) == expected


@pytest.mark.parametrize(("planned", "factor", "expected"), [(1, 4, 4), (2, 4, 4), (1, 1, 1), (2, 2, 4)])
def test_a_resumed_division_is_of_the_parts_that_are_planned_now(planned, factor, expected):
    division = Division(planned, 4, ALONE, torch.device("cpu"))
    division.resume(factor)
    assert division.num_parts == expected
    assert division.factor == expected // planned


def test_memory_of_the_machine_that_runs_out_is_an_error_of_one_line():
    with (
        pytest.raises(TrainingError, match=r"^memory ran out over there; .* untouched$"),
        memory_explained("over there"),
    ):
        torch.empty(2**60)
    with pytest.raises(TrainingError, match="memory ran out"), memory_explained("here"):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="shapes"), memory_explained("here"):
        raise RuntimeError("shapes do not fit")
    assert not is_cpu_memory(RuntimeError("CUDA error"))


class Two(Ranks):
    """One of two processes, the other of which answers as it is told to."""

    size = 2

    def __init__(self, *others):
        self.others, self.asked = list(others), []

    def any(self, is_so):
        self.asked.append(is_so)
        return self.others.pop(0) or is_so


def division_of(ranks):
    division = Division(1, 4, ranks, torch.device("cpu"))
    division.meets = True
    return division


def test_processes_meet_after_their_forward_passes_and_at_the_end():
    ranks = Two(False, False)

    def attempt(meeting):
        with meeting.transfer():
            assert ranks.asked == [False]
        return "done"

    assert division_of(ranks).fitted(torch.nn.Identity(), attempt) == "done"
    assert ranks.asked == [False, False]


@pytest.mark.parametrize(
    ("others", "fails_at", "asked"),
    [
        ([True, False, False], None, [False, False, False]),
        ([False, True, False, False], None, [False, False, False, False]),
        ([False, False, False], "forward", [True, False, False]),
        ([False, False, False, False], "backward", [False, True, False, False]),
    ],
)
def test_all_divide_where_the_memory_of_one_runs_out(others, fails_at, asked):
    ranks, tries = Two(*others), []

    def attempt(meeting):
        tries.append(division.num_parts)
        if fails_at == "forward" and len(tries) == 1:
            raise torch.OutOfMemoryError
        with meeting.transfer():
            pass
        if fails_at == "backward" and len(tries) == 1:
            raise torch.OutOfMemoryError

    division = division_of(ranks)
    division.fitted(torch.nn.Identity(), attempt)
    assert tries == [1, 2]
    assert ranks.asked == asked


def test_memory_that_runs_out_in_a_transfer_ends_the_training_as_others_wait_there():
    def attempt(meeting):
        with meeting.transfer():
            raise torch.OutOfMemoryError

    with pytest.raises(TrainingError, match="memory ran out"):
        division_of(Two(False)).fitted(torch.nn.Identity(), attempt)


def test_a_process_alone_needs_no_meeting():
    meeting = Meeting(ALONE, is_held=False)
    meeting.meet()
    meeting.tell()
    with pytest.raises(TooLarge), Meeting(Two(True), is_held=True).transfer():
        pytest.fail("another process has no memory left")


def test_a_divided_learner_validates_in_parts_too():
    learner = short_of_memory(learner_of(configuration_of(**WIDE)), 1)
    learner.step(wide_batch(), 0)
    assert math.isfinite(learner.step(wide_batch(1), 1).total)
