import pytest

from tests.planning.measured import case, fingerprint, made, planned, with_preset
from tumorseg.errors import PlanError
from tumorseg.planning.nnunet.export_plan import export_plan
from tumorseg.planning.options import PlanOptions

LABELS = {"background": 0, "tumour": 1, "node": 2}


def measured(lost, *, count=6):
    """Return a fingerprint whose first case loses voxels by cropping."""
    cases = [
        case(f"case_{number}", shape=(36, 50, 36), cropped=(24, 40, 30), label_voxels={"tumour": 400, "node": 27})
        for number in range(count)
    ]
    cases[0] = cases[0].model_copy(update={"label_voxels_cropped": lost})
    return fingerprint(cases, labels=LABELS, relative_size=0.44)


def test_what_takes_a_whole_label_of_one_case_is_not_done():
    found = made(measured({"node": 27}))
    plan = found.plan
    assert not plan.cropping
    assert plan.configurations["3d_fullres"].median_shape == (36, 50, 36)
    assert plan.configurations["3d_fullres"].normalization[0].masked is False
    assert plan.fingerprint.median_shape_after_crop == (24, 40, 30)  # as it was measured
    assert plan.reasons["cropping"].inputs == {"lost": [["case_0", "node", 1.0]]}
    assert any("all of node in case case_0" in warning for warning in found.warnings)


def test_over_a_tenth_of_a_label_is_as_bad():
    assert not planned(measured({"tumour": 41})).cropping
    assert planned(measured({"tumour": 40})).cropping


def test_less_is_told_with_its_case_and_cropped():
    found = made(measured({"tumour": 3}))
    assert found.plan.cropping
    assert found.plan.configurations["3d_fullres"].median_shape == (24, 40, 30)
    assert any("0.8% of tumour in case case_0" in warning for warning in found.warnings)


@pytest.mark.parametrize("preset", ["nnunet", "nnunet_resenc_m"])
def test_nnunets_presets_crop_all_the_same_and_warn(preset):
    found = made(measured({"node": 27}), PlanOptions(**with_preset({"preset": preset})))
    assert found.plan.cropping
    assert found.plan.configurations["3d_fullres"].median_shape == (24, 40, 30)
    assert any("all of node in case case_0" in warning and preset in warning for warning in found.warnings)


def test_without_a_loss_nothing_is_said():
    found = made(measured({}))
    assert found.plan.cropping
    assert not found.warnings
    assert found.plan.reasons["cropping"].inputs == {}


def test_nnunet_cannot_express_a_plan_that_does_not_crop():
    plan = planned(measured({"node": 27}))
    with pytest.raises(PlanError, match="nnU-Net always crops"):
        export_plan(plan, "Dataset001_Toy")
