"""The weighted sum of losses over all supervised resolutions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tumorseg.errors import InputError
from tumorseg.losses.boundary import Boundary
from tumorseg.losses.distance_maps import signed_distances
from tumorseg.losses.level import Level, downsample, region_table
from tumorseg.losses.statistics import Wanted
from tumorseg.losses.weighting import Weighting
from tumorseg.schema.numbers import Number, number_at, number_values
from tumorseg.schema.targets import IGNORE, Targets

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""Types of class indices."""


class LossValue(NamedTuple):
    """Value that a training step minimises, and the components that its log shows."""

    total: Tensor
    """Scalar, with gradient."""
    components: dict[str, Tensor]
    """Detached scalars: each component over all resolutions, before its own weight."""


class Surroundings(NamedTuple):
    """Targets and voxel spacing that a loss is built for."""

    targets: Targets
    """What the network predicts."""
    spacing_mm: tuple[float, ...]
    """Voxel edges of the patch."""


class Term(NamedTuple):
    """One component, built."""

    name: str
    """Unique within the sum."""
    weight: Number
    """Factor in the sum."""
    loss: nn.Module
    """Maps a `Level` to a scalar; its `wanted` is what it needs of the level's statistics."""


class CompoundLoss(nn.Module):
    """A weighted sum of losses at every resolution that has a weight."""

    region_table: Tensor

    def __init__(
        self, terms: Iterable[Term], weighting: Weighting, *, level_weights: Sequence[float], surroundings: Surroundings
    ) -> None:
        super().__init__()
        self.terms = tuple(terms)
        self.losses = nn.ModuleList(term.loss for term in self.terms)
        self.weighting = weighting
        self.level_weights = tuple(weight / sum(level_weights) for weight in level_weights)
        self.targets, self.spacing_mm = surroundings
        self.progress = 0.0
        """Fraction of the training that is done; whoever trains sets it."""
        self._wanted = Wanted()
        for term in self.terms:
            self._wanted |= getattr(term.loss, "wanted", Wanted())
        self.register_buffer("region_table", region_table(self.targets), persistent=False)

    def forward(
        self,
        outputs: Tensor | Sequence[Tensor],
        target: Tensor,
        distances: Tensor | None = None,
        has_ignored: bool | None = None,
    ) -> LossValue:
        """Return the loss of a batch.

        Args:
            outputs: logits (B, K, *space) from full resolution down, of any floating type; one tensor counts as the
                full resolution alone.
            target: (B, *space) integer class indices at full resolution; `IGNORE` (-1) where nothing is supervised.
            distances: (B, K, *space) signed distances, mm, as `distance_maps` returns them; measured here if None.
            has_ignored: whether any voxel may be `IGNORE`, where the indices are known to be classes; None to look at them,
                which waits for the device.

        Raises:
            InputError: shapes do not fit each other, or an index is no class.
        """
        outputs, weights = self.pair(outputs)
        _check_shapes(outputs, target, self.targets.num_outputs)
        _check_distances(distances, outputs)
        if len(self.spacing_mm) != target.ndim - 1:
            raise InputError(
                f"the target has shape {tuple(target.shape)}, but the loss was built for {len(self.spacing_mm)} axes"
            )
        if has_ignored is None:
            has_ignored = _check_indices(outputs, target, self.targets.num_classes)
        return self.value(outputs, weights, target, has_ignored=has_ignored, distances=distances)

    def value(
        self,
        outputs: Sequence[Tensor],
        weights: Sequence[float],
        target: Tensor,
        *,
        has_ignored: bool,
        distances: Tensor | None = None,
    ) -> LossValue:
        """Return the loss of outputs and target that are known to fit, without looking at a single value of them.

        Args:
            outputs: logits (B, K, *space) from full resolution down.
            weights: of each output.
            target: (B, *space) integer class indices.
            has_ignored: whether any voxel may be `IGNORE`.
            distances: as for `forward`.
        """
        if distances is None:
            distances = self.distance_maps(target)
        # One zero for all, so nothing may be added to it in place.
        values = dict.fromkeys((term.name for term in self.terms), target.new_zeros((), dtype=torch.float32))
        for logits, weight in zip(outputs, weights, strict=True):
            if weight > 0:
                level = self._level(logits, target, has_ignored=has_ignored, distances=distances)
                for term in self.terms:
                    values[term.name] = values[term.name] + weight * term.loss(level)
        own = self._own_weights()
        factors, added = self.weighting(own)
        total = torch.stack([weight * values[term.name] for weight, term in zip(own, self.terms, strict=True)])
        total = (total if factors is None else total * factors).sum() + added
        return LossValue(total, {name: value.detach() for name, value in values.items()})

    def distance_maps(self, target: Tensor) -> Tensor | None:
        """Return the signed distances (B, K, *space), mm, from the surface of each output's reference; None if none needs them.

        Those of the background class are 0.

        Args:
            target: (B, *space) integer class indices at full resolution.
        """
        limits = {loss.max_distance_mm for loss in self.losses if isinstance(loss, Boundary)}
        if not limits:
            return None
        with torch.no_grad():
            target = target.long()
            table = self.region_table.to(target.device)
            masks = _region_masks(target, table) if len(table) else _foreground_masks(target, self.targets.num_classes)
            # The plan's check sees to it that boundary components share one limit.
            found = signed_distances(masks, (target != IGNORE).unsqueeze(1), self.spacing_mm, limits.pop())
            # Nothing asks for the background's.
            return found if len(table) else torch.cat((torch.zeros_like(found[:, :1]), found), dim=1)

    def weights(self) -> dict[str, float]:
        """Return the present factor of each component in the sum."""
        own = self._own_weights()
        factors, _ = self.weighting(own)
        found = [1.0] * len(self.terms) if factors is None else factors.tolist()
        return {term.name: weight * factor for term, weight, factor in zip(self.terms, own, found, strict=True)}

    def reference_loss(self, components: Mapping[str, float]) -> float:
        """Return the sum of components by their largest weights: it does not change because weights do.

        Args:
            components: values by name.
        """
        return sum(max(number_values(term.weight)) * components[term.name] for term in self.terms)

    def _own_weights(self) -> list[float]:
        return [number_at(term.weight, self.progress) for term in self.terms]

    def _level(self, logits: Tensor, target: Tensor, *, has_ignored: bool, distances: Tensor | None) -> Level:
        space = logits.shape[2:]
        pairs = zip(self.spacing_mm, target.shape[1:], space, strict=True)
        return Level(
            logits=logits,
            target=downsample(target, space).long(),
            has_ignored=has_ignored,
            region_table=self.region_table.to(target.device),
            spacing_mm=tuple(edge * fine / coarse for edge, fine, coarse in pairs),
            wanted=self._wanted,
            distances=None if distances is None else downsample(distances, space, first_axis=2),
            progress=self.progress,
        )

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
        return self.loss(level.wide_logits, level.target)


def _check_shapes(outputs: Sequence[Tensor], target: Tensor, num_outputs: int) -> None:
    space = target.shape[1:]
    for position, logits in enumerate(outputs):
        found = f"output {position} is {logits.dtype} of shape {tuple(logits.shape)}, the target {target.dtype} of shape {tuple(target.shape)}"
        if not logits.is_floating_point():
            raise InputError(f"{found}; expected logits of a floating type")
        fits = logits.shape[:2] == (target.shape[0], num_outputs) and logits.ndim == target.ndim + 1
        if not fits or (position == 0 and logits.shape[2:] != space):
            raise InputError(
                f"{found}; expected the target's batch, {num_outputs} channels and, for output 0, the target's space"
            )
        if logits.numel() == 0 or any(coarse > fine for coarse, fine in zip(logits.shape[2:], space, strict=True)):
            raise InputError(f"{found}; expected voxels, and no finer ones than the target's")
        if target.dtype not in INTEGERS:
            raise InputError(f"{found}; expected integer class indices")


def _check_distances(distances: Tensor | None, outputs: Sequence[Tensor]) -> None:
    if distances is not None and distances.shape != outputs[0].shape:
        raise InputError(
            f"distances have shape {tuple(distances.shape)}, output 0 {tuple(outputs[0].shape)}; expected the same"
        )


def _check_indices(outputs: Sequence[Tensor], target: Tensor, num_classes: int) -> bool:
    """Return whether any voxel is unsupervised."""
    # One transfer for both: each would wait for the device.
    low, high = torch.stack(target.aminmax()).tolist()
    if low < IGNORE or high >= num_classes:
        raise InputError(
            f"the target of shape {tuple(target.shape)} for output 0 of shape {tuple(outputs[0].shape)} holds class indices from "
            f"{low} to {high}; expected 0 to {num_classes - 1}, or {IGNORE} for ignored"
        )
    return bool(low == IGNORE)


def _region_masks(target: Tensor, table: Tensor) -> Tensor:
    # IGNORE is -1, which looks up the last column: it is in no region.
    return table[:, target].movedim(0, 1)


def _foreground_masks(target: Tensor, num_classes: int) -> Tensor:
    classes = torch.arange(1, num_classes, device=target.device)
    return target.unsqueeze(1) == classes.view(-1, *(1,) * (target.ndim - 1))
