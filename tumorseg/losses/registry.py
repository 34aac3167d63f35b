"""From a plan's loss to a module."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from torch import nn

from tumorseg.errors import PlanError
from tumorseg.losses.boundary import Boundary, Hausdorff, NeighbourPenalty, SurfaceDice
from tumorseg.losses.compound import CompoundLoss, Surroundings, Term, VoxelwiseLoss
from tumorseg.losses.cross_entropy import BinaryCrossEntropy, CrossEntropy
from tumorseg.losses.hard_voxels import Focal, HardExamples, TopK, UnifiedFocal
from tumorseg.losses.overlap import GeneralizedDice, SoftDice, SoftJaccard, Tversky
from tumorseg.losses.weighting import build_weighting
from tumorseg.schema.extensions import External, load_external
from tumorseg.schema.losses import LossComponent, LossSpec, is_ever_used
from tumorseg.schema.targets import Targets

GROUP = "tumorseg.losses"
"""Entry points of other packages: builder(parameters, targets=) -> module (logits (B, K, *space), class indices
(B, *space) with -1 where unsupervised) -> scalar."""


def build_loss(spec: LossSpec, targets: Targets, spacing_mm: Sequence[float]) -> CompoundLoss:
    """Return the loss that a plan names.

    Args:
        spec: components, their weights, and the weight of each resolution.
        targets: what the network predicts: classes, or regions of classes.
        spacing_mm: voxel edges of the patch, for losses that measure distances.

    Returns:
        A module (logits from full resolution down, class indices (B, *space)) -> `LossValue`.

    Raises:
        PlanError: a component does not fit the targets, or another package's loss is not installed in the plan's
            version.
    """
    for misfit in spec.misfits(has_regions=targets.has_regions):
        raise PlanError(f"the loss has {misfit}")
    names = _unique_names(spec.components)
    terms = [
        Term(name, component.weight, _build_component(component, targets))
        for name, component in zip(names, spec.components, strict=True)
        if is_ever_used(component)
    ]
    weighting = build_weighting(spec.weighting, [term.name for term in terms])
    surroundings = Surroundings(targets, tuple(spacing_mm))
    return CompoundLoss(terms, weighting, level_weights=spec.deep_supervision_weights, surroundings=surroundings)


def _build_component(component: LossComponent, targets: Targets) -> nn.Module:
    if isinstance(component, External):
        return VoxelwiseLoss(load_external(component, GROUP)(component.parameters, targets=targets))
    return BUILDERS[component.name](component, targets)


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "dice": SoftDice,
    "generalized_dice": GeneralizedDice,
    "jaccard": SoftJaccard,
    "tversky": Tversky,
    "unified_focal": UnifiedFocal,
    "cross_entropy": CrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "focal": Focal,
    "topk": TopK,
    "ohem": HardExamples,
    "nacl": NeighbourPenalty,
    "boundary": Boundary,
    "hausdorff": Hausdorff,
    "surface_dice": SurfaceDice,
}


def _unique_names(components: Sequence[LossComponent]) -> Iterator[str]:
    """Yield each component's name, a repeated one with its count: dice, dice_2."""
    seen: Counter[str] = Counter()
    for component in components:
        seen[component.name] += 1
        yield component.name if seen[component.name] == 1 else f"{component.name}_{seen[component.name]}"
