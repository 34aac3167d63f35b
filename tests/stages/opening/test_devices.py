"""Choice of the device to compute on."""

import pytest
import torch

from tumorseg.errors import InputError
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.selection.setting_notes import machine_note


@pytest.mark.parametrize("name", ["tpu", "cuda:x", ""])
def test_what_is_no_device_is_refused(name):
    with pytest.raises(InputError, match="is no device; give cpu, cuda or cuda:N"):
        choose_device(name)


@pytest.mark.parametrize("name", ["mps", "cuda:99"])
def test_a_device_that_is_not_here_is_refused(name):
    with pytest.raises(InputError, match=f"--device {name}: this machine has .*give --device cpu"):
        choose_device(name)


def test_the_cpu_is_always_there():
    assert choose_device("cpu") == "cpu"
    assert machine_note("cpu").device == "cpu"


@pytest.mark.gpu
def test_a_gpu_is_the_best_there_is_and_has_a_name(cuda):
    assert choose_device(None) == cuda
    assert choose_device("cuda:0") == "cuda:0"
    assert machine_note(cuda).device == torch.cuda.get_device_name(0)
