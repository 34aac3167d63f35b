import pytest

from tumorseg.schema.quantities import GB
from tumorseg.stages.watching.checks.gpu import Device, Gpus, check_gpus, supports

BUILT = ("sm_70", "sm_80", "sm_90a", "compute_90")
A100 = Device("A100", (8, 0), total_bytes=80 * GB, free_bytes=79 * GB)


def gpus(**fields):
    nothing = {"driver": None, "driver_failure": "", "build": "12.8", "devices": (), "architectures": BUILT}
    return Gpus(**nothing | {"warning": "", "visible": None} | fields)


def grades(found):
    return [check.grade for check in check_gpus(found)]


def test_a_gpu_that_can_be_used_is_in_order():
    assert grades(gpus(devices=(A100,))) == ["ok"]


def test_without_a_gpu_one_is_told_so():
    assert grades(gpus()) == ["note"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"build": None}, "built for processors"),
        ({"visible": ""}, "hides it"),
        ({"visible": "-1"}, "hides it"),
        ({"warning": "The NVIDIA driver on your system is too old"}, "too old"),
        ({}, "no reason given"),
        ({"driver": [], "driver_failure": "Driver/library version mismatch"}, "mismatch"),
    ],
)
def test_a_gpu_out_of_reach_is_a_warning_that_says_why(fields, words):
    (check,) = check_gpus(gpus(**{"driver": ["A100, 535.1 (driver)"]} | fields))
    assert check.grade == "warning"
    assert words in check.found
    assert check.advice


def test_a_torch_that_cannot_be_imported_is_a_blocker_and_says_nothing_of_gpus():
    (check,) = check_gpus(gpus(driver=["A100, 535.1 (driver)"], build=None, failure="torch cannot be imported: gone"))
    assert (check.name, check.grade, check.found) == ("torch", "blocker", "torch cannot be imported: gone")
    found = gpus(devices=(A100,), failure="cuDNN cannot be used: another version")
    assert grades(found) == ["blocker", "ok"]


def test_a_gpu_that_torch_was_not_built_for_is_a_blocker():
    old = A100._replace(name="GTX 1080", capability=(6, 1))
    (check,) = check_gpus(gpus(devices=(old,)))
    assert check.grade == "blocker"
    assert "sm_61" in check.found


def test_a_gpu_on_which_others_compute_is_a_warning():
    assert grades(gpus(devices=(A100._replace(free_bytes=GB),))) == ["warning"]


def test_a_gpu_without_bf16_is_to_know():
    assert grades(gpus(devices=(A100._replace(name="V100", capability=(7, 0)),))) == ["ok", "note"]


@pytest.mark.parametrize(
    ("capability", "is_supported"),
    [
        ((7, 0), True),
        ((7, 5), True),  # code for 7.0 runs on it
        ((6, 1), False),
        ((8, 6), True),
        ((9, 0), True),
        ((12, 0), True),  # compute_90 is translated for it
    ],
)
def test_code_runs_on_later_gpus_of_its_generation_and_translated_on_all_later_ones(capability, is_supported):
    assert supports(BUILT, capability) == is_supported


def test_code_for_one_generation_alone_runs_on_no_other():
    assert supports(("sm_90a",), (9, 0))
    assert not supports(("sm_90a",), (9, 1))
    assert not supports(("sm_90",), (10, 0))
