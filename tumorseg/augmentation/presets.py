"""Named lists of transforms: the planner writes them out in full, without torch."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from tumorseg.augmentation.patches import AugmentedPatch
from tumorseg.augmentation.tables import basic, ct, light, mri, nnunet, strong
from tumorseg.errors import PlanError
from tumorseg.schema.augmentation import AugmentationSpec, KnownTransform
from tumorseg.schema.transforms.intensity import ZeroOutside, masked_channels
from tumorseg.schema.transforms.spatial import MirrorTransform

NONE = "none"
"""The preset without any transform."""
SCALED = ("probability", "rotation_probability", "scaling_probability", "elastic_probability")
"""Probabilities of changing a sample; others are of the channels, axes or slices of one that is changed."""


class AugmentationPreset(NamedTuple):
    """A list of transforms under a name, before it is fitted to a configuration."""

    name: str
    """What `augmentation.preset` calls it."""
    holds: str
    """What is in it."""
    when: str
    """When to use it, in one sentence."""
    source: str
    """Where it comes from."""
    table: Callable[[AugmentedPatch], Iterable[KnownTransform]] | None
    """Yields those whose probability follows the strength; flips and what is certain come after. None for nothing."""


AUGMENTATION_PRESETS: Mapping[str, AugmentationPreset] = {
    preset.name: preset
    for preset in (
        AugmentationPreset(
            name=NONE,
            holds="no transform, not even a flip",
            when="To see what augmentation is worth, or for patches that another program augmented.",
            source="",
            table=None,
        ),
        AugmentationPreset(
            name="light",
            holds="little rotation and scaling, flips, noise, brightness and contrast at half of nnU-Net's probabilities",
            when="Thousands of cases that vary enough by themselves.",
            source="nnU-Net's transforms, half as likely",
            table=light,
        ),
        AugmentationPreset(
            name="basic",
            holds="nnU-Net's rotation, scaling, flips, noise, brightness and contrast",
            when="Short trainings on processors: no blur, resolution or gamma, which take most of the time.",
            source="Isensee et al., Nature Methods 2021, in part",
            table=basic,
        ),
        AugmentationPreset(
            name="nnunet",
            holds="nnU-Net's whole table",
            when="The default, but for CT: nothing has been shown to beat it across datasets.",
            source="Isensee et al., Nature Methods 2021; nnUNetTrainer of nnunetv2 2.8.1",
            table=nnunet,
        ),
        AugmentationPreset(
            name="mri",
            holds="nnU-Net's table and, by the kind of each channel, artefacts of MR or of CT",
            when="MR of other scanners and of worse quality than the training's is to be segmented.",
            source="nnU-Net; artefacts as in Pérez-García et al., TorchIO, 2021",
            table=mri,
        ),
        AugmentationPreset(
            name="ct",
            holds="nnU-Net's table without the inverted gamma on CT, which turns air into bone, and, by the kind of each "
            "channel, artefacts of CT or of MR",
            when="The default of CT.",
            source="nnU-Net; changes of Hounsfield units and metal streaks as scanners show them",
            table=ct,
        ),
        AugmentationPreset(
            name="strong",
            holds="nnU-Net's table with wider ranges, likelier, and elastic deformation",
            when="Few cases and a long training, or images that differ much from the training's.",
            source="ranges of nnUNetTrainerDA5 of nnunetv2 2.8.1",
            table=strong,
        ),
    )
}
"""By name."""


def augmentation_preset(name: str, patch: AugmentedPatch, *, strength: float = 1.0) -> AugmentationSpec:
    """Return a preset with every transform and parameter written out, each channel given those of its kind.

    Args:
        name: one of `AUGMENTATION_PRESETS`.
        patch: what it is for.
        strength: factor of the probabilities, of which none exceeds 1; those of mirroring and of what is certain stay.

    Raises:
        PlanError: there is no such preset.
    """
    if name not in AUGMENTATION_PRESETS:
        raise PlanError(f"there is no augmentation preset {name!r}; known are {', '.join(AUGMENTATION_PRESETS)}")
    table = AUGMENTATION_PRESETS[name].table
    transforms: list[KnownTransform] = []
    if table is not None:
        transforms += [_strengthened(transform, strength) for transform in table(patch)]
        transforms += _last(patch)
    return AugmentationSpec(preset=name, strength=strength, transforms=tuple(transforms))


def _strengthened(transform: KnownTransform, strength: float) -> KnownTransform:
    """Return a transform whose probabilities per sample are multiplied."""
    probabilities = {}
    for name, value in transform:
        if name in SCALED and strength != 1:
            # Rounded, so that a plan says 0.3 and not 0.30000000000000004.
            probabilities[name] = min(1.0, round(value * strength, 4))
    return transform.changed(**probabilities) if probabilities else transform


def _last(patch: AugmentedPatch) -> Iterator[KnownTransform]:
    """Yield what ends every list: flips, and 0 where normalisation left 0."""
    if patch.mirroring_axes:
        yield MirrorTransform(axes=patch.mirroring_axes)
    if masked_channels(patch.facts):
        yield ZeroOutside()
