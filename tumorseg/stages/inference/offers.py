"""What each setting of a model's table would bring and take here, for the cases at hand."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.settings import Costs, Offer, expected_seconds, machine_scale
from tumorseg.schema.dataset import Case
from tumorseg.schema.plan import InferenceEngine, InferencePrecision
from tumorseg.schema.settings import Engine, MeasuredSetting, Setting, SettingsTable
from tumorseg.stages.inference.engines import chosen_engine, has_openvino
from tumorseg.stages.inference.method import AS_PLANNED, PredictOptions, reading_for
from tumorseg.stages.inference.settings import (
    chosen_folds_of,
    network_shape,
    networks_of,
    num_passes,
    options_of,
    tile_seconds,
    with_setting,
)
from tumorseg.stages.inference.trained_model import Model
from tumorseg.storage.images import read_geometry

logger = logging.getLogger(__name__)

TileTimes = Mapping[tuple[Engine, InferencePrecision], tuple[float, ...]]
"""Seconds of a tile of each model of `networks_of`, by what runs them."""


class Wish(NamedTuple):
    """What a user has said, to which settings are confined."""

    options: PredictOptions
    """Mirrored views, precision, and how files are read."""
    engine: InferenceEngine | None = None
    """As the members' plans say if None."""
    has_folds: bool = False
    """Whether folds were named: then all that were loaded predict."""
    disagreement: bool = False
    """Whether a map of it is asked for, which takes several models, folds or views."""


class CaseSize(NamedTuple):
    """How large a case is, by the header of the channel on whose grid it is segmented."""

    case_id: str
    shapes: tuple[tuple[int, ...], ...]
    """Voxels (Z, Y, X) on the grid of each model of `networks_of`."""
    megavoxels: float
    """Of the input, in millions."""


def engines_here(members: Sequence[Model], wish: Wish, cache: Path | None) -> list[Engine]:
    """Return the engines that may run the networks: the one that is asked for or planned, else all that start within seconds.

    torch.compile takes half a minute for each network, and so is only used where it is asked for.

    Raises:
        InputError: the one that is asked for cannot run here.
    """
    device = members[0].device
    planned = {member.configuration.inference.engine for member in members} - {"auto"}
    # Plans that name different engines name none for all of them.
    named = wish.engine or (min(planned) if len(planned) == 1 else "auto")
    if named != "auto":
        return [chosen_engine(named, device)]
    has_graphs = device.type == "cpu" and cache is not None and has_openvino()
    return ["torch", "openvino"] if has_graphs else ["torch"]


def candidates(
    table: SettingsTable, engines: Sequence[Engine], *, wish: Wish, num_folds: int
) -> dict[Setting, MeasuredSetting]:
    """Return the settings that may be chosen, and the row that tells what each brings: engines differ by rounding only.

    Args:
        table: of the model.
        engines: those that may run the networks here.
        wish: what a user has said.
        num_folds: the most folds of a member that were loaded.
    """
    found: dict[Setting, MeasuredSetting] = {}
    precision, mirroring = wish.options.precision, wish.options.mirroring
    measured = {row.setting.precision for row in table.rows}
    for row in table.rows:
        setting = row.setting
        if mirroring is not None and setting.mirroring != mirroring:
            continue
        if precision is not None:
            # Where only `auto` was measured, it was float32.
            if precision in measured and setting.precision != precision:
                continue
            setting = setting.changed(precision=precision)
        if wish.has_folds:
            setting = setting.changed(num_folds=num_folds)
        for engine in engines:
            found.setdefault(setting.changed(engine=engine), row)
    return found


def time_tiles(
    members: Sequence[Model], settings: Iterable[Setting], *, cache: Path | None, is_required: bool
) -> TileTimes:
    """Time a tile of every network with each engine and precision of some settings; an engine that cannot run one is left out.

    Args:
        members: the models.
        settings: whose engines and precisions are timed.
        cache: folder of converted networks.
        is_required: whether there is no other engine, as for one that was asked for by name.

    Raises:
        InputError: the engine that was asked for cannot run a network.
    """
    found: dict[tuple[Engine, InferencePrecision], tuple[float, ...]] = {}
    for setting in settings:
        key = setting.engine, setting.precision
        if key in found:
            continue
        # One fold is as fast as the next.
        alone = setting.changed(num_folds=1)
        try:
            timed = [with_setting(member, alone, cache=cache) for member in members]
        except InputError as error:
            if is_required or setting.engine == "torch":
                raise
            logger.warning("%s is left out: %s", setting.engine, error.reason.partition(";")[0])
            found[key] = ()
            continue
        found[key] = tuple(tile_seconds(model) for model in networks_of(timed))
    return {key: seconds for key, seconds in found.items() if seconds}


def case_sizes(
    members: Sequence[Model], cases: Iterable[Case], *, options: PredictOptions = AS_PLANNED
) -> list[CaseSize]:
    """Return how large cases are, one of each size; those whose header cannot be read are left out, and fail when they are predicted."""
    found: dict[tuple[tuple[int, ...], ...], CaseSize] = {}
    for case in cases:
        try:
            size = size_of(members, case, options=options)
        except InputError:
            continue
        known = found.setdefault(size.shapes, size)
        # Of one size on the networks' grids, the one of more voxels takes longer.
        if known.megavoxels < size.megavoxels:
            found[size.shapes] = size
    return list(found.values())


def size_of(members: Sequence[Model], case: Case, *, options: PredictOptions = AS_PLANNED) -> CaseSize:
    """Return how large a case is.

    Raises:
        InputError: its header cannot be read.
    """
    reading = reading_for(members[0].plan, options)
    try:
        geometry = read_geometry(case.images[reading.grid or 0].path, reading.assumed_orientation)
    except InputError as error:
        raise InputError(error.reason, case_id=case.case_id, file=error.file, kind=error.kind) from error
    shapes = tuple(network_shape(model, geometry) for model in networks_of(members))
    z, y, x = geometry.shape
    return CaseSize(case.case_id, shapes, z * y * x / 1e6)


def offers_of(
    members: Sequence[Model],
    measured: Mapping[Setting, MeasuredSetting],
    sizes: Sequence[CaseSize],
    *,
    table: SettingsTable,
    times: TileTimes,
) -> dict[Offer, str]:
    """Return what each setting brings and takes, and the case that takes longest with it.

    Args:
        members: the models, with all folds.
        measured: as from `candidates`.
        sizes: of the cases.
        table: of the model.
        times: of tiles here.
    """
    here = {" ".join(key): seconds for key, seconds in times.items()}
    there = {f"{row.setting.engine} {row.setting.precision}": row.tile_s for row in table.rows}
    scale = machine_scale(here, there)
    found: dict[Offer, str] = {}
    for setting, row in measured.items():
        if (setting.engine, setting.precision) not in times:
            continue
        models = networks_of([chosen_folds_of(member, setting) for member in members])
        costs = Costs(times[setting.engine, setting.precision], row.beside, scale)
        mirroring = options_of(setting, AS_PLANNED).mirroring
        seconds, case_id = max(
            (seconds_of(models, size, costs=costs, mirroring=mirroring), size.case_id) for size in sizes
        )
        found[Offer(setting, row.dsc, row.nsd, seconds)] = case_id
    return found


def seconds_of(models: Sequence[Model], size: CaseSize, *, costs: Costs, mirroring: bool | None) -> float:
    """Return what a case takes by itself.

    Args:
        models: of `networks_of`, as they predict.
        size: of the case.
        costs: of tiles, and of all else.
        mirroring: whether mirrored views are averaged; as each plan says if None.
    """
    shapes = zip(models, size.shapes, strict=True)
    passes = [num_passes(model, shape, mirroring=mirroring) for model, shape in shapes]
    return expected_seconds(passes, size.megavoxels, costs=costs)
