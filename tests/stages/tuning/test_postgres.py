"""A study on a real PostgreSQL, whose processes are killed."""

import random

import pytest

from tests.stages.tuning.killing import KilledStudy, check_as_undisturbed

pytestmark = pytest.mark.slow


def test_a_study_on_postgresql_is_the_same_whoever_is_killed(tmp_path, postgresql):
    most = 60
    study = KilledStudy(tmp_path / "study", storage=postgresql, most=most, jobs=4, others=4)
    try:
        study.run(20, random.Random(1))
    finally:
        study.end()
    assert study.kills.total() == 20
    check_as_undisturbed(study.folder, postgresql, most, str(tmp_path / "undisturbed.log"))
