"""The lists of transforms that presets hold, built for a patch and the kinds of its channels.

Each yields the transforms whose probability follows the strength, in their order. Where a number is not given, the
default of the record is meant, which for nnU-Net's transforms is nnU-Net's.

References:
    nnU-Net's table: Isensee et al., Nature Methods 2021; nnUNetTrainer of nnunetv2 2.8.1.
    Wider ranges: nnUNetTrainerDA5 of the same package.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from tumorseg.augmentation.patches import AugmentedPatch, suited_spatial
from tumorseg.schema.augmentation import KnownTransform
from tumorseg.schema.dataset import ChannelKind
from tumorseg.schema.transforms.base import ImageTransform, Range
from tumorseg.schema.transforms.ct import HuShift, Streaks, ct_channels
from tumorseg.schema.transforms.intensity import Brightness, Contrast, Gamma, GaussianNoise
from tumorseg.schema.transforms.mr import BiasField, Ghosting, Gibbs, Motion, RicianNoise, SliceJumps, Spikes
from tumorseg.schema.transforms.resolution import GaussianBlur, LowResolution, ThickSlices

INVERTED_PROBABILITY = 0.1
"""Of gamma on the inverted image, in nnU-Net's table; the one on the image itself is three times as likely."""
LITTLE_DEG = 10.0
"""Largest angle of preset `light`."""
RARE, OCCASIONAL = 0.05, 0.1
"""Probabilities of artefacts that few scans have and that spoil an image visibly, and of those that many have."""
BENT_SHARE = 0.05
"""Largest displacement of an elastic deformation against the shortest edge that is deformed: too little, at its widths,
to fold an image over itself."""

Image = TypeVar("Image", bound=ImageTransform)


def _on_channels(transform: Image, channels: Sequence[int], patch: AugmentedPatch) -> Iterator[Image]:
    """Yield a transform of some channels of a patch; nothing if there are none."""
    if len(channels) == len(patch.kinds):
        yield transform
    elif channels:
        yield transform.changed(channels=tuple(channels))


def nnunet(patch: AugmentedPatch) -> Iterator[KnownTransform]:
    """Yield nnU-Net's whole table."""
    yield suited_spatial(patch)
    yield GaussianNoise()
    yield from _after_noise(patch, range(len(patch.kinds)))


def _after_noise(patch: AugmentedPatch, inverted: Sequence[int]) -> Iterator[KnownTransform]:
    """Yield the rest of nnU-Net's table, given the channels that gamma is also applied to inverted."""
    yield GaussianBlur()
    yield Brightness()
    yield Contrast()
    yield LowResolution(in_plane=patch.is_thick)
    yield from _on_channels(Gamma(probability=INVERTED_PROBABILITY, inverted=True), inverted, patch)
    yield Gamma()


def basic(patch: AugmentedPatch) -> Iterator[KnownTransform]:
    """Yield those transforms of nnU-Net's table that cost next to nothing, and the spatial one."""
    yield suited_spatial(patch)
    yield GaussianNoise()
    yield Brightness()
    yield Contrast()


def light(patch: AugmentedPatch) -> Iterator[KnownTransform]:
    """Yield little of what `basic` holds, half as likely."""
    spatial = suited_spatial(patch)
    yield spatial.changed(
        rotation_deg=tuple(min(degrees, LITTLE_DEG) for degrees in spatial.rotation_deg),
        rotation_probability=0.1,
        scaling=Range(low=0.85, high=1.15),
        scaling_probability=0.1,
    )
    yield GaussianNoise(probability=0.05)
    yield Brightness(probability=0.075)
    yield Contrast(probability=0.075)


def strong(patch: AugmentedPatch) -> Iterator[KnownTransform]:
    """Yield nnU-Net's table, likelier, with ranges of its DA5 trainer where that has the same, and elastic."""
    spatial = suited_spatial(patch)
    # What moves in planes is as short as these.
    shortest = min(patch.patch_size[1:] if spatial.in_plane else patch.patch_size)
    yield spatial.changed(
        rotation_probability=0.4,
        scaling=Range(low=0.7, high=1.43),
        scaling_probability=0.3,
        elastic_probability=0.2,
        elastic_width=Range(low=0.1, high=0.2),
        elastic_magnitude=Range(low=0.0, high=round(BENT_SHARE * shortest, 1)),
    )
    yield GaussianNoise(probability=0.15, std=Range(low=0.0, high=0.15))
    yield GaussianBlur(probability=0.3, sigma=Range(low=0.3, high=1.5))
    yield Brightness(probability=0.3, factor=Range(low=0.6, high=1.4))
    yield Contrast(probability=0.3, factor=Range(low=0.5, high=2.0))
    yield LowResolution(probability=0.3, zoom=Range(low=0.25, high=1.0), in_plane=patch.is_thick)
    yield Gamma(probability=0.2, inverted=True)
    yield Gamma(probability=0.4)


def mri(patch: AugmentedPatch) -> Iterator[KnownTransform]:
    """Yield nnU-Net's table and artefacts, each channel those of its kind; of an unknown kind is taken to be MR."""
    return _with_artefacts(patch, unknown="mr")


def ct(patch: AugmentedPatch) -> Iterator[KnownTransform]:
    """Yield nnU-Net's table and artefacts, each channel those of its kind; of an unknown kind is taken to be CT."""
    return _with_artefacts(patch, unknown="ct")


def _with_artefacts(patch: AugmentedPatch, *, unknown: ChannelKind) -> Iterator[KnownTransform]:
    mr, others = _split(patch, "mr", unknown)
    # Inverted, air and bone would change places: intensities of CT mean the same everywhere.
    _, inverted = _split(patch, "ct", unknown)
    yield suited_spatial(patch)
    yield from _artefacts_of_ct(patch)
    yield from _artefacts_of_mr(patch, mr)
    yield from _thick_slices(patch)
    yield from _on_channels(RicianNoise(), mr, patch)
    yield from _on_channels(GaussianNoise(), others, patch)
    yield from _after_noise(patch, inverted)


def _split(patch: AugmentedPatch, kind: ChannelKind, unknown: ChannelKind) -> tuple[list[int], list[int]]:
    """Return the channels of a kind, and the others."""
    ours: list[int] = []
    others: list[int] = []
    for channel, found in enumerate(patch.kinds):
        shown = unknown if found == "other" else found
        (ours if shown == kind else others).append(channel)
    return ours, others


def _artefacts_of_ct(patch: AugmentedPatch) -> Iterator[KnownTransform]:
    # Whatever a channel is said to be, its Hounsfield units are known through this normalisation alone.
    channels = ct_channels(patch.facts)
    yield from _on_channels(HuShift(), channels, patch)
    yield from _on_channels(Streaks(), channels, patch)


def _artefacts_of_mr(patch: AugmentedPatch, channels: Sequence[int]) -> Iterator[KnownTransform]:
    """Yield them in the order in which they arise: the coil, k-space, slices."""
    # Phase is encoded in the planes of slices that lie far apart.
    axes = (1, 2) if patch.is_thick else None
    yield from _on_channels(BiasField(probability=OCCASIONAL), channels, patch)
    yield from _on_channels(Motion(probability=RARE, axes=axes), channels, patch)
    yield from _on_channels(Ghosting(probability=RARE, axes=axes), channels, patch)
    yield from _on_channels(Spikes(probability=RARE, axes=axes), channels, patch)
    yield from _on_channels(Gibbs(probability=RARE, axes=axes), channels, patch)
    # A plane is a slice itself. Images of volumes have none, but many that look like one were made of slices.
    if patch.num_axes == 3:
        slices = (0,) if patch.is_thick else None
        yield from _on_channels(SliceJumps(probability=RARE, axes=slices), channels, patch)


def _thick_slices(patch: AugmentedPatch) -> Iterator[KnownTransform]:
    # Of slices that lie far apart already few are left, and a plane has none.
    if patch.num_axes == 3 and not patch.is_thick:
        yield ThickSlices(probability=OCCASIONAL)
