"""What a network computes for one patch, counted on tensors without voxels."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import flop_registry

from tumorseg.networks.registry import build_network, prepare_network
from tumorseg.planning.memory.fakes import META, EagerMode, FakeMode, is_composite
from tumorseg.schema.extensions import External
from tumorseg.schema.networks import Axes, NetworkSpec


class _FlopCounter(EagerMode):  # type: ignore[no-untyped-call]
    """Adds up by torch's own formulas; torch's own mode would load its compiler, which takes seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, or those that it is made of, and count."""
        options, formula = kwargs or {}, flop_registry.get(func._overloadpacket)
        if formula is None and is_composite(func):
            with self:
                return func.decompose(*args, **options)
        out = func(*args, **options)
        if formula is not None:
            self.flops += formula(*args, **options, out_val=out)
        return out


def network_flops(network: NetworkSpec, patch_size: Axes, *, num_channels: int, num_outputs: int) -> int:
    """Count the floating-point operations of one forward pass of one patch, as in prediction.

    Args:
        network: what is counted.
        patch_size: voxels per axis.
        num_channels: C, channels of its input.
        num_outputs: K, classes or regions.

    Raises:
        PlanError: another package's network is not installed in the plan's version.
    """

    def build() -> nn.Module:
        return build_network(network, num_channels=num_channels, num_outputs=num_outputs)

    prepare_network(network)
    # Light fakes may lack what odd code needs; torch's own rules for shapes take seconds to load.
    mode = META if isinstance(network, External) else FakeMode()
    return module_flops(build, (num_channels, *patch_size), mode)


def module_flops(build: Callable[[], nn.Module], shape: Axes, mode: AbstractContextManager[Any] | None = None) -> int:
    """Count those of a module's convolutions and products of matrices; a multiplication and an addition are two.

    What else it does is left out: normalisation, activations, softmax, biases. Every operation is counted in the form in
    which it is written, whatever form is fastest where the network runs.

    Args:
        build: returns the module, which is built without weights.
        shape: of one sample, channels first.
        mode: makes tensors without voxels; light fakes if None.
    """
    with mode or FakeMode(), torch.no_grad():
        module, sample = build().eval(), torch.empty(1, *shape)
        with _FlopCounter() as counter:
            module(sample)
    return int(counter.flops)
