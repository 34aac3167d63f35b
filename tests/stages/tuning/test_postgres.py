"""A study on a real PostgreSQL, whose processes are killed."""

import random

import pytest

from tests.stages.tuning.killing import KINDS, KilledStudy, check_as_undisturbed

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("num_kills", "most", "jobs"), [(3, 12, 2), pytest.param(20, 60, 4, marks=pytest.mark.long)])
def test_a_study_on_postgresql_is_the_same_whoever_is_killed(tmp_path, postgresql, num_kills, most, jobs):
    study = KilledStudy(tmp_path / "study", storage=postgresql, most=most, jobs=jobs, others=jobs)
    try:
        study.run(num_kills, random.Random(1))
    finally:
        study.end()
    assert study.kills.total() == num_kills
    assert set(study.kills) == set(KINDS)
    check_as_undisturbed(study.folder, postgresql, most, str(tmp_path / "undisturbed.log"))
