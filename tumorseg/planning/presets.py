"""Presets: where a plan starts from, as data."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from tumorseg.augmentation.presets import AUGMENTATION_PRESETS
from tumorseg.errors import PlanError
from tumorseg.losses.presets import LOSS_PRESETS
from tumorseg.schema.base import Record, parse_record
from tumorseg.schema.dataset import FileName
from tumorseg.schema.fields import places, rank, replaced
from tumorseg.schema.networks import NETWORKS
from tumorseg.schema.optimizers import (
    AdamW,
    CosineSchedule,
    OptimizerSpec,
    PlateauSchedule,
    PolySchedule,
    ScheduleSpec,
    Sgd,
)
from tumorseg.schema.training import Training

SIZE_FIELDS = frozenset({"base_features", "max_features_2d", "max_features_3d", "initial_edge_2d", "initial_edge_3d"})
"""Of a preset: what steps that are timed on a machine would change."""
LENGTH_FIELDS = frozenset({"network", "optimizer", "schedule", "mirroring"})
"""Of a preset: what the length of a training would change."""
MOST_GB = 100_000
"""No GPU has more."""


class MemoryReference(Record):
    """A network that was measured: so many feature-map elements need so much memory (nnU-Net's constants)."""

    elements_2d: float = Field(ge=1, le=1e15)
    """Elements of the 2D reference at batch size `batch_2d`."""
    elements_3d: float = Field(ge=1, le=1e15)
    """Elements of the 3D reference at batch size `batch_3d`."""
    vram_gb: float = Field(ge=0.01, le=MOST_GB)
    """Memory that it needed, in GB (2^30 bytes)."""
    batch_2d: int = Field(default=12, ge=1)
    """Batch size of the 2D reference."""
    batch_3d: int = Field(default=2, ge=1)
    """Batch size of the 3D reference."""


def _check_network(name: str) -> str:
    if name not in NETWORKS:
        raise ValueError(f"there is no network {name!r}; known are {', '.join(NETWORKS)}")
    return name


def _check_augmentation(name: str) -> str:
    if name not in AUGMENTATION_PRESETS:
        raise ValueError(f"there is no augmentation preset {name!r}; known are {', '.join(AUGMENTATION_PRESETS)}")
    return name


class Preset(Record):
    """Starting point of a plan, for all that the fingerprint does not decide."""

    name: FileName
    """What `--preset` calls it; part of the plan's own name."""
    purpose: str
    """When to use it, in one sentence."""
    vram_gb: float = Field(gt=0, le=MOST_GB)
    """Budget unless `--vram` is given, in GB (2^30 bytes)."""
    network: Annotated[str, AfterValidator(_check_network)]
    """Architecture unless `--network` is given."""
    base_features: int = Field(default=32, ge=1)
    """Channels at full resolution."""
    max_features_2d: int = Field(default=512, ge=1)
    """Most channels of a 2D stage."""
    max_features_3d: int = Field(default=320, ge=1)
    """Most channels of a 3D stage."""
    network_size: Literal["s", "b", "m", "l"] = "b"
    """Size of networks that were published in several: blocks and expansions of MedNeXt."""
    initial_edge_2d: int = Field(default=2048, ge=16)
    """The search begins with a 2D patch of this edge's area, shaped like a median case in mm."""
    initial_edge_3d: int = Field(default=256, ge=8)
    """The same in 3D."""
    worthwhile_3d: float = Field(default=1 / 64, gt=0, le=1)
    """Share of that volume below which other ways to save memory come before a smaller patch: 64 x 64 x 64 of 256."""
    memory: MemoryReference | None = None
    """nnU-Net's published estimate, for presets that plan what it plans; null to count the network itself."""
    max_dataset_covered: float = Field(default=0.05, gt=0, le=1e6)
    """Most of the dataset's voxels that one batch may hold."""
    rounds_batch: bool = False
    """Whether the batch that memory allows is rounded to the nearest as nnU-Net does, which may pass the budget."""
    max_batch_size: int | None = Field(default=None, ge=2)
    """Most patches in a batch; null for no limit of its own."""
    follows_machine: bool = False
    """Whether, where hours are given, width and patch are what this machine's GPU or else its CPU trains best in these hours: wider and
    larger than the preset's own if there is time. Presets of one's own that give a width or an edge do not, unless they say so."""
    gives_way: bool = False
    """Whether a short training has the network, optimizer, schedule and mirroring of `fast_prototyping`. Presets of one's own that give one
    of these keep all, unless they say so."""
    cascade: bool = True
    """Whether a coarser grid and a cascade are planned where a patch sees little of a case."""
    as_published: bool = False
    """Whether nnU-Net's choices stand even where the data speak against them: then the plan warns instead."""
    mirroring: bool = True
    """Whether patches are mirrored in training, and views in prediction: worth it only in long trainings."""
    loss: str = "dice_ce"
    """Loss preset, unless the preset adapts and the targets ask for another."""
    augmentation: Annotated[str, AfterValidator(_check_augmentation)] | None = None
    """Preset of augmentation; null to go by the kinds of the channels."""
    adapts: bool = False
    """Whether loss, sampling, strength of augmentation and length follow the size of the targets and the number of cases."""
    optimizer: OptimizerSpec
    """How the loss is minimised."""
    schedule: ScheduleSpec
    """How the learning rate falls."""
    training: Training
    """How long, unless `--max-hours` is given."""


PLAIN_REFERENCE = MemoryReference(elements_2d=85e6, elements_3d=560e6, vram_gb=8)
RESIDUAL_M_REFERENCE = MemoryReference(elements_2d=135e6, elements_3d=680e6, vram_gb=8)
RESIDUAL_L_REFERENCE = MemoryReference(elements_2d=380e6, elements_3d=2.1e9, vram_gb=24)
RESIDUAL_XL_REFERENCE = MemoryReference(elements_2d=560e6, elements_3d=3.6e9, vram_gb=40)
FULL_LENGTH = Training(epochs=1000, iterations_per_epoch=250, validation_iterations=50)
SHORT = Training(epochs=40, iterations_per_epoch=20, validation_iterations=4)


def _adapting(name: str, purpose: str, vram_gb: float, **fields: Any) -> Preset:
    """Return a preset of tumorseg's own for one GPU, a residual U-Net's unless fields say otherwise."""
    usual = {"network": "residual_unet", "optimizer": Sgd(), "schedule": PolySchedule(), "training": FULL_LENGTH}
    return Preset(name=name, purpose=purpose, vram_gb=vram_gb, adapts=True, **(usual | fields))


def _published(name: str, planner: str, *, network: str, reference: MemoryReference, covered: float) -> Preset:
    """Return a preset that plans what one of nnU-Net's planners plans, which lets a batch hold so much of a dataset."""
    return Preset(
        name=name,
        purpose=f"the choices of the published {planner}, for comparison",
        vram_gb=reference.vram_gb,
        network=network,
        memory=reference,
        max_dataset_covered=covered,
        rounds_batch=True,
        as_published=True,
        loss="nnunet",
        augmentation="nnunet",
        optimizer=Sgd(),
        schedule=PolySchedule(),
        training=FULL_LENGTH,
    )


def _published_residual(size: str, reference: MemoryReference) -> Preset:
    planner = f"ResEnc {size.upper()} for {reference.vram_gb:g} GB"
    # Unlike the plain planner, the ResEnc planners do not limit a batch to 5 % of the dataset.
    return _published(f"nnunet_resenc_{size}", planner, network="residual_unet", reference=reference, covered=1.0)


# As small as it takes for a step to stay under a second on two CPU cores.
FAST = Preset(
    name="fast_prototyping",
    purpose="trains in minutes on two CPU cores or a small GPU, to see whether data and labels make sense",
    vram_gb=4,
    network="plain_unet",
    base_features=16,
    max_features_2d=256,
    max_features_3d=128,
    initial_edge_2d=256,
    initial_edge_3d=64,
    max_dataset_covered=1.0,
    max_batch_size=2,
    follows_machine=True,
    cascade=False,
    mirroring=False,
    augmentation="basic",
    optimizer=AdamW(lr=2e-3),
    schedule=PlateauSchedule(),
    training=SHORT,
)
# Size, patch of 128 x 128 x 128 with activations recomputed for it, and optimizer as published; in half precision, a
# smaller eps ends in numbers that are none.
MEDNEXT = _adapting(
    "mednext",
    "MedNeXt L for one 24 GB GPU: level with the residual encoder or slightly better in published comparisons, at twice "
    "the time",
    24,
    network="mednext",
    network_size="l",
    worthwhile_3d=1 / 8,
    optimizer=AdamW(lr=1e-3, weight_decay=3e-5, eps=1e-4),
)
# Learning rate and decay as published for BraTS 2021.
TRANSFORMER = _adapting(
    "transformer",
    "Swin UNETR for one 24 GB GPU: behind U-Nets in published comparisons; for ensembles whose members err otherwise",
    24,
    network="swin_unetr",
    optimizer=AdamW(lr=1e-4, weight_decay=1e-5),
    schedule=CosineSchedule(),
)
PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        _adapting("optimized", "the default: residual encoder for one 8 GB GPU", 8, gives_way=True),
        _adapting("large_gpu", "residual encoder for one 24 GB GPU: larger patches, best accuracy", 24, gives_way=True),
        FAST,
        MEDNEXT,
        TRANSFORMER,
        _published("nnunet", "nnU-Net v2", network="plain_unet", reference=PLAIN_REFERENCE, covered=0.05),
        _published_residual("m", RESIDUAL_M_REFERENCE),
        _published_residual("l", RESIDUAL_L_REFERENCE),
        _published_residual("xl", RESIDUAL_XL_REFERENCE),
    )
}
"""By name."""


def extend_preset(document: dict[str, Any], *, source: str) -> Preset:
    """Return the preset of a document that names another preset under `extends`, and holds what differs from it.

    Args:
        document: `name`, `extends` and fields, dotted or not, such as `optimizer.lr`, in any order; those that hold
            records are replaced as a whole, `training` field by field.
        source: for error messages.

    Raises:
        PlanError: the other preset or the loss preset is unknown, or a field is unknown, unsound or given twice.
    """
    changed = dict(document)
    extended = changed.pop("extends", "optimized")
    if isinstance(changed.get("training"), dict):
        training = {f"training.{field}": value for field, value in changed.pop("training").items()}
        if twice := sorted(training.keys() & changed.keys()):
            raise PlanError(f"{source}: {twice[0]} is given twice; give it once")
        changed |= training
    if not isinstance(extended, str) or extended not in PRESETS:
        raise PlanError(f"{source}: extends is {extended!r}; expected one of {', '.join(PRESETS)}")
    # Whoever gives a size means it.
    if SIZE_FIELDS & changed.keys():
        changed.setdefault("follows_machine", False)
    if LENGTH_FIELDS & {field.partition(".")[0] for field in changed}:
        changed.setdefault("gives_way", False)
    whole = PRESETS[extended].model_dump(mode="json") | {"purpose": f"preset {extended} with changes of one's own"}
    # From outside in, as in `--set`: a name puts defaults in the place of what it names.
    for field in sorted(changed, key=rank):
        found = places(Preset, whole, field, source=f"{source}:", error=PlanError)
        whole = replaced(found, changed[field])
    preset = parse_record(Preset, whole, source=source, error=PlanError)
    if preset.loss not in LOSS_PRESETS:
        raise PlanError(f"{source}: there is no loss preset {preset.loss!r}; known are {', '.join(LOSS_PRESETS)}")
    return preset


def preset_named(name: str) -> Preset:
    """Return a preset.

    Raises:
        PlanError: no preset has this name.
    """
    if name not in PRESETS:
        raise PlanError(f"preset {name!r} is unknown; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
