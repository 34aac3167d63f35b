"""The verdict on a case: how far its image is from the training's, how good its masks may be, and whether a person should look."""

from collections.abc import Iterator, Mapping

from tumorseg.ops.trust.changes import explain
from tumorseg.ops.trust.predicted_dsc import predict_dsc
from tumorseg.ops.trust.reasons import image_reasons
from tumorseg.schema.trust import CaseTrust, ImageProfile, NameFeatures, PredictedDsc, TrustProfile

MOST_REASONS = 4
"""Told of a case."""


def judge_case(
    profile: TrustProfile, image: ImageProfile, features: Mapping[str, NameFeatures] | None = None
) -> CaseTrust:
    """Return how far a case is to be trusted.

    Args:
        profile: of the model.
        image: the case's.
        features: of its prediction, by label or region; None where the image alone is judged.
    """
    features = features or {}
    explained = explain(image, profile.image, profile.threshold)
    predicted = {name: _predicted(profile, image, name, found) for name, found in features.items()}
    reasons = [*_mask_reasons(profile, features, predicted), *image_reasons(explained, profile)]
    most = max((score for score, _ in explained.scores.values()), default=0.0)
    return CaseTrust(
        review=_joined(reasons),
        distance=round(most / profile.threshold, 4),
        predicted_dsc=predicted,
        agreement={name: found.agreement for name, found in features.items()},
        missed={name: found.largest_probability for name, found in features.items() if found.is_missing},
    )


def _predicted(profile: TrustProfile, image: ImageProfile, name: str, features: NameFeatures) -> PredictedDsc | None:
    rule = profile.dsc.get(name)
    return None if rule is None else predict_dsc(rule, features, image)


def _mask_reasons(
    profile: TrustProfile, features: Mapping[str, NameFeatures], predicted: Mapping[str, PredictedDsc | None]
) -> Iterator[str]:
    """Yield what speaks against the masks."""
    for name, found in features.items():
        if found.is_missing and name in profile.always_found:
            is_removed = found.by_postprocessing == "removed"
            what = f"nothing left of {name} after postprocessing" if is_removed else f"nothing found of {name}"
            yield f"{what}, of which there is some in nearly all cases (largest probability {found.largest_probability:.2f})"
        expected, rule = predicted[name], profile.dsc.get(name)
        if expected is None or rule is None or rule.threshold is None or expected.value >= rule.threshold:
            continue
        interval = "" if expected.low is None else f" ({expected.low:.2f} to {expected.high:.2f})"
        yield f"DSC of {name} is expected to be {expected.value:.2f}{interval}, usual is {rule.threshold:.2f} or more"


def _joined(reasons: list[str]) -> str | None:
    if not reasons:
        return None
    more = len(reasons) - MOST_REASONS
    return "; ".join(reasons[:MOST_REASONS]) + (f"; and {more} more" if more > 0 else "")
