"""Maps beside a case's mask: probabilities, their entropy, and where members of the model disagree.

They lie on the grid of the input, in the axis order in which it is stored, as integers from 0 to 65535 that a slope of 1/65535
turns into 0 to 1. They are written slice by slice: never are all classes of a volume in memory.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tumorseg.engine.segmentation import Observer, SliceResult
from tumorseg.engine.uncertainty import STEPS, disagreement, entropy, in_steps, probabilities
from tumorseg.ops.geometry import Orientation, restore_orientation
from tumorseg.schema.base import Record
from tumorseg.schema.dataset import ImageFile
from tumorseg.schema.targets import Targets
from tumorseg.stages.opening.reading import CaseImage
from tumorseg.storage.formats.zipping import slabs
from tumorseg.storage.image_writing import write_volumes
from tumorseg.storage.layout import output_file
from tumorseg.storage.plane_scratch import PlaneScratch
from tumorseg.types import Affine

if TYPE_CHECKING:
    from tumorseg.storage.formats.nifti_writing import Voxels

PROBABILITIES = "probabilities"
ENTROPY = "entropy"
DISAGREEMENT = "disagreement"
SCALING = (1 / STEPS, 0.0)


class MapRequest(Record):
    """Maps that are wanted beside the masks."""

    probabilities: bool = False
    """Of each class, the background first, or of each region: 4D, along the last axis."""
    entropy: bool = False
    """How evenly the probabilities are spread, from 0 to 1."""
    disagreement: bool = False
    """Share of the members (folds and mirrored views) that decided otherwise than all together; needs their votes."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the maps that are wanted, by the names of their folders."""
        wanted = {PROBABILITIES: self.probabilities, ENTROPY: self.entropy, DISAGREEMENT: self.disagreement}
        return tuple(kind for kind, is_wanted in wanted.items() if is_wanted)


class _Map(NamedTuple):
    """One map of a case in the making."""

    file: Path
    scratch: PlaneScratch
    outside: tuple[int, ...]
    """Stored value of each volume where the image was cropped away."""
    names: tuple[str, ...]
    """Of its volumes; empty for a map of one."""


class CaseMaps(NamedTuple):
    """Maps of one case in the making."""

    root: Path
    orientation: Orientation
    """In which slices come."""
    stored_shape: tuple[int, ...]
    """Voxels (Z, Y, X) of the image as stored."""
    maps: tuple[_Map, ...]
    observers: tuple[Observer, ...]
    """What has to be shown each slice, one slice at a time."""

    def write(self, like: ImageFile, affine: Affine) -> tuple[str, ...]:
        """Write the maps of all slices that were shown.

        Args:
            like: the image on whose grid the maps lie.
            affine: (4, 4), where it was taken to lie.

        Returns:
            The files, relative to the root.

        Raises:
            InputError: the image cannot be read, or has another shape.
            StorageError: a file cannot be written; then none of the case is there.
        """
        with ExitStack() as undoing:
            for one in self.maps:
                write_volumes(one.file, self._voxels(one), like=like, affine=affine)
                undoing.callback(one.file.unlink, missing_ok=True)
            undoing.pop_all()
        return tuple(one.file.relative_to(self.root).as_posix() for one in self.maps)

    def _voxels(self, one: _Map) -> "Voxels":
        # nibabel's import takes a while, which those who want no maps are spared
        from tumorseg.storage.formats.nifti_writing import Voxels

        shape = (len(one.names), *self.stored_shape) if one.names else self.stored_shape
        parts = self._parts(one)
        return Voxels(shape, np.dtype(np.uint16), parts, SCALING, one.names, is_quick=True)

    def _parts(self, one: _Map) -> Iterator[NDArray[Any]]:
        for number, outside in enumerate(one.outside):
            yield from slabs(restore_orientation(one.scratch.volume(number, outside), self.orientation))


@contextmanager
def open_maps(
    requested: MapRequest, found: CaseImage, targets: Targets, *, root: Path, case_id: str
) -> Iterator[CaseMaps]:
    """Take up the slices of a case for its maps; what was not written on leaving is gone.

    Args:
        requested: which maps.
        found: the case's image.
        targets: what the network's outputs mean.
        root: the folder of predictions, which must be there; maps lie in folders of their own in it.
        case_id: names the files.

    Yields:
        The maps: their observers are shown the slices, then `write` is called.

    Raises:
        StorageError: files cannot be written there.
    """
    with ExitStack() as scratches:
        maps, observers = [], []
        for kind in requested.kinds:
            scratch = scratches.enter_context(PlaneScratch(root, found.image.shape[1:]))
            outside = _outside(kind, targets)
            names = volume_names(targets) if kind == PROBABILITIES else ()
            maps.append(_Map(output_file(root, kind, case_id), scratch, outside, names))
            observers.append(partial(_observe, MAKERS[kind], targets, scratch))
        yield CaseMaps(root, found.orientation, found.stored_shape, tuple(maps), tuple(observers))


def volume_names(targets: Targets) -> tuple[str, ...]:
    """Return what the volumes of a file of probabilities are, in order: regions, or classes with the background first."""
    return targets.region_names or targets.label_names


def _outside(kind: str, targets: Targets) -> tuple[int, ...]:
    """Return what a map's volumes hold where there is certainly nothing."""
    if kind != PROBABILITIES:
        return (0,)
    # Of classes that exclude each other one is left there, the background; regions are all absent.
    first = 0 if targets.has_regions else STEPS
    return (first, *[0] * (targets.num_outputs - 1))


def _observe(
    make: Callable[[SliceResult, Targets], Tensor], targets: Targets, scratch: PlaneScratch, seen: SliceResult
) -> None:
    scratch.add(seen.position, seen.window, in_steps(make(seen, targets)))


def _probabilities(seen: SliceResult, targets: Targets) -> Tensor:
    return probabilities(seen.logits, targets)


def _entropy(seen: SliceResult, targets: Targets) -> Tensor:
    return entropy(seen.logits, targets)[None]


def _disagreement(seen: SliceResult, targets: Targets) -> Tensor:
    assert seen.votes is not None, "the forward was not asked for votes"
    decided_by = seen.logits if seen.decided_by is None else seen.decided_by
    return disagreement(decided_by, seen.votes, targets)[None]


MAKERS: dict[str, Callable[[SliceResult, Targets], Tensor]] = {
    PROBABILITIES: _probabilities,
    ENTROPY: _entropy,
    DISAGREEMENT: _disagreement,
}
"""What makes the planes (K, rows, columns) of each kind of map."""
