"""Scores of one case: of every label or region, each metric that is asked for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.cropping import box_slices
from tumorseg.ops.distances import union_box
from tumorseg.ops.metrics.centrelines import centreline_dice
from tumorseg.ops.metrics.lesion_parts import Neighbours, lesions_of
from tumorseg.ops.metrics.lesions import lesion_scores
from tumorseg.ops.metrics.overlap import Scores, overlap_scores
from tumorseg.ops.metrics.pairs import MaskPair
from tumorseg.ops.metrics.panoptic import panoptic_scores
from tumorseg.ops.metrics.surfaces import surface_scores
from tumorseg.ops.metrics.volumes import false_volumes, volume_error
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.metrics import CaseMetrics
from tumorseg.schema.score_rules import LesionRules, ScoreRules
from tumorseg.schema.targets import IGNORE, Targets
from tumorseg.types import Mask, Segmentation, Spacing

DEFAULT_RULES = ScoreRules()


class MaskScore(NamedTuple):
    """Scores of one structure."""

    prediction_volume_ml: float
    reference_volume_ml: float
    scores: Scores
    """By name of the metric; None where it is undefined."""


class _Structure(NamedTuple):
    """A pair of masks and what its own rules are."""

    pair: MaskPair
    tolerance_mm: float
    lesions: LesionRules
    neighbours: Sequence[Neighbours] = ()


def _surfaces(of: _Structure, wanted: frozenset[str]) -> Scores:
    return surface_scores(of.pair, tolerance_mm=of.tolerance_mm, with_boundary="boundary_iou" in wanted)


def _lesions(of: _Structure, wanted: frozenset[str]) -> Scores:
    with_distances = "lesion_hd95_mm" in wanted
    return lesion_scores(of.pair, of.lesions, neighbours=of.neighbours, with_distances=with_distances)


def _of_pair(measure: Callable[[MaskPair], Scores]) -> Callable[[_Structure, frozenset[str]], Scores]:
    return lambda structure, _: measure(structure.pair)


_MEASURES: tuple[tuple[tuple[str, ...], Callable[[_Structure, frozenset[str]], Scores]], ...] = (
    (("dsc", "iou", "precision", "recall"), _of_pair(overlap_scores)),
    (("nsd", "hd95_mm", "hd_mm", "assd_mm", "masd_mm", "boundary_iou"), _surfaces),
    (("cl_dice",), _of_pair(centreline_dice)),
    (("volume_error_ml",), _of_pair(volume_error)),
    (("false_positive_ml", "false_negative_ml"), _of_pair(false_volumes)),
    (tuple(name for name, metric in METRICS.items() if metric.group == "lesions"), _lesions),
    (("panoptic_quality", "segmentation_quality", "recognition_quality"), _of_pair(panoptic_scores)),
)
"""Metrics, and what returns them together. Only what was asked for is computed."""


def score_segmentation(
    prediction: Segmentation,
    reference: Segmentation,
    *,
    targets: Targets,
    spacing_mm: Spacing,
    rules: ScoreRules = DEFAULT_RULES,
    predicted: Targets | None = None,
) -> dict[str, MaskScore]:
    """Score every label or region of one case, one mask at a time.

    Args:
        prediction: class indices (Z, Y, X).
        reference: class indices (Z, Y, X); voxels of `IGNORE` count in neither segmentation.
        targets: what is scored.
        spacing_mm: voxel edge (Z, Y, X).
        rules: the metrics, and how they are measured.
        predicted: the prediction's own targets where its class indices differ; they score the same names.

    Returns:
        Scores by `targets.scored_names`.

    Raises:
        InputError: the two differ in shape, or in what they score.
    """
    if prediction.shape != reference.shape:
        raise InputError(
            f"prediction has shape {list(prediction.shape)}, its reference {list(reference.shape)}; they must lie on one voxel grid"
        )
    case = _Case(prediction, reference, targets, predicted or targets)
    scores = {}
    for name in targets.scored_names:
        pair = MaskPair(*case.masks(name), spacing_mm=spacing_mm, image_shape=reference.shape)
        lesions = rules.lesions_of(name)
        neighbours = (
            tuple(case.neighbours(lesions.joined_through, rules, pair.voxel_mm3)) if _has_lesions(rules) else ()
        )
        scores[name] = _score(_Structure(pair, rules.tolerance_of(name), lesions, neighbours), rules)
    return scores


def score_mask(
    prediction: Mask,
    reference: Mask,
    *,
    spacing_mm: Spacing,
    rules: ScoreRules = DEFAULT_RULES,
    tolerance_mm: float | None = None,
) -> MaskScore:
    """Score one structure by itself, so that nothing joins its lesions through others.

    What each metric is where a mask is empty stands in `METRICS`.

    Args:
        prediction: (Z, Y, X), bool.
        reference: (Z, Y, X), bool.
        spacing_mm: voxel edge (Z, Y, X).
        rules: the metrics, and how they are measured.
        tolerance_mm: how far a border voxel may be off and still count for the NSD; that of the rules if None.
    """
    pair = MaskPair(prediction, reference, spacing_mm=spacing_mm)
    tolerance = rules.tolerance_mm if tolerance_mm is None else tolerance_mm
    return _score(_Structure(pair, tolerance, rules.lesions), rules)


def _has_lesions(rules: ScoreRules) -> bool:
    return any(METRICS[name].group == "lesions" for name in rules.metrics)


def _score(structure: _Structure, rules: ScoreRules) -> MaskScore:
    found: Scores = {}
    wanted = frozenset(rules.metrics)
    for names, measure in _MEASURES:
        if not wanted.isdisjoint(names):
            found |= measure(structure, wanted)
    pair = structure.pair
    return MaskScore(
        prediction_volume_ml=pair.num_predicted * pair.voxel_mm3 / 1000,
        reference_volume_ml=pair.num_reference * pair.voxel_mm3 / 1000,
        scores={name: found[name] for name in rules.metrics},
    )


class _Case:
    """The masks of a case on the box around all that is not background."""

    def __init__(self, prediction: Segmentation, reference: Segmentation, targets: Targets, predicted: Targets) -> None:
        self.classes, self.predicted_classes = _classes(targets), _classes(predicted)
        missing = set(targets.scored_names) - self.predicted_classes.keys()
        if missing:
            raise InputError(
                f"the prediction has no {sorted(missing)[0]!r}; expected all of {list(targets.scored_names)}"
            )
        # Most of an image is background: what follows need not pass over it for every label.
        window = box_slices(union_box(prediction != 0, reference != 0))
        self.prediction, self.reference = prediction[window], reference[window]
        ignored = self.reference == IGNORE
        self.scored = ~ignored if ignored.any() else None

    def masks(self, name: str) -> tuple[Mask, Mask]:
        """Return the masks of a structure in prediction and reference."""
        predicted = join_classes(self.prediction, self.predicted_classes[name])
        if self.scored is not None:
            predicted &= self.scored
        return predicted, join_classes(self.reference, self.classes[name])

    def neighbours(self, names: Sequence[str], rules: ScoreRules, voxel_mm3: float) -> Iterator[Neighbours]:
        """Yield the lesions of those structures that the case has."""
        for name in names:
            if name in self.classes and name in self.predicted_classes:
                predicted, reference = self.masks(name)
                own = rules.lesions_of(name)
                yield Neighbours(
                    lesions_of(predicted, own, is_reference=False, voxel_mm3=voxel_mm3),
                    lesions_of(reference, own, is_reference=True, voxel_mm3=voxel_mm3),
                )


def _classes(targets: Targets) -> dict[str, Sequence[int]]:
    """Return the class indices of every label and of every region, which come first where both have a name."""
    classes: dict[str, Sequence[int]] = {name: (index,) for index, name in enumerate(targets.label_names) if index}
    return classes | dict(zip(targets.scored_names, targets.scored_classes, strict=True))


def join_classes(segmentation: Segmentation, classes: Sequence[int]) -> Mask:
    """Return the voxels (Z, Y, X), bool, that are of one of some classes."""
    mask: Mask = segmentation == classes[0]
    for index in classes[1:]:
        mask |= segmentation == index
    return mask


def case_metrics(case_id: str, scores: Mapping[str, MaskScore]) -> tuple[CaseMetrics, ...]:
    """Return the records of one case, one per label or region."""
    return tuple(CaseMetrics(case_id=case_id, label=label, **score._asdict()) for label, score in scores.items())
