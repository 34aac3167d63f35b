"""What one setting brings and takes, measured in a process of its own, so that nothing else is in its memory."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import NamedTuple, TypeVar

import torch

from tumorseg.errors import StorageError, TumorsegError
from tumorseg.ops.preprocessing import network_grid
from tumorseg.ops.settings import Costs
from tumorseg.schema.base import Record, content_hash, record_hash
from tumorseg.schema.cases import preprocessing_of, reading_of
from tumorseg.schema.dataset import Case
from tumorseg.schema.settings import BesideSeconds, Setting
from tumorseg.stages.evaluation.case_scoring import ScoreTask, Scoring, score_case
from tumorseg.stages.inference.case_inputs import read_inputs, unlabelled
from tumorseg.stages.inference.ensembles import Ensemble, together
from tumorseg.stages.inference.method import AS_PLANNED, PredictOptions, averaged_axes
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.offers import seconds_of, size_of
from tumorseg.stages.inference.predict_cases import predict_cases
from tumorseg.stages.inference.previous_sources import KnownPrevious
from tumorseg.stages.inference.provenance import method_of
from tumorseg.stages.inference.settings import networks_of, num_passes, options_of, tile_seconds, with_setting
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.fold_folders import read_run
from tumorseg.stages.selection.setting_notes import (
    BY_TORCH,
    RULES,
    CaseNote,
    CaseNotes,
    CaseTask,
    CostNote,
    CostTask,
    machine_note,
)
from tumorseg.stages.training.cascade import known_to
from tumorseg.storage.hashing import case_files, combine_hashes, hash_files
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.storage.layout import FoldFolder
from tumorseg.tracking.progress import set_quiet
from tumorseg.workers.machine import num_cores, peak_bytes
from tumorseg.workers.pages import keep_freed_pages

N = TypeVar("N", bound=Record)


def case_in_process(task: CaseTask) -> CaseNotes:
    """Do `measure_case` in a process of its own."""
    _begin_process()
    return measure_case(task)


def cost_in_process(task: CostTask) -> CostNote:
    """Do `measure_cost` in a process of its own."""
    _begin_process()
    return measure_cost(task)


def _begin_process() -> None:
    """Let a process compute as the command `predict` does."""
    set_quiet(True)
    keep_freed_pages()
    # It has the machine to itself, whatever the pool thinks of its share.
    torch.set_num_threads(num_cores())


def measure_case(task: CaseTask) -> CaseNotes:
    """Segment a held-out case with each setting, score and time it; what was measured before is kept.

    Raises:
        TumorsegError: it cannot be read, segmented or scored.
    """
    subject = _subject(task)
    case = task.held_out.case
    size = size_of(subject.timed.members, case)
    case_hash = _content(case)
    notes: list[CaseNote] = []
    for setting in task.settings:
        scored, options = _applied(subject.scored, setting, None)
        chosen = _Subject(scored, _applied(subject.timed, setting, None)[0])
        methods = [method_of(one, options) for one in chosen]
        file = task.keep / f"{content_hash(['case', *methods, case_hash, *_here(task)])}.json"
        notes.append(_kept(CaseNote, file) or _measured(chosen, options, task, file))
    return CaseNotes(megavoxels=size.megavoxels, notes=tuple(notes))


def _content(case: Case) -> str:
    """Return the hash of a case's files, the reference's included."""
    digests = {path: state.digest for path, state in hash_files(case_files(case)).items()}
    return combine_hashes(case, digests)


class _Subject(NamedTuple):
    """One fold of each member, twice where there is a cascade."""

    scored: Ensemble
    """Has not seen the case: a cascade is shown what its own fold of the previous configuration found."""
    timed: Ensemble
    """As it will predict: a cascade's previous model segments the case, too. Of others the same."""


def _subject(task: CaseTask) -> _Subject:
    members: list[Model] = []
    whole: list[Model] = []
    for path in task.held_out.folders:
        folder = FoldFolder(path)
        known = known_to(folder, read_run(folder))
        members.append(load_model([path], task.device, previous=known, runtime=BY_TORCH))
        whole.append(members[-1] if known is None else load_model([path], task.device, runtime=BY_TORCH))
    scored = together(members, task.combination)._replace(trust=task.trust)
    if not any(isinstance(member.previous, KnownPrevious) for member in members):
        return _Subject(scored, scored)
    return _Subject(scored, together(whole, task.combination)._replace(trust=task.trust))


def _here(task: CaseTask | CostTask) -> list[str | bool]:
    """Return what the time of a task depends on beside the model and the case: the machine, and whether cases are judged."""
    return [record_hash(machine_note(task.device)), task.device, task.trust is not None]


def _applied(ensemble: Ensemble, setting: Setting, cache: Path | None) -> tuple[Ensemble, PredictOptions]:
    members = tuple(with_setting(member, setting, cache=cache) for member in ensemble.members)
    return ensemble._replace(members=members), options_of(setting, AS_PLANNED)


def _measured(subject: _Subject, options: PredictOptions, task: CaseTask, file: Path) -> CaseNote:
    """Segment and score a case, and keep what was found."""
    case, scored = task.held_out.case, subject.scored
    # Before the case: what comes first in a process is slow.
    shapes, tiles_s = _tiles(subject.timed, case, options)
    with TemporaryDirectory() as folder:
        mask, seconds = _timed(scored, case, options, Path(folder))
        scoring = Scoring(scored.targets, RULES, reading_of(scored.dataset))
        found = score_case(ScoreTask(case.case_id, (str(mask),), case.label_files, scoring))
    if subject.timed is not scored:
        with TemporaryDirectory() as folder:
            _, seconds = _timed(subject.timed, case, options, Path(folder))
    note = CaseNote(
        dsc={one.label: one.scores["dsc"] for one in found.metrics},
        nsd={one.label: one.scores["nsd"] for one in found.metrics},
        seconds=seconds,
        beside_s=seconds - tiles_s,
        shapes=shapes,
    )
    write_record(file, note)
    return note


def _timed(ensemble: Ensemble, case: Case, options: PredictOptions, folder: Path) -> tuple[Path, float]:
    """Segment a case into a folder, and return its mask and the seconds."""
    began = perf_counter()
    mask = _predicted(ensemble, case, options, folder)
    return mask, perf_counter() - began


def _predicted(ensemble: Ensemble, case: Case, options: PredictOptions, folder: Path) -> Path:
    """Segment a case into a folder and return its mask.

    Raises:
        TumorsegError: it failed.
    """
    made = predict_cases(ensemble, [case], folder, options=options)
    if made.failures:
        raise TumorsegError(made.failures[0].message, case_id=case.case_id)
    return made.files[case.case_id]


def _tiles(ensemble: Ensemble, case: Case, options: PredictOptions) -> tuple[tuple[tuple[int, ...], ...], float]:
    """Return the case's size on each network's grid, as it is cropped, and the seconds that all tiles take by themselves."""
    shapes: list[tuple[int, ...]] = []
    total = 0.0
    images = read_inputs(ensemble, unlabelled(case), options)
    for member, found in zip(ensemble.members, images.found, strict=True):
        for model in networks_of([member]):
            spec = preprocessing_of(model.plan, model.configuration)
            grid = network_grid(found.image, found.spacing_mm, spec, covered=found.covered)
            shapes.append(tuple(grid.shape))
            total += num_passes(model, grid.shape, mirroring=options.mirroring) * tile_seconds(model)
    return tuple(shapes), total


def measure_cost(task: CostTask) -> CostNote:
    """Time the tiles of each network, and measure the memory of a whole case if that takes no longer than allowed.

    Raises:
        InputError: the engine cannot run a network.
        TumorsegError: the case cannot be segmented.
    """
    members = [load_model(paths, task.device, runtime=BY_TORCH) for paths in task.members]
    ensemble = together(members, task.combination)._replace(trust=task.trust)
    chosen, options = _applied(ensemble, task.setting, task.cache)
    what = ["cost", method_of(chosen, options), task.setting.engine, _content(task.case), *_here(task)]
    file = task.keep / f"{content_hash(what)}.json"
    if (known := _kept(CostNote, file)) is not None:
        return known
    models = networks_of(chosen.members)
    tile_s = tuple(map(tile_seconds, models))
    size = size_of(chosen.members, task.case)
    largest, options = _with_votes(chosen, options)
    peak = None
    models = networks_of(largest.members)
    if seconds_of(models, size, costs=Costs(tile_s, BesideSeconds()), mirroring=options.mirroring) <= task.most_s:
        with TemporaryDirectory() as folder:
            _predicted(largest, task.case, options, Path(folder))
        peak = _peak_bytes(chosen.device)
    note = CostNote(tile_s=tile_s, peak_bytes=peak)
    write_record(file, note)
    return note


def _with_votes(ensemble: Ensemble, options: PredictOptions) -> tuple[Ensemble, PredictOptions]:
    """Return an ensemble that holds as much as with all mirrored views: with two where cases are judged, as one alone has no votes."""
    is_mirrored = any(averaged_axes(member.configuration, None) for member in ensemble.members)
    if ensemble.trust is None or not is_mirrored:
        return ensemble, options
    members = tuple(map(_of_two_views, ensemble.members))
    return ensemble._replace(members=members), options._replace(mirroring=None)


def _of_two_views(model: Model) -> Model:
    inference = model.configuration.inference
    fewer = inference.changed(mirroring_axes=inference.mirroring_axes[:1])
    previous = model.previous_model
    shown = model.previous if previous is None else _of_two_views(previous)
    return model._replace(configuration=model.configuration.changed(inference=fewer), previous=shown)


def _peak_bytes(device: torch.device) -> int | None:
    """Return the most that was held so far, where the networks are."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else peak_bytes(os.getpid())


def _kept(kind: type[N], file: Path) -> N | None:
    """Return what was measured before; None where nothing was, or it is damaged."""
    try:
        return read_record(kind, file, error=StorageError) if file.is_file() else None
    except StorageError:
        return None
