"""What a weight of a U-Net is for, by its name."""

import re
from collections.abc import Iterable
from enum import Enum

INPUTS = re.compile(r"stem\.0\.weight|stages\.0\.0\.0\.weight")
"""The convolution that sees the image: the residual encoder's stem, or the plain one's first."""


class Role(Enum):
    """How a weight may be fitted to another shape."""

    INPUT = "input"
    """Sees the image's channels."""
    UPSAMPLING = "upsampling"
    """A transposed convolution, whose kernel is its stride."""
    HEAD = "head"
    """Makes logits of features."""
    OTHER = "other"


def role_of(name: str) -> Role:
    """Return the role of a weight in the state dict of `tumorseg.networks.unet.UNet`."""
    if INPUTS.fullmatch(name):
        return Role.INPUT
    if name.startswith("upsamplings."):
        return Role.UPSAMPLING
    return Role.HEAD if name.startswith("heads.") else Role.OTHER


def num_decoder_stages(names: Iterable[str]) -> int:
    """Return how many stages the decoder of a U-Net with weights of these names has; 0 if there is none."""
    numbers = [-1]
    for name in names:
        part, *rest = name.split(".")
        if part in ("upsamplings", "decoder") and rest[0].isdecimal():
            numbers.append(int(rest[0]))
    return max(numbers) + 1


def shifted(name: str, shift: int) -> str:
    """Return what a weight is called in a U-Net whose decoder has `shift` stages more; stages are met from the shallow end.

    The encoder's and the heads are numbered from there; those of the decoder from the bottleneck. A weight that is not there gets a
    name that there is not.
    """
    part, *rest = name.split(".")
    if part not in ("upsamplings", "decoder"):
        return name
    return ".".join([part, str(int(rest[0]) + shift), *rest[1:]])
