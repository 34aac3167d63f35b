"""Processes that train one network together: each takes a share of every batch, and all see the loss of the whole.

A loss of a batch is seldom the mean of those of its shares (Dice over the batch, hard voxels, class weights), so the logits
of all shares come together in every process. The loss and its gradient there are those of the whole batch; each process
carries the gradient of its own share back, and the gradients of the weights are added up.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.distributed
from torch import Tensor

EXACT_DIGITS = 12
"""Hexadecimal ones of a hash, 48 bits, that a float64 holds to the last bit."""


class Ranks:
    """One process alone; all that several do together does nothing here."""

    rank = 0
    """Number of this process; the one with 0 writes all files."""
    size = 1
    """How many there are."""

    def share(self, batch_size: int) -> range:
        """Return the items of a batch that this process reads and passes through the network."""
        return shares(batch_size, self.size)[self.rank]

    def whole(self, tensor: Tensor, batch_size: int) -> Tensor:
        """Return what the processes hold of a batch, joined along the first axis in the order of their shares."""
        return tensor

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over the processes."""

    def any(self, is_so: bool) -> bool:
        """Return whether something is so in any process, the same answer in all."""
        return is_so

    def of_first(self, value: float) -> float:
        """Return the value that the first process has."""
        return value

    def have_same(self, digest: str) -> bool:
        """Return whether all processes have the same hash, the same answer in all."""
        number = float(int(digest[:EXACT_DIGITS], 16))
        return not self.any(number != self.of_first(number))

    def follow_first(self, tensors: Iterator[Tensor]) -> None:
        """Set tensors to what they are in the first process."""


ALONE = Ranks()


class ProcessRanks(Ranks):
    """The processes of torch's default process group."""

    def __init__(self) -> None:
        """Ask torch which of them this is."""
        self.rank, self.size = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def whole(self, tensor: Tensor, batch_size: int) -> Tensor:
        """Return what the processes hold of a batch: each sends its share to all others."""
        joined = tensor.new_empty(batch_size, *tensor.shape[1:])
        # Not `all_gather`, which wants shares of one size.
        for rank, share in enumerate(shares(batch_size, self.size)):
            place = joined[share.start : share.stop]
            if rank == self.rank:
                place.copy_(tensor)
            torch.distributed.broadcast(place, src=rank)
        return joined

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type by their sums, in one transfer."""
        if not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def any(self, is_so: bool) -> bool:
        """Return whether something is so in any process."""
        told = torch.tensor([int(is_so)])
        torch.distributed.all_reduce(told, op=torch.distributed.ReduceOp.MAX)
        return bool(told.item())

    def of_first(self, value: float) -> float:
        """Return the value that the first process has."""
        told = torch.tensor([value], dtype=torch.float64)
        torch.distributed.broadcast(told, src=0)
        return float(told.item())

    def follow_first(self, tensors: Iterator[Tensor]) -> None:
        """Set tensors to what they are in the first process."""
        for tensor in tensors:
            torch.distributed.broadcast(tensor.detach(), src=0)


def shares(batch_size: int, num_ranks: int) -> list[range]:
    """Return the items of each process: as many each, the first ones one more where they do not divide."""
    found, start = [], 0
    for rank in range(num_ranks):
        length = batch_size // num_ranks + int(rank < batch_size % num_ranks)
        found.append(range(start, start + length))
        start += length
    return found
