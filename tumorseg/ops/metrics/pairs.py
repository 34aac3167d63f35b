"""A prediction beside its reference, and what several metrics read of the two, computed once."""

from functools import cached_property
from typing import NamedTuple

import numpy as np

from tumorseg.ops.cropping import box_slices
from tumorseg.ops.distances import border_voxels, distances_between, union_box
from tumorseg.ops.metrics.components import Components, components_of
from tumorseg.schema.score_rules import Connectivity
from tumorseg.types import Box, FloatArray, Mask, Shape, Spacing


class Directed(NamedTuple):
    """Distances between the borders of two masks."""

    there: FloatArray
    """(N,), float64, mm: of the prediction's border voxels to the reference's border."""
    back: FloatArray
    """(M,), float64, mm: of the reference's border voxels to the prediction's border."""


class MaskPair:
    """Two masks on the box around both.

    Distances, components and counts are computed when first asked for, and kept: the metrics of a pair share them.

    Attributes:
        box: the box in the image; one voxel wider than the masks, as far as the image reaches.
        prediction: (Z, Y, X), bool, the box's.
        reference: (Z, Y, X), bool, the box's.
        spacing_mm: voxel edge (Z, Y, X).
        image_shape: voxels of the whole image (Z, Y, X).
    """

    box: Box
    prediction: Mask
    reference: Mask
    spacing_mm: Spacing
    image_shape: Shape

    def __init__(
        self, prediction: Mask, reference: Mask, *, spacing_mm: Spacing, image_shape: Shape | None = None
    ) -> None:
        """Crop two masks (Z, Y, X) to the box around both; `image_shape` is that of the image that they were cut from, if any."""
        self.box = union_box(prediction, reference)
        window = box_slices(self.box)
        # Contiguous, so that voxels can be told by flat indices.
        self.prediction, self.reference = map(np.ascontiguousarray, (prediction[window], reference[window]))
        self.spacing_mm, self.image_shape = spacing_mm, image_shape or prediction.shape
        self._found: dict[tuple[str, Connectivity], Components] = {}

    @cached_property
    def num_predicted(self) -> int:
        """Return the voxels of the prediction."""
        return int(np.count_nonzero(self.prediction))

    @cached_property
    def num_reference(self) -> int:
        """Return the voxels of the reference."""
        return int(np.count_nonzero(self.reference))

    @cached_property
    def num_shared(self) -> int:
        """Return the voxels of both."""
        return int(np.count_nonzero(self.prediction & self.reference))

    @property
    def num_empty(self) -> int:
        """Return how many of the two masks are empty."""
        return (self.num_predicted == 0) + (self.num_reference == 0)

    @property
    def voxel_mm3(self) -> float:
        """Return the volume of a voxel."""
        return float(np.prod(np.asarray(self.spacing_mm, dtype=np.float64)))

    @cached_property
    def borders(self) -> tuple[Mask, Mask]:
        """Return the border voxels of prediction and reference."""
        return border_voxels(self.prediction), border_voxels(self.reference)

    @cached_property
    def distances(self) -> Directed:
        """Return the distances between the borders; neither mask may be empty."""
        return Directed(*distances_between(*self.borders, spacing_mm=self.spacing_mm))

    def predicted_components(self, connectivity: Connectivity) -> Components:
        """Return the connected components of the prediction."""
        return self._components(self.prediction, ("prediction", connectivity))

    def reference_components(self, connectivity: Connectivity) -> Components:
        """Return the connected components of the reference."""
        return self._components(self.reference, ("reference", connectivity))

    def _components(self, mask: Mask, key: tuple[str, Connectivity]) -> Components:
        # No functools.cache on a method: it would hold the arrays until the garbage collector comes by.
        if key not in self._found:
            self._found[key] = components_of(mask, key[1])
        return self._found[key]
