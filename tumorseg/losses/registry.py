"""From a plan's loss to a module."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from torch import nn

from tumorseg.errors import PlanError
from tumorseg.losses.compound import CompoundLoss, Term, VoxelwiseLoss
from tumorseg.losses.cross_entropy import BinaryCrossEntropy, CrossEntropy
from tumorseg.losses.dice import SoftDice
from tumorseg.losses.focal import Focal
from tumorseg.losses.tversky import Tversky
from tumorseg.schema.extensions import External, load_external
from tumorseg.schema.losses import BinaryCrossEntropyLoss, CrossEntropyLoss, LossComponent, LossSpec
from tumorseg.schema.targets import Targets

GROUP = "tumorseg.losses"
"""Entry points of other packages: builder(parameters, targets=) -> module (logits (B, K, *space), class indices
(B, *space) with -1 where unsupervised) -> scalar."""


def build_loss(spec: LossSpec, targets: Targets) -> CompoundLoss:
    """Return the loss that a plan names.

    Args:
        spec: components, their weights, and the weight of each resolution.
        targets: what the network predicts: classes, or regions of classes.

    Returns:
        A module (logits from full resolution down, class indices (B, *space)) -> `LossValue`.

    Raises:
        PlanError: a component does not fit the targets, or another package's loss is not installed in the plan's
            version.
    """
    names = _unique_names(spec.components)
    terms = [
        Term(name, component.weight, _build_component(component, targets))
        for name, component in zip(names, spec.components, strict=True)
        if component.weight > 0
    ]
    return CompoundLoss(terms, level_weights=spec.deep_supervision_weights, targets=targets)


def _build_component(component: LossComponent, targets: Targets) -> nn.Module:
    if isinstance(component, External):
        return VoxelwiseLoss(load_external(component, GROUP)(component.parameters, targets=targets))
    return BUILDERS[component.name](component, targets)


def _cross_entropy(component: CrossEntropyLoss, targets: Targets) -> CrossEntropy:
    if targets.has_regions:
        raise PlanError("cross_entropy needs exclusive classes, but this dataset has regions; use binary_cross_entropy")
    return CrossEntropy()


def _binary_cross_entropy(component: BinaryCrossEntropyLoss, targets: Targets) -> BinaryCrossEntropy:
    if not targets.has_regions:
        raise PlanError("binary_cross_entropy needs regions, but this dataset has none; use cross_entropy")
    return BinaryCrossEntropy()


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "dice": SoftDice,
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "tversky": Tversky,
    "focal": Focal,
}


def _unique_names(components: Sequence[LossComponent]) -> Iterator[str]:
    """Yield each component's name, a repeated one with its count: dice, dice_2."""
    seen: Counter[str] = Counter()
    for component in components:
        seen[component.name] += 1
        yield component.name if seen[component.name] == 1 else f"{component.name}_{seen[component.name]}"
