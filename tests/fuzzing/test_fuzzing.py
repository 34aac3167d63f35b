import gzip
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from benchmarks.fuzzing import container_edits, documents, header_edits, images, stores
from benchmarks.fuzzing.byte_edits import PLAIN, empty
from benchmarks.fuzzing.child import Watch, ended, sound_folders
from benchmarks.fuzzing.inputs import make_input, make_inputs, write_input
from benchmarks.fuzzing.messages import fault_of

ROOT = Path(__file__).parents[2]
SOUND = [{"a.json": b'{"size": [1, 2], "name": "one"}', "b.nii.gz": gzip.compress(bytes(400), mtime=0)}]
TEXT = b"a text of some length, " * 20
TARGETS = {**images.TARGETS, **documents.TARGETS, **stores.TARGETS}
SAMPLE = (
    "nifti",
    "nifti_gzip",
    "nrrd",
    "nrrd_detached",
    "mha",
    "mhd",
    "png",
    "tiff",
    "lists",
    "scores",
    "case_store",
    "checkpoint",
)
"""Targets whose sound folders are made in some milliseconds."""


def tar_of(names):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 600
            tar.addfile(member, io.BytesIO(bytes(600)))
    return buffer.getvalue()


def test_an_input_is_a_function_of_its_target_and_its_number():
    made = [make_input("plan", number, SOUND) for number in range(60)]
    assert made == [make_input("plan", number, SOUND) for number in range(60)]
    assert len({repr(one) for one in made}) > 50
    assert made[3] != make_input("preset", 3, SOUND)
    assert all(one.steps for one in made)


def test_inputs_that_are_read_at_once_lie_in_a_folder_each():
    made = make_inputs("workers", 7, SOUND, 3)
    assert {name.partition("/")[0] for name in made.files} == {"0000", "0001", "0002"}
    assert made.files["0001/a.json"] == make_input("workers", 8, SOUND).files["a.json"]


@pytest.mark.parametrize("edit", [*PLAIN, empty])
def test_bytes_are_changed_whatever_their_number(edit):
    rng = random.Random(1)
    assert any(edit(rng, TEXT) != TEXT for _ in range(5))
    assert isinstance(edit(rng, b""), bytes)


def test_what_was_packed_is_sound_outside_and_damaged_inside():
    rng, edit = random.Random(0), container_edits.packed_by_gzip(PLAIN)
    assert gzip.decompress(edit(rng, gzip.compress(TEXT))) != TEXT


def test_entries_of_a_zip_have_the_checksums_of_what_they_hold_now():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", TEXT)
    for seed in range(20):
        with zipfile.ZipFile(io.BytesIO(container_edits.edit_zip(random.Random(seed), buffer.getvalue()))) as archive:
            assert archive.testzip() is None


def test_headers_of_a_tar_have_the_checksums_of_what_they_say_now():
    sound = tar_of(["Set/a", "Set/b"])
    changed = [container_edits.edit_tar(random.Random(seed), sound) for seed in range(20)]
    assert sum(one != sound for one in changed) > 15
    for one in changed:
        start = next(start for start in range(0, len(one), 512) if one[start + 257 : start + 262] == b"ustar")
        block = bytearray(one[start : start + 512])
        stated = int(bytes(block[148:154]), 8)
        block[148:156] = b" " * 8
        assert sum(block) == stated


def test_chunks_of_a_png_have_the_checksums_of_what_they_hold_now(tmp_path):
    images.TARGETS["png"].make(tmp_path)
    sound = (tmp_path / "grey" / "image.png").read_bytes()
    for seed in range(10):
        changed, position = header_edits.edit_png(random.Random(seed), sound), 8
        while position < len(changed):
            end = position + 8 + int.from_bytes(changed[position : position + 4], "big")
            assert zlib.crc32(changed[position + 4 : end]) == int.from_bytes(changed[end : end + 4], "big")
            position = end + 4


def test_elements_of_dicom_are_found_in_sequences_too():
    inside = b"\x08\x00\x60\x00CS\x02\x00CT"
    item = b"\xfe\xff\x00\xe0" + len(inside).to_bytes(4, "little") + inside
    sequence = b"\x40\x00\x00\x01SQ\x00\x00" + len(item).to_bytes(4, "little") + item
    found = list(header_edits.elements_of(bytes(128) + b"DICM" + sequence + inside))
    assert [one.kind for one in found] == [b"SQ", b"CS", b"CS"]


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (["a.nii: found 2 axes, expected 3; convert it"], ""),
        (["2 cases failed:", "a: cut off", "b: empty"], ""),
        (["one\ntwo"], "control characters '\\n'"),
        (["2 cases failed:", "a \x1b[31mred\x1b[0m name"], "control characters '\\x1b'"),
        (["tail\u202egnp.exe"], "control characters '\\u202e'"),
        (["9" * 10_000], "a message of 10000 characters"),
    ],
)
def test_lines_are_of_plain_characters_and_can_be_read(lines, fault):
    assert fault_of(lines).startswith(fault)
    assert bool(fault_of(lines)) == bool(fault)


def test_what_is_written_elsewhere_is_seen(tmp_path):
    watch = Watch(tmp_path / "here")
    watch.is_on = True
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "out").symlink_to(tmp_path)
    writing = os.O_WRONLY | os.O_CREAT
    watch.audit("open", (str(tmp_path / "here" / "file"), "w", writing))
    watch.audit("open", (str(tmp_path / "elsewhere"), "r", os.O_RDONLY))
    watch.audit("os.remove", (str(tmp_path / "here" / "out"), -1))
    assert not watch.found
    watch.audit("open", (str(tmp_path / "here" / "out" / "file"), "w", writing))
    watch.audit("os.rename", (str(tmp_path / "here" / "file"), str(tmp_path / "here" / ".." / "file"), -1, -1))
    watch.audit("os.remove", (str(tmp_path / "other"), -1))
    assert len(watch.found) == 3
    watch.audit("os.system", (b"true",))
    assert len(watch.found) == 4


@pytest.mark.parametrize("name", SAMPLE)
def test_damaged_inputs_end_in_a_value_or_in_one_line(tmp_path, name):
    target = TARGETS[name]
    sound = sound_folders(target, tmp_path / "sound")
    for number in range(8):
        made = make_input(name, number, sound)
        write_input(made, tmp_path / str(number))
        end = ended(lambda place=tmp_path / str(number): target.read(place))
        assert end.is_right, (made.steps, end.text)


def run(*words, seconds):
    command = [sys.executable, "-B", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.mark.slow
def test_every_way_to_fail_is_told_from_the_others_and_leaves_its_input(tmp_path):
    done = run("-m", "tests.fuzzing.toys", str(tmp_path), seconds=300)
    found = json.loads(done.stdout)
    assert found["ends"] == {name: {name.removesuffix(" by removal"): 2} for name in found["ends"]}
    assert len(found["ends"]) == 11
    assert set(found["kept"]) == found["ends"].keys() - {"value", "refused"}
    assert found["again"] == "log"


@pytest.mark.slow
def test_a_sample_of_every_target_is_read_within_limits(tmp_path):
    keep = str(tmp_path / "keep")
    done = run(
        "-m", "benchmarks.fuzz", "--inputs", "20", "--minutes", "1.5", "--result", "", "--keep", keep, seconds=600
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
