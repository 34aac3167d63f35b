"""What is scored: a dataset's labels or regions, every value that is found, or what a file states to be the same."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.matching.labels import match_targets
from tumorseg.schema.cases import CaseReading, reading_of
from tumorseg.schema.dataset import Dataset, DatasetDescription
from tumorseg.schema.mapping import PREDICTION, REFERENCE, LabelMapping
from tumorseg.schema.targets import Targets, targets_of
from tumorseg.sources.discovery import MOST_VALUES
from tumorseg.sources.label_mapping import read_mapping
from tumorseg.sources.regions import choose_regions
from tumorseg.stages.evaluation.pairing import some_of
from tumorseg.stages.evaluation.scoring import Pair
from tumorseg.stages.opening.stated import Stated
from tumorseg.storage.images import knows_names_only, read_label_values

logger = logging.getLogger(__name__)

NAME = "evaluation"
"""Of what is scored without a dataset."""


class ScoredTargets(NamedTuple):
    """What is scored, and how files are read."""

    targets: Targets
    """In references."""
    reading: CaseReading
    predicted: Targets | None = None
    """In predictions, where a file states what is the same."""
    warnings: tuple[str, ...] = ()
    """What is in files and is not scored."""


class _Found(NamedTuple):
    """What the files of one side hold."""

    values: dict[int, str]
    """Label value, the background left out, to the first file that holds it."""
    unread: list[str]
    """Why some cannot be read, or are no labels."""
    named: list[str]
    """Those that have names but no values."""


class _Side(NamedTuple):
    """Predictions or references."""

    name: str
    """`prediction` or `reference`, as in mappings."""
    description: DatasetDescription
    """The labels that files may hold."""
    found: _Found
    known: DatasetDescription | None
    """The dataset, where one is given."""

    def value(self, member: int | str) -> int | None:
        """Return the value of a label that a mapping names."""
        return member if isinstance(member, int) else self.description.labels.get(member)

    def holders(self) -> str:
        """Return in words that nobody holds something."""
        no_file = "" if self.known and self.name == REFERENCE else f"no {self.name} holds"
        return " and ".join(filter(None, (no_file, f"{self.known.name} does not have" if self.known else "")))


def scored_targets(
    pairs: Sequence[Pair], dataset: Dataset | None, stated: Stated, *, regions: str | None, labels: Path | None
) -> ScoredTargets:
    """Return what is scored.

    Args:
        pairs: files of predictions and references.
        dataset: whose labels and regions they are, read as the user states; None: every value found is a label.
        stated: what the user states of files.
        regions: `brats`, `none`, or a JSON file; the dataset's own if None.
        labels: JSON file that states which labels of the two sides are the same.

    Raises:
        InputError: regions or names need a dataset, labels have nothing in common, or the file is malformed.
    """
    if dataset is None:
        for option, value in (("--regions", regions), ("--paint-order", ",".join(stated.paint_order))):
            if value and (option, value) != ("--regions", "none"):
                raise InputError(f"{option} {value} needs the labels of a dataset; give -d DATASET too")
        reading = CaseReading(assumed_orientation=stated.assumed_orientation, paint_order=stated.paint_order)
    else:
        dataset = choose_regions(dataset, regions) if regions else dataset
        reading = reading_of(dataset)
    if labels is not None:
        return _mapped_targets(pairs, dataset, reading, labels)
    return ScoredTargets(_found_targets(pairs) if dataset is None else targets_of(dataset), reading)


def _mapped_targets(pairs: Sequence[Pair], dataset: Dataset | None, reading: CaseReading, file: Path) -> ScoredTargets:
    """Return what a file states to be the same in predictions and references."""
    mapping = read_mapping(file)
    known = None if dataset is None else dataset.description()
    files = zip((PREDICTION, REFERENCE), _sides(pairs), strict=True)
    sides = [_side(name, there, mapping, known) for name, there in files]
    try:
        told = [line for side in sides for line in _check_there(side, mapping)]
        match = match_targets(sides[0].description, sides[1].description, mapping)
    except InputError as error:
        raise InputError(error.reason, file=file) from None
    for side, targets in zip(sides, (match.prediction, match.reference), strict=True):
        told += _unnamed(side, targets, mapping)
    for line in match.left_out:
        logger.warning("%s: %s", file, line)
    logger.info("%s: scored are %s", file, ", ".join(match.names))
    return ScoredTargets(match.reference, reading, match.prediction, tuple(f"{file.name}: {line}" for line in told))


def _side(
    name: str, files: Iterable[tuple[str, ...]], mapping: LabelMapping, known: DatasetDescription | None
) -> _Side:
    """Return what is known of predictions or of references.

    Of a dataset, what neither it nor the mapping has is a fault of the case that holds it; without one every value is a label.
    """
    # The references are the dataset's, so that there is nothing more to learn from them.
    if known is not None and name == REFERENCE:
        return _Side(name, known, _Found({value: label for label, value in known.foreground.items()}, [], []), known)
    found = _read_values(files)
    if known is None:
        _check_valued(found)
    base = known or DatasetDescription(name=NAME, channels=("image",), labels={"background": 0})
    more = {*mapping.values(name), *(() if known else found.values)} - set(base.labels.values())
    labels = base.labels | {f"label_{value}": value for value in sorted(more)}
    return _Side(name, base.changed(labels=labels), found, known)


def _check_there(side: _Side, mapping: LabelMapping) -> list[str]:
    """Check that somebody has the values that are stated; where files could not be looked at, what none has is told.

    Raises:
        InputError: nobody has one.
    """
    known = side.known.labels.values() if side.known else (0,)
    nobodys = sorted(set(mapping.values(side.name)) - {*known, *side.found.values})
    if not nobodys:
        return []
    found = f"names {some_of(map(str, nobodys))} of {side.name}s, which {side.holders()}"
    if side.found.unread or side.found.named:
        return [f"{found}, as far as they can be looked at"]
    there = some_of(map(str, sorted(side.found.values))) or "no label"
    raise InputError(f"{found}; expected values that are there ({there}); correct the file")


def _unnamed(side: _Side, targets: Targets, mapping: LabelMapping) -> list[str]:
    """Return a line on the labels of one side that the mapping leaves out without saying so."""
    named: set[int | None] = {targets.label_values[index] for classes in targets.regions for index in classes}
    for members in mapping.structures.values():
        # A structure that is stated of this side alone is left out on purpose.
        named.update(side.value(member) for member in members.get(side.name, ()))
    values = [value for value in targets.label_values[1:] if value in side.found.values and value not in named]
    if not values:
        return []
    listed = some_of(f"{value} ({side.found.values[value]})" for value in values)
    return [f"names nothing for the label values {listed} of {side.name}s, which count as background"]


def _sides(pairs: Sequence[Pair]) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Return the files of predictions and those of references."""
    return [prediction for prediction, _ in pairs], [reference for _, reference in pairs]


def _found_targets(pairs: Sequence[Pair]) -> Targets:
    """Return every value that occurs as a label of its own; files that cannot be read fail with their cases."""
    sides = [_read_values(files) for files in _sides(pairs)]
    for side in sides:
        _check_valued(side)
    predicted, drawn = (set(side.values) for side in sides)
    unread = [line for side in sides for line in side.unread]
    if predicted and drawn and not predicted & drawn:
        raise InputError(
            f"predictions hold the label values {some_of(map(str, sorted(predicted)))}, references {some_of(map(str, sorted(drawn)))}, "
            "none in common; expected the same numbers on both sides; renumber one of them, or give --labels FILE that says which are "
            "the same"
        )
    labels = {"background": 0} | {f"label_{value}": value for value in sorted(predicted | drawn)}
    if len(labels) == 1 and unread:
        raise InputError(f"found no label in any file, and {len(unread)} cannot be read; the first is {unread[0]}")
    if len(labels) == 1:
        raise InputError("predictions and references are all background; give -d DATASET so that its labels are scored")
    return targets_of(DatasetDescription(name=NAME, channels=("image",), labels=labels))


def _read_values(segmentations: Iterable[tuple[str, ...]]) -> _Found:
    """Return what the files of one side hold."""
    found = _Found({}, [], [])
    for files in segmentations:
        if not files:
            continue
        file = files[0]
        try:
            if knows_names_only(file):
                found.named.append(file)
                continue
            values = read_label_values(file)
        except InputError as error:
            found.unread.append(str(error))
            continue
        # So many values are an image's: its case fails, as they are no labels.
        if len(values) >= MOST_VALUES:
            found.unread.append(f"{file}: found {len(values)} values, which are no labels")
            continue
        for value in sorted(values - {0}):
            found.values.setdefault(value, f"first in {file}")
    return found


def _check_valued(found: _Found) -> None:
    """Check that labels have values, where no dataset says them."""
    if found.named and not found.values:
        raise InputError(
            "found labels that have names but no values; give -d DATASET so that their values are known",
            file=found.named[0],
        )
