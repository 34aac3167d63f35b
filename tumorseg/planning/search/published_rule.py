"""nnU-Net's own memory estimate, which its presets keep so that they plan what it plans.

Its feature-map elements know neither parameters nor optimizer; they are compared with those of networks that were
measured.
"""

import math

from tumorseg.planning.families.base import Grid
from tumorseg.planning.families.registry import family_of
from tumorseg.planning.presets import MemoryReference, Preset
from tumorseg.planning.search.patch import MIN_BATCH_SIZE, Candidate
from tumorseg.planning.search.relief import Relief


class PublishedRule:
    """nnU-Net's estimate: elements of feature maps against those of a network that was measured."""

    # nnU-Net knows no other way to save memory than a smaller patch.
    reliefs = (Relief(keeps_patch=False),)

    def __init__(self, reference: MemoryReference, preset: Preset, vram_gb: float, num_gpus: int) -> None:
        """Take the preset's reference and a budget in GB (2^30 bytes)."""
        self._reference, self._preset, self.vram_gb, self.num_gpus = reference, preset, vram_gb, num_gpus
        self._family = family_of(preset.network)

    def fits(self, candidate: Candidate, grid: Grid, *, is_rough: bool) -> bool:
        """Compare as nnU-Net does: its plain planner at batch size 2, its ResEnc planners at the reference's."""
        return self._elements(candidate, grid) <= self._budget(grid) * self._least_share(grid)

    def largest_batch(self, candidate: Candidate, grid: Grid, most: int) -> int:
        """Return the reference's batch, scaled, on each GPU."""
        batch = self._budget(grid) / self._elements(candidate, grid) * self._reference_batch(grid)
        return (round(batch) if self._preset.rounds_batch else math.floor(batch)) * self.num_gpus

    def needed_gb(self, candidate: Candidate, grid: Grid, *, is_rough: bool) -> float:
        """Return the budget at which the estimate fits, rounded up to hundredths."""
        share = self._elements(candidate, grid) / (self._budget(grid) * self._least_share(grid))
        return math.ceil(share * self.vram_gb * 100) / 100

    def _elements(self, candidate: Candidate, grid: Grid) -> int:
        elements = self._family.feature_maps(candidate.network, candidate.patch_size, grid.num_outputs)
        assert elements is not None  # a family with a reference counts them, and one without is not compared
        return elements

    def _budget(self, grid: Grid) -> float:
        """Return the elements, at the reference's batch size, that the budget allows."""
        elements = self._reference.elements_2d if len(grid.spacing_mm) == 2 else self._reference.elements_3d
        return elements * self.vram_gb / self._reference.vram_gb

    def _least_share(self, grid: Grid) -> float:
        return 1.0 if self._family.fits_at_reference_batch else self._reference_batch(grid) / MIN_BATCH_SIZE

    def _reference_batch(self, grid: Grid) -> int:
        return self._reference.batch_2d if len(grid.spacing_mm) == 2 else self._reference.batch_3d
