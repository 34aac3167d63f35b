import gc
import weakref

import pytest

from tests.engine.phantoms import fit_of, training_of
from tumorseg.engine.ranks import Ranks
from tumorseg.errors import StorageError, TrainingError
from tumorseg.stages.training import fitting
from tumorseg.stages.training.fitting import check_same_place, run_fit
from tumorseg.storage.checkpoints import save_checkpoint
from tumorseg.storage.layout import FoldFolder


def test_a_fit_that_has_run_leaves_its_memory_at_once(tmp_path):
    # Building the first optimizer of a process is what torch itself does not clean up after.
    fit_of()
    gc.collect()
    gc.disable()
    try:
        fit = fit_of()
        network = weakref.ref(fit.learner.network)
        assert run_fit(fit, FoldFolder(tmp_path), (), lambda: False)
        del fit
        assert network() is None
    finally:
        gc.enable()


class Second(Ranks):
    """A process that hears what the first one has."""

    rank, size = 1, 2

    def __init__(self, *values):
        self.values = list(values)

    def of_first(self, value):
        return self.values.pop(0)


def test_processes_that_see_the_same_files_go_on(tmp_path):
    check_same_place(fit_of(), FoldFolder(tmp_path), Second(0.0, 6.0, 0.0))


@pytest.mark.parametrize(
    ("values", "name"),
    [((3.0, 6.0, 0.0), "latest.ckpt"), ((0.0, 9.0, 0.0), "plan.json"), ((0.0, 6.0, 1.0), "plan.json")],
)
def test_processes_that_see_other_files_do_not(tmp_path, values, name):
    with pytest.raises(TrainingError, match=rf"{name}: not all processes see the same file; wait"):
        check_same_place(fit_of(), FoldFolder(tmp_path), Second(*values))


def test_a_seed_that_no_float_holds_is_no_difference(tmp_path):
    fit = fit_of(training=training_of(seed=2**62 + 1))
    check_same_place(fit, FoldFolder(tmp_path), Second(0.0, 6.0, float(2**62 + 1)))


def test_a_checkpoint_that_is_none_of_the_training_is_told_in_one_line_before_anything_is_taken_up(tmp_path):
    path, fit = tmp_path / "latest.ckpt", fit_of(num_workers=0)
    assert fitting._saved_state(fit, path) is None
    path.mkdir()
    with pytest.raises(StorageError, match=r"latest\.ckpt: is a folder"):
        fitting._saved_state(fit, path)
    path.rmdir()
    save_checkpoint(path, fit.state())
    assert fitting._saved_state(fit, path).keys() == fit.state().keys()
    save_checkpoint(path, {name: part for name, part in fit.state().items() if name != "optimizer"})
    with pytest.raises(
        StorageError, match=r"latest\.ckpt: is no checkpoint .*: optimizer is missing; copy .*--restart$"
    ):
        fitting._saved_state(fit, path)
