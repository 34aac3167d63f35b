import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from itertools import chain

import nibabel
import numpy as np
import pytest

from tests.stages.inference.test_nnunet_model import write_model
from tests.stages.models import AFFINE, Above, small_model, with_network, write_image
from tumorseg.cli.main import run
from tumorseg.errors import InputError, StorageError
from tumorseg.sources.inputs import open_inputs
from tumorseg.stages.inference.ensembles import alone
from tumorseg.stages.inference.predict import PredictRequest, predict
from tumorseg.stages.inference.predict_cases import NUM_LANES, Filling, num_lanes, predict_cases, sums_bytes
from tumorseg.stages.inference.shards import Shard, read_shard
from tumorseg.stages.opening.reading import expected_bytes
from tumorseg.storage.locks import hold_folder, hold_part

NAMES = [f"case{number}" for number in range(7)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def cases(tmp_path):
    for seed, name in enumerate(NAMES):
        write_image(tmp_path / "in", name, seed)
    return open_inputs([tmp_path / "in"], ["T1", "T2"]).cases


def masks_in(folder):
    return {path.name.removesuffix(".nii.gz"): path.read_bytes() for path in folder.glob("*.nii.gz")}


def record_in(folder, name="predictions.json"):
    return json.loads((folder / name).read_text())


def test_shards_divide_all_cases_by_their_ids_alone():
    ids = [f"patient_{number:05d}" for number in range(3000)]
    shards = [Shard(number, 4) for number in (1, 2, 3, 4)]
    found = [[case_id for case_id in ids if shard.has(case_id)] for shard in shards]
    assert sorted(chain.from_iterable(found)) == ids
    assert all(650 < len(part) < 850 for part in found)
    # By SHA-256, so that another machine, and another version, divides alike.
    assert [next(shard.number for shard in shards if shard.has(one)) for one in ("a", "b", "BRATS_001")] == [3, 3, 1]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "a/b", "1", "1/2/3", "-1/2"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(InputError, match=f"--shard {text}: expected i/n with i from 1 to n"):
        read_shard(text)
    assert read_shard("3/4") == Shard(3, 4)


def test_shards_leave_what_one_run_leaves(model, cases, tmp_path):
    predict_cases(alone(model), cases, tmp_path / "whole")
    for number in (1, 2, 3):
        made = predict_cases(alone(model), cases, tmp_path / "parts", filling=Filling(shard=Shard(number, 3)))
        assert made.files.keys() == {name for name in NAMES if Shard(number, 3).has(name)}
    assert masks_in(tmp_path / "parts") == masks_in(tmp_path / "whole")
    assert record_in(tmp_path / "parts") == record_in(tmp_path / "whole")
    assert record_in(tmp_path / "parts", "report.json")["cases"].keys() == set(NAMES)
    assert predict_cases(alone(model), cases, tmp_path / "parts").left_alone == tuple(NAMES)


def test_other_shards_masks_are_not_told_as_those_of_another_model(model, cases, tmp_path, caplog):
    predict_cases(alone(model), cases, tmp_path / "out")
    other = with_network(model, Above(1.0))._replace(weight_hashes=("other",))
    for number in (1, 2):
        predict_cases(alone(other), cases, tmp_path / "out", filling=Filling(shard=Shard(number, 2)))
    assert "other files too" not in caplog.text
    predict_cases(alone(model), cases, tmp_path / "fresh")
    assert masks_in(tmp_path / "out") != masks_in(tmp_path / "fresh")
    assert record_in(tmp_path / "out")["replaceable"] == {}


def request_of(tmp_path, **fields):
    if not (tmp_path / "model").is_dir():
        write_model(tmp_path / "model")
    return PredictRequest(
        models=(tmp_path / "model",),
        inputs=(tmp_path / "in",),
        output=tmp_path / "out",
        mirroring=False,
        device="cpu",
        **fields,
    )


def test_any_other_run_is_refused_while_a_shard_holds_the_folder(tmp_path, cases):
    one = Shard(1, 2)
    with hold_part((tmp_path / "out").resolve(), one.name, fits=one.fits, error=StorageError):
        for shard in (None, "1/2", "1/3"):
            with pytest.raises(StorageError, match="out is being written to as shard-1-of-2 by another process"):
                predict(request_of(tmp_path, shard=shard))
        assert predict(request_of(tmp_path, shard="2/2")).files.keys() == {name for name in NAMES if not one.has(name)}
    with (
        hold_folder((tmp_path / "out").resolve(), doing="written to", error=StorageError),
        pytest.raises(StorageError, match="out is being written to by another process"),
    ):
        predict(request_of(tmp_path, shard="1/2"))


def test_cases_go_in_two_lanes_unless_memory_is_short(model, cases, monkeypatch):
    assert num_lanes(alone(model), cases) == 2
    assert num_lanes(alone(model), cases[:1]) == 1
    monkeypatch.setattr("tumorseg.stages.inference.predict_cases.available_bytes", lambda: 200 * 2**20)
    assert num_lanes(alone(model), cases) == 1


def test_the_logits_of_a_row_of_tiles_count_once_beside_two_cases(model, cases, monkeypatch):
    plane = model.configuration.changed(median_shape=(40, 3000, 2000))
    large = model._replace(configuration=plane)
    assert sums_bytes(alone(large)) == 4 * 3 * plane.patch_size[0] * 3000 * 2000
    assert sums_bytes(alone(large), with_votes=True) == 2 * sums_bytes(alone(large))
    enough = NUM_LANES * expected_bytes(cases) + sums_bytes(alone(large))
    for available, lanes in ((enough, 2), (enough - 1, 1)):
        monkeypatch.setattr("tumorseg.stages.inference.predict_cases.available_bytes", lambda room=available: room)
        assert num_lanes(alone(large), cases) == lanes


def test_a_case_is_read_while_the_network_looks_at_another(model, cases, tmp_path):
    """The second case's image is changed while the first one is in the network: by then it was hashed, so it is noticed."""
    network = Above()
    changed = threading.Event()

    class Slow(Above):
        def forward(self, images):
            if not changed.is_set():
                time.sleep(0.5)
                write_image(tmp_path / "in", NAMES[1], seed=99)
                changed.set()
            return network(images)

    made = predict_cases(alone(with_network(model, Slow())), cases, tmp_path / "out")
    assert [failure.case_id for failure in made.failures] == [NAMES[1]]
    assert masks_in(tmp_path / "out").keys() == {*NAMES} - {NAMES[1]}


def command_of(request, *options):
    arguments = ["-m", request.models[0], "-i", request.inputs[0], "-o", request.output, "--no-mirroring"]
    words = [
        sys.executable,
        "-m",
        "tumorseg",
        "-q",
        "predict",
        *arguments,
        "--device",
        "cpu",
        "--engine",
        "torch",
        *options,
    ]
    return [str(word) for word in words]


def test_a_full_disk_leaves_whole_masks_and_a_table_and_the_next_run_does_the_rest(tmp_path, capsys):
    """One case's mask takes more bytes than a file may grow to."""
    for name in "abc":
        write_image(tmp_path / "in", name)
    large = np.random.default_rng(0).normal(size=(48, 48, 32)).astype(np.float32)
    for number in range(2):
        nibabel.save(nibabel.Nifti1Image(large, AFFINE), tmp_path / "in" / f"large_{number:04d}.nii.gz")
    request = request_of(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, limits[1]))
    try:
        assert run(command_of(request)[3:]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    told = capsys.readouterr().err
    assert "1 of 4 cases failed, the others are finished" in told
    assert "large  " in told
    assert "free disk space" in told
    assert masks_in(request.output).keys() == record_in(request.output)["cases"].keys() == {*"abc"}
    assert not list(request.output.glob(".*"))
    made = predict(request)
    assert (made.left_alone, made.files.keys()) == (("a", "b", "c"), {*"abc", "large"})


def started(request, *options):
    return subprocess.Popen(command_of(request, *options), stdout=subprocess.DEVNULL)


def wait_for_masks(folder, num):
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*.nii.gz"))) < num and time.monotonic() < deadline:
        time.sleep(0.001)


@pytest.mark.slow
def test_runs_that_are_killed_leave_whole_masks_and_end_as_one_that_is_not(tmp_path, cases):
    request, draws = request_of(tmp_path), random.Random(0)
    predict(request)
    expected, record = masks_in(request.output), record_in(request.output)
    for number, options in enumerate([(), ("--shard", "1/1"), (), ()]):
        killed = request.model_copy(update={"output": tmp_path / f"killed{number}"})
        process = started(killed, *options)
        wait_for_masks(killed.output, draws.randint(1, 5))
        time.sleep(draws.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        there = masks_in(killed.output)
        assert there
        assert there.items() <= expected.items()
        # All that was there but what was just being written is left alone.
        assert len(predict(killed).left_alone) >= len(there) - 2
        assert masks_in(killed.output) == expected
        assert record_in(killed.output) == record
        others = {path.name for path in killed.output.iterdir() if not path.name.endswith(".nii.gz")}
        assert others == {"predictions.json", "report.json"}


@pytest.mark.slow
def test_shards_run_at_once_and_one_that_is_killed_is_made_up_for(tmp_path, cases):
    request = request_of(tmp_path)
    shards = [started(request, "--shard", f"{number}/2") for number in (1, 2)]
    wait_for_masks(request.output, 1)
    os.kill(shards[0].pid, signal.SIGKILL)
    assert (shards[0].wait(), shards[1].wait(60)) == (-signal.SIGKILL, 0)
    subprocess.run(command_of(request, "--shard", "1/2"), check=True, stdout=subprocess.DEVNULL)
    assert masks_in(request.output).keys() == record_in(request.output)["cases"].keys() == set(NAMES)
    assert predict(request).left_alone == tuple(NAMES)
