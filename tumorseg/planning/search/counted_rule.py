"""The memory rule of tumorseg's own presets: what fits is counted on the network itself."""

import math
from collections.abc import Callable

from tumorseg.planning.families.base import Grid
from tumorseg.planning.families.registry import family_of
from tumorseg.planning.memory.budgets import allocatable_bytes, needed_bytes, reserved_bytes
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.rehearsal import Setting, setting_of
from tumorseg.planning.search.patch import Candidate
from tumorseg.planning.search.relief import Relief
from tumorseg.schema.base import content_hash
from tumorseg.schema.plan import Configuration, MemoryCount
from tumorseg.schema.quantities import GB

LINES_FIRST = 3
"""Batches that are tried by the line alone."""
Draft = Callable[[Candidate, Grid], Configuration]
"""Returns the whole configuration around a candidate."""


class CountedRule:
    """Counts candidates; what is surely too large is known from a count of the same network on another patch.

    A step's peak is the largest of several straight lines in the number of voxels, one for each of its moments, none of
    which begins below weights and optimizer. For a smaller patch it lies above the line through two counts, and above
    the one from weights and optimizer to a count: what these reject is rejected rightly, and what they let pass is
    counted. Families whose memory does not grow so say it: of theirs, a patch is rejected for a smaller one within it.
    """

    reliefs = (
        Relief(),
        Relief(activation_checkpointing=True),
        Relief(activation_checkpointing=True, gradient_accumulation=2),
        Relief(activation_checkpointing=True, gradient_accumulation=2, keeps_patch=False),
    )

    def __init__(
        self, draft: Draft, counter: MemoryCounter, setting: Setting, *, vram_bytes: int, num_gpus: int
    ) -> None:
        """Take what turns candidates into configurations, what counts them, and the budget of each GPU."""
        self._draft, self._counter, self._setting = draft, counter, setting
        self._limit, self.num_gpus = allocatable_bytes(vram_bytes), num_gpus
        self.vram_gb = vram_bytes / GB
        # By network (what those for all patches have in common) and relief, then by load: patches and batches of as many
        # voxels count as one.
        self._known: dict[str, dict[int, MemoryCount]] = {}
        # The same, one by one.
        self._peaks: dict[str, list[tuple[Candidate, int]]] = {}

    def fits(self, candidate: Candidate, grid: Grid, *, is_rough: bool) -> bool:
        """Return whether training and inference fit; roughly: whether nothing shows that they do not."""
        # A bound costs nothing beside a count.
        if self._at_least(candidate, grid) > self._limit:
            return False
        if is_rough:
            return True
        count = self.count(candidate, grid)
        return max(count.peak_bytes, count.inference_bytes) <= self._limit

    def largest_batch(self, candidate: Candidate, grid: Grid, most: int) -> int:
        """Return the largest batch up to `most` that fits: between two counts by turns on their line and midway."""
        unit = self.num_gpus * candidate.relief.gradient_accumulation
        count = self.count(candidate, grid)
        low, low_peak = candidate.batch_size, count.peak_bytes
        static = count.parameters_bytes + count.optimizer_bytes
        # What is saved grows with the batch, but for copies of weights in half precision, and never passes the peak.
        per_patch = max(count.activations_bytes - count.parameters_bytes, 1) / low
        bound = max(low, math.floor((self._limit - static) / per_patch))
        # The first multiple that is surely too many; `low` fits, so that the answer lies between both.
        too_large = min(most, bound) // unit * unit + unit
        slope, num_counts = (low_peak - static) / low, 0
        while low + unit < too_large:
            # Two points make the line, a third tests it. Alone it may creep up from one side; the middle, by turns, bounds the
            # number of counts. A slope is 0 where the peak is that of the optimizer's step.
            in_the_middle = num_counts >= LINES_FIRST and num_counts % 2 == 1
            room = (too_large - low) / 2 if in_the_middle else (self._limit - low_peak) / max(slope, 1.0)
            tried = min(low + max(math.floor(room / unit), 1) * unit, too_large - unit)
            peak = self.count(candidate._replace(batch_size=tried), grid).peak_bytes
            slope = (peak - low_peak) / (tried - low)
            if peak > self._limit:
                too_large = tried
            else:
                low, low_peak = tried, peak
            num_counts += 1
        return low

    def needed_gb(self, candidate: Candidate, grid: Grid, *, is_rough: bool) -> float:
        """Return the budget that a candidate needs, rounded up to hundredths; roughly: what it needs about."""
        if is_rough:
            return math.ceil(reserved_bytes(math.ceil(self._about(candidate, grid))) / GB * 100) / 100
        return math.ceil(needed_bytes(self.count(candidate, grid)) / GB * 100) / 100

    def holds(self, configuration: Configuration) -> bool:
        """Return whether a whole configuration fits, as it is counted in full."""
        count = self._count(configuration)
        return max(count.peak_bytes, count.inference_bytes) <= self._limit

    def _count(self, configuration: Configuration) -> MemoryCount:
        setting = setting_of(self._setting, configuration)
        return self._counter.count(configuration, setting, num_gpus=self.num_gpus)

    def count(self, candidate: Candidate, grid: Grid) -> MemoryCount:
        """Return the candidate's memory, tiles being added up in main memory where the budget has no room for them."""
        configuration = self._draft(candidate, grid)
        count = self._count(configuration)
        self._known.setdefault(_key(candidate), {})[_load(candidate)] = count
        self._peaks.setdefault(_key(candidate), []).append((candidate, count.peak_bytes))
        # Remembered is the count before: a step's peak does not depend on where tiles are added up.
        if count.inference_bytes > self._limit:
            count = self._count(with_sums_on_cpu(configuration))
        return count

    def _at_least(self, candidate: Candidate, grid: Grid) -> float:
        """Return what a step needs at the least, from counts of the same network on other loads, or its own."""
        if not family_of(candidate.network.name).grows_straight:
            within = [peak for other, peak in self._peaks.get(_key(candidate), []) if _is_within(other, candidate)]
            return max((self._feature_bytes(candidate, grid), *within))
        known = self._known.get(_key(candidate))
        if known is None:
            least = self._feature_bytes(candidate, grid)
            return least if least > self._limit else self.count(candidate, grid).peak_bytes
        load = _load(candidate)
        # A peak never falls as the load grows.
        least = max((count.peak_bytes for other, count in known.items() if other <= load), default=0)
        above = {other: count for other, count in known.items() if other > load}
        return max(least, _extrapolated(load, above)) if above else least

    def _feature_bytes(self, candidate: Candidate, grid: Grid) -> int:
        """Return the bytes of feature maps alone: without checkpointing each is kept for its norm's backward pass."""
        if candidate.relief.activation_checkpointing:
            return 0
        family = family_of(candidate.network.name)
        elements = family.feature_maps(candidate.network, candidate.patch_size, grid.num_outputs)
        if elements is None:
            return 0  # no bound is known
        size = 4 if self._setting.precision == "fp32" else 2
        return size * elements * math.ceil(candidate.batch_size / self.num_gpus)

    def _about(self, candidate: Candidate, grid: Grid) -> float:
        """Return about what a step needs, from counts of the same network, or its own."""
        known = self._known.get(_key(candidate))
        return _extrapolated(_load(candidate), known) if known else self.count(candidate, grid).peak_bytes


def _extrapolated(load: int, known: dict[int, MemoryCount]) -> float:
    """Return the peak on the line through the two nearest counts, or through one and weights and optimizer."""
    nearest, *others = sorted(known, key=lambda other: abs(other - load))
    count = known[nearest]
    slope = (count.peak_bytes - count.parameters_bytes - count.optimizer_bytes) / nearest
    if others:
        slope = (known[others[0]].peak_bytes - count.peak_bytes) / (others[0] - nearest)
    return count.peak_bytes + slope * (load - nearest)


def with_sums_on_cpu(configuration: Configuration) -> Configuration:
    """Return the configuration with the logits of tiles added up in main memory."""
    inference = configuration.inference.changed(accumulate_on="cpu")
    return configuration.changed(inference=inference)


def _key(candidate: Candidate) -> str:
    kin = family_of(candidate.network.name).kin(candidate.network)
    # Whether the patch stays worthwhile, the third field of a relief, changes no memory.
    return content_hash([kin.model_dump(mode="json"), candidate.relief[:2]])


def _is_within(smaller: Candidate, larger: Candidate) -> bool:
    """Tell whether no axis of a patch, nor the batch, is larger than another candidate's."""
    pairs = zip(smaller.patch_size, larger.patch_size, strict=True)
    return smaller.batch_size <= larger.batch_size and all(edge <= other for edge, other in pairs)


def _load(candidate: Candidate) -> int:
    return math.prod(candidate.patch_size) * candidate.batch_size
