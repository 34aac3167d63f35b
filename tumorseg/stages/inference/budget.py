"""`--budget`: the best setting of a model's table that keeps a time for every case on this machine."""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError, TumorsegError
from tumorseg.ops.settings import Offer, best_within
from tumorseg.schema.dataset import Case
from tumorseg.schema.settings import MeasuredSetting, Setting, SettingsTable
from tumorseg.stages.inference.ensembles import Ensemble
from tumorseg.stages.inference.journal import open_notes
from tumorseg.stages.inference.ledger import read_ledger
from tumorseg.stages.inference.method import AS_PLANNED, PredictOptions
from tumorseg.stages.inference.offers import Wish, candidates, case_sizes, engines_here, offers_of, size_of, time_tiles
from tumorseg.stages.inference.outputs import kept_labels
from tumorseg.stages.inference.provenance import method_of
from tumorseg.stages.inference.segment_ensemble import has_several_voters
from tumorseg.stages.inference.settings import chosen_folds_of, network_name, networks_of, options_of, with_setting
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.loaded import failed_cases
from tumorseg.storage.ensemble_layout import EnsembleFolder
from tumorseg.storage.json_files import read_record
from tumorseg.storage.layout import journal_files
from tumorseg.workers.outcomes import Failure, attempt

logger = logging.getLogger(__name__)

UNITS_S = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
"""Seconds of each unit that a time may be written in."""
_WRITTEN = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(s|m|min|h)")
KEPT_SLACK = 1.1
"""By which the setting that made a folder may seem to exceed the budget: the clock differs by as much from run to run, and masks would be
made anew for nothing."""


class Budget(NamedTuple):
    """A time that no case is to exceed."""

    seconds: float
    text: str
    """As it was written."""


class BudgetRequest(NamedTuple):
    """A prediction that is to keep a budget."""

    budget: Budget
    wish: Wish
    """To what the choice is confined."""
    cache: Path | None = None
    """Folder of converted networks."""
    folder: Path | None = None
    """Of the predictions, whose record counts; None for a file."""


class Chosen(NamedTuple):
    """A prediction that keeps a budget."""

    ensemble: Ensemble
    options: PredictOptions
    setting: Setting
    seconds: float
    """Expected of the case that takes longest."""


def read_budget(text: str) -> Budget:
    """Return the time that is written as `20s`, `2m`, `1.5min` or `1h`.

    Raises:
        InputError: it is written otherwise, or is nothing.
    """
    found = _WRITTEN.fullmatch(text.strip())
    seconds = float(found[1]) * UNITS_S[found[2]] if found else 0.0
    # Not `<=`: more digits than a float holds are no time either.
    if not 0 < seconds < math.inf:
        raise InputError(f"--budget {text}: expected a time that a case may take, such as 20s or 1.5min; give another")
    return Budget(seconds, text.strip())


def read_settings(model: Path) -> SettingsTable:
    """Read what the settings of a model cost and bring.

    Raises:
        InputError: it was never measured, or the file is damaged.
    """
    file = EnsembleFolder(model).settings
    if not file.is_file():
        raise InputError(
            f"--budget: {model} has no {file.name}, which tells what its settings take; `tumorseg select` makes a model that has; "
            "give that, or leave --budget out"
        )
    return read_record(SettingsTable, file, error=InputError)


def within_budget(ensemble: Ensemble, cases: Sequence[Case], *, request: BudgetRequest, table: SettingsTable) -> Chosen:
    """Choose the best setting that keeps a budget for every case, by tiles that are timed here, and apply it.

    Where the folder's record was made with a setting that still fits, that one is taken, whatever else fits today.

    Args:
        ensemble: all folds that may predict, run by torch.
        cases: what is to be segmented; the time of reading, preparing and writing counts too.
        request: the budget, and what confines the choice.
        table: of the model, as from `read_settings`.

    Raises:
        InputError: no setting fits, the table is another model's, or an engine that was asked for cannot run here.
        TumorsegError: no case can be read.
    """
    offers = _offers(ensemble, cases, request, table)
    chosen = _recorded(ensemble, list(offers), request) or best_within(offers, request.budget.seconds)
    if chosen is None:
        raise _too_short(offers, request.budget)
    logger.info(
        "--budget %s: %s; %s s are expected of the case that takes longest, %s",
        request.budget.text,
        chosen.setting,
        _text(chosen.seconds),
        offers[chosen],
    )
    members = tuple(with_setting(member, chosen.setting, cache=request.cache) for member in ensemble.members)
    options = options_of(chosen.setting, request.wish.options)
    return Chosen(ensemble._replace(members=members), options, chosen.setting, chosen.seconds)


def _offers(
    ensemble: Ensemble, cases: Sequence[Case], request: BudgetRequest, table: SettingsTable
) -> dict[Offer, str]:
    """Return what each setting would bring and take, and the case that takes longest with it."""
    members, wish = ensemble.members, request.wish
    found = tuple(map(network_name, networks_of(members)))
    if found != table.networks:
        raise InputError(
            f"--budget: settings.json tells of {', '.join(table.networks)}, and the model is {', '.join(found)}; it is another model's; "
            "give the folder that `tumorseg select` made as a whole"
        )
    engines = engines_here(members, wish, request.cache)
    num_folds = max(len(member.networks) for member in members)
    measured = candidates(table, engines, wish=wish, num_folds=num_folds)
    if not measured:
        raise InputError(
            "--budget: settings.json has no setting with the options that are given; leave some of them out"
        )
    if wish.disagreement:
        measured = _of_several_voters(ensemble, measured)
    sizes = case_sizes(members, cases, options=wish.options)
    if not sizes:
        raise _unreadable(members, cases, wish.options)
    times = time_tiles(members, measured, cache=request.cache, is_required=len(engines) == 1)
    return offers_of(members, measured, sizes, table=table, times=times)


def _of_several_voters(
    ensemble: Ensemble, measured: Mapping[Setting, MeasuredSetting]
) -> dict[Setting, MeasuredSetting]:
    """Return the settings in which somebody can disagree.

    Raises:
        InputError: there are none.
    """
    found: dict[Setting, MeasuredSetting] = {}
    for setting, row in measured.items():
        chosen = ensemble._replace(members=tuple(chosen_folds_of(member, setting) for member in ensemble.members))
        if has_several_voters(chosen, mirroring=options_of(setting, AS_PLANNED).mirroring):
            found[setting] = row
    if not found:
        raise InputError(
            "--budget and --disagreement: no setting of settings.json that is allowed has several folds or views, expected one; leave one "
            "of the two out"
        )
    return found


def _unreadable(members: Sequence[Model], cases: Sequence[Case], options: PredictOptions) -> TumorsegError:
    """Return the error that names each case, none of which can be read."""
    failures: list[Failure] = []
    for case in cases:
        outcome = attempt(partial(size_of, members, options=options), case.case_id, case)
        if isinstance(outcome, Failure):
            failures.append(outcome)
    return failed_cases(failures, len(cases), "prediction")


def _recorded(ensemble: Ensemble, offers: Sequence[Offer], request: BudgetRequest) -> Offer | None:
    """Return the best offer that makes the masks that the folder's record tells of, if it keeps the budget, give or take noise."""
    method = None if request.folder is None else _recorded_method(request.folder)
    if method is None:
        return None
    same = [offer for offer in offers if _method(ensemble, request.wish.options, offer.setting) == method]
    kept = best_within(same, KEPT_SLACK * request.budget.seconds)
    if same and kept is None:
        logger.warning(
            "--budget %s: the setting that made the masks in %s (%s) takes %s s now; they are made anew",
            request.budget.text,
            request.folder,
            same[0].setting,
            _text(min(offer.seconds for offer in same)),
        )
    return kept


def _recorded_method(folder: Path) -> str | None:
    """Return the hash of what made the masks of a folder last; None where there are none."""
    made_by = read_ledger(folder, open_notes(journal_files(folder), InputError), InputError).made_by
    return None if made_by is None else made_by.method_hash


def _method(ensemble: Ensemble, options: PredictOptions, setting: Setting) -> str:
    members = tuple(chosen_folds_of(member, setting) for member in ensemble.members)
    chosen = ensemble._replace(members=members)
    # By what is kept of the labels, as the record has it.
    kept = tuple(kept_labels(options.only_labels, ensemble.dataset) or ())
    return method_of(chosen, options_of(setting, options)._replace(only_labels=kept))


def _text(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds:.2g}"
    return f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"


def _too_short(offers: Mapping[Offer, str], budget: Budget) -> InputError:
    """Return the error that names the fastest setting."""
    fastest = min(offers, key=lambda offer: offer.seconds)
    # A tenth more, as the clock differs by as much from run to run.
    advised = math.ceil(KEPT_SLACK * fastest.seconds)
    return InputError(
        f"--budget {budget.text}: the fastest setting ({fastest.setting}) takes about {_text(fastest.seconds)} s for {offers[fastest]} on this "
        f"machine, if nothing of the image is cropped away; give --budget {advised}s or more"
    )
