"""Augmentation in a plan: a list of transforms, applied in order."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from tumorseg.schema.base import Record
from tumorseg.schema.extensions import ByName, External
from tumorseg.schema.transforms.acquisition import CopyPaste, MissingChannel, ReducedFov
from tumorseg.schema.transforms.base import PatchFacts
from tumorseg.schema.transforms.cascade import PreviousMorphology, PreviousRemoval
from tumorseg.schema.transforms.ct import HuShift, Streaks
from tumorseg.schema.transforms.histograms import Clahe, HistogramEqualization
from tumorseg.schema.transforms.intensity import Brightness, Contrast, Gamma, GaussianNoise, ZeroOutside
from tumorseg.schema.transforms.mr import BiasField, Ghosting, Gibbs, Motion, RicianNoise, SliceJumps, Spikes
from tumorseg.schema.transforms.resolution import GaussianBlur, LowResolution, ThickSlices
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform

KnownTransform = (
    SpatialTransform
    | MirrorTransform
    | GaussianNoise
    | GaussianBlur
    | Brightness
    | Contrast
    | LowResolution
    | Gamma
    | ThickSlices
    | ZeroOutside
    | BiasField
    | RicianNoise
    | Motion
    | Ghosting
    | Gibbs
    | Spikes
    | SliceJumps
    | HuShift
    | Streaks
    | Clahe
    | HistogramEqualization
    | MissingChannel
    | ReducedFov
    | CopyPaste
    | PreviousMorphology
    | PreviousRemoval
)
"""Transforms of this package."""
TransformSpec = Annotated[KnownTransform | External, ByName("transform")]
CUSTOM = "custom"
"""What stands in the place of a preset's name where the transforms are the user's own."""


class AugmentationSpec(Record):
    """Transforms that are applied to every training patch."""

    preset: str = Field(default=CUSTOM, min_length=1)
    """Preset that the transforms were expanded from; they are what counts. `custom` if they were changed since, or are the user's own."""
    strength: float = Field(default=1.0, ge=0, le=10)
    """Factor that the preset's probabilities were multiplied by, those of mirroring and of what is certain aside."""
    transforms: tuple[TransformSpec, ...] = ()
    """Applied in this order."""

    def misfits(self, facts: PatchFacts, *, reads_distances: bool = False) -> Iterator[str]:
        """Yield which transforms cannot be applied, and why.

        Args:
            facts: of the patches.
            reads_distances: whether a loss has distances to the labels measured before they are augmented.
        """
        for transform in self.transforms:
            # Of another package's nothing is known.
            if isinstance(transform, External):
                continue
            yield from transform.misfits(facts)
            if reads_distances and transform.changes_labels:
                yield (
                    f"{transform.name} changes labels after the loss has measured distances to them; set "
                    f'"distance_maps": "device" in the loss, or leave {transform.name} out'
                )
        yield from self._misplaced()

    def _misplaced(self) -> Iterator[str]:
        if sum(isinstance(transform, SpatialTransform) for transform in self.transforms) > 1:
            yield "spatial stands twice, and only the first could see beyond the patch; put all that it does into one"
        moves_about = False
        for transform in reversed(self.transforms):
            moves_about |= isinstance(transform, SpatialTransform)
            # Before it a sample is larger than the patch, and what a donor cuts off at its edge would be seen inside.
            if isinstance(transform, CopyPaste) and moves_about:
                yield "copy_paste stands before spatial; it pastes from patches of the final size, so place it after"

    def unknown_classes(self, num_classes: int) -> Iterator[str]:
        """Yield which transforms name class indices that a dataset with so many classes, background included, does not have."""
        for transform in self.transforms:
            if isinstance(transform, CopyPaste):
                named = (*transform.labels, *transform.onto)
                if max(named) >= num_classes:
                    yield f"copy_paste names the class indices {sorted(set(named))}; the dataset has 0 to {num_classes - 1}"
