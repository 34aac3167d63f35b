"""Matching of images to the channels that a model takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.matching.channels import match_channels
from tumorseg.schema.dataset import Case, Channel, ChannelKind, repeated_values
from tumorseg.sources.folders import Listing
from tumorseg.workers.outcomes import Failure


class Wanted(NamedTuple):
    """Channels that a model takes."""

    names: tuple[str, ...]
    """Of its channels, in its order."""
    kinds: tuple[ChannelKind | None, ...]
    """What made their intensities, as far as known."""

    def described(self) -> str:
        """Return the channels as a plain file or files must hold them, and what to give."""
        count = len(self.names)
        if count == 1:
            return f"1 ({self.names[0]}); give that channel's file, <id>.nii.gz or <id>_0000.nii.gz; a manifest takes any names"
        return f"{count} ({', '.join(self.names)}); give one 4D file, or <id>_0000 to <id>_{count - 1:04d}"


class Matched(NamedTuple):
    """Cases to predict on."""

    cases: list[Case]
    """Their images are the channels that are wanted."""
    refused: list[Failure]
    """Those of another number of channels."""


def match_listing(path: Path, listing: Listing, wanted: Wanted) -> Matched:
    """Return the cases of a listing with the channels that are wanted: by name, by kind, or by their number if they have no names.

    Names may differ as those of one channel do between datasets: `t1ce`, `T1Gd`.

    Raises:
        InputError: the listing names its channels, and lacks one.
    """
    if not listing.is_named:
        return _match_counts(listing, wanted)
    chosen = _positions(path, listing, wanted)
    cases = []
    for case in listing.cases:
        images = tuple(case.images[position] for position in chosen)
        cases.append(case.changed(images=images))
    return Matched(cases, [])


def _match_counts(listing: Listing, wanted: Wanted) -> Matched:
    found = Matched([], [])
    for case in listing.cases:
        if (count := len(case.images)) == len(wanted.names):
            found.cases.append(case)
        else:
            found.refused.append(wrong_channels(case.case_id, f"{count} channel(s)", wanted))
    return found


def wrong_channels(case_id: str, found: str, wanted: Wanted) -> Failure:
    """Return the failure of a case of other channels than those that are wanted."""
    return Failure(case_id, f"found {found}, expected {wanted.described()}")


def _positions(path: Path, listing: Listing, wanted: Wanted) -> list[int]:
    sought, there = _channels(wanted.names, wanted.kinds), _channels(listing.channels, listing.kinds)
    # Who gives cases to a model calls their channels as it does; another name that says nothing matches none.
    found = match_channels(sought, there, is_one=True).found
    order = [listing.channels.index(found[name]) if name in found else None for name in wanted.names]
    # DICOM series are called as each scanner calls them; what made the images is all that two sites have in common.
    if None in order:
        order = _match_kinds(listing.kinds, wanted.kinds) or order
    if missing := [name for name, position in zip(wanted.names, order, strict=True) if position is None]:
        raise InputError(
            f"found the channels {_with_kinds(listing.channels, listing.kinds)}, expected "
            f"{_with_kinds(wanted.names, wanted.kinds)}; missing: {', '.join(missing)}; if they only bear other names, write a manifest",
            file=path,
        )
    return [position for position in order if position is not None]


def _channels(names: Sequence[str], kinds: Sequence[ChannelKind | None]) -> list[Channel]:
    known = kinds or [None] * len(names)
    # Unchecked: what a file calls its channels may be no name at all, and then matches none.
    return [Channel.model_construct(name=name, kind=kind) for name, kind in zip(names, known, strict=True)]


def _match_kinds(found: Sequence[ChannelKind | None], wanted: Sequence[ChannelKind | None]) -> list[int | None] | None:
    """Return the positions of channels by their kinds, if these leave no doubt; a single one may be of unknown kind."""
    if len(found) == len(wanted) == 1 and wanted[0] in (None, "other"):
        return [0]
    if None in wanted or None in found or repeated_values([*wanted]) or not set(wanted) <= set(found):
        return None
    is_certain = all(found.count(kind) == 1 for kind in wanted)
    return [found.index(kind) for kind in wanted] if is_certain else None


def _with_kinds(names: Sequence[str], kinds: Sequence[ChannelKind | None]) -> str:
    known = kinds or [None] * len(names)
    return ", ".join(f"{name} ({kind})" if kind else name for name, kind in zip(names, known, strict=True))
