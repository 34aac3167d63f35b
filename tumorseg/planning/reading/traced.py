"""Stages of a network that no rule tells, as its modules show them in one pass over a patch without voxels."""

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tumorseg.engine.execution import PRECISIONS
from tumorseg.networks.following import Following, attended, tensors_of
from tumorseg.networks.registry import build_network, prepare_network
from tumorseg.planning.families.base import Ends
from tumorseg.planning.memory.cuda_autocast import CudaRules
from tumorseg.planning.memory.fakes import FakeMode, storage_of
from tumorseg.planning.reading.stages import IMAGE, Flow, Side, Work
from tumorseg.schema.networks import Axes, NetworkSpec

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
CHANNELS_LAST = (nn.Linear, nn.LayerNorm)
"""Modules that look at the last axis; all others take channels for the second one."""

GATE = 0
"""Stands in the place of a number of tokens for what is opened by a sigmoid."""


class Batch(NamedTuple):
    """What goes through the network at once."""

    patch_size: Axes
    """Voxels per axis."""
    size: int
    """Patches."""
    precision: str
    """`fp32`, `fp16` or `bf16`."""


class Place(NamedTuple):
    """Where in a network something happens."""

    side: Side
    """Down to the bottleneck, or after it."""
    shape: Axes
    """Voxels, or tokens, per axis."""


class Traced(NamedTuple):
    """One stage: all that happens at one resolution on one side of the network."""

    place: Place
    features: int
    """Channels that most of its modules return."""
    work: tuple[Work, ...]
    """What it does."""
    parameters: int
    """Weights and biases."""
    saved_bytes: int
    """Kept for the backward pass of one batch."""


class Trace(NamedTuple):
    """A network as it ran."""

    stages: tuple[Traced, ...]
    """The encoder from full resolution down, then the decoder up."""
    flows: tuple[Flow, ...]
    """Whose features each stage is given."""


class _Call(NamedTuple):
    """One call of a module that has weights."""

    module: nn.Module
    shape: Axes
    """Voxels, or tokens, per axis."""
    features: int
    sources: frozenset[int]
    """Calls whose results it is given, or IMAGE."""


def trace(network: NetworkSpec, ends: Ends, batch: Batch) -> Trace:
    """Run a network once, and gather what it does by resolution.

    Args:
        network: of this package's registry.
        ends: channels, outputs, and whether activations are checkpointed.
        batch: what goes through it.
    """
    prepare_network(network)
    with FakeMode():
        module = build_network(network, num_channels=ends.num_channels, num_outputs=ends.num_outputs).train()
        image = torch.empty(batch.size, ends.num_channels, *batch.patch_size)
    recorder = _Recorder(batch)
    handles = [one.register_forward_hook(recorder.after) for one in module.modules() if _own_parameters(one)]
    half = batch.precision != "fp32"
    autocast = torch.autocast("cpu", dtype=PRECISIONS[batch.precision]) if half else nullcontext()
    saving = torch.autograd.graph.saved_tensors_hooks(recorder.save, lambda tensor: tensor)
    recorder.weights.update(_storage(parameter) for parameter in module.parameters())
    recorder.write(image, frozenset({IMAGE}))
    with FakeMode(), CudaRules(), recorder, autocast, saving:
        module(image)
    for handle in handles:
        handle.remove()
    return _gathered(module, recorder, is_checkpointed=ends.is_checkpointed)


class _Recorder(Following[frozenset[int]]):
    """Notes each call of a module that has weights, whence tensors come, and what is kept meanwhile."""

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.batch = batch
        self.calls: list[_Call] = []
        self.saved: dict[int, tuple[int, int]] = {}
        """Bytes of each storage that is kept, and the number of the call in or before which it was first asked for."""
        self.made: dict[int, int] = {}
        """Call that each storage comes from."""
        self.extra: list[Counter[int]] = [Counter()]
        """Attention, by its tokens, and gates before the end of each call, after that of the one before; the last ones are of none yet."""
        self.weights: set[int] = set()
        """Storages of parameters."""
        self.crossed: list[dict[int, int]] = []
        """Bytes of each storage that a call was given."""

    def after(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Note a call."""
        found = next(tensors_of(output))
        shape = _grid(module, found, self.batch)
        if shape is None:
            return
        features = found.shape[-1 if isinstance(module, CHANNELS_LAST) else 1]
        given = list(tensors_of(inputs))
        notes = [self.note(tensor) or frozenset() for tensor in given]
        self.calls.append(_Call(module, shape, features, frozenset().union(*notes)))
        self.crossed.append({_storage(tensor): storage_of(tensor).nbytes() for tensor in given})
        self.write(found, frozenset({len(self.calls) - 1}))
        self.made[_storage(found)] = len(self.calls) - 1
        self.extra.append(Counter())

    def save(self, tensor: Tensor) -> Tensor:
        """Note a tensor that autograd keeps."""
        if (key := _storage(tensor)) not in self.weights:
            self.saved.setdefault(key, (storage_of(tensor).nbytes(), len(self.calls)))
        return tensor

    def passed_on(
        self, function: str, arguments: Sequence[Any], options: dict[str, Any], result: Tensor
    ) -> frozenset[int] | None:
        """Return whence a result comes: from where its tensors do."""
        if (attention := attended(function, arguments, options)) is not None:
            self.extra[-1][attention[1]] += 1
        elif function == "sigmoid":
            self.extra[-1][GATE] += 1
        notes = [self.note(tensor) or frozenset() for tensor in tensors_of([*arguments, options])]
        if not (note := frozenset().union(*notes)):
            return None
        # What several stages make together belongs to the one that was last.
        self.made.setdefault(_storage(result), max(note))
        return note


def _storage(tensor: Tensor) -> int:
    return int(storage_of(tensor)._cdata)


def _own_parameters(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


def _grid(module: nn.Module, found: Tensor, batch: Batch) -> Axes | None:
    """Return the voxels, or tokens, per axis of what a module returned; None for what is cut into windows."""
    num_axes, shape = len(batch.patch_size), tuple(found.shape)
    if len(shape) == num_axes + 2:
        return shape[1:-1] if isinstance(module, CHANNELS_LAST) else shape[2:]
    if len(shape) != 3 or shape[0] != batch.size:
        return None
    # Tokens in a row: cubes of voxels, as many along each axis.
    edge = round((math.prod(batch.patch_size) / shape[1]) ** (1 / num_axes))
    grid = tuple(size // edge for size in batch.patch_size)
    return grid if math.prod(grid) == shape[1] else None


def _gathered(network: nn.Module, recorder: _Recorder, *, is_checkpointed: bool) -> Trace:
    """Put together what happened at one resolution on one side."""
    places = _places(recorder.calls)
    order = sorted(set(places), key=_rank)
    number = [order.index(place) for place in places]
    parameters = _parameters(network, recorder.calls, number, len(order))
    saved = _crossing(recorder, number, len(order)) if is_checkpointed else _saved(recorder, number, len(order))
    stages = []
    for index, place in enumerate(order):
        own = [call for call, one in zip(recorder.calls, number, strict=True) if one == index]
        extra = [found for found, one in zip(recorder.extra, [*number, number[-1]], strict=True) if one == index]
        features = Counter(call.features for call in own)
        most = max(features, key=lambda width: (features[width], width))
        work = _work(own, sum(extra, Counter()))
        stages.append(Traced(place, most, work, parameters[index], saved[index]))
    return Trace(tuple(stages), _flows(recorder.calls, number, order))


def _places(calls: Sequence[_Call]) -> list[Place]:
    """Return where each call belongs; the decoder is what comes after the last call at the coarsest resolution."""
    sizes = [math.prod(call.shape) for call in calls]
    least = min(sizes)
    bottleneck = max(number for number, size in enumerate(sizes) if size == least)
    return [Place("encoder" if number <= bottleneck else "decoder", call.shape) for number, call in enumerate(calls)]


def _rank(place: Place) -> tuple[bool, int, Axes]:
    voxels = math.prod(place.shape)
    is_decoder = place.side == "decoder"
    return is_decoder, voxels if is_decoder else -voxels, place.shape


def _parameters(network: nn.Module, calls: Sequence[_Call], number: Sequence[int], count: int) -> list[int]:
    """Return the weights of each stage; those of a module that returned no grid go with what ran in it or before it."""
    stage_of = {id(call.module): index for call, index in zip(calls, number, strict=True)}
    found, latest = [0] * count, 0
    for module in network.modules():
        inside = [stage_of[id(one)] for one in module.modules() if id(one) in stage_of]
        latest = inside[0] if inside else latest
        found[latest] += sum(parameter.numel() for parameter in _own_parameters(module))
    return found


def _saved(recorder: _Recorder, number: Sequence[int], count: int) -> list[int]:
    found = [0] * count
    for key, (size, asked) in recorder.saved.items():
        # The image is the first stage's; what has no call of its own belongs to the one that was about to end.
        call = max(recorder.made.get(key, asked), 0)
        found[number[min(call, len(number) - 1)]] += size
    return found


def _crossing(recorder: _Recorder, number: Sequence[int], count: int) -> list[int]:
    """Return what each stage is given by others: with checkpointing only that is kept."""
    given: list[dict[int, int]] = [{} for _ in range(count)]
    for call, sizes, index in zip(recorder.calls, recorder.crossed, number, strict=True):
        if any(source == IMAGE or number[source] != index for source in call.sources):
            given[index] |= sizes
    return [sum(sizes.values()) for sizes in given]


def _work(calls: Sequence[_Call], extra: Counter[int]) -> tuple[Work, ...]:
    """Return what a stage does, convolutions of single voxels left out."""
    counts: Counter[tuple[str, Axes]] = Counter()
    for call in calls:
        kernel = tuple(getattr(call.module, "kernel_size", ()))
        if isinstance(call.module, TRANSPOSED):
            counts["upsampling", ()] += 1
        elif isinstance(call.module, CONVOLUTIONS) and max(kernel) > 1:
            counts["convolution", kernel] += 1
    work = []
    for tokens, count in sorted(extra.items()):
        what = {"unit": "gate"} if tokens == GATE else {"unit": "attention block", "num_tokens": tokens}
        work.append(Work.model_validate({"count": count, "kernel_size": (), **what}))
    for unit in dict.fromkeys(name for name, _ in counts):
        kernels = [kernel for name, kernel in counts if name == unit]
        total = sum(counts[unit, kernel] for kernel in kernels)
        largest = tuple(map(max, *kernels)) if len(kernels) > 1 else kernels[0]
        work.append(Work(count=total, unit=unit, kernel_size=largest, has_smaller=len(kernels) > 1))
    return tuple(work)


def _flows(calls: Sequence[_Call], number: Sequence[int], order: Sequence[Place]) -> tuple[Flow, ...]:
    found = set()
    for call, target in zip(calls, number, strict=True):
        origins = {IMAGE if source == IMAGE else number[source] for source in call.sources}
        found |= {(origin, target) for origin in origins if origin != target}
    direct = [pair for pair in sorted(found) if not _comes_along(pair, found, order)]
    return tuple(Flow(source=source, target=target) for source, target in direct)


def _comes_along(pair: tuple[int, int], found: set[tuple[int, int]], order: Sequence[Place]) -> bool:
    """Tell whether features reach a stage only because they were added to those of another one at their own resolution."""
    source, target = pair
    if source == IMAGE:
        return False
    beside = [index for index, place in enumerate(order) if place.shape == order[source].shape and index != source]
    return any((source, index) in found and (index, target) in found for index in beside)
