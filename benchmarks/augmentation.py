"""The table of transforms against batchgeneratorsv2 and MONAI, by turns, in one thread each.

    OMP_NUM_THREADS=1 python -m benchmarks.augmentation --peer <python of an environment with nnunetv2 2.8.1>

Each transform of nnU-Net's table is applied for certain, to all channels; then the whole table with its own probabilities. Reading is
not timed; each side is given as much around the patch as it reads. Milliseconds a sample, the median of the turns. Transforms that
imitate artefacts are held against MONAI's of the same kind. Results go to benchmarks/results/augmentation.json row by row, so that a
run that is cut short keeps what it has; a run of some rows keeps the others.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.machine import machine
from tumorseg.augmentation.pipeline import Augmentation
from tumorseg.augmentation.samples import Sample, center_crop
from tumorseg.schema.augmentation import AugmentationSpec, KnownTransform
from tumorseg.schema.preprocessing import CtNormalization, NormalizationSpec, ZScoreNormalization
from tumorseg.schema.transforms.base import PatchFacts
from tumorseg.schema.transforms.intensity import Brightness, Contrast, Gamma, GaussianNoise, ZeroOutside
from tumorseg.schema.transforms.resolution import GaussianBlur, LowResolution
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform
from tumorseg.workers.pages import keep_freed_pages

RESULT = Path(__file__).parent / "results" / "augmentation.json"
"""Of the committed run."""
PEER = Path(__file__).parent / "peer" / "augmentation.py"
DEGREES = (30.0, 30.0, 30.0)
ALL_AXES = (0, 1, 2)
TABLE: tuple[KnownTransform, ...] = (
    SpatialTransform(rotation_deg=DEGREES),
    GaussianNoise(),
    GaussianBlur(),
    Brightness(),
    Contrast(),
    LowResolution(),
    Gamma(probability=0.1, inverted=True),
    Gamma(),
    MirrorTransform(axes=ALL_AXES),
)
"""nnU-Net's, in its order."""
CERTAIN: dict[str, KnownTransform] = {
    "rotation": SpatialTransform(rotation_deg=DEGREES, rotation_probability=1, scaling_probability=0),
    "scaling": SpatialTransform(rotation_deg=DEGREES, rotation_probability=0, scaling_probability=1),
    "gaussian_noise": GaussianNoise(probability=1),
    "gaussian_blur": GaussianBlur(probability=1, channel_probability=1),
    "brightness": Brightness(probability=1),
    "contrast": Contrast(probability=1),
    "low_resolution": LowResolution(probability=1, channel_probability=1),
    "inverted gamma": Gamma(probability=1, inverted=True),
    "gamma": Gamma(probability=1),
    "mirror": MirrorTransform(axes=ALL_AXES, probability=1),
}
MASKED = "table, masked"
"""Row of the table for images that are 0 outside the body."""
ROWS: dict[str, tuple[KnownTransform, ...]] = {
    **{name: (record,) for name, record in CERTAIN.items()},
    "table": TABLE,
    MASKED: (*TABLE, ZeroOutside()),
}
Z_SCORE, MASKED_Z_SCORE = ZScoreNormalization(masked=False), ZScoreNormalization(masked=True)
BODY = 1.1
"""Radius of what is not 0, against half a patch."""
CT = CtNormalization(lower_hu=-1000, upper_hu=1000, mean_hu=0, std_hu=300)
OF_CT = {"hu_shift", "streaks"}
"""Transforms for which channels are a CT."""
WIDEST = 1.4
"""Times the diagonal of a patch, along every axis, that is looked at where it is turned and shows the most."""


class Size(NamedTuple):
    """Patches that are augmented."""

    channels: int
    patch: tuple[int, ...]
    labels: int
    """Background included."""
    samples: int
    """Samples a turn; of the whole table eight times as many, as each is another mixture."""


SIZES = {
    "1 x 40x56x40": Size(1, (40, 56, 40), 3, 24),
    "4 x 128x128x128": Size(4, (128, 128, 128), 4, 3),
}
ARTEFACT_SIZE = Size(1, (64, 72, 56), 3, 10)


class Peer:
    """The other side's process, which waits while ours is timed."""

    def __init__(self, python: str) -> None:
        """Start it."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [python, str(PEER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def seconds(self, **request: Any) -> float:
        """Return the seconds that a sample takes it."""
        streams = self._process.stdin, self._process.stdout
        assert streams[0] is not None
        assert streams[1] is not None
        streams[0].write(json.dumps(request) + "\n")
        streams[0].flush()
        for line in streams[1]:
            if line.startswith("RESULT"):
                return float(line.removeprefix("RESULT"))
        raise RuntimeError(f"{PEER.name} ended without an answer")


@lru_cache
def case_of(size: Size) -> Sample:
    """Return an image and labels, balls around the middle, one in the other: of more than any transform looks at."""
    # Rounded up on both sides, and with the corners of what is looked at.
    space = (math.ceil(WIDEST * math.hypot(*size.patch)) + 4,) * len(size.patch)
    from_middle = [(np.arange(edge) - (edge - 1) / 2) / (own / 2) for edge, own in zip(space, size.patch, strict=True)]
    z, y, x = np.meshgrid(*from_middle, indexing="ij", sparse=True)
    radius = np.sqrt(z**2 + y**2 + x**2)
    segmentation = sum((radius < edge).astype(np.int64) for edge in np.linspace(0.8, 0.2, size.labels - 1))
    image = np.random.default_rng(1).normal(0, 0.3, (size.channels, *space)).astype(np.float32)
    image += (segmentation - 0.5).astype(np.float32)
    image[:, radius > BODY] = 0
    return Sample(torch.from_numpy(image), torch.from_numpy(segmentation[None]), torch.empty(0, *space))


def augmentation_of(records: tuple[KnownTransform, ...], size: Size) -> Augmentation:
    """Return transforms for patches of a size, and for channels that suit them."""
    names = {record.name for record in records}
    normalization: NormalizationSpec = Z_SCORE
    if names & OF_CT:
        normalization = CT
    elif "zero_outside" in names:
        normalization = MASKED_Z_SCORE
    return Augmentation(AugmentationSpec(transforms=records), PatchFacts(size.patch, (normalization,) * size.channels))


def own_seconds(records: tuple[KnownTransform, ...], size: Size, *, count: int, seed: int) -> float:
    """Return the seconds that a sample takes ours, what is drawn included."""
    augmentation = augmentation_of(records, size)
    spent = 0.0
    for number in range(-1, count):
        began = time.perf_counter()
        draws = augmentation.draw(1000 * seed + number + 1)
        space = augmentation.source_size(draws)
        drawn = time.perf_counter() - began
        sample = Sample(*(center_crop(part, space).clone() for part in case_of(size)))
        began = time.perf_counter()
        augmentation.apply(sample, draws, overwrites=True)
        # The first one warms up.
        spent += drawn + time.perf_counter() - began if number >= 0 else 0.0
    return spent / count


def artefact_seconds(transform: Any, *, count: int, seed: int) -> float:
    """Return the seconds that a sample takes MONAI's transform."""
    transform.set_random_state(seed)
    image = center_crop(case_of(ARTEFACT_SIZE).image, ARTEFACT_SIZE.patch)
    spent = 0.0
    for number in range(-1, count):
        sample = image.clone()
        began = time.perf_counter()
        transform(sample)
        spent += time.perf_counter() - began if number >= 0 else 0.0
    return spent / count


Side = Callable[[int], float]
Row = tuple[str, str, dict[str, Any]]
"""Title of its table, transform, result."""


def by_turns(own: Side, other: Side, turns: int) -> dict[str, Any]:
    """Return both sides' milliseconds."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(turns):
        for side, found in zip((own, other), seconds, strict=True):
            found.append(side(turn))
    own_ms, other_ms = (1000 * statistics.median(found) for found in seconds)
    rounded = [[round(1000 * one, 4) for one in found] for found in seconds]
    return {
        "own_ms": round(own_ms, 4),
        "other_ms": round(other_ms, 4),
        "times_as_fast": round(other_ms / own_ms, 2),
        "turns_ms": rounded,
    }


def table_rows(peer: Peer, options: argparse.Namespace) -> Iterator[Row]:
    """Yield size, transform and result against batchgeneratorsv2."""
    for title, size in SIZES.items():
        for name, records in ROWS.items():
            if options.rows and name not in options.rows:
                continue
            count = size.samples * (8 if "table" in name else 1)
            shape = {"row": name, "channels": size.channels, "patch": size.patch, "labels": size.labels}

            def own(turn: int, records: Any = records, size: Size = size, count: int = count) -> float:
                return own_seconds(records, size, count=count, seed=turn)

            def other(turn: int, shape: Any = shape, count: int = count) -> float:
                return peer.seconds(**shape, count=count, seed=turn)

            yield title, name, by_turns(own, other, options.turns)


def artefact_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield size, transform and result against MONAI."""
    # Takes seconds, which other parts are spared.
    from benchmarks.augmentation_artefacts import ARTEFACTS

    count = ARTEFACT_SIZE.samples
    for name, artefact in ARTEFACTS.items():
        if options.rows and name not in options.rows:
            continue

        def own(turn: int, artefact: Any = artefact) -> float:
            return own_seconds((artefact.record,), ARTEFACT_SIZE, count=count, seed=turn)

        def other(turn: int, artefact: Any = artefact) -> float:
            return artefact_seconds(artefact.monai(), count=count, seed=turn)

        yield "artefacts, 1 x 64x72x56, against MONAI", name, by_turns(own, other, options.turns)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="python of an environment with nnunetv2 2.8.1; without it MONAI's rows alone")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rows", nargs="*", help="these alone")
    return parser.parse_args()


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield every row."""
    if options.peer:
        yield from table_rows(Peer(options.peer), options)
    yield from artefact_rows(options)


def write(path: Path, row: Row) -> None:
    """Write a row beside those that are there."""
    title, name, found = row
    # Read anew, as another run may have written meanwhile.
    results = json.loads(path.read_text()) if path.is_file() else {}
    results.setdefault(title, {})[name] = {**found, "machine": machine()}
    path.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    # As a training does.
    keep_freed_pages()
    for row in rows(options):
        title, name, found = row
        print(
            f"{title:40} {name:24} {found['own_ms']:9.3f} {found['other_ms']:9.3f} {found['times_as_fast']:6.2f}",
            flush=True,
        )
        write(options.result, row)


if __name__ == "__main__":
    main()
