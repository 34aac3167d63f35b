"""Options of the planner: each that is given is marked as the user's in the plan."""

import pytest

from tests.planning.measured import COUNTER, case, fingerprint, planned, with_preset
from tumorseg.planning.evidence.spacing import target_grid
from tumorseg.planning.families.registry import FAMILIES
from tumorseg.planning.folds.split_lists import SplitLists
from tumorseg.planning.options import Machine, PlanOptions, chosen_preset, circumstances
from tumorseg.planning.overrides import parse_override
from tumorseg.planning.planner import make_plan
from tumorseg.planning.presets import PRESETS
from tumorseg.planning.reading.explanation import explain
from tumorseg.schema.dataset import LabelDoubt, Reading

MACHINE = Machine(lambda configuration, setting: 0.1, COUNTER)
MEASURED = fingerprint([case(f"case_{number:04}", site=f"site {number % 2}") for number in range(10)])
LISTS = SplitLists(held_out=(("case_0000",), ("case_0001",)), training=(("case_0002",), ("case_0002", "case_0003")))


def chosen_fields(options, measured=MEASURED):
    """Return the fields that a plan marks as the user's, by `reasons` and by `explain`."""
    plan = make_plan(measured, "Toy__plan", PlanOptions(**with_preset(options)), MACHINE).plan
    fields = {field for field, reason in plan.reasons.items() if reason.source == "user"}
    assert {item.field for item in explain(plan).choices()} == fields
    return {field.replace("3d_fullres", "*").replace("2d", "*") for field in fields}


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, set()),
        ({"preset": "fast_prototyping"}, set()),
        ({"vram_gb": 6.0}, {"budget.vram_bytes"}),
        ({"num_gpus": 2}, {"budget.num_gpus"}),
        ({"device": "cpu"}, {"budget.device"}),
        ({"max_hours": 2.0}, {"training.max_hours"}),
        ({"network": "plain_unet"}, {"configurations.*.network.name"}),
        ({"network": "residual_unet"}, {"configurations.*.network.name"}),
        ({"network": "auto"}, set()),
        ({"splits": "site"}, {"folds"}),
        ({"excluded": ("a",)}, {"dataset.excluded"}),
        ({"channels": ("MRI",)}, {"dataset.channels"}),
        ({"regions": "none"}, {"dataset.regions"}),
        ({"overrides": (parse_override("training.epochs=3"),)}, {"training.epochs"}),
        ({"overrides": (parse_override("loss.preset=nnunet"),)}, {"configurations.*.loss.preset"}),
    ],
)
def test_what_the_user_gave_is_marked(options, fields):
    assert chosen_fields(options) == fields


def test_lists_of_a_split_file_are_marked():
    listed = MEASURED.model_copy(update={"cases": MEASURED.cases[:4]})
    fields = {"folds", "kept_from_training", "dataset.listed", "dataset.kept_back"}
    assert chosen_fields({"splits": LISTS, "kept_back": ("case_0009",)}, listed) == fields


def test_what_the_user_stated_of_the_files_is_marked():
    reading = Reading(assumed_orientation="RAS", paint_order=("tumour",))
    stated = MEASURED.model_copy(update={"dataset": MEASURED.dataset.model_copy(update={"reading": reading})})
    fields = {"dataset.reading.assumed_orientation", "dataset.reading.paint_order"}
    assert chosen_fields({}, stated) == fields


def test_confirmed_labels_are_marked():
    doubtful = MEASURED.model_copy(update={"doubts": (LabelDoubt(message="masks are smoothed"),)})
    assert chosen_fields({"confirm_labels": True}, doubtful) == {"dataset.labels"}


def test_what_would_have_been_planned_stands_beside_it():
    reasons = planned(MEASURED, vram_gb=6.0, num_gpus=2).reasons
    assert reasons["budget.vram_bytes"].inputs["planned"] == 8 * 2**30
    assert reasons["budget.num_gpus"].inputs["planned"] == 1


def test_a_published_preset_of_a_family_without_a_reference_is_counted(monkeypatch):
    monkeypatch.setattr(FAMILIES["plain_unet"], "reference", None)
    options = PlanOptions(preset=PRESETS["nnunet"])
    known = circumstances(options, MEASURED, target_grid(MEASURED).value)
    assert chosen_preset(options, known).value.memory is None
