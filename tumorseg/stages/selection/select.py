"""Find the best combination of trained models on the cases that they did not see, and put it into one model folder."""

import logging
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from tumorseg.errors import StorageError
from tumorseg.ops.choosing.nested import Nested, nested
from tumorseg.ops.choosing.protocol import Choice
from tumorseg.ops.choosing.rounds import Options
from tumorseg.reports.selection import selection_page
from tumorseg.schema.base import Record, to_json
from tumorseg.schema.plan import Plan
from tumorseg.schema.selection import Selection
from tumorseg.schema.settings import SettingsTable
from tumorseg.schema.trust import TrustProfile
from tumorseg.stages.inference.runtime import RuntimeOptions
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.selection.calibrating import Temperature, calibrate
from tumorseg.stages.selection.chosen_cases import Measuring, measure, members_of, save_chosen
from tumorseg.stages.selection.documents import Findings, selection_of
from tumorseg.stages.selection.measure_settings import Limit
from tumorseg.stages.selection.opening import Opened, choice_identity, identity_of, open_subjects, selected_before
from tumorseg.stages.selection.pool import Pool, Shelf, Subjects
from tumorseg.stages.selection.score_notes import ScoreNotes
from tumorseg.stages.selection.scorer import PoolScorer, steps_to_try
from tumorseg.stages.selection.trust_cases import learn
from tumorseg.storage.ensemble_layout import EnsembleFolder, SelectionNotes
from tumorseg.storage.layout import engine_cache, work_folder
from tumorseg.storage.locks import hold_folder
from tumorseg.storage.probability_cache import ProbabilityCache

logger = logging.getLogger(__name__)

GB = 2**30


class SelectRequest(Record):
    """Options of `select`."""

    roots: Roots = Roots()
    """Data and work folder."""
    plans: tuple[Plan, ...] = Field(min_length=1)
    """Whose trainings may become members."""
    configurations: tuple[str, ...] = ()
    """Those that may; all that are trained if empty."""
    cache_gb: float = Field(default=20.0, ge=0)
    """GB that all kept probabilities of the dataset may take."""
    device: str | None = None
    """The best there is if None."""
    dataset: str | None = None
    """Where the dataset is, if it moved."""
    output: Path
    """The model folder that is made."""


class Rules(NamedTuple):
    """What it takes to be chosen, and how settings are measured."""

    options: Options = Options()
    """Of the choice; steps of postprocessing, and who predicts labels, follow from the cases and candidates."""
    limit: Limit = Limit()
    """Of measuring settings."""
    in_processes: bool = True
    """Whether each measurement of settings has a process of its own."""


AS_USUAL = Rules()


class SelectedModel(NamedTuple):
    """A model folder that was chosen."""

    output: Path
    selection: Selection
    is_new: bool
    """Whether there was anything to do."""


class _Work(NamedTuple):
    """What the steps of a selection share."""

    request: SelectRequest
    rules: Rules
    device: str
    pool: Pool
    notes: SelectionNotes


class _Chosen(NamedTuple):
    """What was found, before it is written."""

    nested: Nested
    temperature: Temperature
    scorer: PoolScorer

    @property
    def choice(self) -> Choice:
        """Return the final one."""
        return self.nested.final.choice


def select(request: SelectRequest, rules: Rules = AS_USUAL) -> SelectedModel:
    """Choose members, weights, thresholds and postprocessing on held-out cases, and write the result as one model.

    What is computed is kept below the work folder, so that a killed run goes on. The folder of the model appears whole or not at all.

    Raises:
        PlanError: nothing is trained, plans cannot be combined, or the dataset is not what was planned.
        InputError: the folder holds something else, or there are too few cases.
        StorageError: another process selects on this dataset now, or a folder cannot be written.
        TumorsegError: cases failed; all are listed.
    """
    device = choose_device(request.device)
    opened = open_subjects(request.plans, request.roots, configurations=request.configurations, dataset=request.dataset)
    scores_identity = identity_of(opened.subjects)
    identity = choice_identity(scores_identity, rules.options)
    if (before := selected_before(request.output, identity)) is not None:
        logger.info("%s holds this selection already; there is nothing to do", request.output)
        return SelectedModel(request.output, before, is_new=False)
    work = work_folder(request.roots.work, opened.subjects.candidates[0].plan.dataset.name)
    with hold_folder(work.probabilities.resolve(), doing="filled", error=StorageError):
        pool = _pool(request, opened.subjects, work.probabilities, device=device)
        shared = _Work(request, rules, device, pool, work.selection(scores_identity))
        chosen = _choose(shared)
        selection = _finish(shared, _findings(opened, identity, chosen), chosen)
    return SelectedModel(request.output, selection, is_new=True)


def _pool(request: SelectRequest, subjects: Subjects, folder: Path, *, device: str) -> Pool:
    wanted = {*subjects.keys.probabilities.values(), *subjects.keys.references.values()}
    cache = ProbabilityCache(folder, round(request.cache_gb * GB), wanted)
    runtime = RuntimeOptions(cache=engine_cache(request.roots.work))
    shelf = Shelf(subjects.candidates, device, runtime)
    pool = Pool(subjects, cache, shelf)
    pool.fill()
    return pool


def _choose(work: _Work) -> _Chosen:
    """Choose, on parts and on all cases, and fit the temperature of what was chosen."""
    pool, notes = work.pool, work.notes
    scorer = PoolScorer(pool, ScoreNotes(notes.scores))
    options = work.rules.options._replace(steps=steps_to_try(pool), label_candidates=pool.question.label_candidates)
    found = nested(scorer, options)
    temperature = calibrate(pool, found.final.choice, scorer.parts, notes.calibration)
    return _Chosen(found, temperature, scorer)


def _findings(opened: Opened, identity: str, chosen: _Chosen) -> Findings:
    subjects = opened.subjects
    combination = subjects.question.combination_of(chosen.choice)
    return Findings(
        identity=identity,
        dataset=subjects.candidates[0].plan.dataset.name,
        candidates=subjects.candidates,
        num_left_out=opened.num_left_out,
        nested=chosen.nested,
        combination=combination.changed(temperature=chosen.temperature.fitted.temperature),
        temperature=chosen.temperature,
    )


def _finish(work: _Work, findings: Findings, chosen: _Chosen) -> Selection:
    """Measure what the choice costs and how far it is to be trusted, and write the model."""
    request, pool, notes = work.request, work.pool, work.notes
    choice, combination = chosen.choice, findings.combination
    selection = selection_of(findings, chosen.scorer)
    trust = learn(pool, choice, combination, parts=chosen.scorer.parts, folder=notes.trust)
    how = Measuring(
        device=work.device,
        keep=notes.settings,
        cache=engine_cache(request.roots.work),
        limit=work.rules.limit,
        trust=trust,
        in_processes=work.rules.in_processes,
    )
    settings = measure(pool.subjects, choice, combination, how)
    extra = _files(request.output, selection, trust, settings)
    save_chosen(request.output, members_of(choice, pool.subjects), combination=combination, extra=extra)
    return selection


def _files(
    output: Path, selection: Selection, trust: TrustProfile | None, settings: SettingsTable | None
) -> dict[str, bytes]:
    """Return what stands beside the members, by name."""
    folder = EnsembleFolder(output)
    page = selection_page(selection, trust, settings)
    files = {folder.selection.name: to_json(selection), folder.report.name: page}
    if trust is not None:
        files[folder.trust.name] = to_json(trust)
    if settings is not None:
        files[folder.settings.name] = to_json(settings)
    return {name: text.encode() for name, text in files.items()}
