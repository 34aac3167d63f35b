"""`select` killed at random moments: nothing half-written, and what is left to do is done in the end."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.stages.selection.test_select import QUICKLY, request_of, written
from tumorseg.schema.selection import Selection
from tumorseg.stages.selection.select import select
from tumorseg.storage.ensemble_layout import EnsembleFolder
from tumorseg.storage.json_files import read_record
from tumorseg.storage.layout import work_folder
from tumorseg.storage.probability_cache import ProbabilityCache

pytestmark = pytest.mark.slow
IMPORT_SECONDS = 3
"""Before which a process has done nothing."""

CODE = """
import sys
from pathlib import Path
from tests.stages.selection.test_select import QUICKLY
from tumorseg.stages.inference.engines import FASTEST
from tumorseg.stages.opening.loaded import Roots, read_plan
from tumorseg.stages.selection.select import SelectRequest, select

data, work, output, *plans = map(Path, sys.argv[1:])
FASTEST["cpu"] = "torch"
roots = Roots(data_root=data, work=work)
select(SelectRequest(roots=roots, plans=tuple(map(read_plan, plans)), device="cpu", output=output), QUICKLY)
"""


@pytest.fixture
def fresh(study, tmp_path):
    """The trainings, in a work folder where nothing was selected yet."""
    ignored = shutil.ignore_patterns("probabilities", "selections")
    shutil.copytree(study.roots.work, tmp_path / "runs", ignore=ignored)
    for plan in study.plans:
        (tmp_path / f"{plan.name}.json").write_text(plan.model_dump_json())
    return study._replace(roots=study.roots.changed(work=tmp_path / "runs"))


def start(study, root, output):
    plans = [str(root / f"{plan.name}.json") for plan in study.plans]
    command = [sys.executable, "-c", CODE, str(study.roots.data_root), str(study.roots.work), str(output), *plans]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


@pytest.mark.parametrize("num_kills", [1, pytest.param(10, marks=pytest.mark.long)])
def test_kills_leave_nothing_half_written_and_the_rest_goes_on(study, fresh, tmp_path, num_kills):
    whole = study._replace(roots=study.roots.changed(work=tmp_path / "uninterrupted"))
    ignored = shutil.ignore_patterns("probabilities", "selections")
    shutil.copytree(study.roots.work, whole.roots.work, ignore=ignored)
    began = time.monotonic()
    select(request_of(whole, tmp_path / "expected" / "best"), QUICKLY)
    seconds = time.monotonic() - began
    output, moments, kills = tmp_path / "killed" / "best", random.Random(0), 0
    while kills < num_kills:
        process = start(fresh, tmp_path, output)
        try:
            process.wait(IMPORT_SECONDS + moments.uniform(0.0, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            # With the processes that it has begun, as a power cut would.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        if output.exists():
            read_record(Selection, EnsembleFolder(output).selection)
            assert written(output) == written(tmp_path / "expected" / "best")
            shutil.rmtree(output)
            # Or there would be nothing left to kill.
            shutil.rmtree(fresh.roots.work / "Toy" / "probabilities")
            shutil.rmtree(fresh.roots.work / "Toy" / "selections")
    select(request_of(fresh, output), QUICKLY)
    assert written(output) == written(tmp_path / "expected" / "best")
    assert {path.name for path in output.parent.iterdir()} - {"best", ".best.lock"} == set()
    kept = work_folder(fresh.roots.work, "Toy").probabilities
    found = ProbabilityCache(kept, 1 << 30)
    assert all(found.find(path.name) for path in kept.iterdir())
