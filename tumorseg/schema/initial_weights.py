"""What a training took over from the weights that it was begun with."""

from typing import Literal

from tumorseg.schema.base import Record

Outcome = Literal["matched", "adapted", "skipped"]
OUTCOMES: tuple[Outcome, ...] = ("matched", "adapted", "skipped")


class TakenTensor(Record):
    """One tensor of the network that is trained."""

    name: str
    """In its state dict."""
    outcome: Outcome
    """Whether the given tensor was copied, fitted to another shape, or left, so that the network's own first values stand."""
    source: str | None = None
    """What the file calls the given tensor; null if it has none."""
    note: str = ""
    """How it was fitted, or why it was left."""


class InitialWeights(Record):
    """Origin of a training's first weights, tensor by tensor."""

    source: str
    """The file that was read."""
    source_hash: str
    """Hash of its bytes."""
    layout: str
    """Whose names its tensors have."""
    tensors: tuple[TakenTensor, ...]
    """Every tensor of the network, in its order."""
    unused: tuple[str, ...]
    """Tensors of the file that went nowhere."""
    warnings: tuple[str, ...] = ()
    """What makes the training's scores doubtful."""

    def count(self, outcome: Outcome) -> int:
        """Return how many tensors had an outcome."""
        return sum(one.outcome == outcome for one in self.tensors)
