"""Everything that is wrong with a plan by itself is told at once."""

import copy
from types import MappingProxyType

import pytest

from tests.planning.measured import CT, fingerprint, planned
from tumorseg.planning.reading.soundness import check_plan, parse_plan

DOCUMENT = planned(fingerprint(channels=("CT",), intensities=CT)).model_dump(mode="json")
SIDED = planned(fingerprint(labels={"background": 0, "kidney_left": 1, "kidney_right": 2})).model_dump(mode="json")
NOTHING = MappingProxyType({})
"""Stands for memory that was not counted."""
EXTERNAL = {"name": "mine", "distribution": "not-installed", "version": "1", "parameters": {}}


def edited(changes, document=DOCUMENT):
    """Return the document with fields set, given as paths with slashes."""
    document = copy.deepcopy(document)
    for path, value in changes.items():
        *parents, last = path.split("/")
        inner = document
        for key in parents:
            inner = inner[int(key)] if isinstance(inner, list) else inner[key]
        if isinstance(inner, list):
            inner[int(last)] = value
        else:
            inner[last] = value
    return document


def told(changes, document=DOCUMENT, needed=NOTHING):
    return {(found.kind, found.message) for found in check_plan(parse_plan(edited(changes, document)), needed)}


def kinds(changes, document=DOCUMENT):
    return {kind for kind, _ in told(changes, document)}


@pytest.mark.parametrize("preset", ["optimized", "large_gpu", "fast_prototyping", "nnunet", "nnunet_resenc_xl"])
def test_a_plan_of_the_planner_is_sound(preset):
    document = planned(fingerprint(), preset=preset).model_dump(mode="json")
    parsed = parse_plan(document)
    assert parsed.plan.model_dump(mode="json") == document
    assert check_plan(parsed, NOTHING) == []


def test_a_plan_with_overrides_is_sound():
    plan = planned(fingerprint(), "optimizer.lr=0.1", "configurations.2d.patch_size.0=32", vram_gb=9)
    assert check_plan(parse_plan(plan.model_dump(mode="json")), NOTHING) == []


LOSS = "configurations/2d/loss/components"
PLANE = "configurations/2d"
OF_CT = DOCUMENT["configurations"]["2d"]["normalization"]


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"colour": 1}, "plan_document", "colour: unknown key"),
        ({"training/epochs": "many"}, "plan_document", "training.epochs: "),
        ({f"{PLANE}/patch_size": [33, 64]}, "plan_document", "must be multiples of"),
        ({f"{PLANE}/loss/deep_supervision_weights": [1.0]}, "plan_document", "deep_supervision_weights has 1 entries"),
        ({"default_configuration": "x"}, "plan_contradiction", "default_configuration 'x' is not in"),
        ({"transpose": [0, 1, 1]}, "plan_contradiction", "transpose [0, 1, 1] is no permutation"),
        ({"transpose": [0, 1, 7]}, "plan_contradiction", "transpose [0, 1, 7] is no permutation"),
        ({f"{LOSS}/1": {"name": "binary_cross_entropy"}}, "plan_contradiction", "use cross_entropy"),
        ({f"{PLANE}/normalization": 2 * OF_CT}, "plan_contradiction", "normalization has 2 entries for 1 channels"),
        ({f"{PLANE}/previous_configuration": "lost"}, "plan_contradiction", "'lost' is no other configuration"),
        ({"budget/predicted_bytes": 9 * 2**30}, "over_budget", "predicted to need 9.00 GB, over its 8.00 GB"),
        ({"budget/measured_bytes": 2**34}, "over_budget", "measured to need 16.00 GB"),
        ({f"{PLANE}/gradient_accumulation": 999}, "batch_too_small", "into 999 parts on each of 1 GPUs"),
        ({"budget/num_gpus": 999}, "batch_too_small", "expected 999 patches at least"),
        ({f"{PLANE}/normalization/0/lower_hu": 999.0}, "empty_range", "clips to 999 to 201"),
        ({"folds/1": ["case_0000"]}, "bad_folds", "folds hold out a case twice: ['case_0000']"),
        ({"folds/1": []}, "bad_folds", "folds.1: holds out 0 of 10 cases"),
        ({"folds": [[f"case_{number:04}" for number in range(10)]]}, "bad_folds", "folds.0: holds out 10 of 10"),
        ({"folds": [["a", "b"]] + [[str(n)] for n in range(9)]}, "bad_folds", "hold out 11 cases, but"),
        ({"kept_from_training": [[]]}, "bad_folds", "kept_from_training has 1 lists for 5 folds"),
        (
            {"folds": [["case_0000"]], "kept_from_training": [[f"case_{number:04}" for number in range(1, 10)]]},
            "bad_folds",
            "folds.0: holds out 1 of 10 cases and trains on 0",
        ),
        ({"dataset/excluded": ["case_0003"]}, "bad_folds", "folds name cases that the plan does not use"),
        ({"dataset/listed": [f"case_{number:04}" for number in range(12)]}, "never_held_out", "2 of 12 cases"),
        ({"folds": [["case_0001"]]}, "never_held_out", "9 of 10 cases are held out by no fold"),
        ({"reasons/training.pace": {"rule": "x"}}, "stale_reason", "reasons.training.pace: "),
        ({"reasons/configurations.2d.normalization.7": {"rule": "x"}}, "stale_reason", "normalization.7"),
        (
            {f"{PLANE}/previous_configuration": "3d_fullres", "folds": []},
            "untrainable_cascade",
            "10 of 10 cases are held out",
        ),
        ({f"{PLANE}/previous_configuration": "3d_fullres", "folds": [["a"]]}, "untrainable_cascade", "9 of 10 cases"),
        ({f"{PLANE}/network": EXTERNAL}, "missing_extension", "configurations.2d.network: the plan names 'mine'"),
        ({f"{LOSS}/0": EXTERNAL | {"weight": 1.0}}, "missing_extension", "2d.loss.components.0: "),
        ({f"{PLANE}/augmentation/transforms/0": EXTERNAL}, "missing_extension", "2d.augmentation.transforms.0: "),
    ],
)
def test_each_fault_is_named(changes, kind, words):
    found = told(changes)
    assert any(found_kind == kind and words in message for found_kind, message in found), found
    assert {found_kind for found_kind, _ in found} - {"never_held_out", "bad_folds"} <= {kind, "stale_reason"}


def test_one_fault_hides_no_other():
    changes = {
        "training/colour": 1,
        f"{PLANE}/patch_size": [33, 64],
        "folds/1": ["case_0000"],
        "folds/2": [],
        "budget/predicted_bytes": 2**40,
        "budget/measured_bytes": 2**41,
    }
    found = told(changes)
    assert len(found) >= 6
    assert kinds(changes) == {"plan_document", "bad_folds", "over_budget", "never_held_out"}
    changes = {"default_configuration": "x", "transpose": [2, 2, 2], f"{LOSS}/1": {"name": "binary_cross_entropy"}}
    assert len(told(changes)) == 3


@pytest.mark.parametrize("document", [[], 3, "plan", None])
def test_what_is_no_plan_at_all_is_told(document):
    (found,) = check_plan(parse_plan(document), NOTHING)
    assert (found.kind, "expected an object" in found.message) == ("plan_document", True)
    assert {kind for kind, _ in told({}, {})} == {"plan_document"}


MIRROR = [one["name"] for one in SIDED["configurations"]["3d_fullres"]["augmentation"]["transforms"]].index("mirror")


def test_mirroring_of_sides_that_labels_tell_apart_is_warned_of():
    assert kinds({}, SIDED) == set()
    for path in ("inference/mirroring_axes", f"augmentation/transforms/{MIRROR}/axes"):
        found = told({f"configurations/3d_fullres/{path}": [0, 1, 2]}, SIDED)
        assert [kind for kind, _ in found] == ["mirrors_sides"]
        assert "kidney_left and kidney_right" in next(iter(found))[1]
    off = {
        "configurations/3d_fullres/inference/mirroring_axes": [2],
        "configurations/3d_fullres/inference/mirroring": False,
    }
    assert kinds(off, SIDED) == set()
    assert kinds({"transpose": [2, 2, 2]}, SIDED) == {"plan_contradiction"}


def test_views_that_training_does_not_show_are_warned_of():
    transforms = f"{PLANE}/augmentation/transforms"
    number = len(DOCUMENT["configurations"]["2d"]["augmentation"]["transforms"]) - 1
    for changes in ({transforms: []}, {f"{transforms}/{number}/probability": 0}):
        ((kind, message),) = {found for found in told(changes) if found[0] != "stale_reason"}
        assert kind == "unseen_views"
        assert message.startswith("configurations.2d: predicts views mirrored along axes [0, 1], along which training")
        assert "unseen_views" not in kinds({**changes, f"{PLANE}/inference/mirroring": False})
    assert "axes [1]" in str(told({f"{transforms}/{number}/axes": [0]}))
    # Nobody knows what another package's transform does.
    assert "unseen_views" not in kinds({transforms: [EXTERNAL]})


def test_names_with_dots_are_fields_too():
    plan = planned(fingerprint(channels=("T1.post",)))
    reason = {"fingerprint.intensities.T1.post.mean": plan.reasons["folds"].model_dump()}
    document = plan.model_dump(mode="json")
    assert kinds({"reasons": document["reasons"] | reason}, document) == set()


def test_what_is_counted_holds_whatever_the_plan_says():
    predicted = DOCUMENT["budget"]["predicted_bytes"]
    assert told({}, needed={"2d": predicted // 2, "3d_fullres": predicted}) == set()
    ((kind, message),) = told({}, needed={"2d": round(1.02 * predicted)})
    assert (kind, "the plan was edited" in message) == ("stale_prediction", True)
    ((kind, message),) = told({"budget/predicted_bytes": None}, needed={"2d": predicted})
    assert (kind, "budget.predicted_bytes: is null, but" in message) == ("stale_prediction", True)
    found = told({}, needed={"2d": 9 * 2**30, "3d_fullres": predicted})
    assert {kind for kind, _ in found} == {"over_budget", "stale_prediction"}
    assert any("configurations.2d: counted to need 9.00 GB, over the budget of 8.00 GB" in text for _, text in found)
