"""Cases of which teachers have told before what they find in them, some of them perhaps without a reference."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tumorseg.engine.batches import CaseReader
from tumorseg.ops.cropping import inside
from tumorseg.ops.quantised import STEPS
from tumorseg.types import Box, Image, Segmentation


class TaughtVolumes(Protocol):
    """What is kept of a case; `storage.probability_cache.Volumes` is one."""

    def read(self, window: Box) -> NDArray[np.uint16]:
        """Return the steps (S, Z, Y, X) of a window of the image: of each region, or of each label but the background."""
        ...


class Told(NamedTuple):
    """What teachers have told of cases."""

    num_volumes: int
    """S, of a case."""
    volumes: Mapping[str, TaughtVolumes]
    """By case_id, on the student's grid; empty where all teachers look at patches."""
    trust: Mapping[str, float]
    """By case_id, how far teachers are believed; cases that are not there wholly."""


class TaughtCases:
    """Cases, and further ones that have no reference, with what teachers told of them."""

    def __init__(self, cases: CaseReader, told: Told, further: CaseReader | None = None) -> None:
        """Put them together.

        Args:
            cases: those with a reference.
            told: of all.
            further: those without, under names of their own.
        """
        self._readers = dict.fromkeys(cases.case_ids, cases)
        self.has_further = further is not None
        self._further = frozenset() if further is None else frozenset(further.case_ids)
        if further is not None:
            self._readers |= dict.fromkeys(further.case_ids, further)
        self._told = told
        self.num_taught = told.num_volumes if told.volumes else 0
        """Volumes that `read_taught` gives."""

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Return all cases."""
        return tuple(self._readers)

    def is_further(self, case_id: str) -> bool:
        """Return whether a case has no reference."""
        return case_id in self._further

    def trust(self, case_id: str) -> float:
        """Return how far teachers are believed, from 0 to 1."""
        return self._told.trust.get(case_id, 1.0)

    def read_taught(self, case_id: str, box: Box) -> Image:
        """Return the probabilities (S, …) of the part of a box inside the case, float32."""
        window = inside(box, self.shape(case_id))
        return self._told.volumes[case_id].read(window).astype(np.float32) / np.float32(STEPS)

    def shape(self, case_id: str) -> tuple[int, int, int]:
        """Return a case's voxels (Z, Y, X)."""
        return self._readers[case_id].shape(case_id)

    def supervised_classes(self, case_id: str) -> tuple[int, ...]:
        """Return the classes on whose voxels patches are centred."""
        return self._readers[case_id].supervised_classes(case_id)

    def num_locations(self, case_id: str, class_index: int) -> int:
        """Return how many voxels of a class are known."""
        return self._readers[case_id].num_locations(case_id, class_index)

    def num_voxels(self, case_id: str, class_index: int) -> int:
        """Return how many voxels of a class the case has."""
        return self._readers[case_id].num_voxels(case_id, class_index)

    def location(self, case_id: str, class_index: int, number: int) -> tuple[int, int, int]:
        """Return one of them."""
        return self._readers[case_id].location(case_id, class_index, number)

    def read(self, case_id: str, box: Box) -> tuple[Image, Segmentation]:
        """Return the part of a box inside the case."""
        return self._readers[case_id].read(case_id, box)

    def read_previous(self, case_id: str, box: Box) -> Segmentation:
        """Return the class indices of a cascade's previous segmentation there."""
        return self._readers[case_id].read_previous(case_id, box)
