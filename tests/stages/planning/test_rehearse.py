"""Steps on patches of noise, timed here, and measured where there is a GPU."""

import math

import pytest
import torch

from tests.planning.measured import equal_cases, fingerprint, made
from tumorseg.errors import InputError, PlanError, TrainingError
from tumorseg.networks.registry import BUILDERS
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.totals import plan_setting
from tumorseg.planning.options import PlanOptions
from tumorseg.planning.presets import PRESETS
from tumorseg.stages.planning.networks import DescribeRequest, describe_networks
from tumorseg.stages.planning.plan import PlanRequest, read_preset
from tumorseg.stages.planning.plan import plan as plan_stage
from tumorseg.stages.planning.rehearse import measure_reserved, step_seconds, tile_seconds, versions
from tumorseg.stages.planning.verify import verify
from tumorseg.storage.json_files import write_record

SMALL = PRESETS["fast_prototyping"].model_copy(
    update={"base_features": 4, "initial_edge_3d": 16, "initial_edge_2d": 16}
)


@pytest.fixture(scope="module")
def plan():
    return made(fingerprint(equal_cases(4, (1.0, 1.0, 1.0), (21, 33, 26))), PlanOptions(preset=SMALL)).plan


def test_a_larger_patch_takes_longer(plan):
    small = plan.configurations["3d_fullres"]
    large = small.model_copy(update={"patch_size": tuple(2 * size for size in small.patch_size)})
    setting = plan_setting(plan)
    assert 0 < step_seconds(small, setting) < step_seconds(large, setting)


def test_what_memory_does_not_hold_is_told_in_one_line_and_leaves_a_network_without_seconds(plan):
    # More bytes than a process can address.
    large = plan.configurations["2d"].model_copy(update={"batch_size": 10**11})
    for timed, what in ((step_seconds, "a training step"), (tile_seconds, "an inference tile")):
        with pytest.raises(TrainingError, match=f"memory ran out while {what} was timed"):
            timed(large, plan_setting(plan))
    changed = plan.model_copy(update={"configurations": {"2d": large}, "default_configuration": "2d"})
    (found,) = describe_networks(DescribeRequest.model_construct(plan=changed, is_timed=True))
    assert found.costs.parameters > 0
    assert found.costs.step_s is found.costs.tile_s is found.costs.device is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_gpu_there_is_nothing_to_verify_on(plan):
    with pytest.raises(InputError, match="no CUDA device to verify on"):
        verify(plan, None, MemoryCounter())
    with pytest.raises(InputError, match="no CUDA device"):
        verify(plan, "cuda:0", MemoryCounter())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_measurement_that_fails_is_told_in_one_line(plan):
    with pytest.raises(TrainingError, match="the process that measured memory on cuda:0 ended with exit code 1"):
        measure_reserved(plan.configurations["2d"], plan_setting(plan), "cuda:0")


def test_versions_name_torch_and_cudnn():
    assert versions() == {"torch": str(torch.__version__), "cudnn": versions()["cudnn"]}


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("edge", [64, 96, 128])
@pytest.mark.parametrize("network", BUILDERS)
def test_the_predicted_peak_is_within_a_tenth_of_the_allocated_one(network, edge, precision):
    from benchmarks.memory import measured_row

    row = measured_row(network, edge, precision)
    assert row["predicted_bytes"] == pytest.approx(row["allocated_bytes"], rel=0.1)


@pytest.mark.gpu
def test_a_verified_plan_holds_its_budget_on_the_device(cuda):
    measured = fingerprint(equal_cases(40, (1.0, 1.0, 1.0), (90, 130, 110)))
    found = verify(made(measured, PlanOptions(vram_gb=6.0)).plan, cuda, MemoryCounter())
    assert 0 < found.budget.measured_bytes <= found.budget.vram_bytes
    assert found.budget.device == torch.cuda.get_device_name(0)
    assert found.budget.versions == versions()


@pytest.mark.gpu
def test_a_broken_budget_is_mended_on_the_device(cuda):
    plan = made(fingerprint(equal_cases(40, (1.0, 1.0, 1.0), (90, 130, 110))), PlanOptions(vram_gb=6.0)).plan
    broken = {name: one.model_copy(update={"batch_size": 64}) for name, one in plan.configurations.items()}
    found = verify(plan.model_copy(update={"configurations": broken}), cuda, MemoryCounter())
    assert found.configurations["3d_fullres"].batch_size < 64
    assert math.prod(found.configurations["3d_fullres"].patch_size) > 0
    assert "measured on the device" in found.reasons["configurations.3d_fullres.batch_size"].rule


@pytest.mark.parametrize(
    ("device", "verifies", "message"),
    [
        ("tpu", False, "plans are made for cpu, cuda or cuda:N"),
        ("cpu", True, "give one of them"),
        *([] if torch.cuda.is_available() else [(None, True, "no CUDA device to verify on")]),
    ],
)
def test_a_device_that_cannot_be_planned_for_is_refused_before_anything_is_read(device, verifies, message, tmp_path):
    request = PlanRequest(fingerprint=tmp_path / "absent.json", device=device, verify=verifies)
    with pytest.raises(InputError, match=message):
        plan_stage(request)


def test_a_preset_file_extends_another(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(
        '{"extends": "fast_prototyping", "base_features": 8, "training": {"epochs": 3}, "optimizer.lr": 0.5}'
    )
    preset = read_preset(str(path))
    assert (preset.name, preset.base_features, preset.training.epochs) == ("mine", 8, 3)
    assert preset.training.iterations_per_epoch == PRESETS["fast_prototyping"].training.iterations_per_epoch
    assert preset.optimizer == PRESETS["fast_prototyping"].optimizer.changed(lr=0.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "expected a JSON object"),
        ('{"training": {"epochs": 3}, "training.epochs": 4}', r"training\.epochs is given twice"),
        ('{"extends": "best"}', "extends is 'best'; expected one of optimized"),
        ('{"extends": ["nnunet"]}', "expected one of"),
        ('{"loss": "dice"}', "there is no loss preset 'dice'; known are dice_ce"),
        ('{"extends": "nnunet", "memory": {"elements_2d": 1e6, "elements_3d": 1e6, "vram_gb": 0}}', "memory.vram_gb"),
        ('{"vram_gb": 1e300}', "vram_gb"),
        ('{"featurez": 3}', "featurez: there is no such field; known here: name, "),
        ('{"base_feature": 3}', r"did you mean base_features\?"),
        ('{"base_features": 0}', "base_features"),
        ('{"name": "../up"}', "name"),
        ('{"training": {"epochs": 0}}', "training.epochs"),
    ],
)
def test_a_preset_file_that_makes_no_sense_is_one_line(tmp_path, content, message):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(PlanError, match=message) as refused:
        read_preset(str(path))
    assert "\n" not in str(refused.value)


@pytest.mark.gpu
def test_hours_on_a_gpu_are_those_of_its_own_steps(cuda, tmp_path):
    write_record(tmp_path / "f.json", fingerprint(equal_cases(40, (1.0, 1.0, 1.0), (90, 130, 110))))
    request = PlanRequest(
        fingerprint=tmp_path / "f.json", output=tmp_path / "p.json", preset="fast_prototyping", device=cuda
    )
    found = plan_stage(request.model_copy(update={"max_hours": 2.0})).plan
    assert 0 < found.budget.step_s < 1
    assert found.configurations["3d_fullres"].network.features_per_stage[0] == 32
    assert found.budget.predicted_bytes <= found.budget.vram_bytes
