"""One model on one dataset: what of each belongs together, or why nothing does."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.absent_channels import AbsentChannels
from tumorseg.ops.matching.channels import match_channels
from tumorseg.ops.matching.labels import TargetMatch, match_targets
from tumorseg.schema.base import content_hash, record_hash
from tumorseg.schema.crossing import Cell, MissingChannels
from tumorseg.schema.dataset import Case
from tumorseg.schema.mapping import LabelMapping
from tumorseg.schema.score_rules import ScoreRules
from tumorseg.schema.targets import targets_of
from tumorseg.sources.regions import select_channels
from tumorseg.stages.crossing.fold_choices import Choice, Pairing, choose_folds
from tumorseg.stages.evaluation.cohorts import attributes_of
from tumorseg.stages.inference.method import METHOD_VERSION, PredictOptions

MOST_SUBSETS = 4
"""Channels of which every subset is left out in turn; of more, each by itself and all others."""
RULES_VERSION = 2
"""Raised when the same cell would come to other scores."""


class CellRules(NamedTuple):
    """What holds for every cell of a matrix."""

    missing_channels: MissingChannels = "refuse"
    labels: LabelMapping | None = None
    """What labels are the same, where the user says so."""
    scoring: ScoreRules = ScoreRules()


class CellTask(NamedTuple):
    """A cell that can be scored."""

    pairing: Pairing
    draft: Cell
    """What is known before anything is predicted."""
    cases: Mapping[Choice, Sequence[Case]]
    """With the images that the model takes, in its order; those that are missing left out."""
    options: PredictOptions
    targets: TargetMatch

    @property
    def num_cases(self) -> int:
        """Return how many cases are scored."""
        return sum(map(len, self.cases.values()))

    def all_cases(self) -> list[Case]:
        """Return the cases that are scored."""
        return list(chain.from_iterable(self.cases.values()))


def plan_cell(pairing: Pairing, rules: CellRules, dropped: tuple[str, ...] = ()) -> CellTask | Cell:
    """Return what is to be done for a cell, or the refused cell.

    Args:
        pairing: the model and the dataset.
        rules: of the matrix.
        dropped: channels of the model that are left out though the dataset may have them.
    """
    draft = Cell(model=pairing.model.name, dataset=pairing.name, dropped=dropped, state="refused")
    try:
        return _matched(pairing, rules, draft)
    except InputError as error:
        return draft.changed(refused=str(error))


def _matched(pairing: Pairing, rules: CellRules, draft: Cell) -> CellTask:
    """Match channels, labels and cases.

    Raises:
        InputError: one of them leaves nothing to score.
    """
    model, dataset = pairing.model, pairing.found.dataset
    channels, absent = _channels(pairing, rules, draft.dropped)
    targets = _targets(pairing, rules.labels)
    chosen = select_channels(dataset, list(channels.values()))
    choices = choose_folds(pairing, [case for case in chosen.cases if case.label is not None])
    names = [channel.name for channel in model.plan.dataset.channels]
    draft = draft.changed(
        state="done",
        channels=channels,
        missing_channels=tuple(names[number] for number in absent.positions) if absent else (),
        filling=absent.filling if absent else None,
        scored=targets.names,
        remarks=(*targets.left_out, *pairing.known.remarks),
        num_cases=sum(map(len, choices.cases.values())),
        held_out=choices.held_out,
        left_out=choices.left_out,
        relatives=choices.relatives,
        known_by=pairing.known.by,
    )
    options = PredictOptions(assumed_orientation=dataset.reading.assumed_orientation, absent=absent)
    task = CellTask(pairing, draft, choices.cases, options, targets)
    return task._replace(draft=draft.changed(identity=_identity(task, rules)))


def _channels(
    pairing: Pairing, rules: CellRules, dropped: Sequence[str]
) -> tuple[dict[str, str], AbsentChannels | None]:
    """Return the dataset's channel for each of the model's, and those that something has to stand in for."""
    wanted, there = pairing.model.plan.dataset.channels, pairing.found.dataset.channels
    match = match_channels(wanted, there, is_one=pairing.known.is_own)
    filling = rules.missing_channels
    if match.missing and filling == "refuse":
        raise InputError(
            f"the model needs channels that {pairing.name} lacks: {match.told()}; --missing-channels zero or mean puts "
            "something in their place"
        )
    found = {name: own for name, own in match.found.items() if name not in dropped}
    if not found:
        raise InputError(
            f"the model has no channel in common with {pairing.name}: {match.told()}"
            if match.missing
            else "no channel is left"
        )
    positions = tuple(number for number, channel in enumerate(wanted) if channel.name not in found)
    if not positions:
        return found, None
    # A channel that is left out on purpose is filled whatever becomes of those that are missing.
    return found, AbsentChannels(positions, "zero" if filling == "refuse" else filling)


def _targets(pairing: Pairing, stated: LabelMapping | None) -> TargetMatch:
    """Return what can be scored; on the model's own dataset all that it predicts, even labels that have no names."""
    planned, dataset = pairing.model.plan.dataset, pairing.found.dataset.description()
    # Labels without names are the same in the very dataset that was planned, and nowhere else.
    is_same = dataset.labels == planned.labels and dataset.ignore_label == planned.ignore_label
    if pairing.known.is_own and is_same and stated is None:
        own = targets_of(planned)
        return TargetMatch(own, own, ())
    return match_targets(planned, dataset, stated)


def _identity(task: CellTask, rules: CellRules) -> str:
    """Return the hash of everything that the scores follow from."""
    hashes = task.pairing.found.hashes
    cases = [
        [list(choice.folds), choice.is_held_out, {case.case_id: hashes[case.case_id] for case in found}]
        for choice, found in task.cases.items()
    ]
    absent = task.options.absent
    return content_hash(
        {
            "version": [RULES_VERSION, METHOD_VERSION],
            "model": task.pairing.model.identity,
            "cases": cases,
            "attributes": attributes_of(task.all_cases()),
            "known_by": task.draft.known_by,
            "channels": task.draft.channels,
            "absent": None if absent is None else absent._asdict(),
            "reading": task.pairing.found.dataset.reading.model_dump(mode="json"),
            "targets": [record_hash(task.targets.prediction), record_hash(task.targets.reference)],
            "rules": record_hash(rules.scoring),
        }
    )


def subsets_to_drop(task: CellTask) -> Iterator[tuple[str, ...]]:
    """Yield the channels to leave out in each cell of the sweep, few first: every choice that leaves one, if they are few.

    Args:
        task: the cell without any left out.
    """
    names = tuple(task.draft.channels)
    if len(names) < 2:
        return
    if len(names) <= MOST_SUBSETS:
        yield from chain.from_iterable(combinations(names, count) for count in range(1, len(names)))
        return
    yield from ((name,) for name in names)
    yield from (tuple(other for other in names if other != name) for name in names)
