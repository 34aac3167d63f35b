"""A network's weights: how they begin, where they lie, and how they are taken up."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from tumorseg.errors import TrainingError
from tumorseg.networks.channels_last import memory_format
from tumorseg.networks.registry import build_network
from tumorseg.schema.plan import Configuration

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def initial_network(
    configuration: Configuration, *, num_channels: int, num_outputs: int, seed: int, device: torch.device
) -> nn.Module:
    """Return the network of a configuration with weights that follow from the seed.

    Args:
        configuration: names the network.
        num_channels: C, input channels.
        num_outputs: K, output channels.
        seed: of the training.
        device: where it is to run.
    """
    # Drawn on the CPU, so that a training begins with the same weights on every device.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(
            configuration.network,
            num_channels=num_channels,
            num_outputs=num_outputs,
            activation_checkpointing=configuration.activation_checkpointing,
        )
    return place(network, device)


def place(network: nn.Module, device: torch.device, *, channels_last: bool = False) -> nn.Module:
    """Move a network to a device; on the CPU, and where it is asked for, the weights of convolutions are put channels last.

    With few channels, as in networks that a CPU can train, convolutions are then about a quarter faster (measured on
    12 features, 40 x 56 x 40, two cores); results differ by rounding only.
    """
    network = network.to(device)
    if channels_last or device.type == "cpu":
        for module in network.modules():
            if isinstance(module, CONVOLUTIONS):
                weight = module.weight.data
                module.weight.data = weight.contiguous(memory_format=memory_format(weight))
        # Weights of single voxels lie either way, so that a network of these has to see to it itself.
        if hasattr(network, "channels_last"):
            network.channels_last = cast(Any, True)  # torch types attributes of modules as tensors or modules
    return network


def weights_problem(found: Any, expected: Mapping[str, Any]) -> str | None:
    """Return what is wrong with weights that were read: the first name that does not fit; None if all of them do.

    Args:
        found: what was read.
        expected: the state dict that a network has: tensors, and whatever modules of other packages keep beside them.
    """
    if not isinstance(found, Mapping):
        return f"found {type(found).__name__}, expected tensors by name"
    for name, tensor in expected.items():
        if name not in found:
            return f"{name} is missing"
        if isinstance(tensor, Tensor) and (problem := _tensor_problem(found[name], tensor)) is not None:
            return f"{name} is {problem}"
    unknown = next((name for name in found if name not in expected), None)
    return None if unknown is None else f"{unknown!a} is none of its tensors"


def _tensor_problem(found: Any, expected: Tensor) -> str | None:
    if not isinstance(found, Tensor) or found.layout != torch.strided:
        return "no dense tensor"
    if found.shape != expected.shape:
        return f"of shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    # Other precisions are converted; numbers of another kind never were weights.
    if number_kind(found) != number_kind(expected):
        return f"of type {found.dtype}, expected {expected.dtype}"
    return None


def number_kind(tensor: Tensor) -> tuple[bool, bool]:
    """Return whether a tensor's numbers are floats, and whether they are complex."""
    return tensor.is_floating_point(), tensor.is_complex()


def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Take up the weights of a checkpoint.

    Raises:
        TrainingError: they belong to another network.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        # torch lists every tensor that does not fit, a line each; one is enough.
        raise TrainingError(f"the checkpoint does not fit the plan's network: {str(error).splitlines()[-1]}") from None
