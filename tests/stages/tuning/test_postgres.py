"""A study on a real PostgreSQL, whose processes are killed."""

import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.stages.tuning.killing import KilledStudy, check_as_undisturbed

pytestmark = pytest.mark.slow


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


def test_a_study_on_postgresql_is_the_same_whoever_is_killed(tmp_path, postgresql):
    most = 60
    study = KilledStudy(tmp_path / "study", storage=postgresql, most=most, jobs=4, others=4)
    try:
        study.run(20, random.Random(1))
    finally:
        study.end()
    assert study.kills.total() == 20
    check_as_undisturbed(study.folder, postgresql, most, str(tmp_path / "undisturbed.log"))
