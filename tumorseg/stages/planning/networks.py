"""Tell what networks cost: those of a plan, or all side by side for a patch or a budget."""

import logging
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError, PlanError, TrainingError
from tumorseg.planning.families.registry import FAMILIES, family_of
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.rehearsal import setting_of
from tumorseg.planning.memory.totals import plan_setting
from tumorseg.planning.options import Machine, PlanOptions
from tumorseg.planning.planner import make_plan
from tumorseg.planning.presets import Preset
from tumorseg.planning.reading.anatomy import Anatomy, plan_anatomy
from tumorseg.planning.reading.costs import Costs, plan_costs, with_network
from tumorseg.schema.base import Record
from tumorseg.schema.extensions import External
from tumorseg.schema.fingerprint import CaseMeasurement, Fingerprint, IntensityStatistics
from tumorseg.schema.plan import Plan
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.opening.loaded import Roots, choose_configuration
from tumorseg.stages.planning.fingerprint import FingerprintRequest, measure
from tumorseg.stages.planning.plan import read_preset
from tumorseg.stages.planning.rehearse import step_seconds, tile_seconds
from tumorseg.storage.atomic import HTML_ENDINGS, require_file_name, write_bytes, write_text
from tumorseg.storage.json_files import read_record

logger = logging.getLogger(__name__)

PICTURES = (".svg", ".png")
LEAST_EDGE = 64
"""Voxels of images that any plan can be made for."""
NUM_CASES = 100
"""Cases of the dataset that stands for none: so many that no batch holds too much of it."""


class CompareRequest(Record):
    """Options of `networks list` that compare networks."""

    patch_size: tuple[int, ...] | None = None
    """For a patch of cubic voxels; or else for a budget."""
    vram_gb: float | None = None
    """Budget in GB (2^30 bytes); the preset's if None."""
    roots: Roots = Roots()
    """Data and work folder."""
    dataset: str | None = None
    """Name, folder or manifest; or else `fingerprint`."""
    fingerprint: Path | None = None
    """A fingerprint."""
    num_channels: int = 1
    """Of the images, for a patch."""
    num_classes: int = 2
    """With the background, for a patch."""
    networks: tuple[str, ...] = ()
    """Names of those that are compared; all if empty."""
    preset: str = "optimized"
    """Whose widths and training networks have."""
    is_timed: bool = False
    """Whether steps and tiles are timed on this machine."""


class Compared(NamedTuple):
    """Networks side by side."""

    costs: tuple[Costs, ...]
    """Of those that there are."""
    refused: dict[str, str]
    """Why there is none, by name."""
    divisors: dict[str, tuple[int, ...]]
    """Of those on another patch than was asked for, by name: what its edges must be multiples of."""


class DescribeRequest(Record):
    """Options of `networks describe`."""

    plan: Plan
    """The plan."""
    configuration: str | None = None
    """Its name; all if None."""
    is_timed: bool = False
    """Whether steps and tiles are timed on this machine."""
    output: Path | None = None
    """Where to draw the networks, as SVG, PNG or an HTML page."""


class Described(NamedTuple):
    """A configuration's network."""

    configuration: str
    costs: Costs
    anatomy: Anatomy | None
    """None where only its package knows it."""


def compare_networks(request: CompareRequest) -> Compared:
    """Count every network of the planner for a patch, or as it is planned for a budget.

    Raises:
        InputError: neither or both are asked for, or the dataset is not there or unsound.
        PlanError: there is no such network or preset, or none of them can be planned.
    """
    preset, counter = read_preset(request.preset), MemoryCounter()
    names = [family_of(name).name for name in request.networks] or list(FAMILIES)
    if request.patch_size is not None:
        base = _plan_for_patch(request, preset)
    else:
        measured = _measured(request)
    costs, refused, divisors = [], {}, {}
    for name in names:
        logger.info("counting %s", name)
        try:
            if request.patch_size is not None:
                plan = with_network(base, name, patch_size=request.patch_size, preset=preset)
                chosen = plan.configurations[plan.default_configuration]
                if chosen.patch_size != request.patch_size and not isinstance(chosen.network, External):
                    divisors[name] = chosen.network.divisors
            else:
                options = PlanOptions(preset=preset, vram_gb=request.vram_gb, network=name)
                plan = make_plan(measured, name, options, Machine(counter=counter)).plan
            costs.append(_costs(plan, plan.default_configuration, counter, is_timed=request.is_timed))
        except PlanError as error:
            refused[name] = str(error)
    if not costs:
        raise PlanError("; ".join(f"{name}: {why}" for name, why in refused.items()))
    return Compared(tuple(costs), refused, divisors)


def describe_networks(request: DescribeRequest) -> list[Described]:
    """Count the networks of a plan, and draw them where that is asked for.

    Raises:
        InputError: `output` is no picture and no page.
        PlanError: the plan has no such configuration, or another package's network is not installed.
        StorageError: the picture cannot be written.
    """
    if request.output is not None:
        require_file_name("--output", request.output, (*PICTURES, *HTML_ENDINGS))
    plan, counter = request.plan, MemoryCounter()
    names = sorted(plan.configurations, key=lambda name: (name != plan.default_configuration, name))
    if request.configuration is not None:
        names = [choose_configuration(plan, request.configuration)[0]]
    described = []
    for name in names:
        costs = _costs(plan, name, counter, is_timed=request.is_timed)
        described.append(Described(name, costs, plan_anatomy(plan, name)))
    if request.output is not None:
        _write(request.output, plan, described)
    return described


def _costs(plan: Plan, name: str, counter: MemoryCounter, *, is_timed: bool) -> Costs:
    costs = plan_costs(plan, name, counter)
    if not is_timed:
        return costs
    configuration, device = plan.configurations[name], choose_device(None)
    setting = setting_of(plan_setting(plan), configuration)
    if device == "cpu":
        setting = setting._replace(precision=plan.training.precision.cpu)
    try:
        step_s, tile_s = (timed(configuration, setting, device) for timed in (step_seconds, tile_seconds))
    except TrainingError as error:
        logger.warning("%s was not timed: %s", costs.network, error)
        return costs
    return costs.changed(step_s=step_s, tile_s=tile_s, device=device)


def _measured(request: CompareRequest) -> Fingerprint:
    if (request.dataset is None) == (request.fingerprint is None):
        raise InputError("no budget to compare for: give --patch, or -d DATASET or --fingerprint FILE")
    if request.fingerprint is not None:
        return read_record(Fingerprint, request.fingerprint, error=InputError)
    asked = FingerprintRequest(roots=request.roots, dataset=str(request.dataset))
    return measure(asked, require_labels=True).fingerprint


def _plan_for_patch(request: CompareRequest, preset: Preset) -> Plan:
    """Return a plan of images of a patch's size, in which networks then take turns."""
    edges = request.patch_size or ()
    if len(edges) not in (2, 3) or min(edges) < 1:
        raise InputError(f"--patch {','.join(map(str, edges))}: give 2 or 3 numbers of voxels")
    # Large enough for the network that it is planned with, which is not looked at.
    shape = [max(edge, LEAST_EDGE) for edge in edges]
    if len(edges) == 2:
        shape.insert(0, 1)
    channels = [f"channel_{number}" for number in range(request.num_channels)]
    usual = IntensityStatistics(
        mean=0, median=0, std=1, min=-5, max=5, percentile_00_5=-3, percentile_99_5=3
    ).model_dump()
    case = {"spacing_mm": (1.0, 1.0, 1.0), "shape": shape, "shape_after_crop": shape}
    names = {"background": 0} | {f"class_{number}": number for number in range(1, request.num_classes)}
    found = Fingerprint.model_validate(
        {
            "schema_version": 1,
            "dataset": {"name": "Patch", "channels": channels, "labels": names},
            "cases": [CaseMeasurement(case_id=f"case_{number}", **case).model_dump() for number in range(NUM_CASES)],
            "intensities": dict.fromkeys(channels, usual),
            "median_relative_size_after_cropping": 1.0,
        }
    )
    options = PlanOptions(preset=preset, network="plain_unet", vram_gb=1000)
    made = make_plan(found, "Patch", options).plan
    kept = made.configurations[made.default_configuration].changed(batch_size=2)
    return made.changed(configurations={made.default_configuration: kept})


def _write(path: Path, plan: Plan, described: list[Described]) -> None:
    from tumorseg.reports.architecture import Drawing, architecture_png, architecture_svg
    from tumorseg.reports.network_page import networks_html

    drawings = [Drawing(one.configuration, one.anatomy, one.costs.network) for one in described]
    ending = path.suffix.lower()
    if ending in HTML_ENDINGS:
        write_text(path, networks_html(plan.name, [one.costs for one in described], drawings))
    else:
        draw = architecture_svg if ending == ".svg" else architecture_png
        write_bytes(path, draw(drawings))
