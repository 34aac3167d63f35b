import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest

from tests.sources import layouts
from tests.storage.web import Web
from tumorseg.cli.main import run
from tumorseg.errors import InputError, StorageError, TumorsegError
from tumorseg.schema.quantities import bytes_text
from tumorseg.sources.registry import REGISTERED, Archive, open_dataset
from tumorseg.stages.datasets.fetch import FetchRequest, fetch
from tumorseg.stages.opening.loaded import Roots
from tumorseg.storage.downloads import download
from tumorseg.storage.layout import FetchFiles
from tumorseg.storage.locks import hold_folder

NAME, FOLDER = "MSD_Hippocampus", "Task04_Hippocampus"

# Fetches from the address and with the checksum that are given first; the rest is a command line.
FETCHING = f"""
import sys
from tumorseg.cli.main import run
from tumorseg.sources.registry import REGISTERED, Archive
REGISTERED["{NAME}"] = REGISTERED["{NAME}"]._replace(archive=Archive(*sys.argv[1:3]))
sys.exit(run(sys.argv[3:]))
"""


def hidden(name):
    info = tarfile.TarInfo(name)
    info.size = 3
    return info


def archive_of(folder, name=FOLDER):
    """Return a tar of a folder as a Mac writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(hidden(f"._{name}"), io.BytesIO(b"mac"))
        tar.add(folder, name)
        tar.addfile(hidden(f"{name}/imagesTr/._case_a.nii.gz"), io.BytesIO(b"mac"))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return archive_of(layouts.write_msd(tmp_path_factory.mktemp("small") / FOLDER))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = layouts.write_msd(tmp_path_factory.mktemp("large") / FOLDER)
    for number in range(20):
        (folder / f"noise_{number}").write_bytes(np.random.default_rng(number).bytes(100_003))
    return archive_of(folder)


@pytest.fixture
def web(small, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSES_S", (0.0, 0.0))
    with Web(small) as served:
        register(served, monkeypatch)
        yield served


def register(web, monkeypatch, name=NAME, md5=None):
    archive = Archive(web.url, md5 or hashlib.md5(web.content).hexdigest())
    monkeypatch.setitem(REGISTERED, name, REGISTERED[name]._replace(archive=archive))


def request(root, *names, **options):
    return FetchRequest(roots=Roots(data_root=root), names=names or (NAME,), **options)


def left(root):
    """Return what lies in a folder, but for locks."""
    return sorted(name for name in os.listdir(root) if not name.endswith(".lock"))


def test_a_dataset_is_fetched_and_opens(web, tmp_path):
    root = tmp_path / "new" / "data"
    (done,) = fetch(request(root))
    assert done == (NAME, root / FOLDER, 3, False)
    assert left(root) == [FOLDER]
    assert open_dataset(NAME, root).name == NAME
    assert not list(root.rglob("._*"))


def test_a_dataset_may_be_named_by_its_folder_and_twice(web, tmp_path):
    assert len(fetch(request(tmp_path, FOLDER, NAME))) == 1


def test_a_dataset_that_is_there_is_left_alone(web, tmp_path):
    layouts.write_msd(tmp_path / FOLDER, ids=["mine"])
    (done,) = fetch(request(tmp_path))
    assert (done.num_cases, done.was_there) == (1, True)
    assert web.asked == []
    assert os.listdir(tmp_path) == [FOLDER]


def test_a_dataset_in_a_folder_of_the_registered_name_is_there(web, tmp_path):
    layouts.write_msd(tmp_path / NAME)
    (done,) = fetch(request(tmp_path))
    assert (done.path, done.was_there) == (tmp_path / NAME, True)


def test_a_dataset_that_cannot_be_fetched_but_is_there_is_no_error(tmp_path):
    layouts.write_brats(tmp_path / "BraTS2021")
    assert fetch(request(tmp_path, "BraTS2021"))[0].num_cases == 3


def test_files_that_are_missing_are_told(web, tmp_path, caplog):
    (layouts.write_msd(tmp_path / FOLDER) / "imagesTr" / "case_a.nii.gz").unlink()
    fetch(request(tmp_path))
    assert "1 of 6 files are missing, such as" in caplog.text


def test_a_folder_that_is_no_dataset_is_never_touched(web, tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is there, but is no sound dataset; move it away and fetch again"):
        fetch(request(tmp_path))
    assert (tmp_path / FOLDER / "notes.txt").read_text() == "mine"
    assert web.asked == []


def test_a_file_in_the_way_is_told_before_anything_is_fetched(web, tmp_path):
    (tmp_path / FOLDER).write_text("mine")
    with pytest.raises(InputError, match="found a link or file where the dataset's folder belongs"):
        fetch(request(tmp_path))
    assert web.asked == []


def test_an_archive_is_kept_on_request_and_used_later(web, small, tmp_path):
    fetch(request(tmp_path, keep_archive=True))
    assert left(tmp_path) == [FOLDER, f"{FOLDER}.tar"]
    assert (tmp_path / f"{FOLDER}.tar").read_bytes() == small
    (tmp_path / FOLDER).rename(tmp_path / "moved")
    web.asked.clear()
    fetch(request(tmp_path))
    assert web.asked == []
    assert left(tmp_path) == [FOLDER, f"{FOLDER}.tar", "moved"]


def test_another_archive_of_the_user_is_refused_and_kept(web, tmp_path):
    (tmp_path / f"{FOLDER}.tar").write_bytes(b"mine")
    with pytest.raises(InputError, match=rf"{FOLDER}\.tar: its MD5 is [0-9a-f]{{32}}, expected [0-9a-f]{{32}}"):
        fetch(request(tmp_path))
    assert (tmp_path / f"{FOLDER}.tar").read_bytes() == b"mine"


def test_a_wrong_checksum_names_both_and_leaves_nothing(web, tmp_path, monkeypatch):
    true = hashlib.md5(web.content).hexdigest()
    register(web, monkeypatch, md5="0" * 32)
    with pytest.raises(StorageError, match=f"has the MD5 {true}, expected {'0' * 32}; it was removed") as error:
        fetch(request(tmp_path))
    assert "\n" not in str(error.value)
    assert left(tmp_path) == []
    register(web, monkeypatch)
    assert fetch(request(tmp_path))[0].num_cases == 3


def test_a_connection_that_is_cut_is_taken_up(web, tmp_path):
    web.cuts = [5000, 4000, 3000]
    fetch(request(tmp_path))
    assert web.asked == [None, "bytes=5000-", "bytes=9000-", "bytes=12000-"]


def test_an_archive_with_anything_unsafe_leaves_no_dataset(web, small, tmp_path, monkeypatch):
    buffer = io.BytesIO(small)
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        tar.addfile(hidden("../evil"), io.BytesIO(b"bad"))
    web.content = buffer.getvalue()
    register(web, monkeypatch)
    with pytest.raises(InputError, match=r"'\.\./evil' leads out of the folder"):
        fetch(request(tmp_path / "data"))
    assert left(tmp_path / "data") == [f"{FOLDER}.tar.partial", f"{FOLDER}.tar.partial.json"]
    assert os.listdir(tmp_path) == ["data"]


def test_an_archive_of_something_else_is_not_put_in_place(web, tmp_path, monkeypatch):
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "readme").write_text("no dataset")
    web.content = archive_of(tmp_path / "else")
    register(web, monkeypatch)
    with pytest.raises(InputError, match=f"holds no sound dataset: {FOLDER}: found no dataset that tumorseg knows"):
        fetch(request(tmp_path / "data"))
    assert FOLDER not in left(tmp_path / "data")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["BraTS2021"], r"BraTS2021 cannot be fetched without registration; .*synapse\.org"),
        (["HECKTOR"], r"hecktor\.grand-challenge\.org"),
        ([NAME, "HECKTOR", "BraTS2023"], "HECKTOR, BraTS2023 cannot be fetched"),
        ([NAME, "MSD_Hart"], "did you mean MSD_Heart"),
    ],
)
def test_what_cannot_be_fetched_is_told_before_anything_is_fetched(web, tmp_path, names, message):
    with pytest.raises(InputError, match=message) as error:
        fetch(request(tmp_path, *names))
    assert "\n" not in str(error.value)
    assert web.asked == []


def test_a_dataset_that_fails_does_not_stop_the_others(web, tmp_path, monkeypatch):
    register(web, monkeypatch, "MSD_Heart", md5="1" * 32)
    with pytest.raises(TumorsegError, match=r"1 of 2 datasets failed, the others are there:\n  MSD_Heart: .*MD5"):
        fetch(request(tmp_path, "MSD_Heart", NAME))
    assert left(tmp_path) == [FOLDER]


def test_a_dataset_is_fetched_by_one_process_at_a_time(web, tmp_path):
    with (
        hold_folder(tmp_path / FOLDER, doing="fetched", error=StorageError),
        pytest.raises(StorageError, match="is being fetched by another process; wait for it"),
    ):
        fetch(request(tmp_path))
    assert web.asked == []
    assert fetch(request(tmp_path))[0].num_cases == 3


def test_leftovers_of_killed_runs_are_removed(web, tmp_path):
    files = FetchFiles(layouts.write_msd(tmp_path / FOLDER))
    (files.unpacking / FOLDER).mkdir(parents=True)
    files.partial.write_bytes(b"whole")
    files.version.write_text("{}")
    assert fetch(request(tmp_path))[0].was_there
    assert left(tmp_path) == [FOLDER]


def start(web, root, *options):
    command = [sys.executable, "-c", FETCHING, web.url, hashlib.md5(web.content).hexdigest(), "--data-root", str(root)]
    return subprocess.Popen(
        [*command, *options, "data", "fetch", NAME],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def content_of(folder):
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.name + path.parent.name: path.read_bytes() for path in paths}


def wait_for(is_true, seconds=60):
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def has_come(files, num_bytes):
    return files.partial.is_file() and files.partial.stat().st_size > num_bytes


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, -15)])
def test_a_fetch_that_is_ended_goes_on_where_it_was(web, large, tmp_path, number, code):
    web.content, web.pause_s = large, 0.004
    files = FetchFiles(tmp_path / FOLDER)
    first = start(web, tmp_path)
    wait_for(lambda: has_come(files, 200_000))
    os.kill(first.pid, number)
    _, said = first.communicate(timeout=60)
    assert first.returncode == code
    assert code != 130 or "interrupted; the same command goes on where it stopped" in said
    kept = files.partial.stat().st_size
    assert 200_000 < kept < len(large)
    web.pause_s = 0
    second = start(web, tmp_path, "--json")
    out, said = second.communicate(timeout=60)
    assert second.returncode == 0, said
    assert json.loads(out)["datasets"] == [
        {"name": NAME, "path": str(files.target), "num_cases": 3, "was_there": False}
    ]
    assert web.asked == [None, f"bytes={kept}-"]
    assert web.sent[1] == len(large) - kept
    assert left(tmp_path) == [FOLDER]


@pytest.mark.slow
@pytest.mark.parametrize("num_kills", [3, pytest.param(10, marks=pytest.mark.long)])
def test_a_fetch_killed_at_random_moments_ends_whole(web, large, tmp_path, num_kills):
    web.content, web.pause_s = large, 0.001
    root, moments, kills, ends = tmp_path / "data", random.Random(0), 0, 0
    began = time.monotonic()
    start(web, tmp_path / "whole").communicate(timeout=60)
    seconds, whole = time.monotonic() - began, content_of(tmp_path / "whole")
    assert len(whole) == 28  # with the mark of what was fetched
    while kills < num_kills or not ends:
        process = start(web, root)
        try:
            out, said = process.communicate(timeout=moments.uniform(0.4, 1.0) * seconds if kills < num_kills else 60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            assert not (root / FOLDER).exists() or content_of(root / FOLDER) == whole
            continue
        assert process.returncode == 0, said
        assert out.startswith(f"{NAME}: 3 cases in {root / FOLDER}")
        assert left(root) == [FOLDER]
        assert content_of(root) == whole
        shutil.rmtree(root)
        ends += 1


def test_two_fetches_at_once_end_with_one_whole_dataset(web, large, tmp_path):
    web.content, web.pause_s = large, 0.05
    files = FetchFiles(tmp_path / FOLDER)
    first = start(web, tmp_path)
    wait_for(lambda: has_come(files, 0))
    second = start(web, tmp_path)
    _, said = second.communicate(timeout=60)
    web.pause_s = 0
    assert second.returncode == 1
    assert f"{FOLDER} is being fetched by another process" in said
    out, said = first.communicate(timeout=60)
    assert (first.returncode, out) == (0, f"{NAME}: 3 cases in {files.target}\n"), said
    assert web.asked == [None]


def test_lines_tell_people_what_happens(web, tmp_path, capsys):
    web.cuts = [5000]
    assert run(["--data-root", str(tmp_path), "data", "fetch", NAME]) == 0
    out, err = capsys.readouterr()
    assert out == f"{NAME}: 3 cases in {tmp_path / FOLDER}\n"
    lines = err.splitlines()
    assert f"fetch {FOLDER}: the connection ended after {bytes_text(5000, len(web.content))}; next try in 0 s" in lines
    assert [line.split(":")[0] for line in lines if "took" in line] == [
        f"{verb} {FOLDER}" for verb in ("fetch", "verify", "unpack")
    ]
    assert run(["--data-root", str(tmp_path), "-q", "data", "fetch", NAME]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (f"{NAME}: 3 cases in {tmp_path / FOLDER} (was there)\n", "")


def test_a_failure_is_one_line_and_exits_1(tmp_path, capsys):
    assert run(["--data-root", str(tmp_path), "data", "fetch", "BraTS2021"]) == 1
    assert capsys.readouterr().err.startswith("error: BraTS2021 cannot be fetched without registration; get")


def test_nothing_in_what_was_fetched_may_lead_outside_whatever_is_allowed(web, tmp_path):
    (done,) = fetch(request(tmp_path / "data"))
    layouts.save(tmp_path / "outside.nii.gz", layouts.image(0, 0))
    pair = {"image": "../../outside.nii.gz", "label": "labelsTr/case_a.nii.gz"}
    layouts.edit_json(done.path, training=[pair])
    for name, root in ((NAME, done.path.parent), (str(done.path), tmp_path)):
        with pytest.raises(InputError, match="`data fetch` unpacked this folder, and nothing in it may lead outside"):
            open_dataset(name, root, allow_outside=True)
    below = layouts.write_nnunet(done.path / "below")
    (below / "imagesTr/case_a_0000.nii.gz").unlink()
    (below / "imagesTr/case_a_0000.nii.gz").symlink_to(tmp_path / "outside.nii.gz")
    with pytest.raises(InputError, match=r"is a link that leaves .* `data fetch` unpacked this folder"):
        open_dataset(str(below), tmp_path, allow_outside=True)
    shutil.copytree(below, tmp_path / "own", symlinks=True)  # what the user makes of it is the user's
    assert len(open_dataset(str(tmp_path / "own"), tmp_path, allow_outside=True).cases) == 3


def test_an_archive_whose_manifest_leads_outside_is_not_put_in_place(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = layouts.write_json_manifest(tmp_path / "packed" / FOLDER)
    layouts.edit_json(
        folder, "manifest.json", cases=[{"case_id": "a", "images": ["/etc/hostname", "T2/case_a.nii.gz"]}]
    )
    with Web(archive_of(folder)) as web:
        register(web, monkeypatch)
        with pytest.raises(
            InputError, match=r"names files outside its folder, such as /etc/hostname; it was not put in"
        ):
            fetch(request(tmp_path / "data"))
    assert FOLDER not in left(tmp_path / "data")
