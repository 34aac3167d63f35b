"""Learning from teachers: what a plan says of it, and what a training's record says of who taught."""

from typing import Annotated, Literal

from pydantic import Field

from tumorseg.schema.base import Record


class Distillation(Record):
    """How a training learns from teachers as well as from the reference (`distill`)."""

    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the teachers' term in the loss; the rest is that of the reference."""
    temperature: float = Field(default=2.0, ge=1)
    """Logits of teachers and student are divided by it in their term, which makes what is unlikely count more."""
    hints: float = Field(default=0.0, ge=0)
    """Weight of a further term that draws the student's last features to those of the first teacher; 0: none."""


TeachingWay = Literal["patches", "cases"]
"""patches: a teacher looks at the very patches that the student sees; cases: it has segmented whole cases before."""


class TeacherNote(Record):
    """A trained fold that taught, and what it was allowed to see."""

    plan_name: str
    """Name of its plan."""
    plan_hash: str
    """Content hash of that plan."""
    configuration: str
    """Configuration that was trained."""
    fold: str
    """Number of its fold, or `all`."""
    weights: str
    """Hash of its checkpoint."""
    way: TeachingWay
    """What it looked at."""
    num_held_out: int = Field(ge=0)
    """Cases of its dataset that it was not trained on, all among them that judge the student."""
    held_out: str
    """Hash of their case_ids, sorted."""
