"""What is kept beside the arrays of a preprocessed case."""

from tumorseg.schema.base import Record
from tumorseg.schema.preprocessing import NormalizationSpec, ResamplingSpec


class Preprocessing(Record):
    """The part of a plan that decides a preprocessed case; its hash is part of the case's address."""

    store_version: int = 2
    """Raised when the same part would give other arrays."""
    orientation: str
    """As in the plan."""
    transpose: tuple[int, int, int]
    """As in the plan."""
    spacing_mm: tuple[float, ...]
    """Target spacing in the plan's axis order; of the last axes where there are fewer than three."""
    normalization: tuple[NormalizationSpec, ...]
    """One per channel."""
    resampling: ResamplingSpec
    """How the grid is changed."""


class StoredCase(Record):
    """One preprocessed case, in the plan's axis order."""

    case_id: str
    """As in the dataset."""
    shape: tuple[int, int, int]
    """Voxels after resampling."""
    spacing_mm: tuple[float, float, float]
    """Voxel edges after resampling."""
    num_channels: int
    """Channels of the image."""
    class_voxels: tuple[int, ...]
    """Voxels of each class index, background included."""
    location_starts: tuple[int, ...]
    """Row of the locations at which each class index begins; their number at the end."""
