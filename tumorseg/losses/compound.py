"""The weighted sum of losses over all supervised resolutions."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tumorseg.errors import InputError
from tumorseg.losses.level import Level, downsample_target, region_table
from tumorseg.schema.targets import IGNORE, Targets


class LossValue(NamedTuple):
    """What a training step minimises, and what its log shows."""

    total: Tensor
    """Scalar, with gradient."""
    components: dict[str, Tensor]
    """Detached scalars: each component over all resolutions, before its own weight."""


def mean_loss(parts: Sequence[tuple[float, LossValue]]) -> LossValue:
    """Return the mean of losses, each with its share of the whole."""
    total = torch.stack([share * value.total for share, value in parts]).sum()
    names = parts[0][1].components
    components = {name: torch.stack([share * value.components[name] for share, value in parts]).sum() for name in names}
    return LossValue(total, components)


class Term(NamedTuple):
    """One component, built."""

    name: str
    """Unique within the sum."""
    weight: float
    """Factor in the sum."""
    loss: nn.Module
    """Maps a `Level` to a scalar."""


class CompoundLoss(nn.Module):
    """A weighted sum of losses at every resolution that has a weight."""

    region_table: Tensor

    def __init__(self, terms: Iterable[Term], *, level_weights: Sequence[float], targets: Targets) -> None:
        super().__init__()
        self.terms = tuple(terms)
        self.losses = nn.ModuleList(term.loss for term in self.terms)
        self.level_weights = tuple(weight / sum(level_weights) for weight in level_weights)
        self.targets = targets
        self.register_buffer("region_table", region_table(targets), persistent=False)

    def forward(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> LossValue:
        """Return the loss of a batch.

        Args:
            outputs: logits (B, K, *space) from full resolution down, of any floating type; one tensor counts as the
                full resolution alone.
            target: (B, *space) integer class indices at full resolution; `IGNORE` (-1) where nothing is supervised.

        Raises:
            InputError: shapes do not fit each other, or an index is no class.
        """
        outputs, weights = self.pair(outputs)
        _check_shapes(outputs, target, self.targets.num_outputs)
        return self.value(outputs, weights, target, has_ignored=_check_indices(target, self.targets.num_classes))

    def value(
        self, outputs: Sequence[Tensor], weights: Sequence[float], target: Tensor, *, has_ignored: bool
    ) -> LossValue:
        """Return the loss of outputs and target that are known to fit, without looking at a single value of them.

        Args:
            outputs: logits (B, K, *space) from full resolution down.
            weights: of each output.
            target: (B, *space) integer class indices.
            has_ignored: whether any voxel may be `IGNORE`.
        """
        table = self.region_table.to(target.device)
        values = dict.fromkeys((term.name for term in self.terms), target.new_zeros((), dtype=torch.float32))
        for logits, weight in zip(outputs, weights, strict=True):
            if weight > 0:
                coarse = downsample_target(target, logits.shape[2:]).long()
                level = Level(_at_least_float32(logits), coarse, has_ignored, table)
                for term in self.terms:
                    values[term.name] = values[term.name] + weight * term.loss(level)
        total = torch.stack([term.weight * values[term.name] for term in self.terms]).sum()
        return LossValue(total, {name: value.detach() for name, value in values.items()})

    def pair(self, outputs: Tensor | Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[float]]:
        """Return the outputs as a sequence, and the weight of each; a single tensor is the full resolution.

        Raises:
            InputError: there are more or fewer outputs than weights.
        """
        if isinstance(outputs, Tensor):
            return (outputs,), (1.0,)
        if len(outputs) != len(self.level_weights):
            raise InputError(
                f"the network gave {len(outputs)} outputs, but the loss has {len(self.level_weights)} "
                "deep_supervision_weights; they must be as many"
            )
        return outputs, self.level_weights


class VoxelwiseLoss(nn.Module):
    """Wraps another package's loss (logits (B, K, *space), class indices (B, *space)) -> scalar."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        return self.loss(level.logits, level.target)


def _check_shapes(outputs: Sequence[Tensor], target: Tensor, num_outputs: int) -> None:
    space = target.shape[1:]
    for position, logits in enumerate(outputs):
        fits = logits.shape[:2] == (target.shape[0], num_outputs) and logits.ndim == target.ndim + 1
        if not fits or (position == 0 and logits.shape[2:] != space):
            raise InputError(
                f"output {position} has shape {tuple(logits.shape)}, the target {tuple(target.shape)}; expected the "
                f"target's batch, {num_outputs} channels and, for output 0, the target's space"
            )


def _check_indices(target: Tensor, num_classes: int) -> bool:
    """Return whether any voxel is unsupervised. The one place where the loss waits for the device."""
    if target.is_floating_point() or target.numel() == 0:
        raise InputError(f"the target is {target.dtype} of shape {tuple(target.shape)}; expected integer class indices")
    low, high = torch.stack(target.aminmax()).tolist()
    if low < IGNORE or high >= num_classes:
        raise InputError(
            f"the target holds class indices from {low} to {high}; expected 0 to {num_classes - 1}, or {IGNORE} for ignored"
        )
    return bool(low == IGNORE)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
