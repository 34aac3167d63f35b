"""Which preset of augmentation suits the kinds of the channels, what a cascade has beside it, and why."""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import JsonValue

from tumorseg.augmentation.patches import THICK_PATCH, is_thick
from tumorseg.augmentation.presets import AUGMENTATION_PRESETS, NONE
from tumorseg.planning.presets import Preset
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.dataset import ChannelKind
from tumorseg.schema.plan import Reason, ReasonSource
from tumorseg.schema.transforms.cascade import PreviousMorphology, PreviousRemoval
from tumorseg.schema.transforms.spatial import SpatialTransform

PRESET_OF_KIND: dict[ChannelKind, str] = {
    "ct": "ct",
    "mr": "nnunet",
    "pet": "nnunet",
    "rgb": "nnunet",
    "other": "nnunet",
}
"""What suits images of one kind: nnU-Net's table wherever no study has shown better."""
PRESET_OF_SEVERAL = "ct"
"""What suits channels of kinds that ask for different presets: each gets what its own kind suffers, and no CT is inverted."""
ALTERNATIVES = {
    "nnunet": "mri or ct: artefacts of scanners too, which a model for images of other scanners should have seen; slower",
    "none": "nnunet: the network sees no image twice",
}
"""Next-best choices of augmentation by preset."""
PUBLISHED = "nnunet: the published table, proven on many datasets"
"""Next-best choice to any other preset."""
CORRUPTION_REASON = Reason(
    rule="the previous segmentation is corrupted now and then, so that its mistakes are not believed",
    alternative="none: the network would copy the previous segmentation, mistakes included",
)
"""Why a cascade has transforms of its own."""


class AugmentationChoice(NamedTuple):
    """A preset of augmentation, and why."""

    preset: str
    reason: Reason


def choose_augmentation_preset(kinds: Sequence[ChannelKind], preset: Preset) -> AugmentationChoice:
    """Return the preset of augmentation that a plan's preset names, or else the one that suits the channels.

    Args:
        kinds: of the images' channels.
        preset: where the plan starts from.
    """
    chosen = preset.augmentation or _suited(kinds)
    if preset.augmentation is not None:
        source: ReasonSource = "preset"
        why = f"that of preset {preset.name}"
    else:
        source = "rule"
        why = f"channels are of kind {' and '.join(sorted(set(kinds)))}"
    inputs: dict[str, JsonValue] = {"channel_kinds": list(kinds)}
    alternative = ALTERNATIVES.get(chosen, PUBLISHED)
    reason = Reason(source=source, rule=f"{_described(chosen)}: {why}", inputs=inputs, alternative=alternative)
    return AugmentationChoice(chosen, reason)


def _suited(kinds: Sequence[ChannelKind]) -> str:
    suited = {PRESET_OF_KIND[kind] for kind in kinds}
    return suited.pop() if len(suited) == 1 else PRESET_OF_SEVERAL


def _described(name: str) -> str:
    return f"augmentation preset {name} ({AUGMENTATION_PRESETS[name].holds})"


def cascade_augmentation(augmentation: AugmentationSpec) -> AugmentationSpec:
    """Return the transforms of a cascade: its images', then those of the previous segmentation, as in nnU-Net."""
    if augmentation.preset == NONE:
        return augmentation
    corruptions = (PreviousMorphology(), PreviousRemoval())
    return augmentation.changed(transforms=(*augmentation.transforms, *corruptions))


def cascade_reasons(augmentation: AugmentationSpec) -> dict[str, Reason]:
    """Return the reasons of the transforms that only a cascade has, by field of its configuration."""
    reasons = {}
    for number, transform in enumerate(augmentation.transforms):
        if isinstance(transform, PreviousMorphology | PreviousRemoval):
            reasons[f"augmentation.transforms.{number}"] = CORRUPTION_REASON
    return reasons


def rotation_reasons(augmentation: AugmentationSpec, patch_size: Sequence[int]) -> dict[str, Reason]:
    """Return the reason of the rotation's axes, by field of the configuration."""
    reasons = {}
    for number, transform in enumerate(augmentation.transforms):
        if isinstance(transform, SpatialTransform):
            reasons[f"augmentation.transforms.{number}.rotation_deg"] = _rotation_reason(patch_size)
    return reasons


def _rotation_reason(patch_size: Sequence[int]) -> Reason:
    if is_thick(patch_size):
        elongation = f"over {THICK_PATCH:g} times longer than thick ({max(patch_size)} to {patch_size[0]})"
        return Reason(
            rule=f"in-plane rotation alone, the patch being {elongation}: slices are not mixed",
            alternative="about all axes: mixes slices that lie far apart",
        )
    if len(patch_size) == 2:
        return Reason(
            rule="in-plane rotation: a patch has one plane", alternative="none: images turned in use look new"
        )
    return Reason(
        rule="about all axes: the patch is about as thick as long",
        alternative="in-plane rotation alone: tilted images look new",
    )
