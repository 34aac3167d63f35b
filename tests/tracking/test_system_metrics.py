"""The load of the machine, as it is sampled beside a training."""

import os
import subprocess
import sys

from tumorseg.tracking.system_metrics import sample_system

HUNDRED_MB = "import sys; held = bytearray(100_000_000); held[::4096] = b'1' * len(held[::4096]); print(flush=True); sys.stdin.read()"


def test_a_sample_has_load_memory_and_disk_and_the_memory_of_the_training(tmp_path):
    command = [sys.executable, "-c", HUNDRED_MB]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as training:
        training.stdout.readline()
        sample = sample_system(training.pid, tmp_path)
        training.stdin.close()
    assert 0 < sample["system_memory_usage_percentage"] < 100
    assert 0 < sample["disk_usage_percentage"] <= 100
    assert 100 < sample["training_memory_megabytes"] < 200
    assert sample["time"] > 0


def test_the_process_that_samples_is_not_counted_as_the_trainings(tmp_path):
    # The parent of this one has it as a child, as a training has the process that mirrors it.
    before = sample_system(os.getppid(), tmp_path)["training_memory_megabytes"]
    held = bytearray(b"1") * 100_000_000
    assert sample_system(os.getppid(), tmp_path)["training_memory_megabytes"] < before + len(held) / 2e6


def test_a_training_that_is_gone_has_no_memory(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    assert "training_memory_megabytes" not in sample_system(gone.pid, tmp_path)


def test_gpus_are_asked_of_nvidia_smi_and_what_a_card_does_not_measure_is_left_out(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '0, 87, 1024, 250.5'\necho '1, 3, 512, [N/A]'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    sample = sample_system(None, tmp_path)
    assert {name: value for name, value in sample.items() if name.startswith("gpu_")} == {
        "gpu_0_utilization_percentage": 87,
        "gpu_0_memory_usage_megabytes": 1024,
        "gpu_0_power_usage_watts": 250.5,
        "gpu_1_utilization_percentage": 3,
        "gpu_1_memory_usage_megabytes": 512,
    }
