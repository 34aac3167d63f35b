"""Several models' probabilities of one slice as one answer: weighted means and votes, and the decision on them.

Weights are of a label or region by itself. Regions are decided one by one, so that each has the mean by its own weights. Labels exclude
each other: with weights w that add up to 1 over the members m of each label k, q_k = sum_m w_mk p_mk, and p_k = q_k / sum_k q_k. The
background is weighed by the mean of the labels' weights. Where all labels have one set of weights, that is the weighted mean.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tumorseg.engine.uncertainty import probabilities
from tumorseg.schema.ensembles import Combination
from tumorseg.schema.targets import Targets

LEAST = torch.finfo(torch.float32).tiny
"""Probability whose logarithm stands for that of 0: even divided by a temperature it stays below what a map can show."""
MOST = 1 - 2**-24
"""The largest float32 below 1."""
TIE = 1e-6
"""Shares of votes that differ by less are equal: so much comes from adding weights up."""
NUDGE = 1e-5
"""What the logit of a tie's winner is above the others': below a step of a map."""


class Decision(NamedTuple):
    """How logits become labels, and what observers are shown of them; by default the likeliest, and the logits themselves."""

    margins: tuple[float, ...] = ()
    """Of each region the logit above which it is painted; empty: 0, a probability of one half."""
    temperature: float = 1.0
    """By which the logits that are shown are divided."""


AS_LIKELY = Decision()


def decision_of(combination: Combination, targets: Targets) -> Decision:
    """Return how an ensemble's logits are decided and shown."""
    thresholds = combination.thresholds
    margins = [_logit(thresholds.get(name, 0.5)) for name in targets.region_names] if thresholds else ()
    return Decision(tuple(margins), combination.temperature)


def _logit(probability: float) -> float:
    return math.log(probability) - math.log1p(-probability)


def class_probabilities(logits: Tensor, own: Targets, wanted: Targets) -> Tensor:
    """Return the probability of each class or region that is wanted.

    Args:
        logits: (K_own, ...), float32.
        own: what they mean.
        wanted: the same labels; with regions where `own` has them, or besides.

    Returns:
        (K_wanted, ...), from 0 to 1; those of labels add up to 1.
    """
    return as_wanted(probabilities(logits, own), own, wanted)


def as_wanted(shares: Tensor, own: Targets, wanted: Targets) -> Tensor:
    """Return probabilities, or shares of votes, of classes (K_own, ...) as those of what is wanted (K_wanted, ...).

    Classes exclude each other, so that a voxel is in a region as likely as in any of its classes.
    """
    if own.has_regions or not wanted.has_regions:
        return shares
    return torch.stack([shares[list(region)].sum(dim=0) for region in wanted.regions]).clamp_(max=1.0)


def certain_background(plane: Sequence[int], targets: Targets) -> Tensor:
    """Return the probabilities (K, rows, columns) of who is certain that there is nothing in a plane of so many rows and columns."""
    nothing = torch.zeros(targets.num_outputs, *plane)
    if not targets.has_regions:
        nothing[0] = 1.0
    return nothing


def combined(members: Sequence[Tensor], combination: Combination, targets: Targets) -> Tensor:
    """Return what an ensemble says as logits: decisions, maps and observers take them like those of one network.

    Thresholds and temperature are not in it.

    Args:
        members: probabilities (K, ...) of each member, float32, of classes or regions.
        combination: `mean` or `vote`, with its weights.
        targets: what the K outputs mean.

    Returns:
        (K, ...), float32, finite: log p of labels, whose softmax is p again, or log p / (1 - p) of regions. With votes p are the shares of
        those who decided for a class or region; of equal shares the one that is more probable on average is a trace ahead.

    Raises:
        ValueError: the method needs whole masks.
    """
    if combination.method == "staple":
        raise ValueError("STAPLE combines whole masks, not probabilities")
    weights = member_weights(combination, targets, len(members))
    mean = _weighted(members, weights, targets)
    if combination.method == "mean":
        return _as_logits(mean, targets)
    ballots = [_ballot(one, targets) for one in members]
    return _without_ties(_weighted(ballots, weights, targets), mean, targets)


def member_weights(combination: Combination, targets: Targets, num_members: int) -> Tensor:
    """Return the weight (M, K), float32, of each member's word on each class or region; those of all members add up to 1."""
    rows = []
    for name in targets.scored_names:
        row = torch.tensor(combination.weights.get(name, (1.0,) * num_members), dtype=torch.float64)
        rows.append(row / row.sum())
    table = torch.stack(rows, dim=1)
    if not targets.has_regions:
        table = torch.cat((table.mean(dim=1, keepdim=True), table), dim=1)
    return table.float()


def combined_votes(votes: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Return the share of all voters that decided for each class or region, every one counting alike.

    Args:
        votes: shares (K, ...) within each member, of its folds and views.
        counts: how many these are.
    """
    total = torch.zeros_like(votes[0])
    for share, count in zip(votes, counts, strict=True):
        total += share * (count / sum(counts))
    return total


def _weighted(members: Sequence[Tensor], weights: Tensor, targets: Targets) -> Tensor:
    total = torch.zeros_like(members[0])
    shape = (-1, *(1,) * (total.dim() - 1))
    for one, row in zip(members, weights, strict=True):
        total += one * row.to(one.device).reshape(shape)
    if targets.has_regions:
        return total
    sums = total.sum(dim=0)
    # Where nobody whose word counts says anything, there is nothing.
    is_silent = sums <= LEAST
    total[0] += is_silent
    return total / torch.where(is_silent, 1.0, sums)


def _ballot(shares: Tensor, targets: Targets) -> Tensor:
    """Return what a member decides by itself, as 0 and 1."""
    if targets.has_regions:
        return (shares > 0.5).to(shares.dtype)
    return torch.zeros_like(shares).scatter_(0, shares.argmax(dim=0, keepdim=True), 1.0)


def _without_ties(shares: Tensor, mean: Tensor, targets: Targets) -> Tensor:
    """Return the logits of shares of votes; of those that are equal the more probable one is a trace ahead."""
    if targets.has_regions:
        is_even = (shares - 0.5).abs() < TIE
        nudge = torch.where(mean > 0.5, NUDGE, -NUDGE)
        return torch.where(is_even, nudge, _as_logits(shares, targets))
    most = shares.amax(dim=0, keepdim=True)
    is_first = shares > most - TIE
    winner = torch.where(is_first, mean, -1.0).argmax(dim=0, keepdim=True)
    # First made equal: what tells them apart is rounding.
    logits = _as_logits(torch.where(is_first, most, shares), targets)
    return logits.scatter_add_(0, winner, torch.full_like(most, NUDGE))


def _as_logits(shares: Tensor, targets: Targets) -> Tensor:
    return shares.clamp(LEAST, MOST).logit() if targets.has_regions else shares.clamp(LEAST, 1.0).log()
