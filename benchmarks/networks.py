"""Depthwise convolutions and MedNeXt on the CPU: each form of the convolution, blocks and whole networks, forward and backward.

    python -m benchmarks.networks [forms] [blocks] [networks] [costs] [--iterations 5] [--threads 2] [--untimed]

`forms` times each form of a depthwise convolution for the sizes at which MedNeXt has them; `blocks` and `networks` time MedNeXt-S
against the upstream form: torch's own convolutions on features channels first. All variants run by turns in one process. The last line
tells a row for each.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.networks_costs import cost_rows
from benchmarks.networks_forms import FORMS, transposed
from benchmarks.networks_result import keep_part
from tumorseg.engine.weights import place
from tumorseg.networks.depthwise import LAST
from tumorseg.networks.mednext import Block, MedNextNetwork
from tumorseg.planning.families.base import Grid
from tumorseg.planning.families.registry import family_of
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.networks import MedNext
from tumorseg.workers.pages import keep_freed_pages

Row = dict[str, Any]
CPU = torch.device("cpu")
LEVELS = ((32, 64), (64, 32), (128, 16), (256, 8))
"""Features and edge of the stages of MedNeXt on patches of 64 voxels."""
EDGE, BATCH = 64, 2


def timed(variants: Mapping[str, Callable[[], object]], options: argparse.Namespace) -> dict[str, float]:
    """Return the median seconds of each variant, which run by turns; the first turn is not counted."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(options.iterations + 1):
        for name, run in variants.items():
            began = time.perf_counter()
            run()
            if turn:
                times[name].append(time.perf_counter() - began)
    return {name: median(seconds) for name, seconds in times.items()}


def step(compute: Callable[..., Any], *inputs: Tensor) -> None:
    """Run forward and backward; the loss is the sum of the squares of all outputs."""
    outputs = compute(*inputs)
    every = [outputs] if isinstance(outputs, Tensor) else outputs
    torch.stack([output.square().sum() for output in every]).sum().backward()  # type: ignore[no-untyped-call]


def noise(*shape: int) -> Tensor:
    """Return random numbers that take a gradient."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


def form_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each form, size and kernel of a convolution that keeps, halves or doubles the size."""
    for features, edge in LEVELS:
        for kernel in (3, 5):
            weight, bias = noise(features, 1, kernel, kernel, kernel), noise(features)
            for kind in ("same", "down", "up"):
                # On the way up, features come from the stage below.
                size = edge // 2 if kind == "up" else edge
                images = noise(BATCH, features, size, size, size).detach()
                last = images.contiguous(memory_format=LAST).requires_grad_()
                variants = {}
                for name, form in FORMS.items():
                    given = images.requires_grad_() if name == "torch" else last
                    stride = (1, 1, 1) if kind == "same" else (2, 2, 2)
                    turned = partial(transposed, form) if kind == "up" else form
                    variants[name] = partial(step, partial(_convolved, turned, stride), given, weight, bias)
                about = {"features": features, "edge": size, "kernel": kernel, "kind": kind}
                for name, seconds in timed(variants, options).items():
                    yield {**about, "form": name, "step_ms": _digits(1000 * seconds)}


def _convolved(form: Callable[..., Tensor], stride: tuple[int, ...], *given: Tensor) -> Tensor:
    return form(*given, stride)


def small() -> MedNext:
    """Return MedNeXt-S as it is planned for patches of 64 voxels."""
    preset = PRESETS["optimized"].model_copy(update={"network_size": "s", "initial_edge_3d": 64})
    grid = Grid((1.0, 1.0, 1.0), (64.0, 64.0, 64.0), 1e9, 3)
    network = next(family_of("mednext").networks(grid, preset)).network
    assert isinstance(network, MedNext)
    return network


def block_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for a block of each stage, in either form."""
    spec = small()
    for features, edge in LEVELS:
        spatial = nn.Conv3d(features, features, 3, padding=1, groups=features)
        block = Block(spec, (features, features), 2, spatial)
        images = noise(BATCH, features, edge, edge, edge).detach()
        last = images.contiguous(memory_format=LAST).requires_grad_()
        variants = {"upstream": partial(step, block, images.requires_grad_()), "ours": partial(step, block, last)}
        yield _compared({"block": features, "edge": edge}, timed(variants, options))


def network_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for a training step of the whole network, in either form."""
    spec = small()
    networks = [MedNextNetwork(spec, num_channels=1, num_outputs=3).train() for _ in range(2)]
    place(networks[1], CPU)
    images = noise(BATCH, 1, EDGE, EDGE, EDGE).detach()
    variants = dict(zip(("upstream", "ours"), (partial(step, network, images) for network in networks), strict=True))
    yield _compared({"network": "mednext s", "edge": EDGE}, timed(variants, options))


def _compared(about: Row, seconds: Mapping[str, float]) -> Row:
    ratio = seconds["upstream"] / seconds["ours"]
    return {**about, **{f"{name}_s": _digits(one) for name, one in seconds.items()}, "ratio": _digits(ratio)}


def _digits(number: float) -> float:
    return float(f"{number:.3g}")


PARTS: Mapping[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "forms": form_rows,
    "blocks": block_rows,
    "networks": network_rows,
    "costs": cost_rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} [default: all]")
    parser.add_argument("--iterations", type=int, default=5, help="timed steps of each variant")
    parser.add_argument("--threads", type=int, default=2, help="cores that are used")
    parser.add_argument("--untimed", action="store_true", help="only count, for the part `costs`")
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"), help="for the part `costs`")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_pages()
    rows: list[Row] = []
    for part in options.parts or PARTS:
        found = []
        for row in PARTS[part](options):
            print(json.dumps(row), flush=True)
            found.append(row)
        # Those of `costs` are kept one by one.
        if part != "costs":
            keep_part(part, found)
        rows += found
    print("RESULT" + json.dumps(rows))


if __name__ == "__main__":
    main()
