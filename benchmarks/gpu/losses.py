"""Every loss and preset of ours: time and memory of a forward and backward pass on the device."""

from functools import partial

import torch

from benchmarks.gpu.sizes import Row, Size, Tell, Timing, attempt, forget, median_seconds, rounded
from benchmarks.losses import Contest, Loss, batch, built
from tumorseg.losses.presets import LOSS_PRESETS
from tumorseg.schema.losses import COMPONENTS

SIZES = ((3, 128), (14, 64))
"""Classes and edge of two patches."""
TINY = ((3, 8),)
TIMING = Timing(2, 3, 10, 0.5)
ONCE = Timing(1, 1, 1, 0.0)
"""Of a dry run."""
MIB = 2**20


def measure(size: Size, tell: Tell) -> None:
    """Tell a row for each loss and patch."""
    for classes, edge in TINY if size.is_tiny else SIZES:
        for contest in contests():
            known: Row = {"loss": contest.name, "classes": classes, "edge": edge}
            attempt(tell, known, partial(loss_row, contest, (classes, edge), size), size=size)


def contests() -> list[Contest]:
    """Return every preset and component of ours."""
    found = [Contest(f"preset {name}", name, {}) for name in LOSS_PRESETS]
    for name, record in COMPONENTS.items():
        found.append(Contest(name, ({"name": name},), {}, regions=record.targets == "regions"))
    return found


def loss_row(contest: Contest, shape: tuple[int, int], size: Size) -> Row:
    """Return milliseconds, and on a GPU the memory beside logits and target, the gradient included."""
    classes, edge = shape
    count = classes - 1 if contest.regions else classes
    logits, target = (one.to(size.device) for one in batch(count, edge, classes))
    module = built(contest, count).to(size.device)

    def loss(values: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = module(values, reference).total
        return value

    leaf = logits.requires_grad_()
    run = partial(forward_and_backward, loss, leaf, target)
    seconds = median_seconds(run, size.device, ONCE if size.is_tiny else TIMING)
    return {"ms": rounded(seconds * 1e3)} | peak_row(run, leaf, size)


def forward_and_backward(loss: Loss, leaf: torch.Tensor, target: torch.Tensor) -> None:
    """Take the gradient of a loss."""
    leaf.grad = None
    loss(leaf, target).backward()  # type: ignore[no-untyped-call]  # torch leaves it without types


def peak_row(run: partial[None], leaf: torch.Tensor, size: Size) -> Row:
    """Return how far memory rises in a run; nothing on a processor."""
    if size.device == "cpu":
        return {}
    leaf.grad = None
    forget(size.device)
    before = torch.cuda.memory_allocated()
    run()
    return {"peak_mib": round((torch.cuda.max_memory_allocated() - before) / MIB, 1)}
