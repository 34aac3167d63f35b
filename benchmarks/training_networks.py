"""A plan's network alone on noise, forward and backward, as it is and with one thing changed; and its optimizer's step.

    python -m benchmarks.training_networks -p PLAN [-p PLAN …] [--iterations 4] [--warm-up 1]

All variants run by turns in one process. The loss is the sum of the squares of all outputs. The last line tells a row for each plan,
precision and variant.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tumorseg.engine.execution import PRECISIONS, mixed_precision
from tumorseg.engine.precision import has_bf16
from tumorseg.engine.weights import CONVOLUTIONS, initial_network
from tumorseg.networks.blocks import ConvUnit
from tumorseg.networks.channels_last import memory_format
from tumorseg.schema.plan import Plan
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.stages.opening.loaded import read_plan
from tumorseg.workers.pages import keep_freed_pages

Row = dict[str, Any]
CONFIGURATION = "3d_fullres"
SEED = 0
CPU = torch.device("cpu")
OPTIMIZER_RUNS = 20
"""Steps of an optimizer in one turn: each takes but milliseconds."""


class ShuffledUpsampling(nn.Module):
    """What a transposed convolution of stride = kernel computes, as a 1x1x1 convolution whose channels are spread over blocks of voxels."""

    def __init__(self, transposed: nn.ConvTranspose3d) -> None:
        """Take over the weights."""
        super().__init__()
        self.stride = tuple(int(step) for step in transposed.stride)
        inputs, self.outputs = transposed.in_channels, transposed.out_channels
        self.convolution = nn.Conv3d(inputs, self.outputs * prod(self.stride), 1)
        with torch.no_grad():
            # (in, out, kernel) to (out x kernel, in).
            self.convolution.weight.copy_(transposed.weight.flatten(1).t().reshape(self.convolution.weight.shape))
            assert transposed.bias is not None  # those of U-Nets have one
            assert self.convolution.bias is not None
            self.convolution.bias.copy_(transposed.bias.repeat_interleave(prod(self.stride)))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in, *space) to (B, out, *space * stride)."""
        count, _, *space = features.shape
        blocks: Tensor = self.convolution(features).reshape(count, self.outputs, *self.stride, *space)
        # Each axis of blocks, then the axis of voxels within them.
        spread = blocks.permute(0, 1, 5, 2, 6, 3, 7, 4)
        sizes = (size * step for size, step in zip(space, self.stride, strict=True))
        return spread.reshape(count, self.outputs, *sizes)


class Variant(NamedTuple):
    """What is changed."""

    name: str
    change: Callable[[nn.Module], None] = lambda network: None
    """Changes a network in place, but not what it computes."""
    images_last: bool = False
    """Whether images come channels last, so that all features are."""


def with_plain_units(network: nn.Module) -> None:
    """Let normalisation and activation be two modules again, the latter in place."""
    for parent in list(network.modules()):
        for name, unit in list(parent.named_children()):
            if isinstance(unit, ConvUnit):
                setattr(
                    parent,
                    name,
                    nn.Sequential(unit[0], unit[1], nn.LeakyReLU(unit.activation.negative_slope, inplace=True)),
                )


def with_shuffled_upsampling(network: nn.Module) -> None:
    """Replace transposed convolutions."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ConvTranspose3d):
                setattr(parent, name, ShuffledUpsampling(child))
    with_weights(network, channels_last=True)


def with_weights(network: nn.Module, *, channels_last: bool) -> None:
    """Put the weights of convolutions in one order of memory."""
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS):
            weight = module.weight.data
            order = memory_format(weight) if channels_last else torch.contiguous_format
            module.weight.data = weight.contiguous(memory_format=order)


VARIANTS = (
    Variant("as_it_is"),
    Variant("plain_modules", with_plain_units),
    Variant("weights_channels_first", lambda network: with_weights(network, channels_last=False)),
    Variant("weights_channels_last", lambda network: with_weights(network, channels_last=True)),
    Variant("all_channels_last", lambda network: with_weights(network, channels_last=True), images_last=True),
    Variant("pixel_shuffle", with_shuffled_upsampling),
)


def planned_network(plan: Plan) -> nn.Module:
    """Return a plan's network as a training begins with it."""
    configuration, targets = plan.configurations[CONFIGURATION], targets_of(plan.dataset)
    channels = num_inputs(configuration, targets)
    sizes = {"num_channels": channels, "num_outputs": targets.num_outputs}
    return initial_network(configuration, **sizes, seed=SEED, device=CPU).train()


def noise(plan: Plan) -> Tensor:
    """Return a batch (B, C, *patch)."""
    configuration = plan.configurations[CONFIGURATION]
    channels = num_inputs(configuration, targets_of(plan.dataset))
    shape = (configuration.batch_size, channels, *configuration.patch_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(SEED))


def passes(network: nn.Module, images: Tensor, precision: str) -> float:
    """Run a network forward and backward, and return the seconds."""
    network.zero_grad(set_to_none=True)
    began = time.perf_counter()
    with mixed_precision(CPU, PRECISIONS[precision]):
        outputs = network(images)
    squares = [output.float().square().sum() for output in outputs]
    torch.stack(squares).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
    return time.perf_counter() - began


def network_rows(plan: Plan, precision: str, options: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each variant of a network."""
    images = noise(plan)
    last = images.contiguous(memory_format=torch.channels_last_3d)
    chosen = [variant for variant in VARIANTS if variant.name in (options.variants or (variant.name,))]
    networks: dict[str, nn.Module] = {}
    for variant in chosen:
        networks[variant.name] = planned_network(plan)
        variant.change(networks[variant.name])
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(options.warm_up + options.iterations):
        for variant in chosen:
            batch = last if variant.images_last else images
            times[variant.name].append(passes(networks[variant.name], batch, precision))
    for name, seconds in times.items():
        yield _row(plan, f"{name}_{precision}", seconds[options.warm_up :])


OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda parameters, **how: torch.optim.SGD(
        parameters, lr=1e-12, momentum=0.99, nesterov=True, weight_decay=3e-5, **how
    ),
    "adamw": lambda parameters, **how: torch.optim.AdamW(parameters, lr=1e-12, weight_decay=1e-2, **how),
}
WAYS: Mapping[str, dict[str, bool]] = {
    "by_default": {},
    "one_by_one": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


def optimizer_rows(plan: Plan, options: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each optimizer and each way of torch to take its step, on the gradients of a backward pass."""
    network = planned_network(plan)
    passes(network, noise(plan), "fp32")
    parameters = list(network.parameters())
    made: dict[str, torch.optim.Optimizer] = {}
    for name, build in OPTIMIZERS.items():
        for way, chosen in WAYS.items():
            made[f"{name}_{way}"] = build(parameters, **chosen)
    times: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(options.warm_up + options.iterations):
        for name, optimizer in made.items():
            began = time.perf_counter()
            for _ in range(OPTIMIZER_RUNS):
                optimizer.step()
            times[name].append((time.perf_counter() - began) / OPTIMIZER_RUNS)
    for name, seconds in times.items():
        yield _row(plan, name, seconds[options.warm_up :])


def _row(plan: Plan, variant: str, seconds: Sequence[float]) -> Row:
    return {"plan": plan.name, "variant": variant, "step_s": float(f"{median(seconds):.4g}")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-p", "--plans", type=Path, action="append", required=True)
    parser.add_argument("--iterations", type=int, default=4, help="timed passes of each variant")
    parser.add_argument("--warm-up", type=int, default=1, help="passes before them")
    parser.add_argument("--variants", nargs="+", choices=[variant.name for variant in VARIANTS], help="[default: all]")
    parser.add_argument("--no-optimizers", action="store_true", help="time networks only")
    parser.add_argument("--no-kept-pages", action="store_true", help="give freed memory back to the system")
    options = parser.parse_args()
    if not options.no_kept_pages:
        keep_freed_pages()
    rows: list[Row] = []
    for path in options.plans:
        plan = read_plan(path)
        for precision in ("fp32", "bf16") if has_bf16() else ("fp32",):
            rows += network_rows(plan, precision, options)
        if not options.no_optimizers:
            rows += optimizer_rows(plan, options)
    print("RESULT" + json.dumps(rows))


if __name__ == "__main__":
    main()
