"""Several models' answers for one image, slice by slice side by side, so that none of them ever exists as a whole.

Each answers on the image's own grid, in an axis order that they share, and within a crop box of its own; outside it a member is certain
that there is nothing.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tumorseg.engine.combining import as_wanted, certain_background, class_probabilities, combined, combined_votes
from tumorseg.engine.segmentation import Answer, Prepared, Segmenter, SliceLogits, cropped_logits, split_votes
from tumorseg.schema.ensembles import Combination
from tumorseg.schema.targets import Targets
from tumorseg.types import Box


class Word(NamedTuple):
    """What one member says of a slice."""

    probabilities: Tensor
    """(K, rows, columns) of what is wanted."""
    votes: Tensor | None = None
    """(K, rows, columns), shares of its folds and views; None where nobody asks."""


SILENT: tuple[None, None] = (None, None)
"""In place of a word, from who does not look at the slice."""


class MemberAnswer(NamedTuple):
    """What one member says of an image."""

    box: Box
    """The part of the oriented image that it looks at."""
    words: Iterator[Word]
    """Of each slice of the box; made as they are asked for."""
    num_voters: int = 0
    """Its folds times views; 0 where nobody asks for votes."""


def member_answer(prepared: Prepared, segmenter: Segmenter, wanted: Targets, *, num_voters: int = 0) -> MemberAnswer:
    """Return what a network says of an image.

    Args:
        prepared: the image.
        segmenter: the way to logits.
        wanted: which classes or regions probabilities are to be of.
        num_voters: folds times views; 0 where nobody asks for votes.
    """
    box, slices = cropped_logits(prepared, segmenter)
    return MemberAnswer(box, (_word(channels, segmenter, wanted) for channels in slices), num_voters)


def _word(channels: Tensor, segmenter: Segmenter, wanted: Targets) -> Word:
    logits, votes = split_votes(channels, segmenter)
    own = segmenter.targets
    shares = None if votes is None else as_wanted(votes, own, wanted)
    return Word(class_probabilities(logits, own, wanted), shares)


def in_lockstep(members: Sequence[MemberAnswer], combination: Combination, targets: Targets) -> Answer:
    """Return what members say together; of each no more than a slice is held.

    Args:
        members: in one axis order.
        combination: `mean` or `vote`, with its weights.
        targets: what probabilities are of.

    Raises:
        InputError: a member's logits are not finite; when its slice is asked for.
    """
    box = _union([member.box for member in members])
    return Answer(box, _together(members, combination, targets, box))


def _union(boxes: Sequence[Box]) -> Box:
    """Return the least box that holds all."""
    axes = zip(*boxes, strict=True)
    return tuple((min(lower for lower, _ in axis), max(upper for _, upper in axis)) for axis in axes)


def _together(
    members: Sequence[MemberAnswer], combination: Combination, targets: Targets, box: Box
) -> Iterator[SliceLogits]:
    counts = [member.num_voters for member in members]
    for position in range(*box[0]):
        words = [_word_at(member, position) for member in members]
        # Members may leave their logits on different devices, where a GPU's memory ran out.
        device = next((word.probabilities.device for word in words if word is not None), torch.device("cpu"))
        shares, votes = [], []
        for member, word in zip(members, words, strict=True):
            probabilities, voted = word or SILENT
            shares.append(_on_window(probabilities, member.box, box, targets).to(device))
            if member.num_voters:
                votes.append(_on_window(voted, member.box, box, targets).to(device))
        logits = combined(shares, combination, targets)
        yield SliceLogits(logits, combined_votes(votes, counts) if votes else None)


def _word_at(member: MemberAnswer, position: int) -> Word | None:
    """Return what a member says of a slice, which is asked for in order; None outside its box."""
    lower, upper = member.box[0]
    return next(member.words) if lower <= position < upper else None


def _on_window(shares: Tensor | None, own: Box, box: Box, targets: Targets) -> Tensor:
    """Return a member's shares on the rows and columns of a larger box; around its own it is certain that there is nothing."""
    if shares is not None and own[1:] == box[1:]:
        return shares
    (top, bottom), (left, right) = box[1:]
    window = certain_background((bottom - top, right - left), targets)
    if shares is None:
        return window
    window = window.to(shares.device)
    (first, last), (begin, end) = own[1:]
    window[:, first - top : last - top, begin - left : end - left] = shares
    return window
