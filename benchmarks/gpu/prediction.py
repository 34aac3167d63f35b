"""Prediction on the device: seconds a tile by engine, precision and batch, whole cases, and what is done when memory runs out."""

import time
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.gpu.reference_plans import Planned, planned, require_compiler
from benchmarks.gpu.sizes import (
    GB,
    Row,
    Size,
    Tell,
    Timing,
    attempt,
    forget,
    median_seconds,
    peak_gb,
    rounded,
    timing_of,
)
from benchmarks.inference_engines import differences
from tumorseg.engine.execution import mixed_precision
from tumorseg.engine.weights import initial_network
from tumorseg.schema.plan import InferenceEngine, InferencePrecision
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.stages.inference.predict_array import predict_array
from tumorseg.stages.inference.runtime import MOST_PATCHES, Networks, RuntimeOptions, make_runtime
from tumorseg.stages.inference.trained_model import Model
from tumorseg.types import Image, Segmentation

CASES: tuple[tuple[InferencePrecision, bool], ...] = (("auto", True), ("auto", False), ("fp32", False))
"""Precision, and whether mirrored views are averaged."""
TILES: tuple[tuple[InferenceEngine, InferencePrecision, int], ...] = (
    ("torch", "auto", 1),
    ("torch", "auto", 2),
    ("torch", "auto", 8),
    ("torch", "fp32", 1),
    ("torch", "fp32", 8),
    ("compile", "auto", 1),
)
"""Engine, precision and tiles in a pass; of a compiled network each further number would be compiled anew."""
CASE_S, TILE_S, COMPILING_S = 10.0, 5.0, 45.0
"""What rows take."""
IMAGE = (155, 240, 240)
"""Voxels of a case of BraTS."""
TINY_IMAGE = (17, 19, 33)
ONCE = Timing(0, 1, 1, 0.0)
ROOM = 1.3
"""Memory that is left where it shall run out, times what single patches take."""


class Made(NamedTuple):
    """A model with drawn weights."""

    model: Model
    load_s: float
    """Until its first pass could begin; of a compiled one that includes the compiler."""


def measure(size: Size, tell: Tell) -> None:
    """Tell a row for whole cases, for memory that runs out, then for each engine and batch."""
    name = "fast_prototyping" if size.is_tiny else "nnunet"
    found = planned(f"BrainTumour__{name}", "3d_fullres", size)
    case_s, tile_s = (0.0, 0.0) if size.is_tiny else (CASE_S, TILE_S)
    for precision, mirroring in CASES:
        known = found.row() | {"case": precision, "mirroring": mirroring}
        attempt(tell, known, partial(case_row, found, precision, size, mirroring=mirroring), size=size, takes_s=case_s)
    known = found.row() | {"case": "memory runs out"}
    attempt(tell, known, partial(relief_row, found, size), size=size, takes_s=case_s)
    for engine, precision, batch in TILES:
        options = RuntimeOptions(engine=engine, precision=precision)
        known = found.row() | {"batch": batch, "engine": engine, "precision": precision}
        compiles = engine == "compile"
        # To compile takes a processor longer than all else together.
        if not (compiles and size.is_tiny):
            takes_s = COMPILING_S if compiles else tile_s
            attempt(tell, known, partial(tile_row, found, options, size, batch=batch), size=size, takes_s=takes_s)


def made(found: Planned, options: RuntimeOptions, device: str) -> Made:
    """Return a model of a plan whose weights follow from a seed.

    Raises:
        MissingError: there is no compiler for it.
    """
    if options.engine == "compile":
        require_compiler(device)
    targets = targets_of(found.plan.dataset)
    place = torch.device(device)
    network = initial_network(
        found.configuration,
        num_channels=num_inputs(found.configuration, targets),
        num_outputs=targets.num_outputs,
        seed=0,
        device=place,
    ).eval()
    began = time.perf_counter()
    runtime = make_runtime(found.plan, found.configuration, Networks((network,), place, ("drawn",)), options)
    load_s = rounded(time.perf_counter() - began)
    return Made(Model(found.plan, found.configuration, (network,), place, ("drawn",), runtime), load_s)


def tile_row(found: Planned, options: RuntimeOptions, size: Size, *, batch: int) -> Row:
    """Return seconds a tile, and how far the logits are from those of torch in float32."""
    forget(size.device)
    model, load_s = made(found, options, size.device)
    shape = (batch, len(model.plan.dataset.channels), *model.configuration.patch_size)
    tiles = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(size.device)

    def run() -> torch.Tensor:
        with torch.inference_mode(), mixed_precision(model.device, model.runtime.dtype):
            logits: torch.Tensor = model.runtime.passes[0](tiles).float()
            return logits

    with torch.inference_mode():
        expected = model.networks[0](tiles[:1])
    apart = differences(run()[:1], expected)
    seconds = median_seconds(run, size.device, timing_of(size)) / batch
    computed = {"computed": model.runtime.precision, "load_s": load_s, "tile_s": rounded(seconds)}
    return computed | apart | peak_gb(size.device)


def case_row(found: Planned, precision: InferencePrecision, size: Size, *, mirroring: bool) -> Row:
    """Return seconds of a whole case in main memory, the first time and the second."""
    forget(size.device)
    model = made(found, RuntimeOptions(engine="torch", precision=precision), size.device).model
    image = image_of(model, size)
    began = time.perf_counter()
    segmented(model, image, mirroring=mirroring)
    first_s = time.perf_counter() - began
    seconds = median_seconds(partial(segmented, model, image, mirroring=mirroring), size.device, ONCE)
    passes = {"computed": model.runtime.precision, "patches_per_pass": model.runtime.patches_per_pass}
    return passes | {"case_s": rounded(seconds), "first_case_s": rounded(first_s)} | peak_gb(size.device)


def relief_row(found: Planned, size: Size) -> Row:
    """Return what becomes of a case whose batches do not fit the memory that is left.

    On a processor nothing runs out, so that the figures are those of an ordinary run.
    """
    model = made(found, RuntimeOptions(engine="torch", precision="auto"), size.device).model
    image = image_of(model, size)
    alone = with_patches(model, 1)
    forget(size.device)
    expected = segmented(alone, image, mirroring=True)
    cap = limited(size)
    try:
        crowded = with_patches(model, MOST_PATCHES)
        began = time.perf_counter()
        labels = segmented(crowded, image, mirroring=True)
        seconds = time.perf_counter() - began
    finally:
        if cap:
            torch.cuda.set_per_process_memory_fraction(1.0)
    same = round(float(np.mean(labels == expected)), 6)
    left = {"patches_per_pass": crowded.runtime.patches_per_pass, "sums_on_cpu": crowded.runtime.sums_on_cpu}
    return {"case_s": rounded(seconds), "same_labels": same} | left | cap


def limited(size: Size) -> dict[str, float]:
    """Let no more memory be taken than a little above the peak so far; return the limit in GB, on a GPU."""
    if size.device == "cpu":
        return {}
    most = ROOM * torch.cuda.max_memory_allocated()
    forget(size.device)
    torch.cuda.set_per_process_memory_fraction(most / torch.cuda.get_device_properties(0).total_memory)
    return {"limit_gb": round(most / GB, 3)}


def with_patches(model: Model, patches_per_pass: int) -> Model:
    """Return a model that begins with so many patches in a pass, and whose shortage nobody was told of."""
    return model._replace(runtime=replace(model.runtime, patches_per_pass=patches_per_pass))


def image_of(model: Model, size: Size) -> Image:
    """Return an image of noise on the plan's own grid."""
    shape = (len(model.plan.dataset.channels), *(TINY_IMAGE if size.is_tiny else IMAGE))
    noise = np.random.default_rng(0).normal(400.0, 100.0, shape)
    return noise.astype(np.float32)


def segmented(model: Model, image: Image, *, mirroring: bool) -> Segmentation:
    """Segment an image whose voxels are as large as the plan's, so that nothing is interpolated."""
    edges = (*reversed(model.configuration.spacing_mm), 1.0)
    return predict_array(model, image, np.diag(edges), mirroring=mirroring)
