"""DSC of one case under many choices, by counts of voxels."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import prod

import numpy as np

from tumorseg.ops.choosing.protocol import Choice, IntArray
from tumorseg.ops.cropping import box_slices
from tumorseg.ops.labels import to_indices
from tumorseg.ops.postprocessing import postprocess
from tumorseg.schema.ensembles import PostprocessingStep
from tumorseg.schema.targets import Targets
from tumorseg.stages.selection.combining_cases import VOXELS_OF_A_SLAB, OpenCase, Question, paint, slabs_of
from tumorseg.types import FloatArray, Segmentation

VOXELS_OF_MASKS = 1 << 27
"""Of all masks that are postprocessed at once."""
Steps = tuple[PostprocessingStep, ...]


def score_choices(case: OpenCase, choices: Sequence[Choice], question: Question) -> FloatArray:
    """Return the DSC of a case under each choice.

    What is not postprocessed is counted slab by slab. Masks that are hold the whole image, and those of one ensemble are made once, however
    many ways of postprocessing them are asked for.

    Args:
        case: with the candidates that the choices use.
        choices: different ones.
        question: what is asked.

    Returns:
        (choices, L): 1 where neither has the label or region, 0 where one alone has it.
    """
    asked: dict[Choice, list[Steps]] = defaultdict(list)
    for choice in choices:
        asked[choice._replace(steps=())].append(choice.steps)
    plain = [base for base, steps in asked.items() if steps == [()]]
    counts = _count_plain(case, plain, question)
    others = [base for base in asked if base not in counts]
    for batch in _batches(others, max(1, VOXELS_OF_MASKS // prod(case.shape))):
        for base, mask in zip(batch, paint(case, batch, question), strict=True):
            found = _count_steps(case, mask, asked[base], question.wanted)
            counts |= {base._replace(steps=steps): table for steps, table in found.items()}
    return np.array([dsc_of(counts[choice], question.wanted) for choice in choices])


def _batches(bases: Sequence[Choice], size: int) -> Iterator[Sequence[Choice]]:
    return (bases[start : start + size] for start in range(0, len(bases), size))


def _count_plain(case: OpenCase, bases: Sequence[Choice], question: Question) -> dict[Choice, IntArray]:
    """Return the confusion matrix of each choice, none of which is postprocessed."""
    classes = question.wanted.num_classes
    counts: dict[Choice, IntArray] = {base: np.zeros((classes, classes), np.int64) for base in bases}
    window = case.window(sorted({number for base in bases for number in base.used})) if bases else ()
    for slab in slabs_of(case, window, question) if bases else ():
        for base, table in counts.items():
            table += confusion(slab.values(base), slab.reference, question.wanted)
    return counts


def _count_steps(
    case: OpenCase, mask: Segmentation, asked: Sequence[Steps], targets: Targets
) -> Mapping[Steps, IntArray]:
    """Return the confusion matrix of a mask after each sequence of steps; what sequences begin with alike is done once."""
    done: dict[Steps, Segmentation] = {(): mask}
    tables = {}
    # Steps only take away, exchange, or fill what is enclosed, so that nothing comes to lie outside.
    window = case.window(sorted(case.volumes))
    reference = case.reference_in(window)
    # A sequence stands right after what it begins with.
    for steps in sorted(asked, key=lambda steps: tuple(map(repr, steps))):
        done = {known: after for known, after in done.items() if known == steps[: len(known)]}
        longest = max(done, key=len)
        for number in range(len(longest), len(steps)):
            known = steps[:number]
            done[steps[: number + 1]] = postprocess(
                done[known], steps[number : number + 1], spacing_mm=case.spacing_mm, values=targets.values_by_name
            )
        tables[steps] = confusion(done[steps][box_slices(window)], reference, targets)
    return tables


def confusion(values: Segmentation, reference: Segmentation, targets: Targets) -> IntArray:
    """Return how many voxels of each class of the reference were taken for each class (K, K).

    Args:
        values: label values, any shape of an axis or more.
        reference: class indices, the same shape; voxels of `IGNORE` count nowhere.
        targets: what both mean.
    """
    table: IntArray = np.zeros((targets.num_classes, targets.num_classes), np.int64)
    # By parts, as counting takes 16 bytes a voxel.
    planes = max(1, VOXELS_OF_A_SLAB // max(1, prod(values.shape[1:])))
    for first in range(0, len(values), planes):
        part = slice(first, first + planes)
        table += _confusion(values[part], reference[part], targets)
    return table


def _confusion(values: Segmentation, reference: Segmentation, targets: Targets) -> IntArray:
    count = targets.num_classes
    predicted = to_indices(values, targets).astype(np.int64)
    # Ignored voxels fall into a row of their own before the first.
    pairs = (reference.astype(np.int64) + 1) * count + predicted
    found = np.bincount(pairs.ravel(), minlength=(count + 1) * count)
    table: IntArray = found.reshape(count + 1, count)[1:]
    return table


def dsc_of(table: IntArray, targets: Targets) -> list[float]:
    """Return the DSC of each label or region from a confusion matrix: 1 where neither has it, 0 where one alone has it."""
    scores = []
    for classes in targets.scored_classes:
        rows, columns = table[list(classes)], table[:, list(classes)]
        total = int(rows.sum() + columns.sum())
        scores.append(2 * int(rows[:, list(classes)].sum()) / total if total else 1.0)
    return scores
