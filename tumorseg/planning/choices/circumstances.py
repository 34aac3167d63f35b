"""What a training is to be made with, and whether it is a short one."""

from typing import NamedTuple

SHORT_STEPS = 25_000
"""Steps of a training under which it is short: a tenth of nnU-Net's."""
SHORT_HOURS = 4.0
"""Under this a small GPU has no time for so many steps."""


class Circumstances(NamedTuple):
    """What choices go by that are made before anything is searched."""

    num_cases: int
    """Independent ones."""
    num_axes: int
    """2 for images of one plane, else 3."""
    case_voxels: float
    """Of a median case, on the planned grid."""
    vram_gb: float
    """Budget of each GPU in GB (2^30 bytes)."""
    max_hours: float | None
    """Time for one fold's training, if it is limited, by whichever option."""
    num_steps: int
    """Steps of a training that is limited by no hours."""
    on_cpu: bool
    """Whether a CPU trains."""


def why_short(known: Circumstances) -> str | None:
    """Return why a training is a short one; None if it is not."""
    if known.max_hours is None:
        return (
            f"{known.num_steps} steps are a short training (under {SHORT_STEPS})"
            if known.num_steps < SHORT_STEPS
            else None
        )
    if known.on_cpu:
        return f"{known.max_hours:g} hours are a short training on a CPU"
    return (
        f"{known.max_hours:g} hours are a short training (under {SHORT_HOURS:g})"
        if known.max_hours < SHORT_HOURS
        else None
    )
