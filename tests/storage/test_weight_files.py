import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from tumorseg.errors import StorageError
from tumorseg.storage.weight_files import OWN_NAME, PLACES, WRITER, read_weights

TENSORS = {"stem.0.weight": torch.arange(6.0).reshape(2, 3), "stem.0.bias": torch.ones(2)}


def same(found):
    return found.keys() == TENSORS.keys() and all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


def test_safetensors_are_read(tmp_path):
    save_file(TENSORS, tmp_path / "weights.safetensors")
    assert same(read_weights(tmp_path / "weights.safetensors").tensors)


@pytest.mark.parametrize("place", [None, *PLACES])
def test_a_state_dict_is_found_alone_or_where_checkpoints_have_it(tmp_path, place):
    torch.save(TENSORS if place is None else {"epoch": 3, place: TENSORS, "other": [1]}, tmp_path / "weights.pt")
    found = read_weights(tmp_path / "weights.pt")
    assert same(found.tensors)
    assert found.adaptation == {}


@pytest.mark.parametrize(
    ("beside", "is_own"),
    [
        ({WRITER: OWN_NAME}, True),
        ({WRITER: OWN_NAME, "average": {}}, True),
        # From before there was a mark.
        ({"progress": {}, "optimizer": {}}, True),
        ({"iteration": 7}, True),
        # Of others.
        ({}, False),
        ({WRITER: "someone"}, False),
        ({WRITER: torch.ones(1)}, False),
        ({"iteration": 7, "optimizer": {}}, False),
        ({"iteration": 7.5}, False),
        ({"iteration": True}, False),
    ],
)
def test_a_checkpoint_of_ours_is_known_by_its_mark_or_as_earlier_ones_were(tmp_path, beside, is_own):
    torch.save({"network": TENSORS, **beside}, tmp_path / "weights.pt")
    found = read_weights(tmp_path / "weights.pt")
    assert same(found.tensors)
    assert found.is_own is is_own
    torch.save({"state_dict": TENSORS, **beside}, tmp_path / "others.pt")
    assert not read_weights(tmp_path / "others.pt").is_own


def test_files_of_old_torch_are_read(tmp_path):
    torch.save(TENSORS, tmp_path / "weights.pth", _use_new_zipfile_serialization=False)
    assert same(read_weights(tmp_path / "weights.pth").tensors)


def test_what_nnssl_says_of_its_network_comes_along(tmp_path):
    plan = {"key_to_encoder": "encoder.stages", "pretrain_num_input_channels": 1}
    torch.save({"network_weights": TENSORS, "nnssl_adaptation_plan": plan}, tmp_path / "weights.pth")
    assert read_weights(tmp_path / "weights.pth").adaptation == plan


class Harmful:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("is_archive", [True, False])
def test_a_file_that_would_run_code_is_refused_in_one_line(tmp_path, is_archive):
    mark = tmp_path / "was_run"
    saved = {"state_dict": TENSORS, "note": Harmful(mark)}
    torch.save(saved, tmp_path / "weights.pt", _use_new_zipfile_serialization=is_archive)
    with pytest.raises(StorageError, match="may run code") as caught:
        read_weights(tmp_path / "weights.pt")
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    assert pickle.loads(pickle.dumps(Harmful(mark))) is None
    assert mark.exists()


@pytest.mark.parametrize(
    ("value", "what"),
    [([1, 2], "list"), ({"epoch": 3, "model": {"a": 1}}, "a dictionary of epoch, model"), ({}, "of nothing")],
)
def test_a_file_without_tensors_by_name_is_refused(tmp_path, value, what):
    torch.save(value, tmp_path / "weights.pt")
    with pytest.raises(StorageError, match=f"{what}; expected tensors by name"):
        read_weights(tmp_path / "weights.pt")


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_a_file_that_is_damaged_or_missing_is_refused(tmp_path, name):
    with pytest.raises(StorageError, match="no such file"):
        read_weights(tmp_path / name)
    (tmp_path / name).write_bytes(b"\x00\x01\x02 no weights")
    with pytest.raises(StorageError, match="damaged") as caught:
        read_weights(tmp_path / name)
    # torch advises to read such a file in the way that runs code.
    assert "weights_only" not in str(caught.value)


def test_safetensors_that_were_cut_off_are_refused(tmp_path):
    save_file(TENSORS, tmp_path / "weights.safetensors")
    (tmp_path / "weights.safetensors").write_bytes((tmp_path / "weights.safetensors").read_bytes()[:-4])
    with pytest.raises(StorageError, match="copy it anew"):
        read_weights(tmp_path / "weights.safetensors")


def test_one_bit_of_another_programs_file_is_noticed_if_it_has_checksums(tmp_path):
    path, bias = tmp_path / "weights.pt", TENSORS["stem.0.weight"].numpy().tobytes()
    for has_checksums in (True, False):
        torch.serialization.set_crc32_options(has_checksums)
        try:
            torch.save(TENSORS, path)
        finally:
            torch.serialization.set_crc32_options(True)
        assert same(read_weights(path).tensors)
    torch.save(TENSORS, path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(bias) + 3] ^= 1
    path.write_bytes(raw)
    with pytest.raises(StorageError, match=r"damaged \('weights/data/0'\); copy it anew"):
        read_weights(path)
