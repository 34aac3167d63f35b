from tests.planning.measured import case, fingerprint, made, planned
from tumorseg.schema.dataset import DatasetDescription
from tumorseg.schema.fingerprint import ImageDoubt

CHANNELS = ("CT", "PET")


def measured(**fields):
    """Return a fingerprint of ten cases, of which the first two have further fields."""
    sound = {"image_doubts": ()}
    cases = [case(f"case_{number}", **(sound | fields if number < 2 else sound)) for number in range(10)]
    return fingerprint(cases, channels=[{"name": "CT", "kind": "ct"}, {"name": "PET", "kind": "pet"}])


def test_ct_in_another_unit_is_warned_of_and_counted():
    doubt = ImageDoubt(channel="CT", kind="not_hounsfield", message="nothing below 0")
    found = made(measured(image_doubts=(doubt,)))
    assert found.plan.fingerprint.not_hounsfield == {"CT": 2}
    (told,) = [line for line in found.warnings if "Hounsfield" in line]
    assert told.startswith("2 of 10 cases have CT that cannot be in Hounsfield units: case_0 (nothing below 0), case_1")


def test_sound_images_are_counted_as_such_and_unknown_ones_as_unknown():
    assert planned(measured()).fingerprint.not_hounsfield == {}
    assert planned(measured(image_doubts=None)).fingerprint.not_hounsfield is None


def test_images_of_one_value_are_warned_of():
    doubt = ImageDoubt(channel="PET", kind="constant", message="every voxel is 3")
    assert any(
        line.startswith("2 of 10 cases have nothing to see in PET: case_0 (every voxel is 3)")
        for line in made(measured(image_doubts=(doubt,))).warnings
    )


def test_what_a_channel_does_not_cover_is_warned_of():
    found = made(measured(uncovered_voxels={"CT": 70}))
    assert any("CT does not cover the whole grid in 2 of 10 cases, such as case_0" in line for line in found.warnings)


def test_files_without_orientation_are_warned_of_and_stand_in_the_reasons():
    found = made(measured(unplaced=("a.nii.gz", "b.nii.gz")))
    assert any(
        line.startswith("4 files state no orientation (a.nii.gz, b.nii.gz, a.nii.gz, …)") for line in found.warnings
    )
    assert found.plan.reasons["dataset.reading.assumed_orientation"].inputs == {"files": 4, "such as": "a.nii.gz"}


def test_what_is_stated_of_files_stands_in_the_plan_with_its_reason():
    base = measured(unplaced=("a.nii.gz",))
    reading = {"assumed_orientation": "LPS", "paint_order": ("tumour",), "grid_channel": "PET"}
    described = DatasetDescription.model_validate(base.dataset.model_dump() | {"reading": reading})
    found = made(base.model_copy(update={"dataset": described}))
    assert found.plan.dataset.reading.assumed_orientation == "LPS"
    assert not [line for line in found.warnings if "orientation" in line]
    for field in reading:
        assert found.plan.reasons[f"dataset.reading.{field}"].rule
    assert [channel.outside_value for channel in found.plan.dataset.channels] == [-1024, None]
    assert found.plan.reasons["dataset.channels.0.outside_value"].rule == "what lies outside of CT is air"


def test_a_stated_value_outside_of_a_channel_is_kept():
    channels = [
        {"name": "CT", "kind": "ct", "outside_value": -1000},
        {"name": "PET", "kind": "pet", "outside_value": 0},
    ]
    plan = planned(fingerprint(channels=channels))
    assert [channel.outside_value for channel in plan.dataset.channels] == [-1000, 0]
    assert plan.reasons["dataset.channels.1.outside_value"].rule == "stated by a manifest"
