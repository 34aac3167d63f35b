"""Fingerprint a dataset, or read a fingerprint, plan, and write the plan."""

import logging
import math
import os
from pathlib import Path
from typing import Literal, NamedTuple

from tumorseg.engine.precision import has_bf16
from tumorseg.errors import InputError, PlanError
from tumorseg.planning.folds.split_lists import SplitLists, parse_splits
from tumorseg.planning.folds.splits import NAMED_SPLITS
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.rehearsal import Setting
from tumorseg.planning.options import Machine, PlanOptions, check_plan_name
from tumorseg.planning.overrides import Override, training_as_set
from tumorseg.planning.planner import make_plan
from tumorseg.planning.presets import PRESETS, Preset, extend_preset, preset_named
from tumorseg.planning.search.narrowing import FlopsLimit, flops_limit
from tumorseg.schema.base import Record, parse_record
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.losses import LossPreset
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.planned_dataset import Selection
from tumorseg.sources.registry import locate_dataset
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.opening.exclusion import MOST_OFFERED, check_excluded, excluded_ids, exclusion_of
from tumorseg.stages.opening.loaded import Roots, read_plan
from tumorseg.stages.opening.stated import Stated
from tumorseg.stages.planning.fingerprint import Fingerprinted, FingerprintRequest, measure
from tumorseg.stages.planning.rehearse import step_seconds
from tumorseg.stages.planning.verify import verification_device, verify
from tumorseg.stages.planning.written_plans import Place, check_writable, write_plan
from tumorseg.storage.json_files import read_json, read_record
from tumorseg.storage.layout import work_folder

logger = logging.getLogger(__name__)

ELSEWHERE = {
    "cpu": "planned for this machine's CPU, as it has no GPU; for a GPU elsewhere give --vram GB or --device cuda",
    "cuda": "planned for this machine's GPU, by steps timed on it; for a GPU elsewhere give --vram GB",
}
"""What is said where nobody named the device."""


class PlanRequest(Record):
    """Options of `plan`."""

    roots: Roots = Roots()
    """Data and work folder."""
    dataset: str | None = None
    """Name, folder or manifest; or else `fingerprint`."""
    fingerprint: Path | None = None
    """A fingerprint to plan from, without the images."""
    preset: str = "optimized"
    """Where the plan starts from: a name, or a JSON file of the user's own."""
    vram_gb: float | None = None
    """Budget in GB (2^30 bytes); the preset's if None."""
    device: str | None = None
    """`cpu` plans for this machine's CPU; `cuda` or `cuda:N` for a GPU, where `verify` measures. None: for a GPU, unless the preset follows
    the machine, hours are given, no budget is, and there is no GPU here. A GPU that is here is timed where hours are given to a preset that
    goes by them, unless `verify` measures it, several share a batch, or a budget is given and no device."""
    num_gpus: int = 1
    """GPUs of that budget each."""
    verify: bool = False
    """Whether memory is measured on the device."""
    max_hours: float | None = None
    """Time for one fold's training."""
    network: str | None = None
    """Architecture, or `auto`; the preset's if None."""
    flops_of: str | None = None
    """`PLAN:SHARE`: what the network may compute, as a share of what another plan's does; None for no limit."""
    channels: tuple[str, ...] = ()
    """Channels to use, in this order; all if empty."""
    regions: str | None = None
    """`brats`, `none`, or a JSON file; the dataset's own if None."""
    common_with: tuple[str, ...] = ()
    """Datasets whose channels and regions count: what all have is planned for."""
    splits: str | None = None
    """JSON file of folds, or one of `NAMED_SPLITS`; five random folds if None."""
    exclude: tuple[str, ...] = ()
    """Cases to leave out: ids, or files of them."""
    overrides: tuple[Override, ...] = ()
    """Fields to set."""
    stated: Stated = Stated()
    """What is stated of the dataset."""
    output: Path | None = None
    """Where to write; plans/<Dataset>__<preset>.json if None."""
    force: bool = False
    """Whether a plan that was edited, or is of another dataset, may be replaced."""
    jobs: int | None = None
    """Processes for the fingerprint; as many as the machine holds if None."""


class WrittenPlan(NamedTuple):
    """A plan and the file that it was written to."""

    plan: Plan
    path: Path


def plan(request: PlanRequest) -> WrittenPlan:
    """Fingerprint if need be, plan, and write the plan.

    Raises:
        InputError: the dataset or a file is not there or unsound.
        PlanError: no plan fits.
    """
    preset = read_preset(request.preset)
    _check_device(request)
    flops = None if request.flops_of is None else read_flops_limit(request.flops_of)
    # Refused now rather than after hours of measuring.
    if request.output is not None:
        check_plan_name(request.output.stem)
        check_writable(request.output)
    excluded, splits = excluded_ids(request.exclude), _splits(request.splits)
    if isinstance(splits, SplitLists):
        splits = splits.without(excluded)
    measured, kept_back, common = _measure(request, splits if isinstance(splits, SplitLists) else None)
    # What a given fingerprint left out was never measured, so it stays out.
    excluded = tuple(sorted({*excluded, *measured.excluded}))
    output = request.output or Path("plans") / f"{measured.dataset.name}__{preset.name}.json"
    check_plan_name(output.stem)
    counter = MemoryCounter()
    device = _timed_device(request, preset)
    options = PlanOptions(
        preset=preset,
        device=None if device is None else _kind(device),
        is_device_asked=request.device is not None,
        num_gpus=request.num_gpus,
        vram_gb=request.vram_gb,
        max_hours=request.max_hours,
        network=request.network,
        flops=flops,
        splits=splits,
        channels=request.channels,
        regions=request.regions,
        common=common,
        excluded=excluded,
        kept_back=kept_back,
        overrides=tuple(map(_with_loss_file, request.overrides)),
        confirm_labels=request.stated.confirm_labels,
    )
    made, warnings = make_plan(measured, output.stem, options, _machine(device, counter))
    if request.verify:
        made = verify(made, request.device, counter)
    for warning in warnings:
        logger.warning("%s", warning)
    if options.device is not None and not options.is_device_asked:
        logger.info("%s", ELSEWHERE[options.device])
    made = _as_timed_before(made, output)
    place = Place(output, work_folder(request.roots.work, made.dataset.name), _source(request))
    write_plan(made, place, force=request.force)
    return WrittenPlan(made, output)


def _as_timed_before(made: Plan, output: Path) -> Plan:
    """Return the plan that is there if the new one differs in the time of a step alone: trainings that were begun with it go on."""
    if made.budget.step_s is None or not output.is_file():
        return made
    try:
        there = read_plan(output)
    except PlanError:
        return made
    if there.budget.step_s is None:
        return made
    same_time = there.budget.changed(step_s=made.budget.step_s)
    return there if there.changed(budget=same_time) == made else made


def _source(request: PlanRequest) -> Path:
    """Return what is planned from: the fingerprint's file, or where the dataset was found."""
    if request.fingerprint is not None:
        return request.fingerprint
    name = str(request.dataset)
    return locate_dataset(name, request.roots.data_root) or Path(name)


def _check_device(request: PlanRequest) -> None:
    """Refuse what cannot be planned for or verified on before anything is measured."""
    if request.device not in (None, "cpu", "cuda") and not str(request.device).startswith("cuda:"):
        raise InputError(f"--device {request.device}: plans are made for cpu, cuda or cuda:N")
    if request.verify and request.device == "cpu":
        raise InputError("--verify measures memory on a GPU, --device cpu plans for the CPU; give one of them")
    if request.verify:
        verification_device(request.device)


def _timed_device(request: PlanRequest, preset: Preset) -> str | None:
    """Return the device whose steps decide: a CPU that is asked for, or this machine's best, as hours mean nothing without one.

    Raises:
        InputError: this machine has GPUs, but not the one that is asked for.
    """
    if request.device == "cpu":
        return "cpu"
    hours = request.max_hours or training_as_set(preset.training, request.overrides).max_hours
    is_elsewhere = request.device is None and request.vram_gb is not None
    goes_by_hours = preset.follows_machine or preset.gives_way
    if not goes_by_hours or hours is None or is_elsewhere or request.num_gpus > 1 or request.verify:
        return None
    here = choose_device(None)
    if request.device is None:
        # For presets that are made for GPUs there is one elsewhere.
        return here if preset.follows_machine or here != "cpu" else None
    # A GPU may be planned for where there is none.
    return None if here == "cpu" else choose_device(request.device)


def _kind(device: str) -> Literal["cpu", "cuda"]:
    return "cpu" if device == "cpu" else "cuda"


def _machine(device: str | None, counter: MemoryCounter) -> Machine:
    """Return what the planner may measure here."""

    def seconds(configuration: Configuration, setting: Setting) -> float:
        return step_seconds(configuration, setting, device or "cpu")

    return Machine(seconds, counter, has_bf16())


def read_preset(name: str) -> Preset:
    """Return the preset of a name, or of a JSON file: an object with `name`, `extends` (another preset) and fields to change.

    Raises:
        PlanError: there is none, or a field is unknown or unsound.
    """
    if name in PRESETS or not (name.endswith(".json") or os.path.isfile(name)):  # noqa: PTH113 (a name may be no path at all)
        return preset_named(name)
    path = Path(name)
    found = read_json(path, PlanError)
    if not isinstance(found, dict):
        raise PlanError(f"{path}: expected a JSON object with name, extends and the fields that the preset changes")
    return extend_preset({"name": path.stem, **found}, source=str(path))


def read_flops_limit(text: str) -> FlopsLimit:
    """Return what `PLAN:SHARE` allows.

    Raises:
        PlanError: it is none, the plan is missing or unsound, or the share is not above 0 and at most 1.
    """
    path, _, share_text = text.rpartition(":")
    try:
        share = float(share_text)
    except ValueError:
        share = math.nan
    # Not a number is not in the range either.
    if not path or not 0 < share <= 1:
        raise PlanError(
            f"--flops-of {text}: expected a plan and a share above 0 and at most 1, such as plans/Big.json:0.25"
        )
    return flops_limit(read_plan(Path(path)), share)


def _with_loss_file(override: Override) -> Override:
    """Return an override of `loss.preset` by a JSON file with what the file holds: a preset of the user's own."""
    is_file = override.field.split(".")[-2:] == ["loss", "preset"] and str(override.value).endswith(".json")
    if not is_file:
        return override
    path = Path(str(override.value))
    found = read_json(path, PlanError)
    if not isinstance(found, dict):
        raise PlanError(f"{path}: expected a JSON object with components, and perhaps name, when, source and weighting")
    preset = parse_record(LossPreset, {"name": path.stem, **found}, source=str(path), error=PlanError)
    return override.changed(value=preset.model_dump(mode="json", exclude_unset=True))


def _measure(request: PlanRequest, splits: SplitLists | None) -> Fingerprinted:
    if request.fingerprint is None:
        if request.dataset is None:
            raise InputError("no dataset: give -d DATASET or --fingerprint FILE")
        # Every option of `fingerprint` is one of `plan` too.
        given = {name: getattr(request, name) for name in FingerprintRequest.model_fields}
        return measure(FingerprintRequest(**given), require_labels=True, splits=splits)
    # To confirm labels no file is needed; all else that is stated is about how files are read.
    if request.stated.changed(confirm_labels=False) != Stated():
        raise InputError(
            "--fingerprint was measured already; give --assume-orientation, --paint-order and --allow-outside to `fingerprint`, which "
            "reads the files"
        )
    if request.dataset or request.channels or request.regions or request.common_with:
        raise InputError(
            "--fingerprint holds the dataset already; give no -d, --channels, --regions or --common-with beside it, but to `fingerprint`"
        )
    found = read_record(Fingerprint, request.fingerprint, error=InputError)
    excluded = frozenset(excluded_ids(request.exclude))
    check_excluded(excluded, {*found.excluded, *(case.case_id for case in found.cases)}, str(request.fingerprint))
    selection = Selection(excluded, splits.listed() if splits else None)
    _check_measured(request.fingerprint, found, selection)
    return Fingerprinted(found, ())


def _check_measured(path: Path, found: Fingerprint, selection: Selection) -> None:
    """Refuse a fingerprint whose statistics hold cases that are not to be used, which cannot be taken out again."""
    if unused := [case.case_id for case in found.cases if not selection.uses(case.case_id)]:
        raise InputError(
            f"{path}: holds cases that are excluded or in no list of the split file: {', '.join(unused[:MOST_OFFERED])}; they are part of "
            f"its statistics; measure again with `fingerprint {exclusion_of(unused)}`, or plan with -d"
        )


def _splits(splits: str | None) -> SplitLists | str | None:
    """Return what `--splits` asks for; a file that is called like one of the names is given as `./group`."""
    return splits if splits is None or splits in NAMED_SPLITS else read_splits(Path(splits))


def read_splits(path: Path) -> SplitLists:
    """Read folds: a list of lists of held-out case_ids, or nnU-Net's `splits_final.json`.

    Raises:
        PlanError: the file is something else.
    """
    return parse_splits(read_json(path, PlanError), str(path))
