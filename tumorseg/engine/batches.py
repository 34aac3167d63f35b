"""Training patches: which ones, and reading them.

Some are centred on foreground; the others lie anywhere in a case, or, with an ignore label, around a supervised voxel.

Batch number i is a function of (seed, i) alone: nothing has to be remembered to go on after an interruption, and it does
not matter how many threads read ahead.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from tumorseg.ops.cropping import centred_box, clamped_box, pad_to_box
from tumorseg.types import Box, Image, Segmentation

TRAINING, VALIDATION = 0, 1
"""Streams of random numbers."""
READ_AHEAD = 3
"""Batches that are read while the network computes."""


class CaseReader(Protocol):
    """Where patches come from; `storage.cases.CaseStore` is one."""

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Return the cases."""
        ...

    def shape(self, case_id: str) -> tuple[int, int, int]:
        """Return a case's voxels (Z, Y, X)."""
        ...

    def supervised_classes(self, case_id: str) -> tuple[int, ...]:
        """Return the classes on whose voxels patches are centred; none without an ignore label, when any voxel will do."""
        ...

    def num_locations(self, case_id: str, class_index: int) -> int:
        """Return how many voxels of a class are known."""
        ...

    def num_voxels(self, case_id: str, class_index: int) -> int:
        """Return how many voxels of a class the case has."""
        ...

    def location(self, case_id: str, class_index: int, number: int) -> tuple[int, int, int]:
        """Return one of them."""
        ...

    def read(self, case_id: str, box: Box) -> tuple[Image, Segmentation]:
        """Return the part of a box inside the case: image (C, …) and class indices."""
        ...

    def read_previous(self, case_id: str, box: Box) -> Segmentation:
        """Return the class indices of a cascade's previous segmentation there."""
        ...


class Batch(NamedTuple):
    """Patches as read, before augmentation."""

    images: Tensor
    """(B, C, *source), float32."""
    segmentations: Tensor
    """(B, *source), int64 class indices; in a cascade (B, 2, *source), those of the reference and of the previous model."""
    case_ids: tuple[str, ...]
    """Where each patch came from."""
    distances: Tensor | None = None
    """(B, K, *source), mm: signed distances from each output's surface, for losses that have them measured while reading."""


class PatchSpec(NamedTuple):
    """What patches are like."""

    patch_size: tuple[int, ...]
    """Voxels that the network sees; two or three axes."""
    source_size: tuple[int, ...]
    """Voxels that are read around it, for augmentation to turn in."""
    batch_size: int
    foreground_fraction: float
    """Share of patches centred on foreground, at least one unless 0."""
    scored_classes: tuple[tuple[int, ...], ...]
    """Class indices of each label or region, chosen with equal chance for patches on foreground."""
    has_previous: bool = False
    """Whether the previous segmentation of a cascade is read along."""


def read_batch(reader: CaseReader, spec: PatchSpec, *, seed: int, stream: int, number: int) -> Batch:
    """Draw and read one batch.

    Args:
        reader: the cases.
        spec: what patches are like.
        seed: of the training.
        stream: `TRAINING` or `VALIDATION`.
        number: of the batch.
    """
    rng = np.random.default_rng([seed, stream, number])
    forced_from = first_forced(spec.batch_size, spec.foreground_fraction)
    patches = [_read_patch(reader, spec, rng, is_forced=item >= forced_from) for item in range(spec.batch_size)]
    images = torch.from_numpy(np.stack([image for image, _, _ in patches]))
    segmentations = torch.from_numpy(np.stack([segmentation for _, segmentation, _ in patches]).astype(np.int64))
    return Batch(images, segmentations, tuple(case_id for _, _, case_id in patches))


def first_forced(batch_size: int, foreground_fraction: float) -> int:
    """Return the first item of a batch that is centred on foreground (nnU-Net's rounding, but at least one)."""
    if foreground_fraction == 0:
        return batch_size
    return min(round(batch_size * (1 - foreground_fraction)), batch_size - 1)


def _read_patch(
    reader: CaseReader, spec: PatchSpec, rng: np.random.Generator, *, is_forced: bool
) -> tuple[Image, Segmentation, str]:
    case_id = reader.case_ids[rng.integers(len(reader.case_ids))]
    shape = reader.shape(case_id)
    patch = (1,) * (3 - len(spec.patch_size)) + spec.patch_size
    source = (1,) * (3 - len(spec.source_size)) + spec.source_size
    centre = _foreground_voxel(reader, spec.scored_classes, case_id, rng) if is_forced else None
    if centre is None:
        centre = _supervised_voxel(reader, case_id, rng)
    box = _random_box(shape, patch, rng) if centre is None else clamped_box(centred_box(centre, patch), shape)
    wide = tuple(
        (lower - (wanted - edge) // 2, lower - (wanted - edge) // 2 + wanted)
        for (lower, _), edge, wanted in zip(box, patch, source, strict=True)
    )
    image, segmentation = reader.read(case_id, wide)
    if spec.has_previous:
        segmentation = np.stack((segmentation, reader.read_previous(case_id, wide)))
    image, segmentation = pad_to_box(image, wide, shape), pad_to_box(segmentation, wide, shape)
    if len(spec.patch_size) == 2:
        image, segmentation = image[:, 0], segmentation[..., 0, :, :]
    return image, segmentation, case_id


def _foreground_voxel(
    reader: CaseReader, scored_classes: Sequence[Sequence[int]], case_id: str, rng: np.random.Generator
) -> tuple[int, int, int] | None:
    """Return a random voxel of a random label or region that the case has; None if it has none."""
    present = [
        found
        for classes in scored_classes
        if (found := [index for index in classes if reader.num_locations(case_id, index)])
    ]
    if not present:
        return None
    return _voxel_of(reader, present[rng.integers(len(present))], case_id, rng)


def _supervised_voxel(reader: CaseReader, case_id: str, rng: np.random.Generator) -> tuple[int, int, int] | None:
    """Return a random annotated voxel, as nnU-Net, where a dataset has an ignore label; None elsewhere, or without any.

    Of a case annotated in few slices, or by scribbles, most patches drawn anywhere would teach nothing.
    """
    classes = [index for index in reader.supervised_classes(case_id) if reader.num_locations(case_id, index)]
    return _voxel_of(reader, classes, case_id, rng) if classes else None


def _voxel_of(
    reader: CaseReader, classes: Sequence[int], case_id: str, rng: np.random.Generator
) -> tuple[int, int, int]:
    """Return a random voxel of classes that a case has, each by its share of voxels."""
    voxels = np.array([reader.num_voxels(case_id, index) for index in classes], dtype=np.float64)
    index = classes[rng.choice(len(classes), p=voxels / voxels.sum())] if len(classes) > 1 else classes[0]
    return reader.location(case_id, index, int(rng.integers(reader.num_locations(case_id, index))))


def _random_box(shape: Sequence[int], patch: Sequence[int], rng: np.random.Generator) -> Box:
    lowers = [int(rng.integers(max(size - edge, 0) + 1)) for size, edge in zip(shape, patch, strict=True)]
    return clamped_box(tuple((lower, lower + edge) for lower, edge in zip(lowers, patch, strict=True)), shape)


def torch_generator(seed: int, stream: int, number: int) -> torch.Generator:
    """Return the generator of one batch's augmentation."""
    state = np.random.SeedSequence([seed, stream, number, 1]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


def read_ahead(load: Callable[[int], Batch], numbers: Iterable[int]) -> Generator[Batch, None, None]:
    """Yield batches in order while a thread reads the next ones; an error surfaces at its batch."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            for number in numbers:
                waiting.append(pool.submit(load, number))
                if len(waiting) > READ_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
