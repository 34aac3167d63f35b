"""What MLflow is sent, from what a training's folder says."""

import json

import pytest

from tumorseg.reports.progress_figure import progress_png
from tumorseg.schema.environments import Environment
from tumorseg.schema.logs import TrainingEvent
from tumorseg.schema.metrics import MetricsReport
from tumorseg.stages.tracking.contents import (
    EPOCHS,
    SAMPLES,
    datasets,
    epoch_points,
    figures,
    parameters,
    score_points,
    system_points,
)
from tumorseg.stages.tracking.mirror import _worst_to_best
from tumorseg.storage.json_files import read_record
from tumorseg.tracking.epochs import read_epochs
from tumorseg.tracking.mlflow_runs import metric_name, model_name

ENVIRONMENT = Environment(training_id="a", started_at=100.0, host="here", device="cpu", versions={}, git=None)
LOG = {
    "epoch": 0,
    "iteration": 5,
    "train_loss": 0.5,
    "train_losses": {"dice": 0.4},
    "loss_weights": {"dice": 2.0},
    "validation_loss": None,
    "dsc": {"core": 0.25, "shell": 0.75, "rare": None},
    "lr": 0.01,
    "seconds": 3.0,
    "data_wait_fraction": 0.1,
    "memory_bytes": 7,
}


def test_an_epoch_becomes_a_point_of_each_figure_and_the_one_that_says_so_comes_last():
    points = list(epoch_points([LOG | {"ended_at": 250.5}], ENVIRONMENT))
    assert {point.name: point.value for point in points} == {
        "train_loss": 0.5,
        "lr": 0.01,
        "seconds": 3.0,
        "data_wait_fraction": 0.1,
        "memory_bytes": 7.0,
        "loss/dice": 0.4,
        "loss_weight/dice": 2.0,
        "dsc/core": 0.25,
        "dsc/shell": 0.75,
        "dsc/mean": 0.5,
        EPOCHS: 1.0,
    }
    assert points[-1].name == EPOCHS
    assert {(point.step, point.time_ms) for point in points} == {(0, 250_500)}


def test_the_learning_curve_shows_what_befell_the_training():
    event = TrainingEvent(kind="divided", iteration=3, message="in 2 parts")
    assert figures([LOG], [event])["figures/progress.png"] != progress_png([LOG])


def test_seconds_by_part_are_points_and_logs_without_them_have_none():
    parts = {"step": 2.0, "waiting": 0.5}
    found, *older = (
        {point.name: point.value for point in epoch_points([log], ENVIRONMENT)}
        for log in (LOG | {"seconds_by_part": parts}, LOG | {"seconds_by_part": None}, LOG)
    )
    assert found == older[0] | {"seconds_of/step": 2.0, "seconds_of/waiting": 0.5}
    assert older[0] == older[1]


def test_epochs_without_a_time_follow_from_how_long_they_took():
    points = epoch_points([LOG, LOG | {"epoch": 1}], ENVIRONMENT)
    assert [(point.step, point.time_ms) for point in points if point.name == EPOCHS] == [(0, 103_000), (1, 106_000)]


def test_samples_are_sent_from_where_the_last_ones_ended():
    samples = [{"time": 1.0, "cpu_utilization_percentage": 50.0}, {"time": 2.0, "cpu_utilization_percentage": 60.0}]
    points = list(system_points(samples, 1))
    assert [(point.name, point.value, point.step, point.time_ms) for point in points] == [
        ("system/cpu_utilization_percentage", 60.0, 1, 2000),
        (SAMPLES, 2.0, 1, 2000),
    ]


def test_parameters_are_every_value_of_a_configuration_by_dotted_name(toy):
    found = parameters(toy.plan, "3d_fullres")
    configuration = toy.plan.configurations["3d_fullres"]
    assert json.loads(found["patch_size"]) == list(configuration.patch_size)
    assert found["network.name"] == configuration.network.name
    assert found["loss.components.0.name"] == configuration.loss.components[0].name
    assert found["training.epochs"] == str(toy.plan.training.epochs)


@pytest.mark.parametrize(("fold", "contexts"), [("0", ["training", "validation"]), ("all", ["training"])])
def test_a_fold_has_a_dataset_to_train_on_and_one_that_is_held_out(toy, fold, contexts):
    found = datasets(toy.plan, fold, "/data/toy")
    assert [record.context for record in found] == contexts
    assert sum(record.profile["num_cases"] for record in found) == toy.plan.fingerprint.num_cases
    assert len({record.digest for record in found}) == len(found)
    assert found[0].schema["channels"] == ["T1", "T2"]


def test_scores_come_with_their_intervals_and_undefined_ones_are_left_out(trained):
    report = read_record(MetricsReport, trained.folder.metrics)
    points = {point.name: point.value for point in score_points(report, 3, 5)}
    for label, summary in report.summary.items():
        assert points[f"final/dsc/{label}/mean"] == summary.metrics["dsc"].mean
        if summary.metrics["dsc"].ci95 is not None:
            assert points[f"final/dsc/{label}/ci95_low"] == summary.metrics["dsc"].ci95[0]
    assert None not in points.values()


def test_overlays_are_of_the_worst_the_median_and_the_best_case_each_once(trained):
    report = read_record(MetricsReport, trained.folder.metrics)
    found = _worst_to_best(report)
    assert len(set(found.values())) == len(found) >= 1
    assert list(found) == [rank for rank in ("worst", "median", "best") if rank in found]
    assert _worst_to_best(report.changed(cases=(), summary={})) == {}


def test_an_epoch_says_when_it_ended(trained):
    epochs = read_epochs(trained.folder.log)
    ended = [epoch["ended_at"] for epoch in epochs]
    assert ended == sorted(ended)
    assert ended[0] > 1_700_000_000


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dsc/core (1)", "dsc/core _1_"),
        ("dsc/größe", "dsc/größe"),
        ("dsc/.", "dsc/_"),
        ("dsc/core/", "dsc/core/_"),
        ("a-b.c:d", "a-b.c:d"),
    ],
)
def test_names_of_labels_become_names_that_mlflow_takes(name, expected):
    assert metric_name(name) == expected
    assert model_name("Set/a:b'c") == "Set_a_b_c"
