"""Which settings are measured, on which cases, and the rows that come of it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from statistics import fmean
from typing import NamedTuple

import torch

from tumorseg.engine.precision import inference_dtype
from tumorseg.errors import InputError
from tumorseg.ops.settings import Costs, Offer, fit_beside, merit
from tumorseg.schema.plan import InferencePrecision
from tumorseg.schema.settings import BesideSeconds, Engine, MeasuredSetting, Setting
from tumorseg.stages.inference.engines import chosen_engine, has_openvino
from tumorseg.stages.inference.method import AS_PLANNED, averaged_axes
from tumorseg.stages.inference.offers import CaseSize, seconds_of
from tumorseg.stages.inference.settings import chosen_folds_of, networks_of, options_of
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.reading import case_bytes
from tumorseg.stages.selection.setting_notes import CaseNotes, CostNote, HeldOut

OVERLAPS = (0.25, 0.5)
"""That are measured beside the planned one. Tiles that overlap by .75 are eight times as many as by .5, and seldom worth it."""

EngineKey = tuple[Engine, InferencePrecision, int]
"""What costs depend on: engine, precision, number of folds."""


class Grid(NamedTuple):
    """The settings that are measured: all combinations of these."""

    num_folds: tuple[int, ...]
    mirroring: tuple[bool, ...]
    overlaps: tuple[float, ...]
    precisions: tuple[InferencePrecision, ...]
    engines: tuple[Engine, ...]

    @property
    def scored(self) -> tuple[Setting, ...]:
        """Return the settings that bring something else than the others: views, overlap and precision of one fold."""
        found: list[Setting] = []
        for mirroring, overlap, precision in product(self.mirroring, self.overlaps, self.precisions):
            found.append(_of_one_fold(mirroring, overlap, precision=precision))
        return tuple(found)

    @property
    def cheapest(self) -> Setting:
        """Return the one of `scored` that takes least: one view, the fewest tiles."""
        return _of_one_fold(False, self.overlaps[0], precision=self.precisions[0])

    @property
    def costing(self) -> dict[EngineKey, Setting]:
        """Return a setting of one view and the fewest tiles for each engine, precision and number of folds."""
        found: dict[EngineKey, Setting] = {}
        for key in product(self.engines, self.precisions, self.num_folds):
            engine, precision, num_folds = key
            found[key] = self.cheapest.changed(engine=engine, precision=precision, num_folds=num_folds)
        return found


def _of_one_fold(mirroring: bool, overlap: float, *, precision: InferencePrecision) -> Setting:
    return Setting(num_folds=1, mirroring=mirroring, overlap=overlap, precision=precision, engine="torch")


def grid_of(members: Sequence[Model], engines: Sequence[Engine] | None) -> Grid:
    """Return the settings of an ensemble that are worth measuring: those that differ here.

    Args:
        members: with all folds.
        engines: that are timed; all that can run here if None.
    """
    configurations = [member.configuration for member in members]
    counts = {1, max(len(member.networks) for member in members)}
    is_mirrored = any(averaged_axes(one, None) for one in configurations)
    overlaps = {*OVERLAPS, *(one.inference.overlap for one in configurations)}
    return Grid(
        tuple(sorted(counts)),
        (True, False) if is_mirrored else (False,),
        tuple(sorted(overlaps)),
        _precisions(members),
        tuple(engines or engines_of(members[0].device)),
    )


def _precisions(members: Sequence[Model]) -> tuple[InferencePrecision, ...]:
    if all(member.configuration.inference.precision == "fp32" for member in members):
        return ("fp32",)
    dtypes = {inference_dtype(member.device, "auto", member.plan.training.precision.cuda) for member in members}
    return ("auto",) if dtypes == {torch.float32} else ("auto", "fp32")


def engines_of(device: torch.device) -> tuple[Engine, ...]:
    """Return the engines that can run networks on a device here."""
    found: list[Engine] = ["torch"]
    with suppress(InputError):  # no compiler
        found.append(chosen_engine("compile", device))
    if device.type == "cpu" and has_openvino():
        found.append("openvino")
    return tuple(found)


def spread(cases: Sequence[HeldOut], count: int) -> list[HeldOut]:
    """Return a few cases of all sizes, by their files: the median one first, then the largest and the smallest, then those between."""
    by_size = sorted(cases, key=size_key)
    chosen: dict[int, None] = {}
    for share in _shares():
        if len(chosen) == min(count, len(by_size)):
            break
        chosen[round((len(by_size) - 1) * share)] = None
    return [by_size[position] for position in chosen]


def size_key(held_out: HeldOut) -> tuple[int, str]:
    """Return what cases are ordered by: ids decide between files of one size."""
    return case_bytes(held_out.case), held_out.case.case_id


def _shares() -> Iterator[float]:
    """Yield 1/2, 1, 0, then all that lies between, ever finer."""
    yield from (0.5, 1.0, 0.0)
    step = 4
    while True:
        for odd in range(1, step, 2):
            yield odd / step
        step *= 2


class Found(NamedTuple):
    """All that was measured."""

    costs: Mapping[EngineKey, CostNote]
    brought: Sequence[CaseNotes]
    """Of each case, notes in the order of `Grid.scored`."""
    sizes: Sequence[CaseSize]
    """Of the same cases."""


def rows_of(members: Sequence[Model], grid: Grid, *, found: Found) -> list[MeasuredSetting]:
    """Return a row for each setting whose engine could be timed, the best first.

    Args:
        members: with all folds.
        grid: what was measured.
        found: what came of it.
    """
    plain = grid.scored.index(grid.cheapest)
    megavoxels = [one.megavoxels for one in found.brought]
    beside = fit_beside(megavoxels, [one.notes[plain].beside_s for one in found.brought])
    rows: list[MeasuredSetting] = []
    for key, note in found.costs.items():
        engine, precision, num_folds = key
        for number, scored in enumerate(grid.scored):
            if scored.precision == precision:
                setting = scored.changed(engine=engine, num_folds=num_folds)
                rows.append(_row(members, setting, found, (note, beside, number)))
    return sorted(rows, key=_merit, reverse=True)


def _merit(row: MeasuredSetting) -> tuple[float, ...]:
    return merit(Offer(row.setting, row.dsc, row.nsd, row.seconds))


def _row(
    members: Sequence[Model], setting: Setting, found: Found, measured: tuple[CostNote, BesideSeconds, int]
) -> MeasuredSetting:
    note, beside, number = measured
    models = networks_of([chosen_folds_of(member, setting) for member in members])
    mirroring = options_of(setting, AS_PLANNED).mirroring
    costs = Costs(note.tile_s, beside)
    seconds = [seconds_of(models, size, costs=costs, mirroring=mirroring) for size in found.sizes]
    notes = [case.notes[number] for case in found.brought]
    return MeasuredSetting(
        setting=setting,
        dsc=mean_score([one.dsc for one in notes]),
        nsd=mean_score([one.nsd for one in notes]),
        is_of_one_fold=setting.num_folds > 1,
        seconds=fmean(seconds),
        peak_bytes=note.peak_bytes,
        tile_s=note.tile_s,
        beside=beside,
        num_cases=len(notes),
    )


def mean_score(cases: Sequence[Mapping[str, float | None]]) -> float | None:
    """Return the mean over names of the mean over cases; None where no case has a score.

    Args:
        cases: score by label or region; null where neither mask has it, which then counts nowhere.
    """
    by_name: dict[str, list[float]] = {}
    for case in cases:
        for name, score in case.items():
            if score is not None:
                by_name.setdefault(name, []).append(score)
    return fmean(fmean(scores) for scores in by_name.values()) if by_name else None
