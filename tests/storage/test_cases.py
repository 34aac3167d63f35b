import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tumorseg.errors import StorageError
from tumorseg.ops.cropping import box_slices, inside
from tumorseg.schema.cases import Preprocessing, StoredCase
from tumorseg.schema.preprocessing import NoNormalization, ResamplingSpec
from tumorseg.schema.targets import Targets
from tumorseg.storage import cases
from tumorseg.storage.cases import (
    CaseArrays,
    CaseStore,
    case_key,
    is_previous_stored,
    is_stored,
    previous_name,
    remove_stale,
    store_case,
    store_previous,
)

SHAPE = (9, 70, 37)
WHOLE = tuple((0, size) for size in SHAPE)

STORING = """
import sys
from pathlib import Path
import numpy as np
from tumorseg.schema.cases import StoredCase
from tumorseg.storage.cases import CaseArrays, store_case
folder, times, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
image = np.random.default_rng(0).normal(size=(2, 9, 70, 37)).astype(np.float32)
segmentation = (image[0] > 1).astype(np.int8)
locations = np.argwhere(segmentation).astype(np.int32)
record = StoredCase(case_id="case 1", shape=segmentation.shape, spacing_mm=(3, 1, 1), num_channels=2, class_voxels=np.bincount(segmentation.ravel()).tolist(),
                    location_starts=(0, 0, len(locations)))
for number in range(times):
    store_case(folder, f"key{number}", record, CaseArrays(image, segmentation, locations))
"""


def arrays_of(seed=0, shape=SHAPE):
    image = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)
    segmentation = (image[0] > 1).astype(np.int8)
    return CaseArrays(image, segmentation, np.argwhere(segmentation).astype(np.int32))


def record_of(arrays, case_id="case 1"):
    return StoredCase(
        case_id=case_id,
        shape=arrays.segmentation.shape,
        spacing_mm=(3, 1, 1),
        num_channels=len(arrays.image),
        class_voxels=tuple(np.bincount(arrays.segmentation.ravel(), minlength=2).tolist()),
        location_starts=(0, 0, len(arrays.locations)),
    )


def put(folder, key="key", arrays=None):
    arrays = arrays or arrays_of()
    store_case(folder, key, record_of(arrays), arrays)
    return arrays


def opened(folder, key="key"):
    return CaseStore(folder, {"case 1": key})


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    return put(folder), opened(folder)


def test_a_case_comes_back_as_it_was_stored(stored):
    arrays, store = stored
    image, segmentation = store.read("case 1", WHOLE)
    assert image.dtype == np.float32
    assert segmentation.dtype == np.int8
    assert np.array_equal(image, arrays.image)
    assert np.array_equal(segmentation, arrays.segmentation)
    assert store.case_ids == ("case 1",)
    assert store.shape("case 1") == SHAPE


@given(st.tuples(*[st.tuples(st.integers(-20, size), st.integers(1, size + 20)) for size in SHAPE]))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reading_a_box_equals_slicing_the_whole(stored, starts):
    arrays, store = stored
    box = tuple((lower, lower + edge) for lower, edge in starts)
    index = box_slices(inside(box, SHAPE))
    image, segmentation = store.read("case 1", box)
    assert np.array_equal(image, arrays.image[index])
    assert np.array_equal(segmentation, arrays.segmentation[index])


def test_locations_are_found_by_class_and_number(stored):
    arrays, store = stored
    assert store.num_locations("case 1", 0) == 0
    assert store.supervised_classes("case 1") == ()
    assert [store.num_voxels("case 1", index) for index in (0, 1)] == np.bincount(arrays.segmentation.ravel()).tolist()
    assert store.num_locations("case 1", 1) == len(arrays.locations)
    for number in (0, 17, len(arrays.locations) - 1):
        assert store.location("case 1", 1, number) == tuple(arrays.locations[number].tolist())


@pytest.mark.parametrize("shape", [(1, 5, 7), (1, 1, 1), (3, 1, 130)])
def test_thin_cases_and_cases_of_background_are_stored(tmp_path, shape):
    arrays = CaseArrays(np.zeros((1, *shape), np.float32), np.zeros(shape, np.int16), np.zeros((0, 3), np.int32))
    put(tmp_path, arrays=arrays)
    store = opened(tmp_path)
    image, segmentation = store.read("case 1", tuple((0, size) for size in shape))
    assert image.shape == (1, *shape)
    assert segmentation.dtype == np.int16
    assert store.num_locations("case 1", 1) == 0


def test_views_of_other_memory_orders_are_stored_in_the_order_of_their_axes(tmp_path):
    arrays = arrays_of()
    turned = CaseArrays(
        arrays.image[:, ::-1].swapaxes(2, 3), arrays.segmentation[::-1].swapaxes(1, 2), arrays.locations
    )
    put(tmp_path, arrays=turned)
    image, segmentation = opened(tmp_path).read("case 1", ((0, 9), (0, 37), (0, 70)))
    assert np.array_equal(image, turned.image)
    assert np.array_equal(segmentation, turned.segmentation)


def test_a_case_is_stored_once_its_folder_is_whole(tmp_path):
    assert not is_stored(tmp_path, "key")
    put(tmp_path)
    assert is_stored(tmp_path, "key")
    assert os.listdir(tmp_path) == ["key"]


def test_storing_again_keeps_what_is_there(tmp_path):
    first = put(tmp_path)
    put(tmp_path, arrays=arrays_of(seed=1))
    assert np.array_equal(opened(tmp_path).read("case 1", WHOLE)[0], first.image)
    assert os.listdir(tmp_path) == ["key"]


def test_a_folder_left_without_its_record_does_not_stop_a_later_run(tmp_path):
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "image.b2nd").write_bytes(b"half")
    arrays = put(tmp_path)
    assert np.array_equal(opened(tmp_path).read("case 1", WHOLE)[0], arrays.image)


def test_a_missing_case_is_named_with_the_verb_that_mends_it(tmp_path):
    with pytest.raises(StorageError, match=r"case 1: not in the case store .*key is missing.*`tumorseg preprocess`"):
        opened(tmp_path)


def test_a_damaged_record_is_a_storage_error(tmp_path):
    put(tmp_path)
    (tmp_path / "key" / "case.json").write_text("{")
    with pytest.raises(StorageError, match=r"case\.json is damaged"):
        opened(tmp_path)
    assert not is_stored(tmp_path, "key")  # so that preprocessing mends it
    (tmp_path / "key" / "case.json").unlink()
    with pytest.raises(StorageError, match=r"case\.json is damaged"):
        opened(tmp_path)


def damage(path, how):
    raw = path.read_bytes()
    middle = len(raw) // 2
    path.write_bytes(
        {
            "empty": b"",
            "cut in half": raw[:middle],
            "one byte short": raw[:-1],
            "zeros": bytes(len(raw)),
            "zeros in the middle": raw[: middle - 500] + bytes(1000) + raw[middle + 500 :],
            "text": b"x" * len(raw),
        }[how]
    )


@pytest.mark.parametrize("name", ["image.b2nd", "segmentation.b2nd"])
@pytest.mark.parametrize("how", ["empty", "cut in half", "one byte short", "zeros", "zeros in the middle", "text"])
def test_a_damaged_array_is_a_storage_error_that_names_case_and_cure(tmp_path, name, how):
    put(tmp_path)
    damage(tmp_path / "key" / name, how)
    store = opened(tmp_path)
    with pytest.raises(StorageError, match=rf"case 1: .*{name} is damaged; delete the folder .*key and run"):
        store.read("case 1", WHOLE)


@pytest.mark.parametrize("how", ["empty", "cut in half", "text"])
def test_damaged_locations_are_a_storage_error(tmp_path, how):
    put(tmp_path)
    damage(tmp_path / "key" / "locations.b2nd", how)
    store = opened(tmp_path)
    with pytest.raises(StorageError, match=r"case 1: .*locations.b2nd is damaged"):
        [store.location("case 1", 1, number) for number in range(0, store.num_locations("case 1", 1), 50)]


def test_an_array_that_is_gone_is_a_storage_error(tmp_path):
    put(tmp_path)
    (tmp_path / "key" / "image.b2nd").unlink()
    with pytest.raises(StorageError, match=r"case 1: .*image.b2nd is damaged"):
        opened(tmp_path).read("case 1", WHOLE)


def storing(folder, times=1, limit=0):
    command = [sys.executable, "-c", STORING, str(folder), str(times), str(limit)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_that_store_the_same_cases_corrupt_nothing(tmp_path):
    runs = [storing(tmp_path, times=12) for _ in range(2)]
    for run in runs:
        assert run.communicate()[1] == ""
        assert run.returncode == 0
    expected = arrays_of()
    assert sorted(os.listdir(tmp_path)) == sorted(f"key{number}" for number in range(12))
    for number in range(12):
        image, segmentation = opened(tmp_path, f"key{number}").read("case 1", WHOLE)
        assert np.array_equal(image, expected.image)
        assert np.array_equal(segmentation, expected.segmentation)


def test_a_full_disk_leaves_nothing_of_a_case(tmp_path):
    run = storing(tmp_path, limit=20_000)
    assert "StorageError" in run.communicate()[1]
    assert run.returncode == 1
    assert os.listdir(tmp_path) == []


def test_only_old_leftovers_are_removed(tmp_path):
    put(tmp_path)
    for name, age_s in {"old": 7200, "new": 60}.items():
        partial = tmp_path / f".partial-{name}-1"
        shutil.copytree(tmp_path / "key", partial)
        then = partial.stat().st_mtime - age_s
        os.utime(partial, (then, then))
    remove_stale(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".partial-new-1", "key"]


def preprocessing(**changes):
    fields = {
        "orientation": "RAS",
        "transpose": (0, 1, 2),
        "spacing_mm": (1, 1, 1),
        "normalization": (NoNormalization(),),
        "resampling": ResamplingSpec(),
    }
    return Preprocessing(**(fields | changes))


def targets_of(*values, ignore=None):
    names = tuple(f"label {value}" for value in values)
    return Targets(label_values=(0, *values), label_names=("background", *names), ignore_value=ignore)


def test_a_case_has_another_address_if_anything_that_shapes_it_changes():
    keys = {
        case_key("a", preprocessing(), targets_of(1, 2)),
        case_key("b", preprocessing(), targets_of(1, 2)),
        case_key("a", preprocessing(spacing_mm=(1, 1, 2)), targets_of(1, 2)),
        case_key("a", preprocessing(transpose=(1, 0, 2)), targets_of(1, 2)),
        case_key("a", preprocessing(resampling=ResamplingSpec(image_order=1)), targets_of(1, 2)),
        case_key("a", preprocessing(store_version=99), targets_of(1, 2)),
        case_key("a", preprocessing(), targets_of(1, 3)),
        case_key("a", preprocessing(), targets_of(1, 2, ignore=9)),
    }
    assert len(keys) == 8
    assert case_key("a", preprocessing(), targets_of(1, 2)) in keys


def test_names_and_regions_do_not_change_the_address():
    plain = targets_of(1, 2)
    renamed = plain.model_copy(update={"label_names": ("background", "a", "b"), "regions": ((1, 2),)})
    assert case_key("a", preprocessing(), plain) == case_key("a", preprocessing(), renamed)


@pytest.mark.parametrize("name", ["image.b2nd", "segmentation.b2nd", "locations.b2nd"])
def test_a_case_without_one_of_its_arrays_is_not_stored(tmp_path, name):
    put(tmp_path)
    (tmp_path / "key" / name).unlink()
    assert not is_stored(tmp_path, "key")
    put(tmp_path)
    assert is_stored(tmp_path, "key")


def flipped(path, place=0.5):
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * place)] ^= 0x40
    path.write_bytes(raw)


@pytest.mark.parametrize("name", ["image.b2nd", "segmentation.b2nd", "locations.b2nd"])
def test_one_bit_of_an_array_is_noticed_before_the_first_look_and_by_a_full_comparison(tmp_path, name):
    put(tmp_path)
    flipped(tmp_path / "key" / name)
    assert is_stored(tmp_path, "key")
    assert not is_stored(tmp_path, "key", in_full=True)
    with pytest.raises(StorageError, match=rf"case 1: .*{name} is damaged; delete the folder .*key and run"):
        opened(tmp_path).location("case 1", 1, 0) if name == "locations.b2nd" else opened(tmp_path).read(
            "case 1", WHOLE
        )
    put(tmp_path)
    assert is_stored(tmp_path, "key", in_full=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("location_starts", [0, 0]),
        ("location_starts", [10**6, 10**6, 2 * 10**6]),
        ("class_voxels", [17]),
        ("shape", [27, 210, 111]),
        ("spacing_mm", [3.0, 1.0, 1.25]),
    ],
)
def test_a_record_that_was_changed_is_as_good_as_none(tmp_path, field, value):
    put(tmp_path)
    path = tmp_path / "key" / "case.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    assert not is_stored(tmp_path, "key")
    with pytest.raises(StorageError, match=r"case\.json is damaged"):
        opened(tmp_path)


def test_a_case_under_the_name_of_another_and_one_without_a_seal_are_not_stored(tmp_path):
    put(tmp_path)
    (tmp_path / "key").rename(tmp_path / "other")
    assert not is_stored(tmp_path, "other")
    (tmp_path / "other").rename(tmp_path / "key")
    path = tmp_path / "key" / "case.json"
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "seal"}))
    assert not is_stored(tmp_path, "key")


@pytest.mark.parametrize(
    "changes",
    [
        {"location_starts": (0, 0)},
        {"location_starts": (0, 9, 8)},
        {"location_starts": (1, 1, 2)},
        {"location_starts": (0, 0, 10**6)},
        {"class_voxels": (-1, 30)},
        {"class_voxels": (10**6, 30)},
        {"shape": (9, 0, 37)},
        {"num_channels": 0},
    ],
)
def test_a_record_whose_parts_disagree_is_none(changes):
    with pytest.raises(ValidationError):
        record_of(arrays_of()).changed(**changes)


def test_arrays_of_another_shape_than_the_record_says_are_damage(tmp_path):
    arrays = arrays_of()
    small = CaseArrays(arrays.image[:, 1:], arrays.segmentation, arrays.locations)
    store_case(tmp_path, "key", record_of(arrays), small)
    with pytest.raises(StorageError, match=r"image\.b2nd is damaged"):
        opened(tmp_path).read("case 1", WHOLE)


def test_a_file_is_compared_once(tmp_path, monkeypatch):
    put(tmp_path)
    store, looks = opened(tmp_path), []
    monkeypatch.setattr(cases, "is_intact", lambda path, seal, **how: looks.append(path.name) or True)
    for _ in range(3):
        store.read("case 1", WHOLE)
    assert looks == ["image.b2nd", "segmentation.b2nd"]


def test_a_previous_segmentation_is_compared_too(tmp_path):
    arrays = put(tmp_path)
    path = tmp_path / "key" / previous_name("0f")
    assert not is_previous_stored(path)
    store_previous(path, arrays.segmentation)
    assert is_previous_stored(path)
    shown = {"case 1": path.name}
    assert np.array_equal(
        CaseStore(tmp_path, {"case 1": "key"}, shown).read_previous("case 1", WHOLE), arrays.segmentation
    )
    flipped(path)
    with pytest.raises(StorageError, match=r"previous_0f\.b2nd is damaged"):
        CaseStore(tmp_path, {"case 1": "key"}, shown).read_previous("case 1", WHOLE)
    path.with_suffix(".json").unlink()
    assert not is_previous_stored(path)


def test_threads_that_want_the_same_file_compare_it_once(tmp_path, monkeypatch):
    put(tmp_path)
    store, looks, begin = opened(tmp_path), [], threading.Barrier(4)

    def compare(path, _seal, **_how):
        looks.append(path.name)
        time.sleep(0.02)  # time for the others to come
        return True

    def read(_number):
        begin.wait()
        return store.read("case 1", WHOLE)

    monkeypatch.setattr(cases, "is_intact", compare)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, range(4)))
    assert sorted(looks) == ["image.b2nd", "segmentation.b2nd"]


def test_a_damaged_case_leaves_the_store_at_once(tmp_path, monkeypatch):
    put(tmp_path)
    flipped(tmp_path / "key" / "image.b2nd")
    removed, remove = [], shutil.rmtree

    def watch(folder, **how):
        # In the middle of the removal there is no case, rather than half of one.
        removed.append((Path(folder).name.startswith(".partial-"), (tmp_path / "key").exists()))
        remove(folder, **how)

    monkeypatch.setattr(cases.shutil, "rmtree", watch)
    put(tmp_path)
    assert removed[0] == (True, False)
    assert all(is_partial for is_partial, _ in removed)
    assert os.listdir(tmp_path) == ["key"]
    assert is_stored(tmp_path, "key", in_full=True)


def test_a_drive_that_fails_does_not_make_a_case_anew(tmp_path, monkeypatch):
    put(tmp_path)

    def fail(path, *_args):
        raise OSError(errno.EIO, "Input/output error", path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", fail)
        with pytest.raises(StorageError, match="check the drive"):
            is_stored(tmp_path, "key", in_full=True)
    assert is_stored(tmp_path, "key", in_full=True)


def test_cases_of_the_version_without_seals_have_another_address():
    assert cases.STORE_VERSION > 2
