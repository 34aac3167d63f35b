"""Trust in cases as they are predicted: what observes them, and the verdict.

`TrustObserver` is given to the segmentation of a case, and `judge` is asked afterwards. `select` gathers the same of out-of-fold cases,
by `trust_case`, and learns from them by `learn_trust`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tumorseg.engine.prediction_features import PredictionFeatures
from tumorseg.errors import InputError, with_advice
from tumorseg.ops.preprocessing import axis_order
from tumorseg.ops.trust.fitting import fit_trust
from tumorseg.ops.trust.image_profile import ProfiledImage, image_profile
from tumorseg.ops.trust.verdict import judge_case
from tumorseg.schema.plan import Plan
from tumorseg.schema.targets import Targets
from tumorseg.schema.trust import CaseTrust, ImageProfile, NameFeatures, TrustCase, TrustProfile, TrustSubject
from tumorseg.stages.opening.reading import CaseImage
from tumorseg.storage.json_files import read_record
from tumorseg.types import Segmentation

TRUST_FILE = "trust.json"
"""In the folder of a saved ensemble."""
AXIS_NAMES = ("Z", "Y", "X")
DIRECTIONS = ("foot to head", "back to front", "left to right")
"""Of the canonical axes."""


class TrustObserver(PredictionFeatures):
    """Shown the slices of a case, with votes where it has several members, it gathers what `judge` needs."""

    def __init__(self, targets: Targets, found: CaseImage) -> None:
        """Begin with nothing.

        Args:
            targets: what the outputs of the slices mean.
            found: the image of the case.
        """
        super().__init__(targets, found.spacing_mm)


def subject_of(plan: Plan) -> TrustSubject:
    """Return what a profile is of that is learned with a plan: of an ensemble's first member."""
    channels, order = plan.dataset.channels, axis_order(plan)
    names = [AXIS_NAMES[axis] for axis in order.transpose]
    if not order.is_as_stored:
        names = [f"{AXIS_NAMES[axis]} ({DIRECTIONS[axis]})" for axis in order.transpose]
    first, second, third = names
    return TrustSubject(
        channels=tuple(channel.name for channel in channels),
        kinds=tuple(channel.kind for channel in channels),
        axes=(first, second, third),
    )


def profile_of(found: CaseImage, subject: TrustSubject) -> ImageProfile:
    """Measure the image of a case, as it was read for the plan that the subject is of.

    Raises:
        InputError: it has other channels than the subject.
    """
    if len(found.image) != len(subject.channels):
        raise InputError(
            f"the image has {len(found.image)} channels, the trust profile is of {len(subject.channels)}: "
            f"{', '.join(subject.channels)}"
        )
    absent = () if found.absent is None else found.absent.positions
    return image_profile(ProfiledImage(found.image, found.spacing_mm, subject.kinds, found.covered, absent))


def judge(
    profile: TrustProfile, found: CaseImage, observer: PredictionFeatures | None, *, final: Segmentation | None = None
) -> CaseTrust:
    """Return how far a case is to be trusted.

    Args:
        profile: of the ensemble.
        found: the image as its first member reads it.
        observer: has seen the segmentation; None where the image alone is judged.
        final: (Z, Y, X), label values after postprocessing; None where there was none.

    Raises:
        InputError: the image has other channels than the profile.
    """
    features = None if observer is None else observer.features(final)
    return judge_case(profile, profile_of(found, profile.subject), features)


def trust_case(
    case_id: str, part: int, image: ImageProfile, features: Mapping[str, NameFeatures], *, group: str | None = None
) -> TrustCase:
    """Return what is kept of an out-of-fold case; its real DSC is added by `changed(dsc=…)`.

    Args:
        case_id: the case's.
        part: fold that held it out.
        image: its profile.
        features: of its prediction by a fold that did not see it.
        group: patient, where the dataset states it.
    """
    return TrustCase(case_id=case_id, group=group, part=part, image=image, features=dict(features))


def learn_trust(
    cases: Sequence[TrustCase], subject: TrustSubject, dsc: Mapping[str, Mapping[str, float | None]] | None = None
) -> TrustProfile:
    """Learn from out-of-fold cases, in whatever order they come.

    Args:
        cases: all of them.
        subject: what they are of.
        dsc: real DSC by case_id and name, where the cases do not hold it.

    Raises:
        InputError: there are no cases.
    """
    ordered = sorted(cases, key=lambda case: case.case_id)
    if dsc is not None:
        ordered = [case.changed(dsc=dict(dsc[case.case_id])) for case in ordered]
    return fit_trust(ordered, subject)


def read_trust(folder: Path) -> TrustProfile | None:
    """Return the profile of a saved ensemble; None where it has none.

    Raises:
        InputError: it cannot be read, or is of another version of tumorseg.
    """
    path = folder / TRUST_FILE
    if not path.is_file():
        return None
    try:
        return read_record(TrustProfile, path)
    except InputError as error:
        raise with_advice(
            error, "make the ensemble again with select, or move the file away to judge no case"
        ) from error


def review_lines(trusts: Mapping[str, CaseTrust]) -> list[str]:
    """Return a line for each case that a person should look at, for the table of a run; sorted by case_id."""
    return [f"{case_id}: {trust.review}" for case_id, trust in sorted(trusts.items()) if trust.review is not None]


def review_summary(num_reviewed: int, num_judged: int) -> str:
    """Return the closing line of a run."""
    if not num_reviewed:
        return f"review: none of {num_judged} cases"
    verb = "needs" if num_reviewed == 1 else "need"
    return f"review: {num_reviewed} of {num_judged} cases {verb} a look; report.json says why"
