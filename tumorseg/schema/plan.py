"""The plan: everything that decides a result, in one document."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, JsonValue, StrictBool, model_validator

from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.base import Record
from tumorseg.schema.dataset import FileName
from tumorseg.schema.extensions import External
from tumorseg.schema.fingerprint import IntensityStatistics
from tumorseg.schema.losses import LossSpec
from tumorseg.schema.networks import KnownNetwork, NetworkSpec
from tumorseg.schema.optimizers import OptimizerSpec, ScheduleSpec
from tumorseg.schema.planned_dataset import CaseLists, PlannedDataset, fold_contradictions, unused_contradictions
from tumorseg.schema.preprocessing import NormalizationSpec, ResamplingSpec
from tumorseg.schema.training import Count, Training
from tumorseg.schema.transforms.base import PatchFacts, UniqueAxes
from tumorseg.schema.transforms.cascade import PreviousMorphology, PreviousRemoval

PLAN_VERSION = 8
"""Of the plan's form; raised when its fields change."""

Edge = Annotated[float, Field(gt=0)]


class FingerprintSummary(Record):
    """Aggregates of the fingerprint that the plan was made from; the case table is a file of its own."""

    hash: str
    """Content hash of the fingerprint."""
    num_cases: Count
    """Cases that were measured."""
    median_spacing_mm: tuple[Edge, Edge, Edge]
    """Median voxel edge (Z, Y, X)."""
    median_shape_after_crop: tuple[float, float, float]
    """Median voxels (Z, Y, X)."""
    median_relative_size_after_cropping: float = Field(gt=0, le=1)
    """Median of cropped over stored number of voxels."""
    intensities: dict[str, IntensityStatistics]
    """By channel name, over foreground voxels."""
    not_hounsfield: dict[str, int] | None = None
    """Cases whose image cannot be in Hounsfield units, by name of the CT channel; those without are left out. null: nobody looked."""


class MemoryCount(Record):
    """Memory of one configuration, counted on a training step and an inference tile of its own network."""

    parameters_bytes: int = Field(ge=0)
    """Weights, float32."""
    gradients_bytes: int = Field(ge=0)
    """Their gradients."""
    optimizer_bytes: int = Field(ge=0)
    """State of the optimizer after a step, and the moving average of the weights if there is one."""
    activations_bytes: int = Field(ge=0)
    """Saved for the backward pass, those of the loss included; of a batch in parts those of one, and the gradients of all logits."""
    workspace_bytes: int = Field(ge=0)
    """Largest workspace of a convolution."""
    peak_bytes: int = Field(ge=0)
    """Most that is allocated at once in a training step."""
    inference_bytes: int = Field(ge=0)
    """Most that is allocated at once while a median case is segmented."""


class Budget(Record):
    """Memory of each GPU that the plan may use, and what it will."""

    vram_bytes: Count
    """Budget for reserved bytes, the CUDA context and a margin."""
    predicted_bytes: Count | None = None
    """Predicted for the configuration that needs most, context and margin included; null where none was counted."""
    counts: dict[str, MemoryCount] = Field(default_factory=dict)
    """What was counted, by configuration; those of other packages' networks are missing."""
    num_gpus: Count = 1
    """GPUs among which a batch is divided."""
    measured_bytes: int | None = None
    """Peak of reserved bytes on a device; null where none was at hand."""
    device: str = "predicted"
    """Device that was measured, or `predicted`."""
    versions: dict[str, str] | None = None
    """Versions of torch and cuDNN that were measured; null where none was."""
    step_s: float | None = None
    """Seconds of a training step on the machine that planned, where width and patch were chosen by them; null elsewhere."""


class SamplingSpec(Record):
    """Sampling of training patches."""

    foreground_fraction: float = Field(default=0.33, ge=0, le=1)
    """Share of a batch's patches, at least one patch, that are centred on a foreground voxel; of a batch of one, how often it is. 0 turns it
    off."""


InferencePrecision = Literal["auto", "fp32"]
InferenceEngine = Literal["auto", "torch", "compile", "openvino"]


class InferenceSpec(Record):
    """Segmentation of a whole image: mirroring, tiles and their weights."""

    mirroring: bool = True
    """Whether predictions are averaged over mirrored views."""
    mirroring_axes: UniqueAxes
    """Axes that may be mirrored, in the configuration's own numbering."""
    overlap: float = Field(default=0.5, ge=0, lt=1)
    """Share of a tile that the next one covers again."""
    accumulate_on: Literal["device", "cpu"] = "device"
    """Where the logits of tiles are added up: with the network, or in main memory where a GPU has no room for them."""
    gaussian_sigma: float = Field(default=0.125, gt=0)
    """Width of a tile's weights, as a share of its edge."""
    precision: InferencePrecision = "auto"
    """Precision of the network: `auto` for the fastest that keeps the masks (bf16 on a processor that computes in it, the training's
    half precision on a GPU), `fp32` for none but float32."""
    engine: InferenceEngine = "auto"
    """What runs the network: torch, torch.compile or OpenVINO; `auto` for the one that was measured to be fastest on the device."""


class Configuration(Record):
    """One way to train on the dataset: grid, network and everything that goes with them."""

    spacing_mm: tuple[Edge, ...]
    """Target voxel edge in the plan's axis order; two for 2D (slices keep their own distance)."""
    median_shape: tuple[Count, ...]
    """Median voxels of a case on that grid."""
    patch_size: tuple[Count, ...]
    """Voxels that the network sees."""
    batch_size: Count
    """Patches per step."""
    normalization: tuple[NormalizationSpec, ...]
    """One per channel."""
    resampling: ResamplingSpec
    """How the grid is changed."""
    network: NetworkSpec
    """Architecture."""
    augmentation: AugmentationSpec
    """What happens to training patches."""
    loss: LossSpec
    """What is minimised."""
    optimizer: OptimizerSpec
    """How it is minimised."""
    schedule: ScheduleSpec
    """How the learning rate falls."""
    sampling: SamplingSpec
    """How patches are drawn."""
    inference: InferenceSpec
    """How whole images are segmented."""
    previous_configuration: str | None = None
    """Configuration whose segmentation is a further input, one channel for each label (a cascade); null for none."""
    gradient_accumulation: Count = 1
    """Parts into which a batch is cut, one after the other through the network, to save memory; the loss is that of the whole."""
    activation_checkpointing: bool = False
    """Whether the network's stages are recomputed in the backward pass, to save memory."""

    @property
    def num_axes(self) -> int:
        """Return 2 or 3."""
        return len(self.patch_size)

    @property
    def patch_facts(self) -> PatchFacts:
        """Return what transforms may know of the patches."""
        return PatchFacts(self.patch_size, self.normalization)

    @model_validator(mode="after")
    def _check(self) -> "Configuration":
        if len(self.patch_size) not in (2, 3) or not self.num_axes == len(self.spacing_mm) == len(self.median_shape):
            raise ValueError("patch_size, spacing_mm and median_shape need 2 entries each, or 3 each")
        if any(axis not in range(self.num_axes) for axis in self.inference.mirroring_axes):
            raise ValueError(
                f"inference.mirroring_axes {self.inference.mirroring_axes} has an axis not in 0 to {self.num_axes - 1}"
            )
        # The first is enough to refuse the configuration.
        for misfit in self.augmentation.misfits(self.patch_facts, reads_distances=self.loss.reads_distances):
            raise ValueError(f"augmentation: {misfit}")
        _check_cascade(self.augmentation, has_previous=self.previous_configuration is not None)
        # Of another package's network nothing is known before it is built.
        if not isinstance(self.network, External):
            _check_network(self.network, self.patch_size, self.loss)
        return self


def _check_cascade(augmentation: AugmentationSpec, *, has_previous: bool) -> None:
    for transform in augmentation.transforms:
        if isinstance(transform, PreviousMorphology | PreviousRemoval) and not has_previous:
            raise ValueError(f"augmentation has {transform.name}, but there is no previous_configuration")
        if isinstance(transform, External) and has_previous:
            raise ValueError(
                f"augmentation has {transform.name} of {transform.distribution}: another package's transform cannot move "
                "the segmentation of the previous configuration along; leave it out of a cascade"
            )


def _check_network(network: KnownNetwork, patch_size: tuple[int, ...], loss: LossSpec) -> None:
    if (problem := network.patch_problem(patch_size)) is not None:
        raise ValueError(problem)
    if len(loss.deep_supervision_weights) != network.num_supervised:
        raise ValueError(
            f"loss.deep_supervision_weights has {len(loss.deep_supervision_weights)} entries, the network "
            f"{network.num_supervised} outputs"
        )


ReasonSource = Literal["rule", "preset", "user", "import", "device", "tuned"]


class Reason(Record):
    """Reason for the value of a field."""

    source: ReasonSource = "rule"
    """Who decided: a rule on the fingerprint, the preset, the user, an imported plan, a measurement on a device, or a search."""
    rule: str
    """What was applied, in words."""
    inputs: dict[str, JsonValue] = Field(default_factory=dict)
    """Figures that it was applied to."""
    alternative: str | None = None
    """Next-best choice, if there is one."""


def _check_version(version: object) -> object:
    # Runs before the field's own check, which would only say what number was expected, not what to do.
    if version in range(1, PLAN_VERSION):
        raise ValueError(
            f"the plan is of version {version}, this is version {PLAN_VERSION} of its form; plan the dataset again"
        )
    return version


class Plan(Record):
    """The plan document."""

    schema_version: Annotated[Literal[8], BeforeValidator(_check_version)] = 8
    """Of this document's form."""
    name: FileName
    """Stem of the file's name."""
    parent: str | None = None
    """Hash of the plan that this one was refined from."""
    dataset: PlannedDataset
    """What it was planned for."""
    orientation: Literal["RAS", "as_stored"] = "RAS"
    """Canonical orientation into which every image is brought first; `as_stored` for none, as nnU-Net does."""
    transpose: tuple[int, int, int]
    """The plan's axis order: which canonical axis (0 Z, 1 Y, 2 X), or else stored one, stands first, second and third."""
    cropping: StrictBool
    """Whether images are cropped to the box of what is not 0 in some channel."""
    fingerprint: FingerprintSummary
    """What it was planned from."""
    budget: Budget
    """GPU memory."""
    default_configuration: str
    """Configuration that verbs use when none is named."""
    configurations: dict[FileName, Configuration] = Field(min_length=1)
    """By name: `2d`, `3d_fullres`, …"""
    training: Training
    """How long and in what way."""
    folds: CaseLists
    """Held-out case_ids of each fold; empty for a dataset of one case."""
    kept_from_training: CaseLists
    """case_ids that each fold neither trains on nor holds out; empty where every fold trains on all that it does not hold out."""
    reasons: dict[str, Reason]
    """By dotted field."""

    @model_validator(mode="after")
    def _check(self) -> "Plan":
        # All of them at once: whoever edits a plan should not have to find them one by one.
        problems = [*self.fold_contradictions(), *self.unused_contradictions(), *self.configuration_contradictions()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def step_precision(self) -> str:
        """Return the precision in which the planned device takes a step."""
        precision = self.training.precision
        return precision.cpu if self.budget.device == "cpu" else precision.cuda

    def fold_contradictions(self) -> Iterator[str]:
        """Yield where folds contradict each other."""
        yield from fold_contradictions(self.folds, self.kept_from_training)

    def unused_contradictions(self) -> Iterator[str]:
        """Yield where folds name cases that the dataset leaves out."""
        yield from unused_contradictions(self.dataset, (*self.folds, *self.kept_from_training))

    def not_trained_on(self, fold: int) -> frozenset[str]:
        """Return the cases that a fold does not train on: those that it holds out, and those that are kept from its training."""
        # There are no lists at all where every fold trains on all that it does not hold out.
        kept = self.kept_from_training[fold] if fold < len(self.kept_from_training) else ()
        return frozenset((*self.folds[fold], *kept))

    def configuration_contradictions(self) -> Iterator[str]:
        """Yield where configurations do not go with the rest of the plan, though each is sound by itself."""
        if self.default_configuration not in self.configurations:
            yield f"default_configuration {self.default_configuration!r} is not in configurations {sorted(self.configurations)}"
        if sorted(self.transpose) != [0, 1, 2]:
            yield f"transpose {list(self.transpose)} is no permutation of 0, 1, 2"
        for name, configuration in self.configurations.items():
            yield from _check_previous(name, configuration, self.configurations)
            if len(configuration.normalization) != len(self.dataset.channels):
                yield f"configurations.{name}.normalization has {len(configuration.normalization)} entries for {len(self.dataset.channels)} channels"
            num_classes = 1 + sum(value not in (0, self.dataset.ignore_label) for value in self.dataset.labels.values())
            for unknown in configuration.augmentation.unknown_classes(num_classes):
                yield f"configurations.{name}.augmentation: {unknown}"
            for misfit in configuration.loss.misfits(has_regions=bool(self.dataset.regions)):
                yield f"configurations.{name}.loss has {misfit}"


def _check_previous(name: str, configuration: Configuration, configurations: dict[str, Configuration]) -> Iterator[str]:
    previous = configuration.previous_configuration
    if previous is None:
        return
    if previous == name or previous not in configurations:
        yield f"configurations.{name}.previous_configuration {previous!r} is no other configuration of {sorted(configurations)}"
    elif configurations[previous].previous_configuration is not None or configurations[previous].num_axes != 3:
        yield f"configurations.{name}.previous_configuration {previous!r} must be 3D and no cascade itself"
