"""Which convolutions torch computes wrongly in bf16 on this processor: gradients that depend on memory that nothing wrote.

    python -m benchmarks.bf16_convolutions [--minutes 6] [--seed 0]

Convolutions are drawn: two and three axes, 1 to 320 channels, kernels of 1 to 9, strides of 1 to 3, some dilated, transposed and depthwise
ones, maps of 1 to 24 voxels an edge, both orders of memory. Each runs forwards and backwards under autocast, once with freed memory full of
10,000 and once full of NaN, and is wrong if a result or a gradient is a fifth of the largest value off that in float32. They run by the
hundred in a process of their own, as some also write where nothing is theirs, which ends it. A row of
benchmarks/results/bf16_convolutions.json counts what is wrong where the maps, or those that a transposed one makes, are no larger than the kernel along some axis, and elsewhere.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.machine import machine
from tumorseg.engine.precision import has_bf16

RESULT = Path(__file__).parent / "results" / "bf16_convolutions.json"
OF_A_PROCESS = 100
MOST_OFF = 0.2
FEW = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 320)
KERNELS = (1, 2, 3, 3, 3, 4, 5, 5, 6, 7, 9)
KINDS: dict[tuple[int, bool], Callable[..., nn.Module]] = {
    (2, False): nn.Conv2d,
    (3, False): nn.Conv3d,
    (2, True): nn.ConvTranspose2d,
    (3, True): nn.ConvTranspose3d,
}
"""By the number of axes, and whether it is transposed."""
EDGES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12)
ONE_HEAP = {"MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_MMAP_THRESHOLD_": "100000000000"}
"""Has the C library keep what is freed, for the next who asks."""


class Draw(NamedTuple):
    """A convolution and what it is of."""

    module: nn.Module
    images: Tensor
    is_small: bool
    """Whether the maps are no larger than the kernel along some axis."""


def drawn(rng: random.Random) -> Draw:
    """Return a convolution and maps for it."""
    axes, is_transposed = rng.choice((2, 3, 3)), rng.random() < 0.3
    inputs, outputs, groups = rng.choice(FEW), rng.choice(FEW[1:]), 1
    if rng.random() < 0.2:
        outputs = groups = inputs
    space = [rng.choice(EDGES) for _ in range(axes)]
    if rng.random() < 0.2:
        space = [rng.choice((8, 14, 16, 20, 24))] * axes
    kernel = [3] * axes if rng.random() < 0.4 else [rng.choice(KERNELS) for _ in range(axes)]
    stride = [1] * axes if rng.random() < 0.4 else [rng.choice((1, 2, 2, 3)) for _ in range(axes)]
    dilation = [1] * axes if rng.random() < 0.8 else [rng.choice((1, 2)) for _ in range(axes)]
    if is_transposed and rng.random() < 0.5:
        kernel, dilation = stride, [1] * axes
    given: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": groups}
    given["padding"] = [step * (edge - 1) // 2 for edge, step in zip(kernel, dilation, strict=True)]
    module: nn.Module = KINDS[axes, is_transposed](inputs, outputs, kernel, **given)
    images = torch.randn(rng.choice((1, 2, 2, 3, 5)), inputs, *space)
    if rng.random() < 0.5:
        last = torch.channels_last if axes == 2 else torch.channels_last_3d
        module, images = module.to(memory_format=last), images.to(memory_format=last)  # type: ignore[call-overload]
    return Draw(module, images, is_small(module, images, is_transposed=is_transposed))


def is_small(module: Any, images: Tensor, *, is_transposed: bool) -> bool:
    """Tell whether the maps, or those that a transposed convolution makes, are no larger than the kernel along some axis."""
    result = module(images)
    maps = result if is_transposed else images
    edges = [step * (edge - 1) + 1 for edge, step in zip(module.kernel_size, module.dilation, strict=True)]
    return any(size <= edge and edge > 1 for size, edge in zip(maps.shape[2:], edges, strict=True))


def fill_freed_memory(value: float) -> None:
    """Write a value to blocks of many sizes, and free them."""
    held = []
    for bits in range(7, 19):
        for size in (1 << bits, 3 << (bits - 1)):
            held += [torch.full((size,), value) for _ in range(2)]
    held.clear()


def results(draw: Draw, gradient: Tensor, *, is_half: bool, junk: float) -> list[Tensor]:
    """Return the result and the gradients of images, weights and bias, with freed memory full of something."""
    draw.module.zero_grad()
    images = draw.images.clone().requires_grad_()
    fill_freed_memory(junk)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
        found = draw.module(images)
    fill_freed_memory(junk)
    found.backward(gradient.to(found.dtype))
    gradients = [one.grad for one in (images, *draw.module.parameters()) if one.grad is not None]
    return [found.detach().float(), *(one.clone() for one in gradients)]


def is_wrong(draw: Draw) -> bool:
    """Tell whether bf16 is far from float32."""
    gradient = torch.randn(draw.module(draw.images).shape)
    expected = results(draw, gradient, is_half=False, junk=0.0)
    for junk in (1e4, float("nan")):
        for found, right in zip(results(draw, gradient, is_half=True, junk=junk), expected, strict=True):
            off = float((found - right).abs().max() / right.abs().max().clamp(min=1e-3))
            # A NaN is not below either.
            if not off < MOST_OFF:
                return True
    return False


def run_draws(seed: int) -> None:
    """Run the draws of a process, and print what each is before, and what it was after."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    for _ in range(OF_A_PROCESS):
        try:
            draw = drawn(rng)
        except RuntimeError:  # nothing would be left of the maps
            continue
        kind = "small" if draw.is_small else "others"
        print(kind, end=" ", flush=True)
        print("wrong" if is_wrong(draw) else "right", flush=True)


def counted(lines: list[str]) -> Counter[str]:
    """Return how many of each kind ended how; one that did not end crashed, or damaged what a later one met."""
    return Counter(" ".join((*line.split(), "crashed")[:2]) for line in lines if line.split())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--seed", type=int, default=0, help="of the first process")
    parser.add_argument("--of-process", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, default=RESULT)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.of_process:
        run_draws(options.seed)
        return
    if not has_bf16():
        raise SystemExit("this processor does not compute in bf16")
    counts: Counter[str] = Counter()
    last, seed = time.monotonic() + 60 * options.minutes, options.seed
    while time.monotonic() < last:
        command = [sys.executable, "-m", "benchmarks.bf16_convolutions", "--of-process", "--seed", str(seed)]
        done = subprocess.run(command, env=os.environ | ONE_HEAP, capture_output=True, text=True, check=False)
        counts += counted(done.stdout.split("\n"))
        seed += 1
    row: dict[str, Any] = {"seeds": [options.seed, seed - 1], "counts": dict(sorted(counts.items())), **machine()}
    options.result.write_text(json.dumps(row, indent=1) + "\n")
    print(json.dumps(row["counts"]))


if __name__ == "__main__":
    main()
