"""The seam between the planner and its networks: one small object a family, which the planner asks."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from tumorseg.errors import PlanError
from tumorseg.planning.presets import MemoryReference, Preset
from tumorseg.schema.base import Record
from tumorseg.schema.networks import KnownNetwork, Network, NetworkSpec
from tumorseg.schema.nnunet import UNetArguments
from tumorseg.schema.plan import Reason

N = TypeVar("N", bound=Network)


class Grid(NamedTuple):
    """A voxel grid and the cases on it, in the plan's axis order."""

    spacing_mm: tuple[float, ...]
    """Per axis."""
    median_shape: tuple[float, ...]
    """Median voxels of a case per axis."""
    dataset_voxels: float
    """Voxels of all cases together."""
    num_outputs: int
    """Classes with background, as nnU-Net counts them."""
    is_patch: bool = False
    """Whether it is no dataset's, but stands for a patch that networks are compared on."""


class Sized(NamedTuple):
    """A network with the patch that it was shaped for."""

    network: KnownNetwork
    patch_size: tuple[int, ...]


class Ends(NamedTuple):
    """Inputs and outputs of a network, and whether it is checkpointed."""

    num_channels: int
    """C, channels of its input."""
    num_outputs: int
    """K, classes or regions."""
    is_checkpointed: bool
    """Whether stages are recomputed in the backward pass."""


class StageLayout(Record):
    """What one stage of an encoder or a decoder is made of."""

    side: Literal["encoder", "decoder"]
    """The last stage of the encoder is the bottleneck."""
    level: int
    """0 at full resolution."""
    shape: tuple[int, ...]
    """Voxels per axis."""
    features: int
    """Channels."""
    kernel_size: tuple[int, ...]
    """Of its convolutions."""
    stride: tuple[int, ...]
    """Downsampling on entering an encoder's stage, upsampling on entering a decoder's."""
    unit: str
    """Word for what it is made of, such as `convolution`."""
    units: int
    """How many of these."""
    has_stem: bool
    """Whether a single convolution comes before them."""
    parameters: int
    """Weights and biases, those of its segmentation head included."""


class StageFacts(NamedTuple):
    """One stage, on one patch."""

    layout: StageLayout
    saved_elements: int
    """Numbers that autograd keeps for the backward pass of one patch, the image left out."""
    field_voxels: tuple[int, ...] | None
    """Receptive field per axis after all its convolutions; None in a decoder, whose skip connections join several."""


class NnunetNames(NamedTuple):
    """Names in nnU-Net v2's plans of an architecture and the units of its encoder."""

    classes: tuple[str, ...]
    """Class paths that are understood; the first one is written."""
    arguments: type[UNetArguments]
    """Keyword arguments of the class."""
    their_units: str
    """Keyword argument that holds the units of each stage."""
    our_units: str
    """Field of the network's record that does."""

    @property
    def short(self) -> str:
        """Return the name of the class alone."""
        return self.classes[0].rpartition(".")[2]


class NetworkFamily(ABC, Generic[N]):
    """Networks of one architecture, of every size: what the search, presets, reasons and pictures know of them."""

    name: str
    """Of its networks, in plans and after `--network`."""
    rival: str
    """Name of the family that is the next-best choice."""
    reference: MemoryReference | None = None
    """Network that nnU-Net's published estimate is compared with; None where nothing is published."""
    fits_at_reference_batch = False
    """Whether the published planner compares patches at the reference's batch size, rather than at the smallest one."""

    nnunet: NnunetNames | None = None
    """None where nnU-Net has no such architecture."""
    grows_straight = True
    """Whether memory grows in straight lines with the voxels of a patch; not where attention is paid within all of it, or within
    windows that it is padded to: then only counts on smaller patches bound it."""

    @abstractmethod
    def networks(self, grid: Grid, preset: Preset) -> Iterator[Sized]:
        """Yield networks for a grid, from the one on the largest patch down, as long as there is a smaller one.

        Raises:
            PlanError: the median case is too small for any.
        """

    @abstractmethod
    def like(self, other: NetworkSpec) -> N:
        """Return the network that takes the place of another family's on the same patch, all else being as usual here.

        Raises:
            PlanError: the other one has nothing that could be taken over.
        """

    @abstractmethod
    def reason(self, sized: Sized, grid: Grid, preset: Preset, *, rival: "NetworkFamily[Any]") -> Reason:
        """Return why a network has its stages, the rival being what else could be."""

    def feature_maps(self, network: N, patch_size: tuple[int, ...], num_outputs: int) -> int | None:
        """Return the elements of all feature maps of one patch: the least that a step keeps without checkpointing.

        None where no bound is known: then the search counts every candidate.
        """
        return None

    def kin(self, network: N) -> N:
        """Return what a network has in common with those for other patches, which need less memory on smaller ones."""
        return network

    def stages(self, network: N, patch_size: tuple[int, ...], ends: Ends) -> tuple[StageFacts, ...] | None:
        """Return the stages, the encoder from full resolution down, then the decoder up; None if there are no such."""
        return None


def initial_patch(grid: Grid, preset: Preset) -> tuple[float, ...]:
    """Return a patch of equal edges in mm and the preset's volume, clipped to the median case: a search begins here."""
    num_axes = len(grid.spacing_mm)
    product = 1.0
    for spacing in grid.spacing_mm:
        product /= spacing
    scale = (initial_edge(grid, preset) ** num_axes / product) ** (1 / num_axes)
    edges = (round(scale / spacing) for spacing in grid.spacing_mm)
    return tuple(min(size, median) for size, median in zip(edges, grid.median_shape, strict=True))


def too_small(grid: Grid, what: str, advice: str = "plan a finer grid, or larger images") -> PlanError:
    """Return the error of a grid on which a family has no network.

    Args:
        grid: it.
        what: it is too small for, and why.
        advice: what to do with a dataset.
    """
    whose, advice = ("the patch", "give a larger one") if grid.is_patch else ("the median case", advice)
    voxels = [round(size) for size in grid.median_shape]
    return PlanError(f"{whose} of {voxels} voxels is too small for {what}; {advice}")


def initial_edge(grid: Grid, preset: Preset) -> int:
    """Return the edge, in voxels, of a square or cube of the preset's volume."""
    return preset.initial_edge_2d if len(grid.spacing_mm) == 2 else preset.initial_edge_3d
