import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case, ImageFile
from tumorseg.storage.formats.detached import data_files
from tumorseg.storage.hashing import (
    FileState,
    HashCache,
    case_files,
    check_unchanged,
    combine_hashes,
    dataset_hash,
    file_stamp,
    hash_files,
)
from tumorseg.storage.images import read_image


@pytest.fixture
def case(tmp_path):
    for name, content in {"a": b"image", "b": b"other image", "label": b"label"}.items():
        (tmp_path / name).write_bytes(content)
    return case_of(tmp_path)


def case_of(folder, images=("a", "b"), label="label", indices=(None, None)):
    files = tuple(ImageFile(path=str(folder / name), index=index) for name, index in zip(images, indices, strict=True))
    return Case(case_id="1", images=files, label=label and str(folder / label))


def remembered(folder, case):
    cache = HashCache(folder / "hashes.json")
    cache.remember(hash_files(case_files(case)))
    cache.save()
    return HashCache(folder / "hashes.json")


def change(path, content):
    """Replace a file's content and see that its time differs, as after an hour."""
    path.write_bytes(content)
    then = path.stat().st_mtime_ns + 3_600_000_000_000
    os.utime(path, ns=(then, then))


def test_a_case_is_unknown_until_it_was_read_and_known_ever_after(tmp_path, case):
    cache = HashCache(tmp_path / "hashes.json")
    assert cache.case_hash(case) is None
    cache.remember(hash_files(case_files(case)))
    found = cache.case_hash(case)
    assert found is not None
    cache.save()
    assert HashCache(tmp_path / "hashes.json").case_hash(case) == found


def test_hashes_are_blake2b_of_the_bytes(tmp_path, case):
    states = hash_files(case_files(case))
    for path, (stamp, digest) in states.items():
        content = (tmp_path / path).read_bytes()
        assert digest == hashlib.blake2b(content, digest_size=16).hexdigest()
        assert stamp == file_stamp(path)
        assert stamp[0] == len(content)


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_read_again(tmp_path, case):
    cache = HashCache(tmp_path / "hashes.json")
    cache.remember(hash_files(case_files(case)))
    path = case_files(case)[0]
    old = Path(path).stat()
    Path(path).write_bytes(bytes(reversed(Path(path).read_bytes())))
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert cache.case_hash(case) is None


def test_a_file_that_changes_while_it_is_used_is_noticed(case):
    states = hash_files(case_files(case))
    check_unchanged(states)
    path = case_files(case)[0]
    Path(path).write_bytes(Path(path).read_bytes() + b"0")
    with pytest.raises(InputError, match="was changed while it was used"):
        check_unchanged(states)


def test_a_file_of_another_size_is_read_again(tmp_path, case):
    cache = remembered(tmp_path, case)
    state = (tmp_path / "b").stat().st_mtime_ns
    (tmp_path / "b").write_bytes(b"longer than before")
    os.utime(tmp_path / "b", ns=(state, state))
    assert cache.case_hash(case) is None


def test_a_file_of_another_time_is_read_again_and_has_its_hash_if_it_is_the_same(tmp_path, case):
    cache = remembered(tmp_path, case)
    before = cache.case_hash(case)
    change(tmp_path / "label", b"label")
    assert cache.case_hash(case) is None
    cache.remember(hash_files(case_files(case)))
    assert cache.case_hash(case) == before
    change(tmp_path / "label", b"LABEL")
    cache.remember(hash_files(case_files(case)))
    assert cache.case_hash(case) != before


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"\xff\xfe", b'{"a": [1, 2]}', b'{"a": ["x", 1, "h"]}', b'{"a": null}']
)
def test_a_damaged_cache_is_empty_and_can_be_written_again(tmp_path, case, content):
    (tmp_path / "hashes.json").write_bytes(content)
    assert HashCache(tmp_path / "hashes.json").case_hash(case) is None
    assert remembered(tmp_path, case).case_hash(case) is not None


def test_a_file_whose_name_no_document_holds_is_left_out_of_the_cache(tmp_path):
    cache = HashCache(tmp_path / "hashes.json")
    state = FileState((1, 2, 3, 4), "0" * 32)
    cache.remember({"/a/caf\udce9": state, "/a/caf\u00e9": state})
    cache.save()
    assert list(json.loads((tmp_path / "hashes.json").read_text("utf-8"))) == ["/a/caf\u00e9"]


def test_a_missing_file_is_an_input_error_that_names_it(tmp_path, case):
    (tmp_path / "b").unlink()
    for look in (lambda: HashCache(tmp_path / "hashes.json").case_hash(case), lambda: hash_files(case_files(case))):
        with pytest.raises(InputError, match=r"b: cannot be read \(No such file or directory\)"):
            look()


def test_a_file_that_cannot_be_read_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        hash_files([str(tmp_path)])


def test_a_4d_file_counts_once_and_images_come_before_the_label(tmp_path, case):
    four = case_of(tmp_path, ("a", "a"), indices=(0, 1))
    assert case_files(four) == [str(tmp_path / "a"), str(tmp_path / "label")]
    assert case_files(case_of(tmp_path, label=None)) == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_the_hash_of_a_case_depends_on_bytes_and_channels_not_on_names(tmp_path, case):
    def hash_of(one):
        return combine_hashes(one, {path: state.digest for path, state in hash_files(case_files(one)).items()})

    before = hash_of(case)
    renamed = tmp_path / "elsewhere"
    renamed.mkdir()
    for name in ("a", "b", "label"):
        (renamed / name).write_bytes((tmp_path / name).read_bytes())
    assert hash_of(case_of(renamed)) == before
    others = [
        case_of(tmp_path, ("b", "a")),
        case_of(tmp_path, label=None),
        case_of(tmp_path, label="a"),
        case_of(tmp_path, indices=(0, 1)),
    ]
    assert len({before, *map(hash_of, others)}) == 5


def test_the_hash_of_a_dataset_does_not_depend_on_the_order_of_its_cases():
    assert dataset_hash({"a": "1", "b": "2"}) == dataset_hash({"b": "2", "a": "1"})
    assert dataset_hash({"a": "1", "b": "2"}) != dataset_hash({"a": "2", "b": "1"})


@pytest.mark.parametrize("ending", [".mhd", ".nrrd"])
def test_voxels_in_a_file_of_their_own_count(tmp_path, ending):
    hashes = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        voxels = (np.arange(24, dtype=np.uint8) + number).reshape(2, 3, 4)
        header = {
            ".mhd": "ObjectType = Image\nNDims = 3\nDimSize = 4 3 2\nElementType = MET_UCHAR\nElementDataFile = image.raw\n",
            ".nrrd": "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 3 2\nencoding: raw\ndata file: image.raw\n\n",
        }[ending]
        (folder / f"image{ending}").write_text(header)
        (folder / "image.raw").write_bytes(voxels.tobytes())
        case = Case(case_id="a", images=(ImageFile(path=str(folder / f"image{ending}")),))
        assert [Path(path).name for path in case_files(case)] == [f"image{ending}", "image.raw"]
        np.testing.assert_array_equal(read_image(case.images[0]).array, voxels)
        hashes.append(
            combine_hashes(case, {path: state.digest for path, state in hash_files(case_files(case)).items()})
        )
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize("name", ["../image.raw", "/tmp/image.raw"])
def test_a_header_that_names_voxels_elsewhere_is_refused(tmp_path, name):
    (tmp_path / "a.mhd").write_text(f"NDims = 3\nElementDataFile = {name}\n")
    with pytest.raises(InputError, match="expected one beside the header"):
        case_files(Case(case_id="a", images=(ImageFile(path=str(tmp_path / "a.mhd")),)))


def test_lists_and_patterns_of_data_files_are_followed(tmp_path):
    (tmp_path / "a.mhd").write_text("NDims = 3\nElementDataFile = LIST\none.raw\ntwo.raw\n")
    (tmp_path / "b.mhd").write_text("NDims = 3\nElementDataFile = slice%02d.raw 1 5 2\n")
    (tmp_path / "c.mha").write_bytes(b"NDims = 3\nElementDataFile = LOCAL\n\x00\x01")
    names = {path.name: [Path(file).name for file in data_files(str(path))] for path in sorted(tmp_path.iterdir())}
    assert names == {
        "a.mhd": ["one.raw", "two.raw"],
        "b.mhd": ["slice01.raw", "slice03.raw", "slice05.raw"],
        "c.mha": [],
    }
    assert data_files(str(tmp_path / "none.mhd")) == []


def test_other_rights_or_a_link_are_no_change_of_a_file(tmp_path, case):
    states = hash_files(case_files(case))
    path = Path(case_files(case)[0])
    path.chmod(0o600)
    (tmp_path / "backup").hardlink_to(path)
    assert states[str(path)].stamp != file_stamp(str(path))
    check_unchanged(states)
