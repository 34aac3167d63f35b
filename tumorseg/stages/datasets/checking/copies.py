"""Duplicate cases, and whether they leak between folds."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tumorseg.ops.duplicates import equal_groups, joined_groups, near_pairs
from tumorseg.planning.folds.splits import split_folds
from tumorseg.schema.dataset import Dataset
from tumorseg.schema.findings import Finding, finding
from tumorseg.stages.datasets.checking.case import CaseFacts

ADVICE = "leave all but one out, or give them one group"


def check_copies(dataset: Dataset, facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Yield the groups of cases whose images or labels are the same, or nearly so.

    Args:
        dataset: where the cases' groups stand.
        facts: of the cases that could be read.
    """
    folds, groups = default_folds(dataset), {case.case_id: case.group for case in dataset.cases}
    known = {one.case_id: one for one in facts}
    copies = equal_groups({one.case_id: _image_key(one) for one in facts})
    original = {one.case_id: one.case_id for one in facts}
    for group in copies:
        original.update(dict.fromkeys(group, group[0]))
    for group in copies:
        yield from _check_images([known[case_id] for case_id in group], folds, groups)
    yield from _check_shared_channels(dataset, facts, original)
    labels = {one.case_id: one.label.digest if one.label else None for one in facts}
    for group in equal_groups(labels):
        if len({original[case_id] for case_id in group}) > 1:
            message = "hold the same label, voxel by voxel, on different images, expected one of its own; restore the wrong ones"
            yield finding("duplicate_label", message, cases=group)
    # Copies are told above; one of each stands for them here.
    distinct = [one for one in facts if original[one.case_id] == one.case_id]
    for group in joined_groups(_near(distinct)):
        stated = {groups[case_id] for case_id in group}
        if len(stated) == 1 and stated != {None}:  # of one patient, and kept together
            continue
        message = f"hold nearly the same image; {_sides(group, folds)}; if they are of one patient, give them one group"
        yield finding("near_duplicate", message, cases=group)


def default_folds(dataset: Dataset) -> dict[str, int]:
    """Return the fold that holds each case out, as `plan` splits: by group where cases have one."""
    folds = split_folds({case.case_id: case.group for case in dataset.cases})
    held_out: dict[str, int] = {}
    for number, fold in enumerate(folds):
        held_out.update(dict.fromkeys(fold, number))
    return held_out


def _image_key(one: CaseFacts) -> tuple[str | None, ...] | None:
    return one.digests if any(one.digests) else None


def _check_images(
    members: list[CaseFacts], folds: Mapping[str, int], groups: Mapping[str, str | None]
) -> Iterator[Finding]:
    cases = tuple(one.case_id for one in members)
    if len({one.label.digest if one.label else None for one in members}) > 1:
        message = "hold the same image with different labels, expected one truth; find out which label is right"
        yield finding("duplicate_labels_differ", message, cases=cases)
    stated = {groups[case_id] for case_id in cases} - {None}
    is_parted = len({folds.get(case_id) for case_id in cases}) > 1 or len(stated) > 1
    kind = "duplicate_across_folds" if is_parted else "duplicate_image"
    named = f"; they are said to be of the groups {', '.join(sorted(map(str, stated)))}" if len(stated) > 1 else ""
    yield finding(kind, f"hold the same image, voxel by voxel; {_sides(cases, folds)}{named}; {ADVICE}", cases=cases)


def _sides(cases: Sequence[str], folds: Mapping[str, int]) -> str:
    """Return what the default folds do with cases that belong together."""
    held_out = {folds.get(case_id) for case_id in cases}
    if len(held_out) > 1:
        return "the default folds train on one and validate on the other"
    return "the default folds keep them together" if held_out != {None} else "there are no folds"


def _check_shared_channels(
    dataset: Dataset, facts: Sequence[CaseFacts], original: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield single channels that two cases share whose other channels differ."""
    owners: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for one in facts:
        for channel, digest in zip(dataset.channels, one.digests, strict=True):
            if digest is not None:
                owners[digest].append((one.case_id, channel.name))
    for found in owners.values():
        cases = tuple(dict.fromkeys(case_id for case_id, _ in found))
        if len({original[case_id] for case_id in cases}) > 1:
            names = ", ".join(f"{name} of {case_id}" for case_id, name in found[:8])
            message = f"hold one image as {names}, though they differ otherwise; expected each case's own; restore the wrong one"
            yield finding("shared_channel", message, cases=cases)


def _near(facts: Sequence[CaseFacts]) -> Iterator[tuple[str, str]]:
    """Yield pairs of cases with like signatures; only those of one length can be compared."""
    by_length: dict[int, list[CaseFacts]] = defaultdict(list)
    for one in facts:
        if one.signature is not None:
            by_length[one.signature.size].append(one)
    for members in by_length.values():
        signatures = [one.signature for one in members if one.signature is not None]
        for first, second in near_pairs(signatures):
            yield members[first].case_id, members[second].case_id
