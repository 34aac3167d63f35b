import errno
import os
import warnings
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch

from tumorseg.errors import StorageError
from tumorseg.storage import checkpoints
from tumorseg.storage.checkpoints import is_there, lacks_memory, load_checkpoint, load_network, save_checkpoint

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
    # torch advises to read the file in the way that runs code.
    assert "weights_only" not in str(error.value)
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


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "no memory"), True),
        (RuntimeError("unable to mmap 9 bytes from file <a>: Cannot allocate memory (12)"), True),
        (RuntimeError("PytorchStreamReader failed reading file data/0"), False),
        (OSError(errno.EIO, "a drive"), False),
        (ValueError(), False),
    ],
)
def test_damage_is_not_told_as_a_lack_of_memory(error, expected):
    assert lacks_memory(error) is expected


def test_a_part_whose_own_head_was_changed_is_damage(tmp_path):
    path = tmp_path / "a.ckpt"
    save_checkpoint(path, STATE)
    raw = path.read_bytes()
    with ZipFile(path) as archive:
        starts = {entry.filename: entry.header_offset for entry in archive.infolist()}
    name, start = next((name, start) for name, start in starts.items() if name.endswith("data/0"))
    # A byte of the mark, and one of the name.
    for place in (start, start + 30 + len(name) - 1):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises(StorageError, match=r"a\.ckpt: the checkpoint is damaged"):
            load_network(path)


def test_a_tensor_of_many_names_is_counted_and_copied_once(tmp_path):
    weight = torch.zeros(1000)
    save_checkpoint(tmp_path / "a.ckpt", {"network": dict.fromkeys(map(str, range(12)), weight)})
    found = load_checkpoint(tmp_path / "a.ckpt")["network"]
    assert len(found) == 12
    assert len({tensor.data_ptr() for tensor in found.values()}) == 1


@pytest.mark.parametrize("how", ["a folder", "a link to nothing"])
def test_what_is_in_the_place_of_a_checkpoint_is_told(tmp_path, how):
    path = tmp_path / "latest.ckpt"
    assert not is_there(path)
    path.mkdir() if how == "a folder" else path.symlink_to(tmp_path / "none")
    with pytest.raises(StorageError, match=r"latest\.ckpt: is a folder, or a link to nothing, .*remove it"):
        is_there(path)


def flip(path, part):
    """Change one bit of bytes that stand in a file once."""
    raw = bytearray(path.read_bytes())
    assert raw.count(part) == 1
    raw[raw.index(part) + len(part) // 2] ^= 0x40
    path.write_bytes(raw)


def test_one_bit_of_a_tensor_is_noticed_by_all_but_a_look_at_plain_values(tmp_path):
    path = tmp_path / "a.ckpt"
    save_checkpoint(path, STATE)
    flip(path, STATE["network"]["weight"].numpy().tobytes())
    for load in (load_checkpoint, load_network):
        with pytest.raises(
            StorageError, match=r"a\.ckpt: the checkpoint is damaged \('.*data/0'\); copy the model anew, or delete it"
        ):
            load(path)
    assert load_checkpoint(path, is_mapped=True)["progress"] == STATE["progress"]


def test_one_bit_of_a_name_is_noticed_in_any_case(tmp_path):
    path = tmp_path / "a.ckpt"
    save_checkpoint(path, STATE)
    flip(path, b"iteration")
    for options in ({}, {"is_mapped": True}):
        with pytest.raises(StorageError, match=r"damaged \('.*data\.pkl'\)"):
            load_checkpoint(path, **options)


def test_a_file_is_compared_once_unless_it_changes(tmp_path, monkeypatch):
    path, looks = tmp_path / "a.ckpt", []
    monkeypatch.setattr(checkpoints, "_crc32", lambda file, entry: looks.append(entry.filename) or entry.CRC)
    save_checkpoint(path, STATE)
    for _ in range(3):
        load_network(path)
    assert len(looks) == len(set(looks)) > 2
    save_checkpoint(path, STATE)
    load_network(path)
    assert len(looks) == 2 * len(set(looks))


def test_what_a_network_keeps_beside_tensors_comes_back(tmp_path):
    save_checkpoint(tmp_path / "a.ckpt", {"network": {"a": torch.zeros(1), "_extra_state": {"level": 1}}})
    assert load_network(tmp_path / "a.ckpt")["_extra_state"] == {"level": 1}


def test_a_packed_part_is_refused_before_anybody_unpacks_it(tmp_path):
    path, packed = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    save_checkpoint(path, STATE)
    with ZipFile(path) as before, ZipFile(packed, "w", ZIP_DEFLATED) as after:
        for name in before.namelist():
            after.writestr(name, before.read(name))
    with pytest.raises(StorageError, match=r"b\.ckpt: its part '.*' is packed; save it with torch again"):
        load_checkpoint(packed)


def test_tensors_and_lists_beyond_their_file_are_refused(tmp_path):
    path, nested = tmp_path / "a.ckpt", []
    nested.append(nested)
    for value in (torch.zeros(1).expand(10**12), nested):
        torch.save({"network": {}, "value": value}, path)
        with pytest.raises(
            StorageError,
            match=r"a\.ckpt: the checkpoint is (larger than its file|damaged); copy the model anew, or delete",
        ):
            load_checkpoint(path)


@pytest.mark.parametrize("state", [{}, {"network": None}, {"network": {1: torch.zeros(1)}}, [1]])
def test_a_file_without_weights_is_no_checkpoint(tmp_path, state):
    torch.save(state, tmp_path / "a.ckpt")
    with pytest.raises(StorageError, match=r"a\.ckpt: holds .*no checkpoint of tumorseg"):
        load_network(tmp_path / "a.ckpt")


def test_a_pickle_of_another_protocol_is_read_without_warnings_of_torch(tmp_path):
    path, changed = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    save_checkpoint(path, STATE)
    with ZipFile(path) as archive, ZipFile(changed, "w") as other:
        for entry in archive.infolist():
            content = archive.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert content.startswith(b"\x80\x02")
                content = b"\x80\x6d" + content[2:]
            other.writestr(entry.filename, content)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        load_checkpoint(changed)
    assert told == []
