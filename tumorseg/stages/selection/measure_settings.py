"""What a model's settings bring and cost: the table that `predict --budget` chooses from."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from tumorseg.errors import InputError, TumorsegError
from tumorseg.schema.ensembles import Combination
from tumorseg.schema.settings import Engine, SettingsTable
from tumorseg.schema.trust import TrustProfile
from tumorseg.stages.inference.ensembles import together
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.offers import CaseSize
from tumorseg.stages.inference.settings import network_name, networks_of
from tumorseg.stages.opening.reading import case_bytes
from tumorseg.stages.selection.setting_grid import EngineKey, Found, Grid, grid_of, rows_of, size_key, spread
from tumorseg.stages.selection.setting_notes import (
    BY_TORCH,
    RULES,
    CaseNotes,
    CaseTask,
    CostNote,
    CostTask,
    HeldOut,
    machine_note,
)
from tumorseg.stages.selection.setting_runs import case_in_process, cost_in_process, measure_case, measure_cost
from tumorseg.tracking.progress import Advance, progress
from tumorseg.workers.outcomes import Failure, Outcome
from tumorseg.workers.pool import run_cases

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


class Limit(NamedTuple):
    """What measuring may take."""

    most_cases: int = 6
    """Held-out cases."""
    seconds: float = 600.0
    """After which no further case is begun; one is always measured, with all settings. Where a case would take a tenth of this with an
    engine, it is not segmented with that, and the memory of it is not known."""
    engines: tuple[Engine, ...] | None = None
    """That are timed; all that can run here if None."""


class SettingsRequest(NamedTuple):
    """Whose settings are measured, and on what."""

    members: tuple[tuple[Path, ...], ...]
    """Folders of the folds of each member."""
    combination: Combination
    cases: tuple[HeldOut, ...]
    """That a fold of each member held out; a few of them are used."""
    device: str
    keep: Path
    """Folder for what was measured, so that a killed run goes on."""
    cache: Path | None = None
    """Folder of converted networks."""
    limit: Limit = Limit()
    trust: TrustProfile | None = None
    """That the model will have, so that what judging takes is measured too; None: it will have none."""
    in_processes: bool = True
    """Whether each measurement has a process of its own; in this one, memory is that of everything in it."""


def measure_settings(request: SettingsRequest) -> SettingsTable:
    """Measure what the settings of an ensemble bring and cost.

    DSC and NSD depend on views, overlap and precision; seconds of a tile on engine and precision; memory on these and the folds. Each is
    measured for what it depends on, and a row of the table puts them together. Cases are segmented by the folds that have not seen them,
    so nobody knows what all folds together bring: they have the DSC and NSD of one.

    Raises:
        InputError: there is no held-out case.
        TumorsegError: no case can be segmented, or torch cannot run the networks.
    """
    if not request.cases:
        raise InputError("there is no held-out case to measure settings on; train folds that hold cases out")
    loaded = [load_model(paths, request.device, runtime=BY_TORCH) for paths in request.members]
    members = together(loaded, request.combination).members
    grid = grid_of(members, request.limit.engines)
    sample = spread(request.cases, request.limit.most_cases)
    with progress("measure settings", len(sample) + len(grid.costing)) as advance:
        brought = _brought(request, grid, sample, advance)
        cases = [one for one in sample if one.case.case_id in brought]
        costs = _costs(request, grid, max(cases, key=size_key), advance)
    found = Found(costs, list(brought.values()), _sizes(brought))
    return SettingsTable(
        machine=machine_note(request.device),
        networks=tuple(network_name(model) for model in networks_of(members)),
        cases=tuple(brought),
        tolerance_mm=RULES.tolerance_mm,
        rows=tuple(rows_of(members, grid, found=found)),
    )


def _brought(request: SettingsRequest, grid: Grid, sample: Sequence[HeldOut], advance: Advance) -> dict[str, CaseNotes]:
    """Segment one case after the other with all settings, until the time is over."""
    work = case_in_process if request.in_processes else measure_case
    brought: dict[str, CaseNotes] = {}
    spent_s, spent_on = 0.0, 0
    for held_out in sample:
        num_bytes = case_bytes(held_out.case)
        # By what was noted, so that a run that was killed ends with the same cases.
        if brought and spent_s * (spent_on + num_bytes) > request.limit.seconds * spent_on:
            logger.info("settings are not measured on %s, as that would take too long", held_out.case.case_id)
            advance("")
            continue
        task = CaseTask(held_out, request.combination, grid.scored, request.device, request.keep, request.trust)
        outcome = _run(work, held_out.case.case_id, task, in_process=request.in_processes)
        advance("")
        # Told already; the others do.
        if isinstance(outcome, Failure):
            continue
        brought[held_out.case.case_id] = outcome.value
        spent_s += sum(note.seconds for note in outcome.value.notes)
        spent_on += num_bytes
    if not brought:
        raise TumorsegError("settings: none of the held-out cases could be segmented; see above why")
    return brought


def _costs(request: SettingsRequest, grid: Grid, largest: HeldOut, advance: Advance) -> dict[EngineKey, CostNote]:
    """Time all engines and measure their memory; one that cannot run the networks is left out."""
    work = cost_in_process if request.in_processes else measure_cost
    found: dict[EngineKey, CostNote] = {}
    for key, setting in grid.costing.items():
        task = CostTask(
            request.members,
            request.combination,
            setting,
            largest.case,
            request.device,
            request.keep,
            request.cache,
            request.limit.seconds / 10,
            request.trust,
        )
        outcome = _run(work, str(setting), task, in_process=request.in_processes)
        advance("")
        if not isinstance(outcome, Failure):
            found[key] = outcome.value
        elif setting.engine == "torch":
            raise TumorsegError(f"settings: torch cannot run the model: {outcome.message}")
    return found


def _run(function: Callable[[T], R], name: str, task: T, *, in_process: bool) -> Outcome[R]:
    # Two workers at most: one alone would mean to work in this process. There is work for one.
    (outcome,) = run_cases(function, [(name, task)], num_workers=2 if in_process else 1)
    return outcome


def _sizes(brought: Mapping[str, CaseNotes]) -> list[CaseSize]:
    """Return how large cases are as they were cropped."""
    return [CaseSize(case_id, one.notes[0].shapes, one.megavoxels) for case_id, one in brought.items()]
