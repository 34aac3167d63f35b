"""Cases against each other: who stands apart, and what is true of the dataset as a whole."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from tumorseg.ops.integrity import ChannelFacts
from tumorseg.ops.outliers import FEWEST_CASES, find_outliers
from tumorseg.planning.evidence.certainty import REMEDY, absent_labels, many_labels
from tumorseg.planning.evidence.kinds import kind_from_name
from tumorseg.planning.folds.patients import describe_patients, parted_patients, suggest_patients
from tumorseg.planning.folds.splits import split_folds
from tumorseg.schema.dataset import Channel, Dataset
from tumorseg.schema.findings import Finding, finding
from tumorseg.stages.datasets.checking.case import CaseFacts
from tumorseg.stages.datasets.checking.copies import check_copies

LEAST_SPREAD = {"ct": 0.05, "other": 1 / 6}
"""Standard deviation of intensities to assume at least, in decades and in widths of the usual range: an outlier of a CT is
off by a factor of 2 or by 0.3 of the range; other units are each scanner's own, and are off by a factor of 10."""
LEAST_SPACING_SPREAD = 0.02
"""Likewise of voxel edges, in decades: an outlier is off by a third at least."""
BULK = 0.8
"""Share of cases that agree, from which on one that does not stands apart."""
LEAST_APART_MM = 2.0
"""How far the centres of a left and a right label must lie apart for their order to mean something."""
OBLIQUE_DEG = 1.0
"""Axes that are turned further from the world's are called oblique."""


def check_cohort(dataset: Dataset, facts: Sequence[CaseFacts], *, confirm_labels: bool = False) -> list[Finding]:
    """Return what comes to light when all cases are compared.

    Args:
        dataset: as it was read.
        facts: of the cases that could be read, in the dataset's order.
        confirm_labels: whether the user says that labels are meant which are doubtful, or in no case: then they are warnings.
    """
    return [
        *check_copies(dataset, facts),
        *_check_intensities(dataset, facts),
        *_check_spacings(facts),
        *_check_orientations(facts),
        *_check_sides(facts),
        *_check_certainty(dataset, facts, is_confirmed=confirm_labels),
        *_check_labels(dataset, facts),
        *_check_ids(dataset),
    ]


def _check_intensities(dataset: Dataset, facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    images = {case.case_id: case.images for case in dataset.cases}
    for number, channel in enumerate(dataset.channels):
        known = [(one.case_id, one.channels[number]) for one in facts]
        # A range of no width has no logarithm.
        sound = [(case_id, found) for case_id, found in known if found is not None and found.high > found.low]
        if len(sound) < FEWEST_CASES:
            continue
        outlying = list(_outlying_channels(channel, sound))
        # So many are no slips but a second protocol: one finding says so for all of them.
        if len(outlying) > (1 - BULK) * len(sound):
            message = (
                f"{len(outlying)} of {len(sound)} cases have {channel.name} in another range of intensities than the others; are there several "
                "scanners, sequences or units?"
            )
            yield finding("intensity_groups", message, cases=tuple(case_id for case_id, _, _ in outlying))
            continue
        for case_id, found, what in outlying:
            message = (
                f"{channel.name} has intensities from {found.low:.4g} to {found.high:.4g} (percentiles 1 and 99 of what is not 0), "
                f"{what}; check unit, scaling and sequence"
            )
            yield finding("intensity_outlier", message, cases=(case_id,), file=images[case_id][number].path)


def _outlying_channels(
    channel: Channel, sound: Sequence[tuple[str, ChannelFacts]]
) -> Iterator[tuple[str, ChannelFacts, str]]:
    """Yield the cases whose range or level of intensities stands apart, and how."""
    is_ct = (channel.kind or kind_from_name(channel.name)) == "ct"
    least = LEAST_SPREAD["ct" if is_ct else "other"]
    widths = np.array([found.high - found.low for _, found in sound])
    usual = float(np.median(widths))
    levels = np.array([found.middle for _, found in sound])
    # Ranges differ by factors: as logarithms, half as wide is as far off as twice as wide.
    is_wide = find_outliers(np.log10(widths), least_spread=least)
    is_off = find_outliers(levels / usual, least_spread=least)
    for (case_id, found), width, wide, off in zip(sound, widths, is_wide, is_off, strict=True):
        if wide:
            times = width / usual if width > usual else usual / width
            yield case_id, found, f"a range {times:.3g} times as {'wide' if width > usual else 'narrow'} as usual"
        elif off:
            yield case_id, found, f"with a median of {found.middle:.4g} where {float(np.median(levels)):.4g} is usual"


def _check_spacings(facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    if not facts:
        return
    edges = np.array([one.spacing_mm for one in facts])
    is_off = np.stack(
        [find_outliers(np.log10(edges[:, axis]), least_spread=LEAST_SPACING_SPREAD) for axis in range(3)], axis=1
    )
    usual = " x ".join(f"{edge:.4g}" for edge in np.median(edges, axis=0))
    outlying = [one.case_id for one, off in zip(facts, is_off, strict=True) if off.any()]
    if len(outlying) > (1 - BULK) * len(facts):
        message = f"{len(outlying)} of {len(facts)} cases have other voxels than the usual {usual} mm (Z, Y, X); are there several protocols?"
        yield finding("spacing_groups", message, cases=tuple(outlying))
        return
    for one, off in zip(facts, is_off, strict=True):
        if off.any():
            found = " x ".join(f"{edge:.4g}" for edge in one.spacing_mm)
            message = f"has voxels of {found} mm (Z, Y, X), usual are {usual} mm; check the header"
            yield finding("spacing_outlier", message, cases=(one.case_id,))


def _check_orientations(facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    codes = Counter(one.code for one in facts)
    bulk, count = codes.most_common(1)[0] if codes else ("", 0)
    if len(facts) >= FEWEST_CASES and BULK * len(facts) <= count < len(facts):
        for one in facts:
            if one.code != bulk:
                message = (
                    f"its axes point to {one.code}, those of {count} of {len(facts)} cases to {bulk}; it is turned on reading as its "
                    "header says, so check in a viewer that the header is right"
                )
                yield finding("orientation_outlier", message, cases=(one.case_id,))
    if left := [one.case_id for one in facts if one.is_left_handed]:
        message = (
            f"{len(left)} of {len(facts)} cases are stored with left-handed axes, and are mirrored back on reading"
        )
        yield finding("left_handed", message, cases=tuple(left))
    if oblique := [one for one in facts if one.oblique_deg > OBLIQUE_DEG]:
        most = max(one.oblique_deg for one in oblique)
        message = (
            f"{len(oblique)} of {len(facts)} cases are oblique, by up to {most:.3g} degrees; axes are ordered by the closest world axis, "
            "never resampled for it"
        )
        yield finding("oblique", message, cases=tuple(one.case_id for one in oblique))


def _check_sides(facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Yield where left and right labels lie on the other side than their names say, or than in most cases."""
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for one in facts:
        if one.label is None:
            continue
        for pair, distance in one.label.right_of_mm.items():
            if abs(distance) >= LEAST_APART_MM:
                found[pair][one.case_id] = distance
    for (left, right), distances in found.items():
        swapped = [case_id for case_id, distance in distances.items() if distance < 0]
        if len(swapped) > (1 - BULK) * len(distances):
            message = (
                f"{left} lies to the patient's right of {right} in {len(swapped)} of {len(distances)} cases; either the headers mirror the "
                "images, or the names mean the viewer's sides; mend the headers, or swap the names"
            )
            yield finding("sides_reversed", message, cases=tuple(swapped))
            continue
        for case_id in swapped:
            message = (
                f"{left} lies {-distances[case_id]:.3g} mm to the patient's right of {right}, in other cases it lies to the left; "
                "either the labels are swapped, or the header mirrors the image"
            )
            yield finding("sides_swapped", message, cases=(case_id,))


def _check_certainty(dataset: Dataset, facts: Sequence[CaseFacts], *, is_confirmed: bool) -> Iterator[Finding]:
    """Yield labels that are doubtful, many, or in no case; the latter for certain only if every label file was read."""
    advice = "" if is_confirmed else f"; {REMEDY}"
    found = [finding("doubtful_labels", one.message + advice, cases=one.case_ids) for one in dataset.doubts]
    names = {value: name for name, value in dataset.labels.items()}
    labels = [one.label for one in facts if one.label is not None]
    held: list[set[str]] = []
    for label in labels:
        # A value that is no label's has no name; the empty one is nobody's.
        held.append({names.get(value, "") for value in label.voxels})
    is_certain = len(held) == sum(case.label is not None for case in dataset.cases)
    where = "case" if is_certain else "case that could be read"
    missing = absent_labels(dataset, held) if held else []
    for name in missing:
        message = f"the label {name} ({dataset.labels[name]}) is in no {where}, so that it cannot be learnt; correct the labels or remove it"
        absent = finding("absent_label", message)
        found.append(absent if is_certain else absent.changed(severity="warning"))
    if is_confirmed:
        found = [one.changed(severity="warning") for one in found]
    yield from found
    yield from (finding("many_labels", message) for message in many_labels(dataset))


def _check_labels(dataset: Dataset, facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Yield labels that a single case has."""
    labelled = [one.label.voxels for one in facts if one.label is not None]
    counts: Counter[int] = Counter()
    for voxels in labelled:
        # A case counts once: given the mapping itself, a Counter would add up its voxels.
        counts.update(voxels.keys())
    for name, value in dataset.labels.items():
        is_class = value not in (0, dataset.ignore_label)
        # Among few cases it is nothing unusual that one alone has a label.
        if is_class and counts[value] == 1 and len(labelled) >= 2 * FEWEST_CASES:
            (case_id,) = (one.case_id for one in facts if one.label is not None and value in one.label.voxels)
            message = f"the label {name} ({value}) is in this case alone, of {len(labelled)}; is it a slip?"
            yield finding("rare_label", message, cases=(case_id,))


def _check_ids(dataset: Dataset) -> Iterator[Finding]:
    """Yield whether ids look as if patients had several cases, which no group keeps together."""
    if any(case.group is not None for case in dataset.cases):
        return
    case_ids = [case.case_id for case in dataset.cases]
    parted = parted_patients(suggest_patients(case_ids), split_folds(dict.fromkeys(case_ids)))
    if parted:
        message = (
            f"ids suggest {describe_patients(parted)}, and the default folds part them; if they are of one patient, say so by `group` in a "
            "manifest, or plan with --splits group"
        )
        yield finding("ungrouped_cases", message, cases=tuple(parted))
