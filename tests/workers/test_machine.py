import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tumorseg.workers import machine
from tumorseg.workers.machine import available_bytes, num_cores, peak_bytes, processor_name, resident_bytes


def test_a_container_with_a_limit_has_less_than_the_machine(tmp_path: Path) -> None:
    assert machine._container_available(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("100\n")
    (tmp_path / "memory.stat").write_text("anon 70\ninactive_file 20\n")
    assert machine._container_available(tmp_path) is None
    (tmp_path / "memory.max").write_text("500\n")
    assert machine._container_available(tmp_path) == 420


def test_the_tightest_group_that_the_process_is_in_counts_in_both_versions(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("12:cpu,memory:/slurm/job_1\n0::/user/scope\n")
    for folder, limit, usage, cache, most in (
        ("root/memory/slurm", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", 900),
        ("root/memory/slurm/job_1", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", 700),
        ("root/user", "memory.max", "memory.current", "inactive_file", 800),
    ):
        place = tmp_path / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / limit).write_text(f"{most}\n")
        (place / usage).write_text("100\n")
        (place / "memory.stat").write_text(f"{cache} 20\n")
    assert machine._container_available(tmp_path / "root", own) == 620
    (tmp_path / "root/memory/slurm/job_1/memory.limit_in_bytes").unlink()
    assert machine._container_available(tmp_path / "root", own) == 720
    assert machine._container_available(tmp_path / "root", tmp_path / "none") is None


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs /proc")
def test_this_machine_has_cores_and_memory() -> None:
    assert num_cores() >= 1
    assert (available_bytes() or 0) > 0
    resident = resident_bytes(os.getpid()) or 0
    assert (peak_bytes(os.getpid()) or 0) >= resident > 2**20


def test_what_is_unknown_is_none(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name: x\n")
    assert machine._kilobytes(tmp_path / "status", "VmHWM") is None
    assert machine._kilobytes(tmp_path / "absent", "VmHWM") is None


def test_the_processor_has_a_name_where_the_system_tells_none_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: Fast One\nprocessor\t: 1\nmodel name\t: Fast One\n"
    )
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    assert processor_name() == "Fast One"
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "none")
    assert processor_name() == (platform.processor() or platform.machine())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_is_told_from_a_later_one_of_its_number_by_its_start() -> None:
    own = machine.started_ticks(os.getpid())
    assert own is not None
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert (machine.started_ticks(child.pid) or 0) >= own
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert machine.started_ticks(child.pid) is None  # a zombie, until somebody asks after it
    child.communicate()
    assert machine.started_ticks(child.pid) is None


def test_a_running_system_has_one_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.machine_identity() == machine.machine_identity()
    monkeypatch.setattr(machine, "_BOOT", tmp_path / "none")
    assert machine.machine_identity() is None
