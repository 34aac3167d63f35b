"""The memory of predicting a large image with 60 classes, and what twice the slices add to it."""

import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.inference_models import Prepared, write_body
from benchmarks.watching import MIB, Watched, watch

SAMPLED_S = 0.1
"""As FLARE samples the memory of a GPU."""
FLOAT_BYTES = 4
"""Of a voxel of the image as the network is shown it."""
RESULT_BYTES = 1
"""Of a voxel of the label map, for up to 256 values."""


def memory(prepared: Prepared, *, edge: int, slices: tuple[int, int]) -> dict[str, Any]:
    """Predict images of edge x edge voxels with the tiny network, of few and of many slices.

    References:
        J. Ma et al., Unleashing the strengths of unlabelled data in deep learning-assisted pan-cancer abdominal organ
        quantification: the FLARE22 challenge, Lancet Digital Health 2024: seconds, area under the curve of GPU memory over time,
        and of processor use, sampled every 100 ms. Here it is the main memory, as there is no GPU.
    """
    found = {count: _predict(prepared, (count, edge, edge)) for count in slices}
    few, many = (found[count] for count in slices)
    voxels = (slices[1] - slices[0]) * edge * edge
    growth, image, result = many.parent_bytes - few.parent_bytes, FLOAT_BYTES * voxels, RESULT_BYTES * voxels
    return {
        "edge": edge,
        "by_slices": {str(count): flare_figures(watched) for count, watched in found.items()},
        "growth_mib": round(growth / MIB),
        "image_growth_mib": round(image / MIB),
        "result_growth_mib": round(result / MIB),
        "growth_as_share_of_image_and_result": round(growth / (image + result), 3),
    }


def _predict(prepared: Prepared, grid: tuple[int, int, int]) -> Watched:
    """Predict one image of a grid (Z, Y, X); it and its label map are removed afterwards."""
    inputs, output = prepared.folder / f"inputs_{grid[0]}", prepared.folder / f"out_{grid[0]}"
    write_body(inputs / "body_0000.nii.gz", grid)
    try:
        return watch(_command(prepared, inputs, output), poll_s=SAMPLED_S)
    finally:
        for folder in (inputs, output):
            shutil.rmtree(folder, ignore_errors=True)


def _command(prepared: Prepared, inputs: Path, output: Path) -> list[str]:
    paths = ("-m", str(prepared.model), "-i", str(inputs), "-o", str(output))
    start = [sys.executable, "-m", "tumorseg", "--work", str(prepared.folder / "runs"), "-q", "predict"]
    return [*start, *paths, "--no-mirroring", "--device", "cpu"]


def flare_figures(watched: Watched) -> dict[str, float]:
    """Return peaks, and the challenge's figures of efficiency."""
    return {
        **watched.figures(),
        "memory_area_gib_s": round(watched.area_byte_s / 2**30, 1),
        "processor_area_percent_s": round(100 * watched.cpu_s),
    }
