"""A chosen ensemble: held-out cases as it takes them, what its settings bring and cost on some of them, and its folder."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import PlanError
from tumorseg.ops.choosing.protocol import Choice
from tumorseg.schema.dataset import Case, Channel, ImageFile
from tumorseg.schema.ensembles import Combination
from tumorseg.schema.settings import SettingsTable
from tumorseg.schema.trust import TrustProfile
from tumorseg.stages.inference.agreement import Named, common_dataset
from tumorseg.stages.inference.ensemble_folder import save_ensemble
from tumorseg.stages.selection.candidates import Candidate, check_weights
from tumorseg.stages.selection.measure_settings import Limit, SettingsRequest, measure_settings
from tumorseg.stages.selection.pool import Subjects
from tumorseg.stages.selection.setting_notes import HeldOut
from tumorseg.stages.selection.unseen import UnseenCase


class Measuring(NamedTuple):
    """Where and how settings are measured."""

    device: str
    keep: Path
    """Folder for what was measured, so that a killed run goes on."""
    cache: Path
    """Folder of converted networks."""
    limit: Limit = Limit()
    trust: TrustProfile | None = None
    """Of the choice; what judging takes is measured too."""
    in_processes: bool = True
    """Whether each measurement has a process of its own, so that memory is its own."""


def members_of(choice: Choice, subjects: Subjects) -> list[Candidate]:
    """Return the candidates that are members, in their order."""
    return [subjects.candidates[number] for number in choice.used]


def channels_of(members: Sequence[Candidate]) -> tuple[Channel, ...]:
    """Return the channels that a case brings for all members."""
    return common_dataset([Named(member.name, member.plan.dataset) for member in members]).channels


def case_for(channels: Sequence[Channel], case: UnseenCase, subjects: Subjects) -> Case:
    """Return a case, with its reference, with the channels that are wanted, whichever plan knows their files."""
    files: dict[str, ImageFile] = {}
    for candidate, own in zip(subjects.candidates, subjects.own_cases, strict=True):
        names = [channel.name for channel in candidate.plan.dataset.channels]
        files |= dict(zip(names, own[case.case_id].images, strict=True))
    return case.case.changed(images=tuple(files[channel.name] for channel in channels))


def save_chosen(
    output: Path, members: Sequence[Candidate], *, combination: Combination, extra: Mapping[str, bytes]
) -> None:
    """Write a model folder of members with the weights that they were found with, or none.

    Args:
        output: the folder, which is not there.
        members: all of whose folds predict.
        combination: how they are combined.
        extra: what further files hold, by name.

    Raises:
        PlanError: a fold was trained meanwhile.
        InputError, StorageError: as from `save_ensemble`.
    """
    paths = [[fold.folder.root for fold in member.folds.values()] for member in members]
    document = save_ensemble(output, paths, combination=combination, extra=extra)
    try:
        for member, saved in zip(members, document.members, strict=True):
            weights = dict(zip(saved.folds, saved.weights, strict=True))
            for fold in member.folds.values():
                check_weights(member.name, fold, weights[str(fold.number)])
    except PlanError:
        # What it tells was found of other weights than it holds.
        shutil.rmtree(output)
        raise


def measure(subjects: Subjects, choice: Choice, combination: Combination, how: Measuring) -> SettingsTable:
    """Measure what the settings of a choice bring and cost, on a few of the cases.

    Args:
        subjects: candidates and cases.
        choice: of members.
        combination: of the choice.
        how: where and how.

    Raises:
        TumorsegError: no case can be segmented.
    """
    members = members_of(choice, subjects)
    channels = channels_of(members)
    held_out = []
    for case in subjects.cases:
        folders = [subjects.candidates[number].folds[case.folds[number]].folder.root for number in choice.used]
        held_out.append(HeldOut(case_for(channels, case, subjects), tuple(folders)))
    request = SettingsRequest(
        members=tuple(tuple(fold.folder.root for fold in member.folds.values()) for member in members),
        combination=combination,
        cases=tuple(held_out),
        device=how.device,
        keep=how.keep,
        cache=how.cache,
        limit=how.limit,
        trust=how.trust,
        in_processes=how.in_processes,
    )
    return measure_settings(request)
