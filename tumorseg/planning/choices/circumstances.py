"""What a training is to be made with, and whether it is a short one."""

from typing import NamedTuple

SHORT_STEPS = 25_000
"""Steps of a training under which it is short: a tenth of nnU-Net's."""
SHORT_HOURS = 4.0
"""Under this a small GPU has no time for so many steps."""
SHARE_OF_STEPS = 0.8
"""Share of the hours that goes into steps; held-out patches and checkpoints take the rest."""


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
    step_s: float | None = None
    """Seconds of a step of what is planned for full length, timed on the GPU that trains; None where none was."""


def why_short(known: Circumstances) -> str | None:
    """Return why a training is a short one; None if it is not."""
    if known.max_hours is None:
        why = f"{known.num_steps} steps are a short training (under {SHORT_STEPS})"
        return why if known.num_steps < SHORT_STEPS else None
    if known.on_cpu:
        return f"{known.max_hours:g} hours are a short training on a CPU"
    if known.step_s is not None:
        # Without the number, which is another each time that it is measured.
        why = f"{known.max_hours:g} hours are a short training (under {SHORT_STEPS} steps, as timed on this machine's GPU)"
        return why if known.max_hours * 3600 * SHARE_OF_STEPS < SHORT_STEPS * known.step_s else None
    why = f"{known.max_hours:g} hours are a short training (under {SHORT_HOURS:g})"
    return why if known.max_hours < SHORT_HOURS else None
