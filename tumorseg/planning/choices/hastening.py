"""What presets made for trainings of full length give up in a short one: network, optimizer, schedule, mirroring."""

from tumorseg.planning.choices.circumstances import Circumstances, why_short
from tumorseg.planning.choices.mirroring import FIELD
from tumorseg.planning.decided import Decided
from tumorseg.planning.presets import LENGTH_FIELDS, PRESETS, Preset
from tumorseg.schema.plan import Reason

SOONEST = PRESETS["fast_prototyping"]
"""Made for short trainings: whatever its preset holds was compared in them (docs/decisions/061-presets-by-evidence.md)."""

COMPARED = ("plain_unet", "residual_unet")
"""Networks that were trained so; the user's choice of another one leaves a preset as it is."""


def hastened(preset: Preset, known: Circumstances) -> Decided[Preset]:
    """Return a preset for the length of its training, with the reasons of what a short one has in another's place.

    Args:
        preset: with the hours that hold.
        known: of the training.

    Returns:
        The preset as it is where it does not give way, or the training is not short; reasons by field of a configuration.
    """
    why = why_short(known) if preset.gives_way else None
    if why is None:
        return Decided(preset, {})
    short = preset.changed(**{field: getattr(SOONEST, field) for field in LENGTH_FIELDS})
    before, after = _names(preset), _names(short)
    length = {"steps": known.num_steps} if known.max_hours is None else {"max_hours": known.max_hours}
    reasons = {}
    for field, chosen in after.items():
        reasons[field] = Reason(
            rule=f"{chosen}: {why}, which learns more so",
            inputs={"preset": before[field], **length},
            alternative=f"{before[field]}, of preset {preset.name}, for trainings of full length",
        )
    return Decided(short, reasons)


def _names(preset: Preset) -> dict[str, str]:
    """Return what a preset has, by field of a configuration."""
    return {
        "network.name": preset.network,
        "optimizer": preset.optimizer.name,
        "schedule": preset.schedule.name,
        FIELD: "all axes that are allowed" if preset.mirroring else "no axis",
    }
