"""Training steps of the reference plans at their own patch and batch: seconds and memory by precision, memory format and compiler."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import torch
from torch._dynamo.utils import counters

from benchmarks.gpu.reference_plans import Planned, learner_of, noise_of, planned, require_compiler
from benchmarks.gpu.sizes import GB, Row, Size, Tell, attempt, forget, median_seconds, peak_gb, rounded, timing_of
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.schema.training import OnGpu, Precisions, Switches, Training


class Variant(NamedTuple):
    """How a step is computed."""

    precision: str
    channels_last: bool = False
    compiles: bool = False
    is_tuned: bool = False
    """Whether cuDNN times its algorithms and takes the fastest; no plan asks for it."""

    def training(self, device: str) -> Training:
        """Return what a plan says to train so on a kind of device."""
        return Training(
            epochs=1,
            iterations_per_epoch=1000,
            validation_iterations=1,
            precision=Precisions.model_validate({device: self.precision}),
            channels_last=OnGpu(cuda=self.channels_last),
            compile=Switches.model_validate({device: self.compiles}),
        )


HALF = {"cuda": "fp16", "cpu": "bf16"}
"""What a device takes for half precision if a plan says nothing else."""
MAIN = ("BrainTumour__nnunet", "3d_fullres")
OTHERS = (
    ("BrainTumour__optimized", "3d_fullres"),
    ("LiverCT__optimized", "3d_fullres"),
    ("CineHeart__optimized", "2d"),
    ("BrainTumour__large_gpu", "3d_fullres"),
)
STEPS_S, COMPILING_S = 5.0, 60.0
"""What a row takes, and one that is compiled."""
TRIED = ("BrainTumour__fast_prototyping", "3d_fullres")
"""Of a dry run."""


def measure(size: Size, tell: Tell) -> None:
    """Tell a row for each plan and variant."""
    for name, variant in jobs(size):
        found = planned(*name, size)
        known = found.row() | variant._asdict()
        takes_s = COMPILING_S if variant.compiles and not size.is_tiny else STEPS_S
        attempt(tell, known, partial(step_row, found, variant, size), size=size, takes_s=takes_s)


def jobs(size: Size) -> Iterator[tuple[tuple[str, str], Variant]]:
    """Yield plans and variants; compilers last, as each takes most of a minute before its first step."""
    half = HALF[size.device]
    usual = (Variant(half), Variant("fp32"), Variant("bf16"))
    laid_out = (Variant(half, channels_last=True), Variant("bf16", channels_last=True))
    main = TRIED if size.is_tiny else MAIN
    # On a processor bf16 is what half precision is.
    first = dict.fromkeys((*usual, *laid_out, Variant(half, is_tuned=True)))
    yield from ((main, variant) for variant in first)
    for name in () if size.is_tiny else OTHERS:
        yield from ((name, variant) for variant in (usual[0], usual[2]))
    yield main, Variant(half, compiles=True)
    if not size.is_tiny:
        yield main, Variant(half, channels_last=True, compiles=True)


def step_row(found: Planned, variant: Variant, size: Size) -> Row:
    """Return seconds and peak memory of steps on noise.

    Raises:
        MissingError: it is to be compiled, and there is no compiler.
    """
    if variant.compiles:
        # A training would go on without; here that would be taken for what the compiler brings.
        require_compiler(size.device)
    forget(size.device)
    counters.clear()
    learner = learner_of(found, variant.training(size.device), size.device)
    inputs = noise_of(found, size.device)
    torch.backends.cudnn.benchmark = variant.is_tuned
    # In a try the same path is taken without the compiler, which would need longer than all else.
    stance = torch.compiler.set_stance("force_eager") if size.is_tiny else nullcontext()
    with stance:
        began = time.perf_counter()
        learner.step(inputs, 0)
        first_s = time.perf_counter() - began
        seconds = median_seconds(lambda: learner.step(inputs, 1), size.device, timing_of(size))
    torch.backends.cudnn.benchmark = False
    # What the compiler cannot do runs as it is, without a word.
    graphs = {"graphs": counters["stats"]["unique_graphs"]} if variant.compiles else {}
    memory = peak_gb(size.device) | {"predicted_gb": predicted_gb(found, variant)}
    torch.compiler.reset()  # what is compiled holds the network
    return {"step_s": rounded(seconds), "first_step_s": rounded(first_s)} | memory | graphs


def predicted_gb(found: Planned, variant: Variant) -> float:
    """Return the peak of a step as the planner counts it: as the plan holds it, or anew for another precision or patch."""
    plan, setting = found.plan, found.setting
    # Half precisions take the same.
    is_half = {variant.precision, setting.precision} <= {"fp16", "bf16"}
    if is_half and found.configuration == plan.configurations[found.name]:
        return round(plan.budget.counts[found.name].peak_bytes / GB, 3)
    count = MemoryCounter().count(found.configuration, setting._replace(precision=variant.precision))
    return round(count.peak_bytes / GB, 3)
