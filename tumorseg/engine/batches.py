"""Training patches: which ones, and reading them.

Some are centred on foreground; the others lie anywhere in a case, or, with an ignore label, around a supervised voxel.

Each item of a batch is a function of (seed, stream, batch number, item) alone: nothing has to be remembered to go on after
an interruption, and it does not matter which thread or process reads which items of a batch.
"""

import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol

import numpy as np
import torch

from tumorseg.augmentation.samples import Sample
from tumorseg.ops.cropping import centred_box, clamped_box, pad_to_box
from tumorseg.types import Box, Image, Segmentation

TRAINING, VALIDATION = 0, 1
"""Streams of random numbers."""


class CaseReader(Protocol):
    """Source of patches; `storage.cases.CaseStore` is one."""

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
        """Return the part of a box inside the case: image (C, …) and class indices, both the caller's to overwrite."""
        ...

    def read_previous(self, case_id: str, box: Box) -> Segmentation:
        """Return the class indices of a cascade's previous segmentation there."""
        ...


class TaughtReader(Protocol):
    """Source of teachers' probabilities; `engine.taught_cases.TaughtCases` is one."""

    def read_taught(self, case_id: str, box: Box) -> Image:
        """Return the probabilities (S, …) of the part of a box inside the case, float32."""
        ...


class Item(NamedTuple):
    """Place of a patch in a training, from which all its random numbers follow."""

    seed: int
    """Of the training."""
    stream: int
    """`TRAINING` or `VALIDATION`."""
    number: int
    """Of the batch."""
    item: int
    """Within the batch."""

    def patch_generator(self) -> np.random.Generator:
        """Return the generator that decides which patch is read."""
        return np.random.default_rng(self._seed(0))

    def augmentation_seed(self) -> int:
        """Return the seed of the patch's augmentation."""
        return self._seed(1)

    def donor_generator(self) -> np.random.Generator:
        """Return the generator that decides which other patch something is pasted from."""
        return np.random.default_rng(self._seed(2))

    def network_seed(self) -> int:
        """Return the seed of what the layers of a network draw for this patch and those that pass with it."""
        return self._seed(3)

    def chance(self) -> float:
        """Return the number from 0 to 1 that decides whether the patch of a batch of one is centred on foreground."""
        return self._seed(4) / 2**64

    def _seed(self, purpose: int) -> int:
        """Return a number of 64 bits."""
        # A hash takes a tenth of the time of numpy's SeedSequence, which is felt in batches of hundreds of small patches. Its
        # input is little-endian whatever the machine.
        place = struct.pack("<QQQQQ", *self, purpose)
        return int.from_bytes(blake2b(place, digest_size=8).digest(), "little")


class Patch(NamedTuple):
    """A patch as read, before augmentation."""

    sample: Sample
    """Image (C, *source) float32; int64 class indices (1, *source), in a cascade (2, *source): those of the reference and of the
    previous model; as maps (S, *source) what teachers have told before, if they have."""
    case_id: str


def drawn_case(reader: CaseReader, item: Item) -> str:
    """Return the case of a patch, without reading it."""
    return _draw_case(reader, item.patch_generator())


def _draw_case(reader: CaseReader, rng: np.random.Generator) -> str:
    case_ids = reader.case_ids
    return case_ids[rng.integers(len(case_ids))]


class PatchSpec(NamedTuple):
    """Size and sampling of patches."""

    patch_size: tuple[int, ...]
    """Voxels that the network sees; two or three axes."""
    batch_size: int
    foreground_fraction: float
    """Share of patches centred on foreground, at least one of a batch of several unless 0."""
    scored_classes: tuple[tuple[int, ...], ...]
    """Class indices of each label or region, chosen with equal chance for patches on foreground."""
    has_previous: bool = False
    """Whether the previous segmentation of a cascade is read along."""
    taught: "TaughtReader | None" = None
    """Source of what teachers have told of the cases before, which is read along; None where they have not."""


def first_forced(batch_size: int, foreground_fraction: float) -> int:
    """Return the first item of a batch that is centred on foreground (nnU-Net's rounding, but at least one)."""
    if foreground_fraction == 0:
        return batch_size
    return min(round(batch_size * (1 - foreground_fraction)), batch_size - 1)


def is_forced(spec: PatchSpec, item: Item) -> bool:
    """Return whether a patch is centred on foreground: of a batch of one by chance, or all would be."""
    if spec.batch_size == 1 and spec.foreground_fraction < 1:
        return item.chance() < spec.foreground_fraction
    return item.item >= first_forced(spec.batch_size, spec.foreground_fraction)


def read_patch(reader: CaseReader, spec: PatchSpec, item: Item, source_size: tuple[int, ...]) -> Patch:
    """Draw and read a patch.

    Args:
        reader: the cases.
        spec: size and sampling of the patches of a batch.
        item: which one.
        source_size: voxels that are read around it, for augmentation to turn in; at least the patch.
    """
    rng = item.patch_generator()
    case_id = _draw_case(reader, rng)  # the first draw
    shape = reader.shape(case_id)
    # Cases have three axes: a patch of two is one slice thick.
    flat = (1,) * (3 - len(spec.patch_size))
    patch, source = flat + spec.patch_size, flat + source_size
    centre = _foreground_voxel(reader, spec.scored_classes, case_id, rng) if is_forced(spec, item) else None
    if centre is None:
        centre = _supervised_voxel(reader, case_id, rng)
    # A patch that would stick out is moved inside: beyond the image there is nothing to learn from.
    box = _random_box(shape, patch, rng) if centre is None else clamped_box(centred_box(centre, patch), shape)
    return Patch(_cut(reader, case_id, _widen(box, source), spec), case_id)


def drawn_donor(reader: CaseReader, item: Item) -> str | None:
    """Return the case of what is pasted into an item's patch, without reading it; None if there is no other case."""
    return _draw_donor(reader, item, item.donor_generator())


def _draw_donor(reader: CaseReader, item: Item, rng: np.random.Generator) -> str | None:
    case_ids, own = reader.case_ids, drawn_case(reader, item)
    if len(case_ids) == 1:
        return None
    # Any but its own, which is passed over.
    number = int(rng.integers(len(case_ids) - 1))
    return case_ids[number + (number >= case_ids.index(own))]


def read_donor(reader: CaseReader, spec: PatchSpec, item: Item, classes: Sequence[int]) -> Patch | None:
    """Draw and read a patch of another case than an item's, for something of it to be pasted into the item's.

    Args:
        reader: the cases.
        spec: size of the patches.
        item: whose patch something is pasted into.
        classes: on a voxel of one of which it is centred, each that the case has as likely.

    Returns:
        The patch, of the patch's size; None if the other case has none of the classes, or there is no other case.
    """
    rng = item.donor_generator()
    case_id = _draw_donor(reader, item, rng)
    if case_id is None:
        return None
    each = [(index,) for index in classes]
    centre = _foreground_voxel(reader, each, case_id, rng)
    if centre is None:
        return None
    patch = (1,) * (3 - len(spec.patch_size)) + spec.patch_size
    box = clamped_box(centred_box(centre, patch), reader.shape(case_id))
    return Patch(_cut(reader, case_id, box, spec), case_id)


def _cut(reader: CaseReader, case_id: str, box: Box, spec: PatchSpec) -> Sample:
    """Return what lies in a box of three axes, 0 beyond the image; of a network of two axes its one plane."""
    shape = reader.shape(case_id)
    image, classes = reader.read(case_id, box)
    layers = [classes, reader.read_previous(case_id, box)] if spec.has_previous else [classes]
    image, segmentation = pad_to_box(image, box, shape), pad_to_box(np.stack(layers), box, shape)
    # Beyond the image no class is probable but the background, which is not read.
    taught = [] if spec.taught is None else [pad_to_box(spec.taught.read_taught(case_id, box), box, shape)]
    maps = np.concatenate([np.empty((0, *image.shape[1:]), np.float32), *taught])
    if len(spec.patch_size) == 2:
        image, segmentation, maps = image[:, 0], segmentation[:, 0], maps[:, 0]
    # Cases are stored as int8 or int16, with which torch cannot look up a table.
    classes_of_voxels = torch.from_numpy(segmentation.astype(np.int64))
    return Sample(torch.from_numpy(image), classes_of_voxels, torch.from_numpy(maps))


def _widen(box: Box, size: Sequence[int]) -> Box:
    """Return the box of a larger size around a box; of an odd margin the larger half lies behind it."""
    widened = []
    for (lower, upper), wanted in zip(box, size, strict=True):
        start = lower - (wanted - (upper - lower)) // 2
        widened.append((start, start + wanted))
    return tuple(widened)


def _foreground_voxel(
    reader: CaseReader, scored_classes: Sequence[Sequence[int]], case_id: str, rng: np.random.Generator
) -> tuple[int, int, int] | None:
    """Return a random voxel of a random label or region that the case has; None if it has none."""
    present = []
    for classes in scored_classes:
        # A case may have some classes of a region only.
        found = [index for index in classes if reader.num_locations(case_id, index)]
        if found:
            present.append(found)
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
    # By voxels, not by the locations that are remembered: of a small class these are all, of a large one 1 %.
    voxels = np.array([reader.num_voxels(case_id, index) for index in classes], dtype=np.float64)
    index = classes[rng.choice(len(classes), p=voxels / voxels.sum())] if len(classes) > 1 else classes[0]
    return reader.location(case_id, index, int(rng.integers(reader.num_locations(case_id, index))))


def _random_box(shape: Sequence[int], patch: Sequence[int], rng: np.random.Generator) -> Box:
    # The bound is exclusive; along an axis that is shorter than the patch only 0 is left, and the box is centred below.
    lowers = [int(rng.integers(max(size - edge, 0) + 1)) for size, edge in zip(shape, patch, strict=True)]
    return clamped_box(tuple((lower, lower + edge) for lower, edge in zip(lowers, patch, strict=True)), shape)
