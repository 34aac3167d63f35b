import pytest

from benchmarks.accuracy import (
    ACDC,
    AT_EQUAL_STEPS,
    BARS,
    GRID,
    HIPPOCAMPUS,
    OURS,
    PEER,
    Training,
    check_equal,
    missing,
    summary,
    table,
)
from benchmarks.accuracy_peer import PeerSet, length
from tests.planning.measured import planned


def row(training, **dsc):
    scores = {}
    for label, mean in dsc.items():
        # Cases differ, and by how much programs differ does too.
        scores[label] = {f"case {number}": mean + (number - 9.5) * (0.001 + mean / 1000) for number in range(20)}
    length = {"epochs": 10, "steps": 200, "taken_minutes": training.minutes - 0.1, "precision": "bf16"}
    return {**training._asdict(), **length, "fold": 0, "dsc": scores}


def test_what_needs_the_peer_waits_for_it():
    alone = list(missing([], has_peer=False))
    assert {training.program for training in alone} == {OURS}
    assert list(missing([], has_peer=True)) == list(GRID)
    # At equal steps ours can be trained without the peer once its row tells how many.
    found = row(Training(PEER, HIPPOCAMPUS, 25.0, 1), Anterior=0.8)
    left = list(missing([found], has_peer=False))
    assert [one for one in left if one.program != OURS] == [Training(AT_EQUAL_STEPS, HIPPOCAMPUS, 25.0, 1)]
    assert list(missing([row(training, one=0.5) for training in GRID], has_peer=True)) == []


@pytest.mark.parametrize(("gain", "is_met"), [(0.0, True), (-0.002, False)])
def test_means_of_seeds_are_held_against_the_bars(gain, is_met):
    anterior, posterior = BARS[8.0]
    trainings = [Training(OURS, HIPPOCAMPUS, 8.0, seed) for seed in (0, 1)]
    lows = row(trainings[0], Anterior=anterior - 0.001, Posterior=posterior - 0.001 + gain)
    highs = row(trainings[1], Anterior=anterior + 0.002, Posterior=posterior + 0.002 + gain)
    found = summary([lows, highs])["MSD_Hippocampus, 8 minutes"][OURS]
    assert found["seeds"] == 2
    assert found["dsc"]["Anterior"]["dsc"] == pytest.approx(anterior + 0.0005, abs=1e-4)
    assert found["bar"]["is_met"] is is_met
    assert found["target"]["is_met"] is False


@pytest.mark.parametrize(("ours", "is_not_worse"), [(0.80, True), (0.78, False)])
def test_ours_is_held_against_the_peer_of_the_same_dataset_and_length(ours, is_not_worse):
    rows = [
        row(Training(PEER, HIPPOCAMPUS, 25.0, 0), Anterior=0.8, Posterior=0.8),
        row(Training(AT_EQUAL_STEPS, HIPPOCAMPUS, 25.0, 0), Anterior=ours, Posterior=ours),
        row(Training(PEER, ACDC, 20.0, 0), RV=0.1),
    ]
    found = summary(rows)
    difference = found["MSD_Hippocampus, 25 minutes"][AT_EQUAL_STEPS]["minus_nnunetv2"]
    assert difference["difference"] == pytest.approx(ours - 0.8, abs=1e-3)
    assert difference["is_not_worse"] is is_not_worse
    lines = "\n".join(table(found))
    assert f"| {ours - 0.8:+.4f}" in lines
    assert "| Dataset027_ACDC, 20 minutes | nnunetv2, bf16 | 1 | 19.9 | 200 | RV 0.1000 " in lines


def test_rows_of_other_seeds_are_not_paired():
    rows = [
        row(Training(PEER, HIPPOCAMPUS, 25.0, 0), Anterior=0.8, Posterior=0.8),
        row(Training(OURS, HIPPOCAMPUS, 25.0, 1), Anterior=0.9, Posterior=0.9),
    ]
    found = summary(rows)
    assert found["MSD_Hippocampus, 25 minutes"][OURS]["minus_nnunetv2"]["difference"] is None
    assert "tumorseg" in "\n".join(table(found))


def test_only_equal_networks_are_compared_at_equal_steps():
    plan = planned(None, "batch_size=2", preset="nnunet")
    one = plan.configurations["3d_fullres"]
    network = {
        "features": list(one.network.features_per_stage),
        "strides": [list(each) for each in one.network.strides],
    }
    theirs = {"network": network, "patch_size": list(one.patch_size), "batch_size": 2}
    check_equal(theirs, plan)
    with pytest.raises(ValueError, match="expected nnU-Net's own"):
        check_equal({**theirs, "batch_size": 9}, plan)


def test_the_peer_gets_as_many_steps_as_fit_the_minutes():
    planned = length(1.0, 25.0)
    assert planned.iterations_per_epoch == 20
    assert 0.9 * 1500 < planned.epochs * (20 * (1 + 0.4 * 4 / 20) + 1) <= 1500
    assert PeerSet("Dataset004_Hippocampus").number == "4"
