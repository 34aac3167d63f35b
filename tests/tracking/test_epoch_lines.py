import pytest

from tests.tracking.test_epochs import log_of
from tumorseg.tracking.epoch_lines import Bests, dsc_text, epoch_line, mean_dsc, worst_classes


def bests_of(*epochs):
    bests = Bests()
    for loss, dsc in epochs:
        bests.add(loss, dsc)
    return bests


def test_a_line_tells_present_and_best_by_class_and_what_went_wrong():
    log = log_of(11).changed(
        train_loss=-0.7123, dsc={"liver": 0.91, "tumour": 0.44}, num_skipped=3, num_parts=2, data_wait_fraction=0.003
    )
    bests = bests_of((-0.734, {"liver": 0.92, "tumour": 0.41}), (-0.7123, log.dsc))
    assert epoch_line(log, bests, num_epochs=50, left="1:12:00 left") == (
        "epoch 12/50  loss -0.712 (best -0.734)  dsc liver .91 (.92) tumour .44 (.44)  lr 0.01  waiting 0.3 %  3 skipped  "
        "batch in 2 parts  2.0 GB  1:12:00 left"
    )


def test_a_line_of_a_training_without_held_out_cases_says_nothing_of_dsc():
    log = log_of(0).changed(dsc={})
    line = epoch_line(log, bests_of((log.train_loss, log.dsc)), num_epochs=2, left="")
    assert "dsc" not in line
    assert "skipped" not in line
    assert line.endswith("2.0 GB")


def test_a_class_without_a_score_has_a_dash():
    dsc = {"a": None, "b": 1.0}
    assert dsc_text(dsc, bests_of((0.0, dsc))) == "dsc a – (–) b 1.00 (1.00)"


@pytest.mark.parametrize("count", [5, 100])
def test_of_many_classes_the_mean_and_the_worst_three_are_told(count):
    dsc = {f"organ {number}": 0.9 - 0.008 * number for number in range(count)}
    text = dsc_text(dsc, bests_of((0.0, dsc)))
    worst = [f"organ {count - number}" for number in (1, 2, 3)]
    assert list(worst_classes(dsc)) == worst
    assert text.startswith(f"dsc mean {mean_dsc(dsc):.2f}".replace(" 0.", " ."))
    assert all(name in text for name in worst)
    assert len(text) < 100


def test_bests_are_those_of_each_class_and_of_the_mean():
    bests = bests_of((2.0, {"a": 0.5, "b": None}), (1.0, {"a": 0.4, "b": 0.1}), (3.0, {"a": None, "b": None}))
    assert (bests.loss, bests.dsc, bests.mean) == (1.0, {"a": 0.5, "b": 0.1}, 0.5)
    assert bests_of().mean is None
