"""Write what a whole matrix comes to: the document, a table, and the page to be read."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tumorseg.errors import StorageError
from tumorseg.reports.crossing import crossing_content
from tumorseg.reports.crossing_tables import crossing_csv
from tumorseg.reports.results.page import results_page
from tumorseg.schema.crossing import Cell, CrossedDataset, CrossReport, DatasetShift
from tumorseg.schema.metrics import Intervals, MetricsReport
from tumorseg.schema.targets import targets_of
from tumorseg.stages.crossing.cells import CellRules, CellTask
from tumorseg.stages.crossing.gathering import Key, ScoredCell, compare_models, few_in, gaps, rank_models
from tumorseg.stages.crossing.hashed_datasets import HashedDataset
from tumorseg.stages.crossing.models import CrossModel
from tumorseg.stages.crossing.run_cell import has_its_scores
from tumorseg.stages.crossing.shifts import NamedDataset, measure_shift
from tumorseg.storage.atomic import write_bytes, write_text
from tumorseg.storage.cross_folders import CrossFolder
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.storage.locks import hold_folder


class Matrix(NamedTuple):
    """A matrix whose cells are done."""

    models: Sequence[CrossModel]
    datasets: Mapping[str, HashedDataset]
    cells: Sequence[Cell]
    tasks: Sequence[CellTask]
    """What the cells that are not refused were made from."""
    rules: CellRules


def write_report(matrix: Matrix, output: CrossFolder, *, jobs: int | None) -> CrossReport:
    """Measure the datasets, and write cross.json, cross.csv and report.html.

    Args:
        matrix: with every cell.
        output: where its cells lie.
        jobs: processes; as many as the machine holds if None.

    Raises:
        StorageError: another process writes the report now, or it cannot be written.
    """
    # Shards that end together would both write; a few seconds later there is nothing left to do but write the same again.
    with hold_folder(output.root.resolve() / "report", doing="written", error=StorageError, patience_s=600):
        shifts = _shifts(matrix, output, jobs=jobs)
        report = _report(matrix, _scored(matrix, output), shifts)
        write_record(output.report, report)
        write_text(output.table, crossing_csv(report))
        slices = {shift.dataset: output.slice(shift.dataset) for shift in shifts}
        pictures = {name: path.read_bytes() for name, path in slices.items() if path.is_file()}
        page = results_page(crossing_content(report, pictures))
        for name, content in page.files.items():
            write_bytes(output.root / name, content)
        write_text(output.page, page.html)
    return report


def _shifts(matrix: Matrix, output: CrossFolder, *, jobs: int | None) -> list[DatasetShift]:
    found: list[DatasetShift] = []
    for name, dataset in matrix.datasets.items():
        structures, drawn = _structures(matrix, name), _drawn(matrix, name)
        shift = measure_shift(NamedDataset(name, dataset), output, structures=structures, drawn=drawn, jobs=jobs)
        found += [] if shift is None else [shift]
    return found


def _drawn(matrix: Matrix, name: str) -> str:
    """Return the channel that is shown of a dataset: one and the same of all, as far as the models say."""
    tasks = [task for task in matrix.tasks if task.pairing.name == name]
    shown = [next(iter(task.draft.channels.values())) for task in tasks]
    return shown[0] if shown else matrix.datasets[name].dataset.channels[0].name


def _structures(matrix: Matrix, name: str) -> dict[str, tuple[int, ...]]:
    """Return what any model was scored on in a dataset, called as in the other datasets; its own labels if there is no such model."""
    targets = [task.targets.reference for task in matrix.tasks if task.pairing.name == name]
    found: dict[str, tuple[int, ...]] = {}
    for one in targets or [targets_of(matrix.datasets[name].dataset)]:
        found |= dict(zip(one.scored_names, one.scored_classes, strict=True))
    return found


def _scored(matrix: Matrix, output: CrossFolder) -> dict[Key, ScoredCell]:
    """Return the cells that have scores, and nothing left out on purpose."""
    found = {}
    for cell in matrix.cells:
        if cell.summary and not cell.dropped:
            folder = output.cell(cell.model, cell.dataset)
            report = read_record(MetricsReport, folder.scores.metrics, error=StorageError)
            if not has_its_scores(cell, folder):
                raise StorageError(
                    "holds other scores than those of its cell, perhaps as another process scores it by other rules; give the command again",
                    file=folder.scores.metrics,
                )
            found[cell.model, cell.dataset] = ScoredCell(cell, report)
    return found


def _report(matrix: Matrix, scored: Mapping[Key, ScoredCell], shifts: Sequence[DatasetShift]) -> CrossReport:
    metrics = matrix.rules.scoring.metrics
    without = {model.name for model in matrix.models if model.without is not None}
    intervals = next((one.report.intervals for one in scored.values()), Intervals()).changed(cluster=None)
    compared = compare_models(scored, intervals)
    found = gaps({key: one for key, one in scored.items() if key[0] not in without}, metrics)
    definitions: dict[str, str] = {}
    for one in scored.values():
        definitions |= one.report.definitions
    return CrossReport(
        metrics=metrics,
        intervals=intervals,
        missing_channels=matrix.rules.missing_channels,
        models=tuple(model.described() for model in matrix.models),
        datasets=tuple(_described(name, found) for name, found in matrix.datasets.items()),
        cells=tuple(matrix.cells),
        gaps=tuple(found),
        compared=compared.rows,
        rankings=rank_models(scored, intervals),
        shifts=tuple(shifts),
        definitions=definitions,
        warnings=(*compared.warnings, *few_in(found, intervals)),
    )


def _described(name: str, found: HashedDataset) -> CrossedDataset:
    dataset = found.dataset
    num_labelled = sum(case.label is not None for case in dataset.cases)
    return CrossedDataset(
        name=name,
        num_cases=num_labelled,
        num_unlabelled=len(dataset.cases) - num_labelled,
        channels=tuple(channel.name for channel in dataset.channels),
        targets=targets_of(dataset).scored_names,
    )
