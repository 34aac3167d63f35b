"""What a training needs of the models that it learns from, whoever finds and loads them."""

from typing import Protocol

from tumorseg.engine.distillation import Teaching
from tumorseg.engine.feed import Data
from tumorseg.engine.learner import Learner
from tumorseg.engine.ranks import Ranks
from tumorseg.errors import PlanError, TrainingError
from tumorseg.schema.base import content_hash
from tumorseg.schema.distillation import TeacherNote
from tumorseg.schema.plan import Configuration, Plan


class Teachers(Protocol):
    """Models that a training learns from; `stages.distillation` finds them, and has seen to it that none knows what judges the student."""

    @property
    def notes(self) -> tuple[TeacherNote, ...]:
        """Return what the training's record says of them, in their order."""
        ...

    @property
    def unlabelled(self) -> str | None:
        """Return the hash of further cases without a reference; None if there are none."""
        ...

    def extended(self, data: Data, device: str, *, is_first: bool) -> Data:
        """Return the cases of a training with what teachers found in them before, and with further ones.

        Args:
            data: the cases.
            device: where teachers compute.
            is_first: whether this process writes all files; the others come once they are there.
        """
        ...

    def teaching(self, plan: Plan, configuration: Configuration, learner: Learner) -> Teaching:
        """Return those that look at the student's patches, loaded, for the learner that trains it."""
        ...


def check_teachers_given(plan: Plan, teachers: Teachers | None) -> None:
    """Check that a plan that learns from teachers is given some, so that they are never left out unnoticed.

    Raises:
        PlanError: it is not, or teachers are given to a plan that says nothing of how to learn from them.
    """
    if plan.training.distillation is not None and teachers is None:
        raise PlanError(
            f"plan {plan.name} has training.distillation, so that it learns from teachers; run `tumorseg distill -m TEACHER -p {plan.name}.json "
            "--fold K`, or set training.distillation=null"
        )
    if plan.training.distillation is None and teachers is not None:
        raise PlanError(f"plan {plan.name} has no training.distillation, which says how to learn from teachers")


def check_same_teachers(teachers: Teachers, ranks: Ranks) -> None:
    """Check that all processes that train together have found the same teachers.

    Raises:
        TrainingError: they have not.
    """
    weights = [one.weights for one in teachers.notes]
    if not ranks.have_same(content_hash([weights, teachers.unlabelled])):
        raise TrainingError(
            "not all processes read the same teachers; wait until their files are everywhere, and give the command again"
        )
