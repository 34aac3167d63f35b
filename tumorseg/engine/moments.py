"""What a pass through a network draws and changes beside gradients: random numbers and buffers, kept and put back."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class Buffers:
    """A network's buffers as they are now, such as the running means of batch norm."""

    def __init__(self, network: nn.Module) -> None:
        """Keep copies."""
        self._network, self._values = network, [buffer.clone() for buffer in network.buffers()]

    @torch.no_grad()
    def restore(self) -> None:
        """Put them back."""
        for buffer, before in zip(self._network.buffers(), self._values, strict=True):
            buffer.copy_(before)


class Moment:
    """Random states and buffers as they are now: a pass that begins with them again draws the same, and counts nothing twice."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        """Keep them."""
        self._buffers, self._devices = Buffers(network), _with_generators(device)
        self._state = torch.get_rng_state()
        self._device_states = [torch.cuda.get_rng_state(one) for one in self._devices]

    def restore(self) -> None:
        """Put them back."""
        self._buffers.restore()
        torch.set_rng_state(self._state)
        for one, device_state in zip(self._devices, self._device_states, strict=True):
            torch.cuda.set_rng_state(device_state, one)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Put them back meanwhile; afterwards random numbers go on as if there had been only one pass."""
        with torch.random.fork_rng(self._devices):
            self.restore()
            yield


def draws_random_numbers(network: nn.Module) -> bool:
    """Tell whether passes in training do; a network that does not say so of itself, as another package's, may."""
    return bool(getattr(network, "draws_random_numbers", True))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let torch's global generators, of the CPU and of a device, begin with a seed; afterwards they are as before."""
    devices = _with_generators(device)
    with torch.random.fork_rng(devices):
        # Not `torch.manual_seed`, which also seeds what others compute on other devices.
        torch.default_generator.manual_seed(seed)
        for one in devices:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(seed)
        yield


def _with_generators(device: torch.device) -> list[torch.device]:
    """Return the device if it has a generator of its own."""
    return [device] if device.type == "cuda" else []
