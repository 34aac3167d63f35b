"""A plan as nnU-Net v2's plans; what nnunetv2 2.8.1 builds from them is frozen in tests/nnunet/shapes.json.

That file is what `make_networks.py` there prints for the folders that `plan export` writes of `exported_plans`.
"""

import json
from pathlib import Path

import pytest

from tests.nnunet.documents import description, imported, plans
from tests.planning.measured import CT, equal_cases, fingerprint, planned
from tumorseg.errors import PlanError
from tumorseg.networks.nnunet_weights import nnunet_name
from tumorseg.networks.registry import build_network
from tumorseg.planning.nnunet.export_plan import export_plan
from tumorseg.schema.extensions import External
from tumorseg.schema.targets import targets_of

SHAPES = Path(__file__).parents[2] / "nnunet" / "shapes.json"
REGIONS = [{"name": "whole", "labels": [1, 2, 3], "value": 1}, {"name": "core", "labels": [2, 3], "value": 2}]


def exported_plans():
    """Return the plans that were exported for nnunetv2: planned here, imported, and with regions."""
    thin = fingerprint(equal_cases(20, (5.0, 0.8, 0.8), (40, 200, 180)), channels=("CT", "PET"), intensities=CT)
    labels = {"background": 0, "a": 1, "b": 2, "c": 3}
    small = fingerprint(equal_cases(20, shape=(30, 40, 36)), labels=labels, regions=REGIONS)
    return {
        "Dataset901_Thin": planned(thin, preset="fast_prototyping"),
        "Dataset902_Regions": planned(small, "configurations.2d.batch_size=3", preset="optimized", vram_gb=2),
        "Dataset900_Toy": imported(),
    }


def test_imported_plans_come_back_as_they_were():
    found, original = export_plan(imported(), "Dataset900_Toy"), plans()
    for document in (found, original):
        for configuration in document["configurations"].values():
            if "median_image_size_in_voxels" in configuration:
                sizes = configuration["median_image_size_in_voxels"]
                configuration["median_image_size_in_voxels"] = [int(size) for size in sizes]
    assert found == original | {"experiment_planner_used": "ExperimentPlanner"}


def test_an_exported_plan_is_imported_as_it_was():
    plan = exported_plans()["Dataset901_Thin"]
    document = export_plan(plan, "Dataset901_Thin")
    assert document["image_reader_writer"] == "NibabelIOWithReorient"
    again = imported(document, dataset=plan.dataset)
    assert (again.orientation, again.transpose) == (plan.orientation, plan.transpose)
    for name, configuration in plan.configurations.items():
        found = again.configurations[name]
        for field in ("spacing_mm", "patch_size", "batch_size", "median_shape", "normalization", "resampling"):
            assert getattr(found, field) == getattr(configuration, field)
        assert found.network == configuration.network


def test_arguments_other_than_nnunets_are_written_out():
    settings = ("resampling.separate_axis_ratio=4.5", "network.negative_slope=0.2")
    full = export_plan(planned(None, *settings), "D")["configurations"]["3d_fullres"]
    assert full["resampling_fn_data_kwargs"]["separate_z_anisotropy_threshold"] == 4.5
    assert full["architecture"]["arch_kwargs"]["nonlin_kwargs"] == {"inplace": True, "negative_slope": 0.2}


def test_the_networks_of_nnunet_have_the_weights_of_ours():
    frozen = json.loads(SHAPES.read_text())
    for folder, plan in exported_plans().items():
        for name, configuration in plan.configurations.items():
            if configuration.previous_configuration is not None:
                continue
            network = build_network(
                configuration.network,
                num_channels=len(plan.dataset.channels),
                num_outputs=targets_of(plan.dataset).num_outputs,
            )
            stages = configuration.network.num_stages
            ours = {nnunet_name(key, stages): list(value.shape) for key, value in network.state_dict().items()}
            assert ours == frozen[folder][name]


def test_a_cascade_whose_parent_differs_stands_alone():
    plan = imported()
    cascade = plan.configurations["3d_cascade_fullres"].model_copy(update={"batch_size": 3})
    plan = plan.model_copy(update={"configurations": plan.configurations | {"3d_cascade_fullres": cascade}})
    found = export_plan(plan, "D")["configurations"]["3d_cascade_fullres"]
    assert "inherits_from" not in found
    assert (found["batch_size"], found["previous_stage"]) == (3, "3d_lowres")


@pytest.mark.parametrize("setting", ["norm=batch", "dropout=0.1", "attention=cbam", "attention_gates=true"])
def test_parts_that_nnunet_lacks_are_refused(setting):
    with pytest.raises(PlanError, match=f"cannot express network.{setting.lower().split('=')[0]}="):
        export_plan(planned(None, f"network.{setting}"), "D")


def test_another_packages_network_is_refused():
    plan = planned()
    network = External(name="other", distribution="other", version="1", parameters={})
    configuration = plan.configurations["3d_fullres"].model_copy(update={"network": network})
    plan = plan.model_copy(update={"configurations": {"3d_fullres": configuration}})
    with pytest.raises(PlanError, match="cannot express the network other"):
        export_plan(plan, "D")


def test_regions_that_would_give_another_network_are_refused():
    labels = {"background": 0, "a": 1, "b": 2, "c": 3}
    outside = imported(dataset=description(labels, regions=[{"name": "r", "labels": [1, 2], "value": 1}]))
    with pytest.raises(PlanError, match="labels c belong to no region"):
        export_plan(outside, "D")
    single = [{"name": "r", "labels": [1], "value": 1}, {"name": "s", "labels": [2], "value": 2}]
    with pytest.raises(PlanError, match="every region is one label"):
        export_plan(imported(dataset=description(regions=single)), "D")


def test_two_normalisations_of_one_ct_are_refused():
    plan = imported()
    low = plan.configurations["3d_lowres"]
    other = (low.normalization[0].model_copy(update={"mean_hu": 1.0}), low.normalization[1])
    low = low.model_copy(update={"normalization": other})
    plan = plan.model_copy(update={"configurations": plan.configurations | {"3d_lowres": low}})
    with pytest.raises(PlanError, match="channel CT is normalised in two ways"):
        export_plan(plan, "D")
