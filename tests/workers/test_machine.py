from pathlib import Path

import pytest

from tumorseg.workers import machine
from tumorseg.workers.machine import available_bytes, num_cores, peak_bytes, resident_bytes


def test_a_container_with_a_limit_has_less_than_the_machine(tmp_path: Path) -> None:
    assert machine._container_available(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("100\n")
    (tmp_path / "memory.stat").write_text("anon 70\ninactive_file 20\n")
    assert machine._container_available(tmp_path) is None
    (tmp_path / "memory.max").write_text("500\n")
    assert machine._container_available(tmp_path) == 420


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs /proc")
def test_this_machine_has_cores_and_memory() -> None:
    import os

    assert num_cores() >= 1
    assert (available_bytes() or 0) > 0
    resident = resident_bytes(os.getpid()) or 0
    assert (peak_bytes(os.getpid()) or 0) >= resident > 2**20


def test_what_is_unknown_is_none(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name: x\n")
    assert machine._kilobytes(tmp_path / "status", "VmHWM") is None
    assert machine._kilobytes(tmp_path / "absent", "VmHWM") is None
