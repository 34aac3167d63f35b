"""Every model on every dataset: cell by cell, so that what is done stays done; the last run makes the report."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import TumorsegError
from tumorseg.schema.crossing import Cell, CrossReport
from tumorseg.schema.mapping import LabelMapping
from tumorseg.sources.label_mapping import read_mapping
from tumorseg.stages.crossing.cells import CellRules, CellTask, plan_cell, subsets_to_drop
from tumorseg.stages.crossing.fold_choices import Pairing
from tumorseg.stages.crossing.hashed_datasets import HashedDataset, planned_dataset
from tumorseg.stages.crossing.known_cases import KnownCases, known_cases
from tumorseg.stages.crossing.leaving_out import Untrained
from tumorseg.stages.crossing.models import CrossModel
from tumorseg.stages.crossing.report import Matrix, write_report
from tumorseg.stages.crossing.request import CrossEvaluateRequest, check_request
from tumorseg.stages.crossing.run_cell import RunOptions, describe, known_cell, run_cell
from tumorseg.stages.crossing.sides import Sides, open_sides
from tumorseg.stages.crossing.voxel_digests import VoxelDigests
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.opening.loaded import Roots
from tumorseg.storage.cross_folders import CellFolder, CrossFolder

logger = logging.getLogger(__name__)


class Crossed(NamedTuple):
    """Result of a cross-evaluation."""

    output: Path
    report: CrossReport | None
    """None while cells are left to other shards, or to the next run after a signal."""
    num_waiting: int = 0
    """Cells that are left."""
    is_stopped: bool = False
    """Whether a signal ended a training; the same command goes on."""


class _Planned(NamedTuple):
    """A cell, and whether this process carries it out."""

    task: CellTask | Cell
    is_mine: bool


def cross_evaluate(request: CrossEvaluateRequest) -> Crossed:
    """Segment every dataset with every model, score it, and once all cells are done write cross.json, cross.csv and report.html.

    A cell is refused, and the reason told, where channels, labels or cases leave nothing to score. What an earlier run finished
    is not done again.

    Raises:
        InputError: options contradict each other, or a dataset is not there or unsound.
        PlanError: a folder holds no training, or the plan's dataset cannot be divided.
        TumorsegError: cases failed; all are listed, and the others are scored.
    """
    check_request(request)
    labels = _stated_labels(request.labels)
    output, device = CrossFolder(request.output), choose_device(request.device)
    sides = open_sides(request, output, device)
    if sides is None:
        return Crossed(request.output, None, is_stopped=True)
    rules = CellRules(request.missing_channels, labels, request.scoring)
    planned = _plan_cells(sides, rules, request, VoxelDigests(output.voxels))
    cells = _run_cells(planned, output, rules, RunOptions(device, request.jobs, request.has_pages))
    known = [cell for cell in cells if cell is not None]
    num_waiting = len(cells) - len(known) + sides.num_untrained * len(sides.datasets)
    if num_waiting:
        logger.info("%d cells are left to other shards; the last one writes the report", num_waiting)
        check_finished(known)
        return Crossed(request.output, None, num_waiting)
    models = [model for model in sides.models if isinstance(model, CrossModel)]
    tasks = [task for task, _ in planned if isinstance(task, CellTask)]
    report = write_report(Matrix(models, sides.datasets, known, tasks, rules), output, jobs=request.jobs)
    check_finished(known)
    return Crossed(request.output, report)


def _stated_labels(file: Path | None) -> LabelMapping | None:
    return None if file is None else read_mapping(file)


def _plan_cells(sides: Sides, rules: CellRules, request: CrossEvaluateRequest, digests: VoxelDigests) -> list[_Planned]:
    """Return what is to be done for each cell, row by row, the cells of the sweep behind their whole one."""
    planned: list[_Planned] = []
    for row, model in enumerate(sides.models):
        if isinstance(model, Untrained):
            continue
        known = _known_of(model, request.roots, digests)
        for name, found in sides.datasets.items():
            pairing = Pairing(model, name, found, known(found))
            whole = plan_cell(pairing, rules)
            tasks = [whole]
            if request.drop_channels and isinstance(whole, CellTask):
                tasks += [plan_cell(pairing, rules, dropped) for dropped in subsets_to_drop(whole)]
            for task in tasks:
                # A model that is trained here may lie with the shard that trained it alone.
                position = len(planned) if request.leave_out is None else row
                planned.append(_Planned(task, request.is_mine(position)))
    return planned


def _known_of(model: CrossModel, roots: Roots, digests: VoxelDigests) -> Callable[[HashedDataset], KnownCases]:
    """Return what tells which cases of a dataset a model was trained on; its own dataset is read once."""
    own = planned_dataset(model, roots) if model.folds else None
    return lambda found: known_cases(model, found, own, digests)


def _run_cells(
    planned: Sequence[_Planned], output: CrossFolder, rules: CellRules, options: RunOptions
) -> list[Cell | None]:
    """Carry out this process's share; None for cells that are left to others and not done yet."""
    done: dict[int, Cell] = {}
    for number, (task, is_mine) in enumerate(planned):
        if isinstance(task, Cell):
            logger.info("%s is refused: %s", describe(task), task.refused)
            done[number] = task
        elif is_mine:
            done[number] = run_cell(task, _folder(output, task), rules, options)
    cells: list[Cell | None] = []
    for number, (task, _) in enumerate(planned):
        known = done.get(number)
        # Looked at last, since other shards went on meanwhile.
        if known is None and isinstance(task, CellTask):
            known = known_cell(task, _folder(output, task))
        cells.append(known)
    return cells


def _folder(output: CrossFolder, task: CellTask) -> CellFolder:
    return output.cell(task.draft.model, task.draft.dataset, task.draft.dropped)


def check_finished(cells: Sequence[Cell]) -> None:
    """Refuse to end well where cases failed.

    Raises:
        TumorsegError: they did; each is listed.
    """
    failed = [cell for cell in cells if cell.state == "failed"]
    lines = []
    for cell in failed:
        lines += [f"{describe(cell)}: {failure}" for failure in cell.failures]
    if failed:
        raise TumorsegError(
            f"cross-evaluation: {len(failed)} of {len(cells)} cells have cases that failed, the others are finished:",
            lines=lines,
        )
