import pytest

from tests.engine.phantoms import fit_of
from tumorseg.engine.ranks import ALONE
from tumorseg.schema.plan import Reason
from tumorseg.stages.opening.fold_folders import TrainOptions, begin_run, write_run
from tumorseg.stages.training.fitting import Job
from tumorseg.stages.training.given_weights import Initial
from tumorseg.stages.training.restarting import run_watched
from tumorseg.storage.layout import FoldFolder

WEIGHTS = Initial(origin=None, file=None, digest="abc")


def restarts_left(toy, tmp_path, *, reasons=None, initial=None, init=None, **training):
    """Return how often a training that goes on in a folder may begin again."""
    folder = FoldFolder(tmp_path / "fold_0")
    plan = toy.plan.changed(training=toy.plan.training.changed(**training), reasons=reasons or {})
    write_run(folder, plan, begin_run(toy.plan, "3d_fullres", "0", TrainOptions()).changed(init=init))
    job = Job(None, "3d_fullres", "cpu", None, tmp_path, folder, ALONE, initial)
    found = []
    run_watched([fit_of()], job, None, lambda fit: found.append(fit.num_restarts_left))
    (number,) = found
    return number


def test_a_training_may_begin_again_once(toy, tmp_path):
    second = Reason(source="device", rule="another seed", inputs={"first_seed": 0})
    assert restarts_left(toy, tmp_path / "a") == 1
    assert restarts_left(toy, tmp_path / "b", reasons={"training.seed": second}) == 0


def test_a_training_of_some_hours_has_no_time_to_begin_again(toy, tmp_path):
    assert restarts_left(toy, tmp_path, max_hours=1.0) == 0


@pytest.mark.parametrize(("initial", "expected"), [(WEIGHTS, 1), (None, 0)])
def test_given_weights_must_be_at_hand_to_begin_with_them_again(toy, tmp_path, initial, expected):
    assert restarts_left(toy, tmp_path, init="abc", initial=initial) == expected
