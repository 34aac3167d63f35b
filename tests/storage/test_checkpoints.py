import os

import pytest
import torch

from tumorseg.errors import StorageError
from tumorseg.storage.checkpoints import lacks_memory, load_checkpoint, save_checkpoint

STATE = {
    "network": {"weight": torch.arange(5000.0).reshape(10, 500), "bias": torch.tensor([1, 2], dtype=torch.int64)},
    "progress": {"iteration": 7, "losses": [0.5, -0.25], "running": None, "best": float("-inf"), "name": "é"},
}


class Code:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_tensors_and_plain_values_come_back(tmp_path):
    save_checkpoint(tmp_path / "new" / "a.ckpt", STATE)
    found = load_checkpoint(tmp_path / "new" / "a.ckpt")
    assert found["progress"] == STATE["progress"]
    assert torch.equal(found["network"]["weight"], STATE["network"]["weight"])
    assert found["network"]["bias"].dtype == torch.int64


def test_the_order_in_memory_of_weights_comes_back(tmp_path):
    weight = torch.randn(4, 3, 3, 3, 3).contiguous(memory_format=torch.channels_last_3d)
    save_checkpoint(tmp_path / "a.ckpt", {"weight": weight})
    assert load_checkpoint(tmp_path / "a.ckpt")["weight"].stride() == weight.stride()


def test_a_missing_checkpoint_says_how_to_get_one(tmp_path):
    with pytest.raises(StorageError, match=r"a\.ckpt: there is no checkpoint; train the fold first"):
        load_checkpoint(tmp_path / "a.ckpt")


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    torch.save({"network": Code(f"touch {tmp_path / 'ran'}")}, tmp_path / "a.ckpt")
    with pytest.raises(StorageError, match=r"a\.ckpt: ") as error:
        load_checkpoint(tmp_path / "a.ckpt")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("how", ["empty", "cut in half", "one byte short", "text", "zeros", "text like a pickle"])
def test_a_damaged_checkpoint_is_a_storage_error(tmp_path, how):
    path = tmp_path / "a.ckpt"
    save_checkpoint(path, STATE)
    raw = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut in half": raw[: len(raw) // 2],
            "one byte short": raw[:-1],
            "text": b"no checkpoint\n" * 50,
            "zeros": bytes(len(raw)),
            "text like a pickle": b"\x80\x02}q\x00.",
        }[how]
    )
    with pytest.raises(StorageError, match=r"a\.ckpt: ") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(StorageError):
        load_checkpoint(tmp_path)


def test_a_sound_file_that_does_not_load_lacks_memory(tmp_path):
    path = tmp_path / "a.ckpt"
    save_checkpoint(path, {"weight": torch.zeros(300)})
    assert lacks_memory(path, RuntimeError())
    assert lacks_memory(path, MemoryError())
    assert not lacks_memory(path, ValueError())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert not lacks_memory(path, RuntimeError())
    path.write_bytes(content[:200])
    assert not lacks_memory(path, OSError())
