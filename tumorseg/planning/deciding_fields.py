"""Fields of a plan whose value decides what stands beside them: networks, presets of losses or augmentation, cascades."""

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import JsonValue

from tumorseg.augmentation.patches import AugmentedPatch
from tumorseg.augmentation.presets import AUGMENTATION_PRESETS, augmentation_preset
from tumorseg.errors import PlanError
from tumorseg.losses.presets import deep_supervision_weights, loss_preset
from tumorseg.planning.choices.augmentation import cascade_augmentation, cascade_reasons, rotation_reasons
from tumorseg.planning.families.registry import converted
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.base import parse_record
from tumorseg.schema.extensions import External
from tumorseg.schema.fields import Place, is_choice
from tumorseg.schema.losses import LossPreset, LossSpec, OverlapLoss
from tumorseg.schema.networks import NETWORKS
from tumorseg.schema.plan import Configuration, InferenceSpec, Reason
from tumorseg.schema.transforms.cascade import PreviousMorphology, PreviousRemoval
from tumorseg.schema.transforms.spatial import MirrorTransform


class Setting(NamedTuple):
    """A field whose value decides what stands beside it."""

    document: Mapping[str, Any]
    """As it was."""
    parent: Place
    """What it decides about: what the field is of, or further out."""
    value: JsonValue
    """Of the field."""
    source: str
    """For error messages."""


class Rule(NamedTuple):
    """A field that decides what stands beside it."""

    kind: Any
    """Annotation of what the field is of."""
    key: str
    """Of the field."""
    decide: Callable[[Setting], tuple[dict[str, Any], dict[str, Reason]]]
    """Returns a new parent, and reasons of what changed in it, by field within it; empty for itself."""
    depth: int = 1
    """Levels from the field out to the parent that is decided about."""
    names: Container[str] | None = None
    """Values that decide; None for all."""


def _converted(setting: Setting) -> tuple[dict[str, Any], dict[str, Reason]]:
    """Return a configuration with the network of another family in the place of the planned one."""
    configuration = setting.parent.value
    planned = Place((), NETWORK, configuration.get("network"))
    network: Any = parse_record(planned.record or External, planned.value, source=setting.source, error=PlanError)
    loss = parse_record(LossSpec, configuration.get("loss"), source=setting.source, error=PlanError)
    other = converted(network, str(setting.value))
    changed = {**configuration, "network": other.model_dump(mode="json")}
    reasons = {"network": following("name")}
    if len(loss.deep_supervision_weights) != other.num_supervised:
        fitting = deep_supervision_weights(other.num_supervised)
        changed["loss"] = {**configuration["loss"], "deep_supervision_weights": fitting}
        reasons["loss.deep_supervision_weights"] = Reason(rule="nnU-Net's weights, one for each output of the network")
    return changed, reasons


def _expanded(setting: Setting) -> tuple[dict[str, Any], dict[str, Reason]]:
    """Return a loss of a named preset, or of one of the user's own, with what the plan decided about the old one."""
    preset, source = setting.value, setting.source
    loss = parse_record(LossSpec, setting.parent.value, source=source, error=PlanError)
    if not isinstance(preset, str | dict):
        raise PlanError(f"{source}={preset}: expected the name of a preset, a JSON file, or an object with components")
    own = parse_record(LossPreset, preset, source=source, error=PlanError) if isinstance(preset, dict) else None
    expanded = loss_preset(
        own or str(preset),
        has_regions=bool(setting.document["dataset"]["regions"]),
        batch_dice=any(isinstance(component, OverlapLoss) and component.batch for component in loss.components),
        deep_supervision_weights=loss.deep_supervision_weights,
    )
    return expanded.model_dump(mode="json"), {"": following("preset")}


def _augmented(setting: Setting) -> tuple[dict[str, Any], dict[str, Reason]]:
    """Return a configuration with the transforms of a named preset, as likely as the plan decided."""
    name, before = setting.value, _augmentation_of(setting)
    # The user's own list under any name: naming what is there already changes nothing.
    if name == before.preset and name not in AUGMENTATION_PRESETS:
        return setting.parent.value, {}
    if not isinstance(name, str):
        raise PlanError(f"{setting.source}={name}: expected one of {', '.join(AUGMENTATION_PRESETS)}")
    given = setting.parent.value.get("inference")
    inference = parse_record(InferenceSpec, given, source=setting.source, error=PlanError)
    wanted = AugmentationSpec(preset=name, strength=before.strength)
    fitted = fit_augmentation(setting, wanted, inference.mirroring_axes)
    return fitted.configuration, {"augmentation": following("preset"), **fitted.reasons}


def _strengthened(setting: Setting) -> tuple[dict[str, Any], dict[str, Reason]]:
    """Return a configuration with the transforms of its preset, of other probabilities."""
    before = _augmentation_of(setting)
    if setting.value == before.strength:
        return setting.parent.value, {}
    if before.preset not in AUGMENTATION_PRESETS:
        raise PlanError(
            f"{setting.source}={setting.value}: the transforms are of no preset ({before.preset}) whose probabilities could be "
            "multiplied; set the probability of each, or an augmentation.preset too"
        )
    fields = {"preset": before.preset, "strength": setting.value}
    wanted = parse_record(AugmentationSpec, fields, source=setting.source, error=PlanError)
    fitted = fit_augmentation(setting, wanted, _flips(before))
    return fitted.configuration, fitted.reasons


def _augmentation_of(setting: Setting) -> AugmentationSpec:
    given = setting.parent.value.get("augmentation")
    return parse_record(AugmentationSpec, given, source=setting.source, error=PlanError)


def _flips(augmentation: AugmentationSpec) -> tuple[int, ...]:
    """Return the axes that a preset was fitted to."""
    found = [transform.axes for transform in augmentation.transforms if isinstance(transform, MirrorTransform)]
    return found[0] if found else ()


class Fitted(NamedTuple):
    """A configuration with the transforms of a preset, and the reasons of these, by field of the configuration."""

    configuration: dict[str, Any]
    reasons: dict[str, Reason]


def fit_augmentation(setting: Setting, wanted: AugmentationSpec, axes: Sequence[int]) -> Fitted:
    """Return a configuration with a preset of augmentation fitted to its patch and its channels.

    Args:
        setting: its parent is the configuration.
        wanted: preset and strength.
        axes: along which training may mirror.

    Raises:
        PlanError: there is no such preset, or the patch or the channels are unsound.
    """
    configuration = setting.parent.value
    channels = setting.document["dataset"]["channels"]
    fields = {
        "patch_size": configuration.get("patch_size"),
        "mirroring_axes": axes,
        "kinds": [channel.get("kind") or "other" for channel in channels],
        "normalization": configuration.get("normalization"),
    }
    patch = parse_record(AugmentedPatch, fields, source=setting.source, error=PlanError)
    spec = augmentation_preset(wanted.preset, patch, strength=wanted.strength)
    if configuration.get("previous_configuration") is not None:
        spec = cascade_augmentation(spec)
    reasons = rotation_reasons(spec, patch.patch_size) | cascade_reasons(spec)
    return Fitted({**configuration, "augmentation": spec.model_dump(mode="json")}, reasons)


def refit_augmentation(setting: Setting, field: str) -> Fitted:
    """Return a configuration whose transforms fit its patch and channels again, a field of which was set.

    A list of the user's own stays as it is, and so does everything if the configuration is unsound.
    """
    unchanged = Fitted(setting.parent.value, {})
    try:
        before = _augmentation_of(setting)
        if before.preset not in AUGMENTATION_PRESETS:
            return unchanged
        fitted = fit_augmentation(setting, before, _flips(before))
    except PlanError:
        # Other settings may mend it; if not, the check of the whole plan says what is wrong.
        return unchanged
    if fitted.configuration == setting.parent.value:
        return unchanged
    return fitted._replace(reasons={"augmentation.transforms": following(field), **fitted.reasons})


def following(field: str) -> Reason:
    """Return the reason of a part of the plan that was replaced when a field of it was set."""
    return Reason(rule=f"follows from its {field}, which was set by the user")


def _with_previous(setting: Setting) -> tuple[dict[str, Any], dict[str, Reason]]:
    """Return a configuration with the transforms of a cascade, or without those that only a cascade has."""
    configuration = setting.parent.value
    changed = {**configuration, "previous_configuration": setting.value}
    # One cascade into another: its transforms are there already, and may have been changed.
    if setting.value is not None and configuration.get("previous_configuration") is not None:
        return changed, {}
    spec = parse_record(AugmentationSpec, configuration.get("augmentation"), source=setting.source, error=PlanError)
    others = [one for one in spec.transforms if not isinstance(one, PreviousMorphology | PreviousRemoval)]
    plain = spec.changed(transforms=others)
    corrupted = plain if setting.value is None else cascade_augmentation(plain)
    changed["augmentation"] = corrupted.model_dump(mode="json")
    return changed, cascade_reasons(corrupted)


NETWORK = Configuration.model_fields["network"].annotation
"""Annotation of a configuration's network."""
RULES = (
    Rule(LossSpec, "preset", _expanded),
    # Patch, flips and channels, which a preset is fitted to, stand in the configuration.
    Rule(AugmentationSpec, "preset", _augmented, depth=2),
    Rule(AugmentationSpec, "strength", _strengthened, depth=2),
    Rule(Configuration, "previous_configuration", _with_previous),
    # The loss beside the network has a weight for each of its outputs. Only families of tumorseg's own are converted.
    Rule(NETWORK, "name", _converted, depth=2, names=NETWORKS),
)
"""Fields with a rule."""
DECIDING = frozenset(("name", "preset", "previous_configuration"))
"""Keys that put something else in the place of what their record holds; `strength` multiplies what is there."""


def rule_of(found: Sequence[Place], value: JsonValue) -> Rule | None:
    """Return the rule of the last of the places for a new value, if there is one."""
    # Naming what is there already must not put defaults in the place of what was planned for it.
    if is_choice(found) and value == found[-1].value:
        return None
    field = (found[-2].kind, found[-1].path[-1])
    rules = (rule for rule in RULES if (rule.kind, rule.key) == field)
    return next((rule for rule in rules if rule.names is None or str(value) in rule.names), None)
