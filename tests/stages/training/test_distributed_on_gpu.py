"""One training on several GPUs."""

import pytest
import torch

from tests.stages.training.test_distributed import Home
from tumorseg.storage.checkpoints import load_checkpoint

pytestmark = pytest.mark.gpu
ON_GPU = ("--device", "cuda")


def test_two_gpus_end_near_where_one_does(cuda, toy, tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("this machine has one GPU")
    alone, both = Home(toy, tmp_path / "alone"), Home(toy, tmp_path / "both")
    alone.train(*ON_GPU)
    both.train(*ON_GPU, "--num-gpus", "2")
    weights, reference = (load_checkpoint(home.folder.latest)["network"] for home in (both, alone))
    for name, value in reference.items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-2)


def test_more_processes_than_gpus_are_one_line(cuda, toy, tmp_path):
    count = torch.cuda.device_count() + 1
    process = Home(toy, tmp_path).start(*ON_GPU, "--num-gpus", str(count))
    _, told = process.communicate(timeout=120)
    assert process.returncode != 0
    assert f"this machine has {count - 1}; give a lower --num-gpus" in told
