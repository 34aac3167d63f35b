"""How trust in cases does: what share of sound images it sends to review, and of images with which something is wrong.

    python -m benchmarks.trust --data-root ../shared/data --parts images
    python -m benchmarks.trust --data-root ../shared/data --parts dsc --work runs --plan plans/hip.json

`images` needs no network. Small sets: each patient is judged by what the others teach. Task04_Hippocampus: each half by what the other
half teaches. `dsc` needs a plan with trained folds: predicted against real DSC of the cases that each fold held out, and of cases that no
fold knows, where the plan keeps some back. Results go to benchmarks/results/trust.json; a run of one part keeps the other's.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import machine
from benchmarks.trust_changes import changes_of
from tumorseg.ops.trust.fitting import fit_trust
from tumorseg.ops.trust.image_profile import ProfiledImage, image_profile
from tumorseg.ops.trust.verdict import judge_case
from tumorseg.schema.dataset import Case, ChannelKind
from tumorseg.schema.trust import ImageProfile, TrustCase, TrustProfile, TrustSubject
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.opening.reading import read_case_image

RESULT = Path(__file__).parent / "results" / "trust.json"
NUM_PARTS = 5
"""Within what a profile is fitted on."""
AXES = ("Z (foot to head)", "Y (back to front)", "X (left to right)")


class Set(NamedTuple):
    """A set of images."""

    name: str
    dataset: str
    """Below the data root."""
    kinds: Mapping[str, ChannelKind] = {}
    """Of channels that are no MR."""
    channels: tuple[str, ...] = ()
    """Those that count; all if empty."""
    is_halved: bool = False
    """Whether halves judge each other; else each patient is judged by the others."""


SETS = (
    Set("Task04_Hippocampus", "Task04_Hippocampus", is_halved=True),
    Set("ACDC", "Dataset027_ACDC"),
    Set("BraTS2021", "BraTS2021"),
    Set("BraTS2018", "BraTS2018_FLAIR_T1/manifest.csv"),
    Set("SarcomaPETCT", "Dataset051_SarcomaPETCT", {"CT": "ct", "PET": "pet"}),
    Set("SarcomaCT", "Dataset051_SarcomaPETCT", {"CT": "ct"}, ("CT",)),
)


class Profiled(NamedTuple):
    """A case, as it is and changed."""

    case_id: str
    patient: str
    sound: ImageProfile
    changed: dict[str, ImageProfile]
    """By the change's name."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=("images", "dsc"), default=["images"])
    parser.add_argument("--sets", nargs="*", default=[one.name for one in SETS])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--plan", type=Path)
    parser.add_argument("--strangers", type=int, help="cases that no fold knows at most; all if not given")
    parser.add_argument("--records", type=Path, help="folder that keeps what was seen of each case")
    options = parser.parse_args()
    results = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    if "images" in options.parts:
        found = results.get("images", {})
        for one in SETS:
            if one.name in options.sets:
                found[one.name] = study(one, options.data_root)
                _print(one.name, found[one.name])
        results["images"] = found
    if "dsc" in options.parts:
        from benchmarks.trust_masks import Limits, study_masks

        results["dsc"] = study_masks(
            options.plan, options.work, options.data_root, Limits(options.records, options.strangers)
        )
        print(json.dumps(results["dsc"], indent=2))
    results["machine"] = machine()
    RESULT.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")


def study(one: Set, data_root: Path) -> dict[str, Any]:
    """Return what is flagged of a set."""
    dataset = open_dataset(one.dataset, data_root)
    names = [channel.name for channel in dataset.channels]
    chosen = [names.index(name) for name in one.channels or names]
    names = [names[number] for number in chosen]
    kinds: tuple[ChannelKind | None, ...] = tuple(one.kinds.get(name, "mr") for name in names)
    subject = TrustSubject(channels=tuple(names), kinds=kinds, axes=AXES)
    began = time.perf_counter()
    cases = [_profiled(case, chosen, subject) for case in dataset.cases]
    seconds = (time.perf_counter() - began) / len(cases)
    rounds = _halves(cases) if one.is_halved else _one_by_one(cases)
    found = _count(rounds, subject)
    return {"num_cases": len(cases), "seconds_a_case_with_all_changes": round(seconds, 2), **found}


def _profiled(case: Case, chosen: Sequence[int], subject: TrustSubject) -> Profiled:
    found = read_case_image(case)
    covered = tuple(found.covered[number] for number in chosen) if found.covered else ()
    image = ProfiledImage(found.image[list(chosen)], found.spacing_mm, subject.kinds, covered)
    changed = {change.name: image_profile(change.make(image)) for change in changes_of(subject.channels, subject.kinds)}
    patient = case.group or case.case_id.split("_frame")[0]
    return Profiled(case.case_id, patient, image_profile(image), changed)


Round = tuple[list[Profiled], list[Profiled]]
"""What teaches, and what is judged by it."""


def _halves(cases: Sequence[Profiled]) -> list[Round]:
    one, other = list(cases[::2]), list(cases[1::2])
    return [(one, other), (other, one)]


def _one_by_one(cases: Sequence[Profiled]) -> list[Round]:
    rounds = []
    for patient in dict.fromkeys(case.patient for case in cases):
        inside = [case for case in cases if case.patient == patient]
        rounds.append(([case for case in cases if case.patient != patient], inside))
    return rounds


def _fitted(cases: Sequence[Profiled], subject: TrustSubject) -> TrustProfile:
    patients = list(dict.fromkeys(case.patient for case in cases))
    known = []
    for case in cases:
        # Few patients are parts of their own.
        part = patients.index(case.patient) % (NUM_PARTS if len(patients) > 20 else len(patients))
        known.append(TrustCase(case_id=case.case_id, group=case.patient, part=part, image=case.sound))
    return fit_trust(known, subject)


def _count(rounds: Sequence[Round], subject: TrustSubject) -> dict[str, Any]:
    sound: list[str | None] = []
    changed: dict[str, list[str | None]] = {}
    told: dict[str, int] = {}
    thresholds = []
    for teaching, judged in rounds:
        profile = _fitted(teaching, subject)
        thresholds.append(round(profile.threshold, 2))
        for direction in profile.image.directions:
            name = f"{direction.kind} {direction.of}"
            told[name] = told.get(name, 0) + 1
        for case in judged:
            sound.append(judge_case(profile, case.sound).review)
            for name, image in case.changed.items():
                changed.setdefault(name, []).append(judge_case(profile, image).review)
    words = {change.name: change.word for change in changes_of(subject.channels, subject.kinds)}
    return {
        "sound": {"flagged": _flagged(sound), "of": len(sound), "reasons": sorted(filter(None, sound))[:12]},
        "thresholds": thresholds if len(thresholds) < 30 else thresholds[:5],
        "directions_told": {name: f"{count} of {len(rounds)}" for name, count in sorted(told.items())},
        "changes": {name: _row(reviews, words[name]) for name, reviews in changed.items()},
    }


def _row(reviews: Sequence[str | None], word: str) -> dict[str, int | str]:
    example = next((review for review in reviews if review is not None), "")
    right = sum(review is not None and word in review for review in reviews)
    return {"flagged": _flagged(reviews), "with_right_reason": right, "of": len(reviews), "example": example}


def _flagged(reviews: Sequence[str | None]) -> int:
    return sum(review is not None for review in reviews)


def _print(name: str, found: Mapping[str, Any]) -> None:
    sound = found["sound"]
    print(f"{name}: sound {sound['flagged']} of {sound['of']}; thresholds {found['thresholds']}")
    for reason in sound["reasons"]:
        print(f"    sound, but {reason}")
    print(f"    told: {found['directions_told']}")
    for change, row in found["changes"].items():
        print(f"    {change}: {row['flagged']} ({row['with_right_reason']}) of {row['of']}: {row['example'][:140]}")


if __name__ == "__main__":
    main()
