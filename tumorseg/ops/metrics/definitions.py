"""What the figures of a metrics document mean, in words."""

from tumorseg.schema.metric_names import METRICS, Metric
from tumorseg.schema.score_rules import LESION_PRESETS, LesionRules, ScoreRules

_BORDER = (
    "Voxels with a face neighbour outside the mask; beyond the image's edge is outside; distances are Euclidean, between voxel centres; "
    "in a 2D image borders lie within the plane"
)
_IGNORED = "Voxels that carry the ignore label in the reference count in neither P nor R"
_EMPTY = (
    "What is undefined is null and left out of means. Cases with P and R empty are counted in num_undefined, with P alone in num_missed, "
    "with R alone in num_invented"
)
_NEIGHBOURS = {6: "over faces", 18: "over faces and edges", 26: "over faces, edges and corners"}


def definitions(rules: ScoreRules) -> dict[str, str]:
    """Return what each chosen metric means, what it is where masks are empty, and what all of them rest on.

    Args:
        rules: the metrics, and how they are measured.

    Returns:
        Words by name of the metric; `border`, `empty_masks`, `ignored_voxels`, and where there are lesion-wise metrics `lesions`, and
        `lesions: LABEL` for labels that have other rules.
    """
    found = {name: _definition(METRICS[name], rules) for name in rules.metrics}
    groups = {METRICS[name].group for name in rules.metrics}
    if "surface" in groups or "lesion_hd95_mm" in rules.metrics:
        found["border"] = _BORDER
    if "lesions" in groups:
        found["lesions"] = lesion_words(rules.lesions)
        found |= {f"lesions: {label}": lesion_words(own) for label, own in rules.label_lesions.items()}
    return found | {"ignored_voxels": _IGNORED, "empty_masks": _EMPTY}


def _definition(metric: Metric, rules: ScoreRules) -> str:
    parts = [metric.definition]
    if metric.has_tolerance:
        others = "".join(f", {label} {tolerance:g} mm" for label, tolerance in sorted(rules.tolerances_mm.items()))
        parts.append(f"Tolerance: {rules.tolerance_mm:g} mm{others}")
    parts.append(metric.when_empty)
    if metric.source:
        parts.append(f"After {metric.source}")
    return ". ".join(parts)


def lesion_words(rules: LesionRules) -> str:
    """Return what counts as a lesion, and what it costs to miss or to invent one, in one paragraph."""
    presets = [preset.when for preset in LESION_PRESETS.values() if preset.rules == rules]
    named = [f"As in {'; '.join(presets)}"] if presets else []
    what = [*_joining(rules), _belonging(rules), *_leaving_out(rules)]
    return ". ".join([*named, *what, _counting(rules), _percentile(rules), _nothing(rules)])


def _joining(rules: LesionRules) -> list[str]:
    words = [f"Components: neighbours {_NEIGHBOURS[rules.connectivity]}"]
    if rules.dilation_steps:
        whose = "R and of P" if rules.joins_predictions else "R"
        words.append(
            f"Components of {whose} that meet when dilated {rules.dilation_steps} x over faces and edges are one lesion"
        )
    if rules.joined_through:
        others = ", then of ".join(rules.joined_through)
        words.append(f"So are lesions that touch the same lesion (of several the first) of {others}")
    return words


def _belonging(rules: LesionRules) -> str:
    if rules.matching == "one_to_one":
        return "Components of P and R are paired one to one, with the largest sum of DSC"
    if rules.dilation_steps:
        return "A component of P that touches a lesion of R, dilated as before, belongs to it as a whole, and to several if it touches several"
    return "A component of P that shares a voxel with a lesion of R belongs to it as a whole, and to several if it does so with several"


def _leaving_out(rules: LesionRules) -> list[str]:
    words = []
    if rules.smallest_mm3:
        words.append(
            f"Lesions of R below {rules.smallest_mm3:g} mm³ are left out of the means, and count as found or missed"
            if rules.matching == "one_to_one"
            else f"Lesions of R of {rules.smallest_mm3:g} mm³ or less are left out, found or not"
        )
    if rules.smallest_predicted_mm3:
        words.append(f"Lesions of P of {rules.smallest_predicted_mm3:g} mm³ or less are taken for background")
    return words


def _counting(rules: LesionRules) -> str:
    kinds = {
        "missed lesions": rules.counts_missed,
        "lesions of P that belong to none (invented)": rules.counts_invented,
    }
    entering = [kind for kind, enters in kinds.items() if enters]
    if not entering:
        return f"The means are over the lesions found; where none is, DSC is 0 and HD95 {_penalty(rules)}"
    return (
        f"The means are over the lesions found and over {' and '.join(entering)}, with DSC 0 and HD95 {_penalty(rules)}"
    )


def _penalty(rules: LesionRules) -> str:
    if rules.penalty_mm == "diagonal":
        return "the image's diagonal in mm"
    if rules.penalty_mm == "diagonal_voxels":
        return "the image's diagonal in voxels, taken for mm"
    return f"{rules.penalty_mm:g} mm"


def _percentile(rules: LesionRules) -> str:
    if rules.percentile == "pooled":
        return "HD95 of a lesion is the 95th percentile of the distances of both directions together"
    return "HD95 of a lesion is the larger of the 95th percentiles of both directions"


def _nothing(rules: LesionRules) -> str:
    where = "Where no lesion of R counts, means are"
    if rules.if_none == "undefined":
        return f"{where} undefined"
    best = "DSC 1 and HD95 0 mm" if rules.if_none == "perfect" else "undefined"
    if rules.if_none == "perfect" and not rules.counts_invented:
        return f"{where} {best}"
    return f"{where} {best} if none is invented, else DSC 0 and HD95 {_penalty(rules)}"
