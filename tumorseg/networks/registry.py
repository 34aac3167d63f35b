"""From a plan's network to a module."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from tumorseg.errors import PlanError
from tumorseg.networks import through_monai
from tumorseg.networks.lazy import LazyBuilder
from tumorseg.networks.mednext import mednext
from tumorseg.networks.small_maps import widened
from tumorseg.networks.unet import plain_unet, residual_unet
from tumorseg.schema.extensions import External, load_external
from tumorseg.schema.networks import KnownNetwork, NetworkSpec
from tumorseg.schema.quantities import gb_text

GROUP = "tumorseg.networks"
"""Entry points of other packages: builder(parameters, num_channels=, num_outputs=) -> nn.Module."""

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "plain_unet": plain_unet,
    "residual_unet": residual_unet,
    "mednext": mednext,
    "swin_unetr": LazyBuilder(through_monai.find_swin_unetr),
    "unetr": LazyBuilder(through_monai.find_unetr),
    "segresnet": LazyBuilder(through_monai.find_segresnet),
    "dints": LazyBuilder(through_monai.find_dints),
    "dynunet": LazyBuilder(through_monai.find_dynunet),
    "attention_unet": LazyBuilder(through_monai.find_attention_unet),
}

_IN_PLACE = ("normal_", "uniform_", "erfinv_", "mul_", "add_", "clamp_")
DRAWS = frozenset(getattr(torch.Tensor, name) for name in _IN_PLACE)
"""Of what fresh weights are drawn."""


def prepare_network(spec: NetworkSpec) -> None:
    """Import what builds a network: done where tensors are fakes, an import would make its constants fakes for good."""
    if isinstance(spec, External):
        load_external(spec, GROUP)
    elif isinstance(builder := BUILDERS[spec.name], LazyBuilder):
        builder.load()


def build_network(
    spec: NetworkSpec, *, num_channels: int, num_outputs: int, activation_checkpointing: bool = False
) -> nn.Module:
    """Return the network that a plan names, with fresh weights on the CPU.

    Weights are drawn from torch's global generator; seed it before for a repeatable start.

    Args:
        spec: name and topology.
        num_channels: C, the image's channels.
        num_outputs: K, classes or regions.
        activation_checkpointing: whether activations within its stages are recomputed in the backward pass.

    Returns:
        A module (B, C, *space) -> logits (B, K, *space); while training with deep supervision a list of logits from
        full resolution down.

    Raises:
        PlanError: another package's network is not installed in the plan's version, or cannot checkpoint activations; or
            the network is larger than memory.
    """
    network: nn.Module
    if isinstance(spec, External):
        network = load_external(spec, GROUP)(spec.parameters, num_channels=num_channels, num_outputs=num_outputs)
    else:
        network = _build_known(spec, num_channels=num_channels, num_outputs=num_outputs)
    if activation_checkpointing:
        if not hasattr(network, "activation_checkpointing"):
            raise PlanError(
                f"network {spec.name} has no attribute activation_checkpointing to turn on; plan activation_checkpointing=false"
            )
        network.activation_checkpointing = cast(Any, True)  # torch types attributes of modules as tensors or modules
    return widened(network)


def _build_known(spec: KnownNetwork, *, num_channels: int, num_outputs: int) -> nn.Module:
    """Build a network of a registered name.

    Raises:
        PlanError: it is larger than memory.
    """
    build = BUILDERS[spec.name]
    try:
        return build(spec, num_channels=num_channels, num_outputs=num_outputs)
    except RuntimeError as error:
        # torch has no type of its own for a lack of main memory: whether that was it, another try tells better than its words.
        with _weightless():
            num_bytes = _num_bytes(build(spec, num_channels=num_channels, num_outputs=num_outputs))
        if _has_room(num_bytes):
            raise
        raise PlanError(
            f"network {spec.name} is too large to be made: its weights take {gb_text(num_bytes)}, which memory cannot hold; plan fewer "
            "features or smaller kernels"
        ) from error


def _num_bytes(network: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in chain(network.parameters(), network.buffers()))


def _has_room(num_bytes: int) -> bool:
    """Tell whether main memory can be had for so many bytes."""
    try:
        # What 64 bits do not count cannot even be asked for.
        torch.empty(min(num_bytes, sys.maxsize), dtype=torch.uint8, device="cpu")
    except RuntimeError:
        return False
    return True


def outline_network(spec: NetworkSpec, *, num_channels: int, num_outputs: int) -> nn.Module:
    """Return the network that a plan names with the names and shapes of its weights alone, which take no memory.

    Another package's builder may not know how to build one so.

    Raises:
        PlanError: as `build_network` does.
    """
    prepare_network(spec)
    with _weightless():
        return build_network(spec, num_channels=num_channels, num_outputs=num_outputs)


class _Undrawn(TorchFunctionMode):
    """Draws no weights: for tensors without numbers torch would load its compiler first."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch."""
        return args[0] if func in DRAWS and args[0].is_meta else func(*args, **(kwargs or {}))


@contextmanager
def _weightless() -> Iterator[None]:
    """Let networks that are built in this block have the names and shapes of their weights alone."""
    with torch.device("meta"), _Undrawn():
        yield
