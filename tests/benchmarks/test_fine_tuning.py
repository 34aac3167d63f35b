from benchmarks.fine_tuning import EPOCH, mean_dsc, smoothed, steps_to, table


def test_a_level_is_reached_by_three_epochs_in_a_row_not_by_a_lucky_one():
    curve = smoothed([0.0, 0.0, 0.9, 0.6, 0.75, 0.75, 0.8])
    assert steps_to(curve, 0.7) == 5 * EPOCH
    assert steps_to(curve, 0.9) is None
    assert steps_to(smoothed([0.9, 0.9]), 0.7) is None


def test_a_label_that_is_not_found_counts_as_nothing():
    assert mean_dsc({"a": 0.5, "b": None}) == 0.25
    assert mean_dsc({}) == 0


def test_the_table_has_a_line_for_each_arm_with_scores():
    row = {
        "arm": "scratch",
        "seed": 0,
        "dsc": {"a": 0.8, "b": 0.9},
        "steps_to": {"0.5": 120, "0.6": None, "0.7": None},
    }
    source = {"arm": "hippocampus", "seed": 0, "dsc": {}, "steps_to": {}}
    assert table([source, row])[2:] == ["| scratch | 120 | - | - | 0.850 |"]
