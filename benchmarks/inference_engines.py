"""Seconds a tile by engine, batch size and precision; run in a process of its own for each engine and precision.

    python -m benchmarks.inference_engines MODEL --engine openvino --precision fp32 --batch-sizes 1 2

The engine `flare24` is the recipe that DKFZ published for the second task of FLARE24 (abdominal CT on a laptop's processor).

References:
    Y. Kirchhoff, A. Ravindran et al., nnU-Net's documentation/competitions/FLARE24/Task_2: a default nnU-Net at 2.5 mm, without
    mirroring, one tile at a time, traced and converted by OpenVINO, kept as IR with weights in fp16, compiled for the
    processor with the hints latency, pinned threads and performance before accuracy.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.inference_models import Prepared
from benchmarks.watching import told_by, watch
from tumorseg.engine.execution import mixed_precision
from tumorseg.engine.openvino_graphs import quiet_openvino
from tumorseg.engine.precision import has_bf16
from tumorseg.schema.plan import InferenceEngine, InferencePrecision
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.runtime import RuntimeOptions
from tumorseg.stages.inference.trained_model import Model
from tumorseg.workers.pages import keep_freed_pages

Recipe = Literal["flare24"]
RECIPE: Recipe = "flare24"
ENGINES: tuple[InferenceEngine | Recipe, ...] = ("torch", "compile", "openvino", RECIPE)
LEAST_PASSES = 3
SEED = 1
POLL_S = 0.5

Pass = Callable[[Tensor], Tensor]
"""A batch of tiles (B, C, Z, Y, X) to logits (B, K, Z, Y, X), float32."""


class Opened(NamedTuple):
    """An engine that holds a network."""

    run: Pass
    load_s: float
    """From the files to the end of the first pass."""


def rows(
    path: Path,
    engine: InferenceEngine | Recipe,
    precision: InferencePrecision,
    *,
    batch_sizes: Sequence[int],
    seconds: float,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each batch size: seconds a tile once all is loaded, and how far the logits are from those of torch in fp32.

    Args:
        path: the model's folder.
        engine: one of `ENGINES`.
        precision: `auto` or `fp32`.
        batch_sizes: tiles in one pass; the recipe takes one at a time.
        seconds: to spend on each batch size at least.
    """
    model = load_model((path,), "cpu", runtime=RuntimeOptions(engine="torch", precision="fp32"))
    generator = torch.Generator().manual_seed(SEED)
    tiles = torch.randn(max(batch_sizes), *_tile_shape(model), generator=generator)
    expected = _by_torch(model.networks[0], tiles[:1])
    with tempfile.TemporaryDirectory() as folder:
        opened = [_opened(path, engine, precision, Path(folder))]
        # What is kept of the first start makes the second one short.
        opened.append(_opened(path, engine, precision, Path(folder)))
        run = opened[-1].run
        for batch_size in batch_sizes:
            logits = run(tiles[:batch_size])
            yield {
                "engine": engine,
                "precision": precision,
                "batch_size": batch_size,
                "tile_s": round(tile_seconds(run, tiles[:batch_size], seconds), 4),
                "load_s": [round(one.load_s, 2) for one in opened],
                "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                **differences(logits[:1], expected),
            }


def tile_seconds(run: Pass, tiles: Tensor, least_seconds: float) -> float:
    """Return the seconds that a tile takes when many follow each other: the median of several passes."""
    took: list[float] = []
    while len(took) < LEAST_PASSES or sum(took) < least_seconds:
        began = time.perf_counter()
        run(tiles)
        took.append(time.perf_counter() - began)
    return median(took) / len(tiles)


def differences(logits: Tensor, expected: Tensor) -> dict[str, float]:
    """Return how logits (B, K, Z, Y, X) differ from others at most, as a share of the largest, and where the class is the same."""
    same = (logits.argmax(1) == expected.argmax(1)).float().mean()
    return {
        "largest_difference_share": float(f"{(logits - expected).abs().max() / expected.abs().max():.3g}"),
        "same_class_share": round(float(same), 6),
    }


def _tile_shape(model: Model) -> tuple[int, ...]:
    return (len(model.plan.dataset.channels), *model.configuration.patch_size)


def _by_torch(network: nn.Module, tiles: Tensor) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = network(tiles)
    return logits


def _opened(path: Path, engine: InferenceEngine | Recipe, precision: InferencePrecision, cache: Path) -> Opened:
    """Load a model into an engine; the first pass belongs to it, as some compile only then."""
    began = time.perf_counter()
    if engine == RECIPE:
        tile_shape, run = _recipe(path, cache)
    else:
        tile_shape, run = _own(path, RuntimeOptions(engine=engine, precision=precision, cache=cache))
    run(torch.zeros(1, *tile_shape))
    return Opened(run, time.perf_counter() - began)


def _own(path: Path, options: RuntimeOptions) -> tuple[tuple[int, ...], Pass]:
    """Return the passes of our engine, as a prediction takes them."""
    model = load_model((path,), "cpu", runtime=options)
    (network,) = model.runtime.passes

    def run(tiles: Tensor) -> Tensor:
        with torch.inference_mode(), mixed_precision(model.device, model.runtime.dtype):
            return network(tiles).float()

    return _tile_shape(model), run


def _recipe(path: Path, folder: Path) -> tuple[tuple[int, ...], Pass]:
    """Return DKFZ's recipe for FLARE24: weights in fp16 in the file, latency, pinned threads, performance before accuracy."""
    openvino = quiet_openvino()
    from openvino.properties import hint

    model = load_model((path,), "cpu", runtime=RuntimeOptions(engine="torch", precision="fp32"))
    tile_shape, file = _tile_shape(model), folder / "recipe.xml"
    if not file.is_file():
        example = torch.randn(1, *tile_shape)
        openvino.save_model(openvino.convert_model(model.networks[0], example_input=example), file)
    core = openvino.Core()
    core.set_property("CPU", {hint.execution_mode: hint.ExecutionMode.PERFORMANCE})
    settings = {hint.performance_mode: hint.PerformanceMode.LATENCY, hint.enable_cpu_pinning: True}
    compiled = core.compile_model(core.read_model(file), "CPU", settings)

    def run(tiles: Tensor) -> Tensor:
        return torch.from_numpy(compiled(tiles.numpy())[0])

    return tile_shape, run


def engines(prepared: Prepared, batch_sizes: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Return a row for each engine, precision and batch size; engines that are not installed are left out.

    Args:
        prepared: the model.
        batch_sizes: tiles in one pass.
        seconds: to spend on each row at least.
    """
    precisions = ("fp32", "auto") if has_bf16() else ("fp32",)
    rows: list[dict[str, Any]] = []
    for engine in ENGINES:
        if engine in ("openvino", RECIPE) and find_spec("openvino") is None:
            print(f"  {engine} is left out: openvino is not installed", flush=True)
            continue
        if engine == RECIPE:
            rows += engine_rows(prepared, engine, "auto", batch_sizes=(1,), seconds=seconds)
            continue
        for precision in precisions:
            rows += engine_rows(prepared, engine, precision, batch_sizes=batch_sizes, seconds=seconds)
    return rows


def engine_rows(
    prepared: Prepared, engine: str, precision: str, *, batch_sizes: Sequence[int], seconds: float
) -> list[dict[str, Any]]:
    """Time an engine in a process of its own, and print its rows."""
    command = [sys.executable, "-m", "benchmarks.inference_engines", str(prepared.model), "--engine", engine]
    options = ["--precision", precision, "--seconds", str(seconds), "--batch-sizes", *map(str, batch_sizes)]
    with tempfile.TemporaryDirectory() as kept:
        # Or what torch compiled for an earlier run would make the first start short.
        environment = {"TORCHINDUCTOR_CACHE_DIR": kept}
        rows: list[dict[str, Any]] = told_by(watch([*command, *options], environment=environment, poll_s=POLL_S))
    for row in rows:
        print(f"  {prepared.folder.name} {row}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--precision", choices=("auto", "fp32"), required=True)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1])
    parser.add_argument("--seconds", type=float, default=20.0, help="to spend on each batch size at least")
    options = parser.parse_args()
    keep_freed_pages()
    found = rows(
        options.model, options.engine, options.precision, batch_sizes=options.batch_sizes, seconds=options.seconds
    )
    print("RESULT" + json.dumps(list(found)))


if __name__ == "__main__":
    main()
