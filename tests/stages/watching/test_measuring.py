import os
import sqlite3
import stat
import subprocess
import sys
import types
import warnings
from pathlib import Path

import pytest
import torch

from tumorseg.stages.watching import measuring
from tumorseg.stages.watching.checks.gpu import Device
from tumorseg.stages.watching.measuring import (
    cudnn_text,
    database_failure,
    measure_cores,
    measure_folder,
    measure_gpus,
    measure_memory,
    measure_packages,
    open_files_limit,
)


def test_this_machine_is_measured():
    cores, memory = measure_cores(), measure_memory()
    assert 1 <= cores.usable <= cores.total
    assert 0 < memory.available <= memory.total
    assert open_files_limit() is None or open_files_limit() > 0
    found = measure_packages()
    assert found.installed["torch"] == torch.__version__
    assert found.python == ">=3.11"


def test_a_package_that_is_not_installed_itself_requires_nothing_known(monkeypatch):
    monkeypatch.setattr(measuring, "PACKAGE", "no-such-package-anywhere")
    assert measure_packages() == ({}, None, None)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "250000 100000\n"}, 2.5),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_time_of_a_container_is_read_in_both_versions(tmp_path, files, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert measure_cores(tmp_path).quota == quota


@pytest.mark.parametrize(("number", "text"), [(91002, "9.10.2"), (8907, "8.9.7"), (90100, "9.1.0")])
def test_the_number_of_cudnn_is_a_version(number, text):
    assert cudnn_text(number) == text


def driver(folder, script):
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_a_driver_is_asked_for_its_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    driver(tmp_path, "echo 'NVIDIA A100, 535.54'")
    assert measure_gpus().driver == ["NVIDIA A100, 535.54 (driver)"]
    driver(tmp_path, "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    found = measure_gpus()
    assert (found.driver, found.driver_failure) == ([], "Failed to initialize NVML: Driver/library version mismatch")
    driver(tmp_path, "exit 9")
    assert measure_gpus().driver_failure == "exit code 9"
    monkeypatch.setattr(measuring, "DRIVER_SECONDS", 0.05)
    driver(tmp_path, "exec sleep 5")
    assert "no answer" in measure_gpus().driver_failure


def test_a_driver_that_cannot_be_started_is_a_failure(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("not allowed")

    monkeypatch.setattr(measuring.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(subprocess, "run", refuse)
    assert measure_gpus().driver_failure == "not allowed"


def test_what_torch_warns_of_is_kept_and_shown_nowhere(tmp_path, monkeypatch):
    def warn():
        warnings.warn("CUDA initialization: the driver is too old\nmore of it", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", warn)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = measure_gpus()
    assert found.warning == "CUDA initialization: the driver is too old"
    assert found.driver is None
    assert found.devices == ()


def test_a_torch_that_cannot_be_imported_is_told(tmp_path):
    (tmp_path / "torch").mkdir()
    error = "import builtins, os; raise getattr(builtins, os.environ['KIND'])('libcudart.so.12: cannot open\\nit')"
    (tmp_path / "torch" / "__init__.py").write_text(error)
    code = (
        "import os\nfrom tumorseg.stages.watching.measuring import measure_gpus\n"
        "for kind in ('ImportError', 'OSError', 'ValueError'):\n"
        "    os.environ['KIND'] = kind\n    print(measure_gpus().failure)"
    )
    path = os.pathsep.join([str(tmp_path), str(Path.cwd())])
    command, variables = [sys.executable, "-c", code], os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == 3 * "torch cannot be imported: libcudart.so.12: cannot open it\n"


@pytest.fixture
def one_gpu(tmp_path, monkeypatch):
    """Have torch see a GPU, and the machine no driver of one."""
    found = types.SimpleNamespace(name="A100", major=8, minor=0, total_memory=80)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: found)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80"])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (70, 80))
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    monkeypatch.setenv("PATH", str(tmp_path))


def refuse(message):
    def fail(*_):
        raise RuntimeError(message)

    return fail


@pytest.mark.usefixtures("one_gpu")
def test_a_gpu_is_measured():
    found = measure_gpus()
    assert (found.devices, found.cudnn, found.failure) == ((Device("A100", (8, 0), 80, 70),), "9.10.2", "")


@pytest.mark.usefixtures("one_gpu")
def test_a_gpu_that_others_have_filled_has_nothing_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", refuse("CUDA error: out of memory"))
    assert measure_gpus().devices == (Device("A100", (8, 0), total_bytes=80, free_bytes=0),)


@pytest.mark.usefixtures("one_gpu")
def test_a_cudnn_that_cannot_be_loaded_is_told(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "version", refuse("cuDNN version incompatibility\nmore of it"))
    found = measure_gpus()
    assert (found.cudnn, found.failure) == (None, "cuDNN cannot be used: cuDNN version incompatibility")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: None)
    assert (measure_gpus().cudnn, measure_gpus().failure) == (None, "")


def test_a_folder_is_tried_out_where_it_will_be(tmp_path):
    facts = measure_folder(tmp_path / "runs" / "deep")
    assert facts.path == str(tmp_path / "runs" / "deep")
    assert facts.free_bytes > 0
    assert (facts.failure, facts.has_locks) == ("", True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_says_why():
    facts = measure_folder(measuring.Path("/proc"))
    assert "cannot write" in facts.failure
    assert facts.free_bytes is None


def test_a_database_is_tried_without_a_change(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "LOCK_SECONDS", 0.02)
    path = tmp_path / "100 %2F #1?" / "mlflow.db"
    path.parent.mkdir()
    uri = f"sqlite:///{path}"
    assert database_failure(uri) == ""
    assert not path.exists()
    assert database_failure("postgresql://host/db") == ""
    path.write_bytes(b"no database" * 100)
    assert database_failure(uri) == "file is not a database"
    path.unlink()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("CREATE TABLE t (x)")
    assert database_failure(uri) == ""
    assert list(tmp_path.iterdir()) == [path.parent]
    holder.execute("BEGIN EXCLUSIVE")
    assert database_failure(uri) == "database is locked"
    holder.close()
