"""Augmentation on the device against one core: each transform applied for certain, and the whole table as it is drawn."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, get_args

import torch
from torch.nn import functional as F

from benchmarks.gpu.sizes import Row, Size, Tell, Timing, attempt, forget, median_seconds, rounded
from tumorseg.augmentation.patches import AugmentedPatch, suited_spatial
from tumorseg.augmentation.pipeline import Augmentation, Draws
from tumorseg.augmentation.presets import AUGMENTATION_PRESETS, augmentation_preset
from tumorseg.augmentation.samples import Sample
from tumorseg.schema.augmentation import AugmentationSpec, KnownTransform
from tumorseg.schema.dataset import ChannelKind
from tumorseg.schema.preprocessing import CtNormalization, NormalizationSpec, ZScoreNormalization
from tumorseg.schema.transforms.base import PatchFacts, TransformRecord
from tumorseg.schema.transforms.cascade import PreviousMorphology, PreviousRemoval

CT = CtNormalization(lower_hu=-1000, upper_hu=1000, mean_hu=100, std_hu=200)
MR = ZScoreNormalization(masked=True)
MIXED: tuple[tuple[ChannelKind, NormalizationSpec], ...] = (("mr", MR), ("ct", CT))
"""Kinds and normalisations of channels, in turn, so that every transform finds one of its own."""
NUM_CLASSES = 4


class Case(NamedTuple):
    """Patches of one kind."""

    num_channels: int
    patch: tuple[int, ...]
    num_draws: int
    """Samples."""

    @property
    def described(self) -> AugmentedPatch:
        """Return what presets are built for."""
        kinds, normalization = zip(*(MIXED[number % 2] for number in range(self.num_channels)), strict=True)
        axes = tuple(range(len(self.patch)))
        return AugmentedPatch(patch_size=self.patch, mirroring_axes=axes, kinds=kinds, normalization=normalization)


CASES = (Case(2, (40, 56, 40), 6), Case(4, (128, 128, 128), 2))
TINY = (Case(2, (9, 14, 11), 1),)
ON_DEVICE = Timing(1, 2, 5, 0.3)
ONCE = Timing(0, 1, 1, 0.0)
"""On one core, and of a dry run."""


def measure(size: Size, tell: Tell) -> None:
    """Tell a row for each transform and whole preset, and patch."""
    # What is compared with is a core, as each reading thread has one.
    torch.set_num_threads(1)
    for case in TINY if size.is_tiny else CASES:
        for name, make in specs(case):
            known: Row = {"transform": name, "channels": case.num_channels, "patch": "x".join(map(str, case.patch))}
            attempt(tell, known, partial(row_of, make, case, size), size=size)


def specs(case: Case) -> Iterator[tuple[str, Callable[[], AugmentationSpec]]]:
    """Yield names and makers of whole presets, then of each transform alone, certain for every sample."""
    for name in AUGMENTATION_PRESETS:
        yield f"preset {name}", partial(augmentation_preset, name, case.described)
    for record in get_args(KnownTransform):
        yield _name(record), partial(certain, record, case)


def certain(record: type[Any], case: Case) -> AugmentationSpec:
    """Return a transform with its usual ranges that leaves no sample alone."""
    needed: dict[str, dict[str, Any]] = {
        "mirror": {"axes": case.described.mirroring_axes},
        "copy_paste": {"labels": (1,)},
    }
    fields = needed.get(_name(record), {})
    transform = suited_spatial(case.described) if _name(record) == "spatial" else record(**fields)
    given = {name: value for name, value in transform if name.endswith("probability")}
    # What is off by default, as a deformation is, stays off.
    sure = {name: 1.0 for name, value in given.items() if value or name == "probability"}
    return AugmentationSpec(preset="custom", transforms=(transform.changed(**sure),))


def _name(record: type[TransformRecord]) -> str:
    return str(record.model_fields["name"].default)


def row_of(make: Callable[[], AugmentationSpec], case: Case, size: Size) -> Row:
    """Return seconds a sample on a core and on the device, how the results differ, and how often the device is waited for."""
    forget(size.device)
    spec = make()
    augmentation = Augmentation(spec, PatchFacts(case.patch, case.described.normalization))
    draws, sample = drawn(augmentation, spec, case)
    placed = Sample(*(part.to(size.device) for part in sample))
    all_of_them = partial(applied, augmentation, draws)
    # Once for the caches.
    augmentation.apply(sample, draws[0])
    began = time.perf_counter()
    expected = all_of_them(sample)
    core_s = time.perf_counter() - began
    figures = compared(all_of_them(placed), expected)
    seconds = median_seconds(partial(all_of_them, placed), size.device, ONCE if size.is_tiny else ON_DEVICE)
    figures |= {"core_s": rounded(core_s / len(draws)), "device_s": rounded(seconds / len(draws))}
    figures["times_as_fast"] = round(core_s / seconds, 1)
    if size.device != "cpu":
        figures["waits"] = num_waits(partial(all_of_them, placed)) / len(draws)
    return figures


def applied(augmentation: Augmentation, draws: Sequence[Draws], sample: Sample) -> list[Sample]:
    """Return a sample as it becomes by each of several draws."""
    return [augmentation.apply(sample, one) for one in draws]


def drawn(augmentation: Augmentation, spec: AugmentationSpec, case: Case) -> tuple[list[Draws], Sample]:
    """Return what is drawn for some samples, and one that is large enough for all of them."""
    has_previous = any(isinstance(record, PreviousMorphology | PreviousRemoval) for record in spec.transforms)
    draws = [augmentation.draw(seed) for seed in range(case.num_draws)]
    donor = sample_of(case, case.patch, seed=1, num_layers=1 + has_previous)
    for number, one in enumerate(draws):
        if augmentation.donor_classes(one) is not None:
            draws[number] = augmentation.with_donor(one, donor)
    sizes = zip(*(augmentation.source_size(one) for one in draws), strict=True)
    source = tuple(max(edges) for edges in sizes)
    return draws, sample_of(case, source, seed=0, num_layers=1 + has_previous)


def sample_of(case: Case, space: tuple[int, ...], *, seed: int, num_layers: int) -> Sample:
    """Return blobs of labels, and images in which they can be seen, as normalisation leaves them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 1, *(max(2, size // 8) for size in space), generator=generator)
    smooth = F.interpolate(coarse, space, mode="trilinear")[0]
    limits = torch.quantile(smooth.flatten()[:: 1 + smooth.numel() // 10_000], torch.tensor([0.6, 0.8, 0.95]))
    noise = torch.randn(case.num_channels, *space, generator=generator)
    labels = torch.bucketize(smooth, limits).expand(num_layers, *space).contiguous()
    return Sample(smooth + 0.2 * noise, labels, torch.empty(0, *space))


def compared(found: Sequence[Sample], expected: Sequence[Sample]) -> Row:
    """Return how far the device's results are from the core's; fields of noise are drawn where they are added."""
    largest, same = 0.0, 1.0
    for one, other in zip(found, expected, strict=True):
        largest = max(largest, float((one.image.cpu() - other.image).abs().max()))
        same = min(same, float((one.segmentation.cpu() == other.segmentation).float().mean()))
    return {"largest_difference": rounded(largest), "same_labels": round(same, 6)}


def num_waits(run: Callable[[], object]) -> int:
    """Return how often work waits for the GPU."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Which itself warns that it is a prototype.
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing" in str(warning.message) for warning in caught)
