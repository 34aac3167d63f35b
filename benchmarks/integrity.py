"""What it costs to compare checksums: loading a checkpoint's weights, and reading patches of stored cases, by turns with and without.

    python -m benchmarks.integrity FOLDER --turns 15

Loading, and reading 25 patches of each case, are measured from files that the system has in memory. Comparing weighs most elsewhere: the
first patch of a large case reads the whole file, so that this is measured alone, from files that the system has been told to forget.
"""

import argparse
import json
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.machine import machine
from tumorseg.schema.cases import StoredCase
from tumorseg.storage import cases, checkpoints, sealed
from tumorseg.storage.cases import CaseArrays, CaseStore, store_case

RESULT = Path(__file__).parent / "results" / "integrity.json"
SHAPE, LARGE, PATCH = (96, 160, 128), (256, 320, 320), (64, 96, 96)
NUM_CASES, NUM_CHANNELS, NUM_PATCHES = 4, 2, 100
WEIGHTS = (32, 2**20)
"""Tensors of a checkpoint, and numbers in each: 128 MB, and as many of an optimizer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for files meanwhile, a GB")
    parser.add_argument("--turns", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = options.folder / "integrity"
    work.mkdir(parents=True)
    try:
        found = {"loading": loading(work, options.turns), "reading": reading(work, options.turns)}
        found["first_patch_cold"] = first_patch(work, options.turns)
    finally:
        shutil.rmtree(work)
    RESULT.write_text(json.dumps({"machine": machine(), "turns": options.turns, **found}, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def loading(work: Path, turns: int) -> dict[str, Any]:
    """Load weights into a network's own tensors: as before (all of the state copied), and mapped, with and without comparing."""
    path = work / "a.ckpt"
    count, size = WEIGHTS
    weights = {str(number): torch.randn(size) for number in range(count)}
    checkpoints.save_checkpoint(path, {"network": weights, "optimizer": weights})
    own = {name: torch.empty_like(value) for name, value in weights.items()}

    def take(state: dict[str, torch.Tensor]) -> None:
        for name, value in state.items():
            own[name].copy_(value)

    def fresh() -> None:
        checkpoints._damaged_part.cache_clear()
        take(checkpoints.load_network(path))

    def uncompared() -> None:
        with mock.patch.object(checkpoints, "damaged_part", return_value=None):
            take(checkpoints.load_network(path))

    def before() -> None:
        with mock.patch.object(checkpoints, "damaged_part", return_value=None):
            take(checkpoints.load_checkpoint(path)["network"])

    return by_turns(
        {"as_before": before, "compared": fresh, "mapped_uncompared": uncompared}, turns, "mapped_uncompared"
    )


def reading(work: Path, turns: int) -> dict[str, Any]:
    """Read patches of all cases from new stores."""
    keys = {f"case {number}": f"key{number}" for number in range(NUM_CASES)}
    for number, (case_id, key) in enumerate(keys.items()):
        _store(work, case_id, key, np.random.default_rng(number))
    starts = np.random.default_rng(9).integers(0, np.subtract(SHAPE, PATCH), size=(NUM_PATCHES, 3)).tolist()

    def read() -> None:
        sealed._file_crc32.cache_clear()
        store = CaseStore(work, keys)
        for number, start in enumerate(starts):
            box = tuple((low, low + edge) for low, edge in zip(start, PATCH, strict=True))
            store.read(f"case {number % NUM_CASES}", (box[0], box[1], box[2]))

    def uncompared() -> None:
        with _nothing_compared():
            read()

    return by_turns({"uncompared": uncompared, "compared": read}, turns, "uncompared")


def first_patch(work: Path, turns: int) -> dict[str, Any]:
    """Read one patch of a large case that is on the disk alone."""
    _store(work, "large", "large", np.random.default_rng(1), LARGE)
    box = tuple((0, edge) for edge in PATCH)

    def read() -> None:
        sealed._file_crc32.cache_clear()
        for path in (work / "large").iterdir():
            _forget(path)
        CaseStore(work, {"large": "large"}).read("large", (box[0], box[1], box[2]))

    def uncompared() -> None:
        with _nothing_compared():
            read()

    return by_turns({"uncompared": uncompared, "compared": read}, turns, "uncompared")


def _forget(path: Path) -> None:
    """Tell the system to keep nothing of a file in memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def _nothing_compared() -> Iterator[None]:
    with mock.patch.object(cases, "is_intact", return_value=True):
        yield


def _store(work: Path, case_id: str, key: str, rng: np.random.Generator, shape: tuple[int, int, int] = SHAPE) -> None:
    image = rng.normal(size=(NUM_CHANNELS, *shape)).astype(np.float32)
    segmentation = (image[0] > 2).astype(np.int8)
    locations = np.argwhere(segmentation)[::50].astype(np.int32)
    voxels = tuple(np.bincount(segmentation.ravel(), minlength=2).tolist())
    record = StoredCase(
        case_id=case_id,
        shape=shape,
        spacing_mm=(1.0, 1.0, 1.0),
        num_channels=NUM_CHANNELS,
        class_voxels=voxels,
        location_starts=(0, 0, len(locations)),
    )
    store_case(work, key, record, CaseArrays(image, segmentation, locations))


def by_turns(ways: dict[str, Callable[[], None]], turns: int, reference: str) -> dict[str, Any]:
    """Return the seconds of each way, and how much longer it takes than the reference, turn by turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        # Another one first each time; the first turn warms up.
        names = list(ways)[turn % len(ways) :] + list(ways)[: turn % len(ways)]
        for name in names:
            started = time.perf_counter()
            ways[name]()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    found: dict[str, Any] = {}
    for name, values in seconds.items():
        ratios = [value / other for value, other in zip(values, seconds[reference], strict=True)]
        figures = {"least_s": min(values), "median_s": statistics.median(values), "ratio": statistics.median(ratios)}
        found[name] = {key: round(value, 4) for key, value in figures.items()}
    return found


if __name__ == "__main__":
    main()
