import pytest

from tumorseg.schema.quantities import GB
from tumorseg.stages.watching.checks.processor import (
    Cores,
    Memory,
    check_cores,
    check_environment,
    check_memory,
    check_open_files,
    check_shared_memory,
    num_threads,
)


@pytest.mark.parametrize(
    ("cores", "grade"),
    [
        (Cores(16, 16, None), "ok"),
        (Cores(16, 8, 8.0), "ok"),
        (Cores(16, 16, 2.5), "warning"),
        (Cores(16, 1, None), "note"),
    ],
)
def test_cores_that_are_seen_must_be_those_that_may_be_used(cores, grade):
    assert check_cores(cores).grade == grade


def test_a_container_with_half_a_core_is_told_what_to_set():
    check = check_cores(Cores(16, 16, 0.5))
    assert "the time of 0.5" in check.found
    assert "OMP_NUM_THREADS=1" in check.advice


def test_what_one_check_advises_the_other_does_not_blame():
    cores = Cores(16, 16, 2.5)
    (unset,) = check_environment({}, cores.granted)
    variables = {"OMP_NUM_THREADS": "2"}
    (heeded,) = check_environment(variables, cores.granted)
    assert (unset.grade, heeded.grade) == ("ok", "ok")
    check = check_cores(cores, num_threads(variables))
    assert (check.grade, check.advice) == ("ok", "")
    assert "OMP_NUM_THREADS=2" in check.found
    assert check_cores(cores, 3).grade == "warning"


@pytest.mark.parametrize(
    ("cores", "granted"),
    [(Cores(16, 8, None), 8), (Cores(16, 8, 2.5), 2), (Cores(16, 8, 0.5), 1), (Cores(16, 2, 9), 2)],
)
def test_a_run_has_the_cores_that_its_container_gives_time_for(cores, granted):
    assert cores.granted == granted


@pytest.mark.parametrize(
    ("available", "grade"), [(16 * GB, "ok"), (4 * GB, "warning"), (GB, "blocker"), (None, "note")]
)
def test_memory_is_judged_by_what_is_available(available, grade):
    check = check_memory(Memory(total=32 * GB, available=available, shared=None))
    assert check.grade == grade
    assert bool(check.advice) == (grade in ("warning", "blocker"))


@pytest.mark.parametrize(
    ("shared", "num_gpus", "grade"),
    [(64 * 2**20, 2, "warning"), (64 * 2**20, 1, "ok"), (GB, 4, "ok"), (None, 2, "note")],
)
def test_shared_memory_matters_to_several_gpus(shared, num_gpus, grade):
    assert check_shared_memory(shared, num_gpus).grade == grade


@pytest.mark.parametrize(("limit", "grade"), [(None, "ok"), (1024, "ok"), (256, "warning")])
def test_few_open_files_are_too_few(limit, grade):
    assert check_open_files(limit).grade == grade


def test_variables_that_slow_a_run_down_are_named():
    variables = {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "64",
        "OMP_WAIT_POLICY": "ACTIVE",
        "CUDA_LAUNCH_BLOCKING": "1",
        "PYTORCH_NO_CUDA_MEMORY_CACHING": "1",
    }
    checks = list(check_environment(variables, 8))
    assert [check.found.partition("=")[0] for check in checks] == list(variables)
    assert {check.grade for check in checks} == {"warning"}


def test_variables_as_they_should_be_are_one_line():
    variables = {
        "OMP_NUM_THREADS": "8,4",
        "MKL_NUM_THREADS": "x",
        "OMP_WAIT_POLICY": "passive",
        "CUDA_LAUNCH_BLOCKING": "0",
    }
    (check,) = check_environment(variables, 8)
    assert check.grade == "ok"
