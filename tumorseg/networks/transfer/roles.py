"""What a weight is for, as far as that decides how it may be given another shape."""

from enum import Enum


class Role(Enum):
    """How a weight may be fitted to another shape."""

    INPUT = "input"
    """Sees the image's channels."""
    UPSAMPLING = "upsampling"
    """A transposed convolution, whose kernel is its stride."""
    DEPTHWISE = "depthwise"
    """A convolution channel by channel, whose kernel is interpolated."""
    HEAD = "head"
    """Makes logits of features."""
    FIXED = "fixed"
    """Cannot be fitted."""
    OTHER = "other"
