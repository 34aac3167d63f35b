"""Options of the planner: their contradictions are refused before anything is decided."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from tumorseg.errors import PlanError
from tumorseg.planning.choices.circumstances import Circumstances
from tumorseg.planning.choices.hastening import COMPARED, hastened
from tumorseg.planning.choices.network import AUTO, MEDNEXT, choose_network
from tumorseg.planning.common_ground import CommonGround
from tumorseg.planning.decided import Decided
from tumorseg.planning.evidence.independence import independent_cases
from tumorseg.planning.evidence.spacing import TargetGrid
from tumorseg.planning.families.registry import FAMILIES, family_of
from tumorseg.planning.folds.split_lists import SplitLists
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.rehearsal import Setting
from tumorseg.planning.overrides import Override, training_as_set
from tumorseg.planning.presets import PRESETS, Preset
from tumorseg.planning.search.narrowing import FlopsLimit
from tumorseg.schema.base import Record
from tumorseg.schema.dataset import name_fault
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import Configuration, Reason
from tumorseg.schema.quantities import GB

OF_MEDNEXT = ("network_size", "worthwhile_3d", "optimizer", "schedule")
"""Fields of a preset that an automatically chosen MedNeXt has from the preset of its name."""
MOST_SHOWN = 60
"""Letters of an unsound name."""


class PlanOptions(Record):
    """Options of the planner."""

    preset: Preset = PRESETS["optimized"]
    """Where the plan starts from."""
    vram_gb: float | None = None
    """Budget in GB (2^30 bytes); the preset's if None."""
    device: Literal["cpu", "cuda"] | None = None
    """Where steps are timed, by which width and patch are chosen; None plans for GPUs by their memory alone."""
    is_device_asked: bool = True
    """Whether the user asked for that device; otherwise it is the one that is here."""
    num_gpus: int = 1
    """GPUs of that budget each, among which a batch is divided."""
    max_hours: float | None = None
    """Time for one fold's training."""
    network: str | None = None
    """A network of the planner, or `auto`; the preset's if None."""
    flops: FlopsLimit | None = None
    """What the network may compute at most; whatever its usual width comes to if None."""
    splits: SplitLists | str | None = None
    """Lists of cases; one of `NAMED_SPLITS`; or, if None, five random folds, of groups if there are any."""
    channels: tuple[str, ...] = ()
    """Channels that the user picked; the fingerprint holds no others. Empty for all."""
    regions: str | None = None
    """Where the regions of the fingerprint come from, if the user stated it."""
    common: CommonGround | None = None
    """What the dataset has in common with others, where the fingerprint holds only that."""
    excluded: tuple[str, ...] = ()
    """Cases that the user left out; the fingerprint does not hold them."""
    kept_back: tuple[str, ...] = ()
    """Cases in no list of the split file; the fingerprint does not hold them."""
    overrides: tuple[Override, ...] = ()
    """Fields that the user sets."""
    confirm_labels: bool = False
    """Whether labels that are doubtful, or in no case, are meant so."""


class Machine(NamedTuple):
    """Measurements that the planner may ask of the machine that it runs on."""

    seconds: Callable[[Configuration, Setting], float] | None = None
    """Times a training step, for plans that are to be trained on this machine."""
    counter: MemoryCounter | None = None
    """Remembers what it counted; a new one if None."""
    has_bf16: bool = False
    """Whether the CPU computes in bf16."""


def check_plan_name(name: str) -> None:
    """Refuse a name that no plan can have, as it is the stem of its file.

    Raises:
        PlanError: it is one.
    """
    if (fault := name_fault(name)) is not None:
        raise PlanError(f"a plan cannot be called {name[:MOST_SHOWN]!r}: the name {fault}; give another -o")


def check_options(options: PlanOptions) -> None:
    """Refuse options that contradict each other, or that no plan can satisfy.

    Raises:
        PlanError: some do.
    """
    _check_gpus(options)
    _check_budget(options)
    _check_hours(options)


def _check_gpus(options: PlanOptions) -> None:
    """Refuse more GPUs than a batch has patches, and GPUs where a CPU is to train."""
    preset, num_gpus = options.preset, options.num_gpus
    # Whoever sets the batch is not bound by the preset's limit.
    sets_batch = any(override.field.endswith("batch_size") for override in options.overrides)
    if preset.max_batch_size is not None and num_gpus > preset.max_batch_size and not sets_batch:
        raise PlanError(
            f"--num-gpus {num_gpus}: preset {preset.name} has batches of {preset.max_batch_size} patches at most, so "
            "that some GPUs would get none; give fewer GPUs, or another preset"
        )
    if options.device == "cpu" and num_gpus > 1:
        raise PlanError(f"--device cpu and --num-gpus {num_gpus} contradict; give one of them")


def _check_budget(options: PlanOptions) -> None:
    if options.vram_gb is not None and round(options.vram_gb * GB) < 1:
        raise PlanError(f"--vram {options.vram_gb:g} is not a budget of as much as a byte; give GB above 0")


def _check_hours(options: PlanOptions) -> None:
    """Refuse hours that are none, or that decide a length beside one that is set."""
    if options.max_hours is None:
        return
    if any(override.field in ("training", "training.epochs") for override in options.overrides):
        raise PlanError(f"--max-hours {options.max_hours:g} and --set training.epochs contradict; give one of them")
    if options.max_hours <= 0:
        raise PlanError(f"--max-hours {options.max_hours:g} is no time to train; give hours above 0")


def circumstances(
    options: PlanOptions, fingerprint: Fingerprint, grid: TargetGrid, step_s: float | None = None
) -> Circumstances:
    """Return what network, optimizer, schedule and mirroring go by.

    Args:
        options: with a sound budget and sound hours.
        fingerprint: of the cases as they will be stored.
        grid: at full resolution.
        step_s: seconds of a step of what is planned for full length, timed on the GPU that trains; None where none was.

    Raises:
        PlanError: what the user sets of the training is unsound.
    """
    preset = options.preset
    training = training_as_set(_with_hours(options).training, options.overrides)
    return Circumstances(
        num_cases=independent_cases(fingerprint),
        num_axes=3 if min(grid.median_shape) > 1 else 2,
        case_voxels=math.prod(grid.median_shape),
        vram_gb=preset.vram_gb if options.vram_gb is None else options.vram_gb,
        max_hours=training.max_hours,
        num_steps=training.epochs * training.iterations_per_epoch,
        on_cpu=options.device == "cpu",
        step_s=step_s,
    )


def times_length(options: PlanOptions) -> bool:
    """Return whether steps on the GPU at hand tell if a training is a short one."""
    has_hours = training_as_set(_with_hours(options).training, options.overrides).max_hours is not None
    return options.device == "cuda" and has_hours and _may_give_way(options)


def _may_give_way(options: PlanOptions) -> bool:
    return options.preset.gives_way and options.network in (None, AUTO, *COMPARED)


def chosen_preset(options: PlanOptions, known: Circumstances) -> Decided[Preset]:
    """Return the preset with the network and the hours that the user asks for, and what suits these hours.

    Args:
        options: of the planner.
        known: what the training is made with.

    Returns:
        The preset, with the reasons of the network's name, of what follows from it, and of what a short training has, by field of a
        configuration.

    Raises:
        PlanError: the network is unknown to the planner.
    """
    preset = _with_hours(options)
    reasons: dict[str, Reason] = {}
    if _may_give_way(options):
        preset, reasons = hastened(preset, known)
    network = _choose_network(options, known, preset)
    # Whoever names a network has it, and its reason.
    reasons = network.reasons | reasons if options.network is None else reasons | network.reasons
    family = family_of(network.value)
    if options.network == AUTO and network.value == MEDNEXT != preset.network:
        preset, reasons = _as_published(preset), reasons | _published_reasons(preset)
    if {network.value} != {preset.network, options.preset.network} or family.reference is None:
        # Another network's constants, where nnU-Net published any; else it is counted. A preset file too may name one.
        preset = preset.changed(network=network.value, memory=preset.memory and family.reference)
    return Decided(preset, reasons)


def _with_hours(options: PlanOptions) -> Preset:
    preset = options.preset
    if options.max_hours is None:
        return preset
    return preset.changed(training=preset.training.changed(max_hours=options.max_hours))


def _as_published(preset: Preset) -> Preset:
    """Return a preset with the MedNeXt that the comparisons behind the choice are of, and what it was trained with."""
    return preset.changed(**{field: getattr(PRESETS[MEDNEXT], field) for field in OF_MEDNEXT})


def _published_reasons(preset: Preset) -> dict[str, Reason]:
    """Return the reasons of the optimizer and its schedule, with what a preset has in their place."""
    rule = f"of preset {MEDNEXT}, as --network {AUTO} chose its network"
    of_preset = {"optimizer": preset.optimizer.name, "schedule": preset.schedule.name}
    return {
        field: Reason(rule=rule, inputs={"preset": name}, alternative=f"{name}, of preset {preset.name}")
        for field, name in of_preset.items()
    }


def _choose_network(options: PlanOptions, known: Circumstances, preset: Preset) -> Decided[str]:
    if options.network is None:
        rule, alternative = f"{preset.network} of preset {preset.name}", f"--network {family_of(preset.network).rival}"
        reason = Reason(source="preset", rule=rule, alternative=alternative)
        return Decided(preset.network, {"network.name": reason})
    if options.network == AUTO:
        choice = choose_network(known)
        return Decided(choice.name, {"network.name": choice.reason})
    if options.network not in FAMILIES:
        names = " or ".join((*FAMILIES, AUTO))
        raise PlanError(f"network {options.network!r} is unknown to the planner; choose {names}")
    reason = Reason(
        source="user",
        rule=f"{options.network}, as --network says",
        inputs={"planned": preset.network},
        alternative=f"{preset.network} of preset {preset.name}",
    )
    return Decided(options.network, {"network.name": reason})
