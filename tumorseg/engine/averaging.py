"""Networks as one forward: logits averaged over mirrored views and over the networks of several folds."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, combinations
from threading import Event
from typing import Literal

import torch
from torch import Tensor

from tumorseg.engine.cascade_channels import with_previous
from tumorseg.engine.sliding_window import BegunForward
from tumorseg.engine.stopwatch import Stopwatch
from tumorseg.errors import TumorsegError

Pass = Callable[[Tensor], Tensor]
"""A batch (B, C, *patch), float32 on the networks' device, to logits (B, K, *patch)."""

VoteKind = Literal["labels", "regions"]
"""What a member votes for: the likeliest class, or each region with a probability above a half."""


@dataclass(frozen=True)
class NetworkForward(BegunForward):
    """A `Forward` of networks, which brings tiles to their device and sees to their precision."""

    networks: Sequence[Pass]
    """On one device; modules in eval mode."""
    mirroring_axes: tuple[int, ...]
    """Axes of the networks' space; empty for the plain view only."""
    num_axes: int
    """Axes of the networks' space, 2 or 3; networks of two axes see the slices of a tile as a batch."""
    autocast: Callable[[], AbstractContextManager[object]]
    """Makes the context of a forward pass."""
    device: torch.device
    """Where the networks are."""
    keeps_on_device: bool = True
    """Whether logits stay there, or come back to the CPU batch by batch."""
    num_previous: int = 0
    """Foreground labels that a cascade is shown. The last channel of its tiles holds their class indices: whole images
    with a channel for each would take memory that grows with classes times the volume."""
    background: Executor | None = None
    """One thread that passes run in while the caller adds up and restores; None for the caller's own."""
    views_per_pass: int = 1
    """Mirrored views that go through a network as one batch."""
    votes: VoteKind | None = None
    """What each member (a network and a view) votes for; None where nobody asks."""
    stopped: Event | None = None
    """Ends the computation at the next pass once it is set."""
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    """Counts the seconds of passes (`network`), and how long the caller waits for them (`wait`)."""
    _constant: dict[tuple[float, ...], Tensor] = field(default_factory=dict)
    """Logits of the last tile of which each channel held one value, by these values."""

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return the mean logits over all views and networks.

        Args:
            tiles: (B, C, Z, Y, X), on any device.

        Returns:
            (B, K, Z, Y, X), float32, without gradients; with votes 2 K channels, of which the latter half are the shares of members
            that voted for each class or region.
        """
        return self.begin(tiles)()

    @property
    def num_ahead(self) -> int:
        """Return how many batches of tiles keep the networks at work while another one is added up."""
        return 0 if self.background is None else 1

    def begin(self, tiles: Tensor) -> Callable[[], Tensor]:
        """Hand a batch of tiles to the background, and return what waits for its logits (arguments and result as of a call)."""
        values = _constant_values(tiles)
        # What a network says of a tile does not depend on where it lies: of equal constant tiles one is computed.
        if values is not None and values in self._constant:
            known = self._constant[values]
            return lambda: known
        wait = self._begun(tiles)

        def finish() -> Tensor:
            with self.stopwatch.part("wait"):
                return wait()

        if values is None:
            return finish

        def remember() -> Tensor:
            logits = finish()
            self._constant.clear()  # one at a time, so that memory does not grow
            self._constant[values] = logits
            return logits

        return remember

    def _begun(self, tiles: Tensor) -> Callable[[], Tensor]:
        if self.background is None:
            return partial(self._run, tiles)
        return self.background.submit(self._run, tiles).result

    def _run(self, tiles: Tensor) -> Tensor:
        batch = self._to_batch(tiles)
        axis_sets = _subsets(self.mirroring_axes)
        total: Tensor | None = None
        with self.stopwatch.part("network"), torch.inference_mode(), self.autocast():
            for first in range(0, len(axis_sets), self.views_per_pass):
                for network in self.networks:
                    self._check_stopped()
                    part = self._sum_of_views(network, batch, axis_sets[first : first + self.views_per_pass])
                    total = part if total is None else total + part
        assert total is not None
        num_members = len(self.networks) * len(axis_sets)
        return self._from_batch(total / num_members if num_members > 1 else total, len(tiles))

    def _check_stopped(self) -> None:
        if self.stopped is not None and self.stopped.is_set():
            raise TumorsegError("the prediction was stopped; give the same command again")

    def _to_batch(self, tiles: Tensor) -> Tensor:
        tiles = tiles.to(self.device)
        if self.num_previous:
            tiles = with_previous(tiles[:, :-1], tiles[:, -1], self.num_previous)
        # (B, C, Z, Y, X) to (B * Z, C, Y, X): each slice is an image of its own.
        return tiles.transpose(1, 2).flatten(0, 1) if self.num_axes == 2 else tiles

    def _from_batch(self, logits: Tensor, num_tiles: int) -> Tensor:
        logits = logits if self.keeps_on_device else logits.cpu()
        if self.num_axes == 2:
            return logits.reshape(num_tiles, -1, *logits.shape[1:]).transpose(1, 2)
        return logits

    def _sum_of_views(self, network: Pass, batch: Tensor, axis_sets: Sequence[tuple[int, ...]]) -> Tensor:
        views = [_flipped(batch, axes) for axes in axis_sets]
        # Of one view no copy is made.
        outputs = network(torch.cat(views) if len(views) > 1 else views[0])
        total: Tensor | None = None
        for axes, logits in zip(axis_sets, torch.split(outputs, len(batch)), strict=True):
            # Added up in float32: in half precision the sum of many views would lose digits.
            turned = self._with_votes(_flipped(logits.float(), axes))
            total = turned if total is None else total + turned
        assert total is not None
        return total

    def _with_votes(self, logits: Tensor) -> Tensor:
        if self.votes is None:
            return logits
        if self.votes == "regions":
            # A logit above 0 is a probability above a half.
            votes = logits > 0
        else:
            votes = torch.zeros_like(logits).scatter_(1, logits.argmax(dim=1, keepdim=True), 1.0)
        return torch.cat((logits, votes.to(logits.dtype)), dim=1)


def _flipped(batch: Tensor, axes: Sequence[int]) -> Tensor:
    return torch.flip(batch, [2 + axis for axis in axes]) if axes else batch


def _constant_values(tiles: Tensor) -> tuple[float, ...] | None:
    """Return the value of each channel of one tile that holds nothing else; None for any other, and on a GPU, where to look takes time."""
    if len(tiles) > 1 or tiles.device.type != "cpu" or not _is_real(tiles):
        return None
    # The first voxel decides nearly always, so that a tile is seldom looked at as a whole.
    firsts = tiles[0].flatten(1)[:, :1]
    if not bool((tiles[0, :, 0, 0] == firsts).all()) or not bool((tiles[0].flatten(1) == firsts).all()):
        return None
    return (*map(float, tiles.shape), *firsts[:, 0].tolist())


def _is_real(tensor: Tensor) -> bool:
    """Return whether a tensor holds values; the planner counts memory with some that hold none."""
    return type(tensor) is Tensor


def _subsets(axes: Sequence[int]) -> list[tuple[int, ...]]:
    # From the empty set, which is the plain view, to that of all axes.
    return list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))
