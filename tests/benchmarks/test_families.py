import pytest

from benchmarks import families
from benchmarks.families import FIRST, FOLD, OTHERS, SEED, Study, against, best, missing, table
from tumorseg.networks.catalogue import ABOUT


def row(dataset, network, dsc, minutes=10.0):
    # Cases differ, and by how much networks differ does too.
    scores = {f"case {number}": dsc + number / 100 + dsc * (number % 3) / 1000 for number in range(12)}
    known = {"fold": FOLD, "seed": SEED, "steps": 400, "step_s": 1.5, "patch_size": [40, 56, 40]}
    return known | {"dataset": dataset, "network": network, "minutes": minutes, "dsc": {"one": scores}}


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(families, "chosen_by_auto", lambda study, dataset: "plain_unet")
    return Study(tmp_path, tmp_path, 10.0)


def test_all_networks_are_trained_on_one_set_before_the_best_two_and_that_of_auto_on_others(study):
    assert list(missing(study, [])) == [(FIRST, name) for name in ABOUT]
    rows = [row(FIRST, name, 0.5 + number / 100) for number, name in enumerate(ABOUT)]
    # Of another length, which says nothing here.
    rows.append(row(FIRST, "unetr", 0.99, minutes=5.0))
    last, before = list(ABOUT)[-1], list(ABOUT)[-2]
    assert best(study.rows_of(rows, FIRST)) == [last, before]
    rows.append(row(OTHERS[0], last, 0.6))
    assert list(missing(study, rows)) == [
        (OTHERS[0], before),
        (OTHERS[0], "plain_unet"),
        (OTHERS[1], last),
        (OTHERS[1], before),
        (OTHERS[1], "plain_unet"),
    ]


def test_the_network_of_auto_is_held_against_the_others_case_by_case(study):
    rows = [row(OTHERS[0], name, dsc) for name, dsc in (("plain_unet", 0.6), ("mednext", 0.7), ("unetr", 0.5))]
    worse, better = against(study, rows, OTHERS[0], "plain_unet")
    assert "auto (plain_unet) - mednext = -0.1001" in worse
    assert worse.endswith(", wholly against auto")
    assert "auto (plain_unet) - unetr = +0.1001" in better
    assert better.endswith("not wholly against auto")
    assert list(against(study, rows[1:], OTHERS[0], "plain_unet")) == []


def test_the_table_has_the_best_first(study):
    rows = [row(FIRST, "unetr", 0.5), row(FIRST, "plain_unet", 0.75)]
    lines = list(table(study, rows))[2:]
    assert lines[0] == "| MSD_Hippocampus | `plain_unet` | 40 × 56 × 40 | 400 | 1.50 | one 0.806 | 0.806 |"
    assert "`unetr`" in lines[1]
