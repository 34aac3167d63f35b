import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.toys import write_toy
from tumorseg.planning.overrides import Override
from tumorseg.schema.plan import Plan
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.planning.plan import PlanRequest, plan
from tumorseg.stages.training.request import Trained, TrainRequest
from tumorseg.stages.training.train import train

SHORT = {"training.epochs": 2, "training.iterations_per_epoch": 3, "training.validation_iterations": 1}


class Toy(NamedTuple):
    data: Path
    roots: Roots
    plan: Plan
    plan_path: Path


def plan_toy(root: Path, data: Path, preset: str = "fast_prototyping", **overrides) -> Toy:
    roots = Roots(data_root=data.parent, work=root / "runs")
    given = tuple(Override(field=field, value=value) for field, value in (SHORT | overrides).items())
    written = plan(
        PlanRequest(roots=roots, dataset=data.name, preset=preset, overrides=given, output=root / "toy.json", jobs=1)
    )
    return Toy(data, roots, written.plan, written.path)


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Toy:
    root = tmp_path_factory.mktemp("toy")
    return plan_toy(root, write_toy(root / "data" / "Toy"))


@pytest.fixture(scope="session")
def trained(toy) -> Trained:
    done = train(TrainRequest(roots=toy.roots, plan=toy.plan, fold="0", device="cpu", jobs=1))
    assert done.is_finished
    return done


@pytest.fixture
def postgresql():
    """Return the address of a PostgreSQL that runs meanwhile; it refuses to run as root."""
    binaries = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), None)
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (Debian's package: postgresql)")
    user = "postgres" if os.geteuid() == 0 else None
    # Not below pytest's folder, which other users cannot enter.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if user is not None:
            shutil.chown(folder, user)
        data = f"{folder}/data"
        how = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "user": user, "cwd": folder}
        subprocess.run([binaries / "initdb", "-D", data, "-U", "me", "-A", "trust", "--no-sync"], **how)
        server = [binaries / "pg_ctl", "-D", data, "-w", "-o", f"-k {folder} -c listen_addresses='' -c fsync=off"]
        subprocess.run([*server, "-l", f"{folder}/log", "start"], **how)
        try:
            yield f"postgresql://me@/postgres?host={folder}"
        finally:
            subprocess.run([*server, "-m", "immediate", "stop"], **how)
