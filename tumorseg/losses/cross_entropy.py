"""Cross-entropy of classes and of regions."""

import math

import torch
from torch import Tensor, nn

from tumorseg.errors import PlanError
from tumorseg.losses.level import Level
from tumorseg.losses.statistics import Wanted
from tumorseg.schema.class_weights import (
    ClassWeights,
    CountedWeights,
    EffectiveNumberWeights,
    GivenWeights,
    InverseFrequencyWeights,
)
from tumorseg.schema.losses import EntropyLoss
from tumorseg.schema.targets import Targets


class CrossEntropy(nn.Module):
    """Softmax cross-entropy, mean over supervised voxels; 0 where there is none.

    With class weights the mean is weighted, as torch's; with label smoothing each voxel's label is spread over all classes.

    References:
        Szegedy et al., CVPR 2016 (label smoothing).
    """

    def __init__(self, spec: EntropyLoss, targets: Targets) -> None:
        super().__init__()
        self.spec = spec
        self.wanted = Wanted(entropy=True, every_class=spec.label_smoothing != 0)
        self.weights = OutputWeights(spec.class_weights, targets)

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        sums, smoothing = level.sums, level.at(self.spec.label_smoothing)
        values, reference = (1 - smoothing) * sums.entropy_inside.sum(0), sums.reference.sum(0)
        if self.wanted.every_class:
            # Every class gets its part of the label, the right one included, as in torch.
            values = values + smoothing / len(values) * sums.entropy_of_all.sum(0)
        if not self.weights.are_alike:
            weights: Tensor = self.weights(reference)
            values, reference = weights * values, weights * reference
        mass = reference.sum()
        return values.sum() / torch.where(mass > 0, mass, 1)


class BinaryCrossEntropy(nn.Module):
    """Sigmoid cross-entropy of regions, mean over supervised voxels and regions; 0 where there is none.

    nnU-Net with an ignore label sums over regions instead (its DC_and_BCE_loss divides by voxels alone).
    """

    def __init__(self, spec: EntropyLoss, targets: Targets) -> None:
        super().__init__()
        self.spec = spec
        self.wanted = Wanted(entropy=True, every_class=spec.label_smoothing != 0)
        self.weights = OutputWeights(spec.class_weights, targets)

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        sums, smoothing = level.sums, level.at(self.spec.label_smoothing)
        values = (1 - smoothing) * (sums.entropy_inside + sums.entropy_outside).sum(0)
        if self.wanted.every_class:
            # A region and its background are two classes.
            values = values + smoothing / 2 * sums.entropy_of_all.sum(0)
        if self.weights.are_alike:
            return values.sum() / (level.num_supervised * len(values))
        weights: Tensor = self.weights(sums.reference.sum(0))
        return (weights * values).sum() / (level.num_supervised * weights.sum())


class OutputWeights(nn.Module):
    """Weights (K) of classes or regions: given, or from how many voxels they have."""

    values: Tensor | None

    def __init__(self, spec: ClassWeights | None, targets: Targets) -> None:
        super().__init__()
        self.spec = spec
        given = _given(spec)
        if given is not None and len(given) != targets.num_outputs:
            names = ", ".join(targets.region_names or targets.label_names)
            raise PlanError(f"class_weights has {len(given)} entries for {targets.num_outputs} outputs ({names})")
        # float32 cannot count the voxels of a whole dataset.
        values = None if given is None else torch.tensor(given, dtype=torch.float64)
        self.register_buffer("values", values, persistent=False)

    @property
    def are_alike(self) -> bool:
        """Whether there are none."""
        return self.spec is None

    def forward(self, reference: Tensor) -> Tensor:
        """Return the weights (K) as they are given, or from the voxels of the dataset, or from those of the batch (K)."""
        values = reference if self.values is None else self.values
        if isinstance(self.spec, CountedWeights):
            values = weights_of(self.spec, values)
        return values.to(reference.dtype)


def _given(spec: ClassWeights | None) -> tuple[float, ...] | None:
    """Return the weights, or numbers of voxels, that the plan holds."""
    if isinstance(spec, GivenWeights):
        return spec.values
    if spec is None or spec.of == "batch":
        return None
    if spec.voxels is None:
        raise PlanError(
            "class_weights count the voxels of the dataset, but the plan does not hold them; plan anew from a fingerprint that "
            'counted labels, or set "of": "batch"'
        )
    return spec.voxels


def weights_of(spec: CountedWeights, voxels: Tensor) -> Tensor:
    """Return weights (K) from numbers of voxels (K); on average over voxels they are 1.

    What has no voxel weighs as much as the heaviest that has; where none has any, all weigh 1.

    References:
        Cui et al., Class-balanced loss based on effective number of samples, CVPR 2019.
    """
    # What has no voxel gets the heaviest weight further down; until then it must not be divided by.
    counts = voxels.clamp(min=1)
    if isinstance(spec, EffectiveNumberWeights):
        # 1 - beta^n without its cancellation.
        weights = torch.ones_like(counts) if spec.beta == 0 else 1 / -torch.expm1(counts * math.log(spec.beta))
    else:
        assert isinstance(spec, InverseFrequencyWeights)
        weights = (counts / counts.sum()) ** -spec.power
    heaviest = torch.where(voxels > 0, weights, 0.0).amax()
    weights = torch.where(voxels > 0, weights, heaviest)
    mass = (weights * voxels).sum()
    return torch.where(mass > 0, weights * voxels.sum() / torch.where(mass > 0, mass, 1), 1.0)
