"""Cropping to the box of nonzero voxels, unless that would cut labels off."""

from collections.abc import Sequence
from typing import NamedTuple

from tumorseg.planning.presets import Preset
from tumorseg.schema.fingerprint import CaseMeasurement, Fingerprint
from tumorseg.schema.plan import Reason

MOST_LOST = 0.1
"""Share of a label's voxels in a case that cropping may take."""
MOST_LISTED = 5
"""Cases that a message lists at most."""


class Cropping(NamedTuple):
    """The choice, its reason, and what follows from it."""

    is_cropped: bool
    reason: Reason
    warnings: tuple[str, ...]
    fingerprint: Fingerprint
    """Measurements that planning goes by: those of whole images where nothing is cropped."""


class Loss(NamedTuple):
    """Share of one label of one case that cropping would remove."""

    case_id: str
    label: str
    share: float


def decide_cropping(fingerprint: Fingerprint, preset: Preset) -> Cropping:
    """Decide whether a dataset's images are cropped to the box of what is not 0 in some channel.

    Args:
        fingerprint: with the voxels that cropping would take of each label; unknown ones count as none.
        preset: one of nnU-Net's crops whatever it takes, and warns.
    """
    losses: list[Loss] = []
    for case in fingerprint.cases:
        losses += _losses(case)
    grave = [loss for loss in losses if loss.share > MOST_LOST]
    inputs = {"lost": [[loss.case_id, loss.label, round(loss.share, 4)] for loss in losses[:MOST_LISTED]]}
    if grave and not preset.as_published:
        reason = Reason(
            rule=f"no cropping: the box of what is not 0 would take over {MOST_LOST:.0%} of a label in {_count(grave)}",
            inputs=inputs,
            alternative="cropping, after the images are restored where labels lie: smaller images, quicker steps",
        )
        message = f"images are not cropped, as the box of what is not 0 would take {_listed(grave)}"
        return Cropping(False, reason, (message,), _uncropped(fingerprint))
    rule = "the box of what is not 0 in some channel, as in nnU-Net"
    if any(case.label_voxels_cropped is None for case in fingerprint.cases):
        rule += "; what it takes of labels was not measured"
    warnings: tuple[str, ...] = ()
    if losses:
        rule += f"; it takes something of a label in {_count(losses)}"
        why = f", which preset {preset.name} does as nnU-Net does" if grave else ""
        warnings = (f"cropping takes {_listed(losses)}{why}",)
    reason = Reason(
        rule=rule,
        inputs=inputs if losses else {},
        alternative="no cropping: larger images, of which the network sees more background",
    )
    return Cropping(True, reason, warnings, fingerprint)


def _losses(case: CaseMeasurement) -> list[Loss]:
    """Return what cropping takes of a case, the most first."""
    voxels, cropped = case.label_voxels or {}, case.label_voxels_cropped or {}
    # Of a label that was not counted, the share is unknown.
    losses = [Loss(case.case_id, name, count / voxels[name]) for name, count in cropped.items() if voxels.get(name)]
    return sorted(losses, key=lambda loss: -loss.share)


def _count(losses: Sequence[Loss]) -> str:
    count = len({loss.case_id for loss in losses})
    return f"{count} case{'s' if count > 1 else ''}"


def _listed(losses: Sequence[Loss]) -> str:
    """Return the losses as a list: `12 % of tumour in case a`."""
    ordered = sorted(losses, key=lambda loss: -loss.share)
    listed = ", ".join(f"{_share(loss.share)} of {loss.label} in case {loss.case_id}" for loss in ordered[:MOST_LISTED])
    more = len(ordered) - MOST_LISTED
    return f"{listed} and {more} more" if more > 0 else listed


def _share(share: float) -> str:
    # 99.99 % would be rounded to 100.0 %: "all" is said of a label that goes entirely, and of no other.
    return "all" if share == 1 else f"{share:.1%}"


def _uncropped(fingerprint: Fingerprint) -> Fingerprint:
    cases = tuple(case.changed(shape_after_crop=case.shape) for case in fingerprint.cases)
    return fingerprint.changed(cases=cases, median_relative_size_after_cropping=1.0)
