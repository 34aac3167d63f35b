"""Cases with the same voxels in files of other bytes, as a copy is that was compressed or written anew."""

import logging
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError, TumorsegError
from tumorseg.ops.duplicates import content_digest
from tumorseg.ops.geometry import orient, orientation_of
from tumorseg.ops.matching.channels import match_channels
from tumorseg.schema.base import content_hash, json_text
from tumorseg.schema.dataset import Case, ImageFile
from tumorseg.stages.crossing.hashed_datasets import HashedDataset
from tumorseg.storage.atomic import write_text
from tumorseg.storage.dicom.files import parts_of
from tumorseg.storage.images import read_geometry, read_image
from tumorseg.storage.json_files import read_json
from tumorseg.tracking.progress import progress

logger = logging.getLogger(__name__)

MOST_READ = 4000
"""Images that are read to compare them; more would take longer than a reader would wait for a remark."""
THREADS = 4
"""Images that are read at a time: they may be large."""


class Scan(NamedTuple):
    """One image of a case."""

    image: ImageFile
    key: str
    """Hash of the bytes of its files, and of which volume it is."""
    assumed_orientation: str | None


class SameVoxels(NamedTuple):
    """What a comparison of voxels found."""

    owners: Mapping[str, frozenset[str]]
    """Case of the dataset to the planned cases with the same voxels."""
    num_uncompared: int = 0
    """Cases that were not compared, as too many would have to be read."""


class VoxelDigests:
    """Digests of voxels of images by the bytes of their files, so that each is read once."""

    def __init__(self, path: Path | None = None, *, most_read: int = MOST_READ) -> None:
        """Read what is known; a file that is missing or damaged knows nothing.

        Args:
            path: of a JSON file; nothing is kept if None.
            most_read: images that a comparison may read; of more, none is made.
        """
        self.most_read = most_read
        self._path = path
        self._known = {} if path is None else _read(path)

    def of(self, scans: Iterable[Scan]) -> dict[str, str]:
        """Return the digest of each scan by its key; none of a scan that cannot be read, or of which all voxels are equal.

        Raises:
            StorageError: they cannot be kept.
        """
        wanted = {scan.key: scan for scan in scans}
        if unknown := self.unknown(wanted.values()):
            with progress("compare", len(unknown)) as advance, closing(_digests(unknown)) as digests:
                for scan, digest in zip(unknown, digests, strict=True):
                    self._known[scan.key] = digest
                    advance()
            if self._path is not None:
                write_text(self._path, json_text(self._known))
        return {key: digest for key in wanted if (digest := self._known[key])}

    def unknown(self, scans: Iterable[Scan]) -> list[Scan]:
        """Return the scans that would have to be read."""
        return [scan for scan in scans if scan.key not in self._known]


def _read(path: Path) -> dict[str, str]:
    try:
        found = read_json(path, InputError) if path.is_file() else {}
    except InputError:
        return {}
    return {str(key): str(digest) for key, digest in found.items()} if isinstance(found, dict) else {}


def _digests(scans: Sequence[Scan]) -> Generator[str]:
    # Not in `with`, which would read all that is left before a signal is heard.
    pool = ThreadPoolExecutor(THREADS)
    try:
        yield from pool.map(voxel_digest, scans)
    finally:
        pool.shutdown(cancel_futures=True)


def voxel_digest(scan: Scan) -> str:
    """Return a digest of real values in canonical order; empty for an image that cannot be read, or is the same everywhere."""
    try:
        volume = read_image(scan.image, scan.assumed_orientation)
        array = orient(volume.array, orientation_of(volume.affine))
    # A damaged image is told of where it is segmented.
    except TumorsegError:
        return ""
    if not array.size or (array == array.flat[0]).all():
        return ""
    # A negative 0 has other bits than 0.
    return content_digest(array.astype("float32") + 0.0)


def scan_of(found: HashedDataset, case: Case, number: int) -> Scan:
    """Return the image of a channel of a case.

    Args:
        found: the dataset.
        case: of it.
        number: of the channel.
    """
    image, digests = case.images[number], found.digests[case.case_id]
    key = content_hash([sorted(digests[part] for part in parts_of(image)), image.index])
    return Scan(image, key, found.dataset.reading.assumed_orientation)


def same_voxels(
    found: HashedDataset, cases: Sequence[Case], planned: HashedDataset, digests: VoxelDigests
) -> SameVoxels:
    """Return the planned cases with the same voxels as cases of a dataset, in the first channel that both datasets have.

    Only cases with as many voxels along each axis are read, in whatever order their files store the axes.

    Args:
        found: the dataset.
        cases: of it, to look at.
        planned: what a model was planned for.
        digests: that are known.
    """
    channels = match_channels(planned.dataset.channels, found.dataset.channels).found
    if not (channels and cases):
        return SameVoxels({})
    wanted, own = next(iter(channels.items()))
    here = _by_shape(found, cases, own)
    there = _by_shape(planned, planned.dataset.cases, wanted)
    shared = here.keys() & there.keys()
    sides = [{case_id: scan for shape in shared for case_id, scan in side[shape].items()} for side in (here, there)]
    if len(digests.unknown([*sides[0].values(), *sides[1].values()])) > digests.most_read:
        return SameVoxels({}, len(sides[0]))
    known = digests.of([*sides[0].values(), *sides[1].values()])
    by_digest: dict[str, set[str]] = defaultdict(set)
    for case_id, scan in sides[1].items():
        if scan.key in known:
            by_digest[known[scan.key]].add(case_id)
    owners = {case_id: by_digest.get(known.get(scan.key, ""), set()) for case_id, scan in sides[0].items()}
    return SameVoxels({case_id: frozenset(found_there) for case_id, found_there in owners.items() if found_there})


def _by_shape(found: HashedDataset, cases: Iterable[Case], channel: str) -> dict[tuple[int, ...], dict[str, Scan]]:
    """Return the scans of a channel by their voxels along each axis, sorted; those whose header cannot be read are left out."""
    number = [one.name for one in found.dataset.channels].index(channel)
    grouped: dict[tuple[int, ...], dict[str, Scan]] = defaultdict(dict)
    for case in cases:
        try:
            shape = tuple(sorted(read_geometry(case.images[number].path).shape))
        except InputError:
            continue
        grouped[shape][case.case_id] = scan_of(found, case, number)
    return grouped
