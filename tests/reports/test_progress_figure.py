from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tumorseg.reports.progress_figure import headline, progress_figure, progress_png

Log = list[dict[str, Any]]


def legend(axes: Axes) -> list[str]:
    return [str(label) for label in axes.get_legend_handles_labels()[1]]


def colours(axes: Axes) -> set[str]:
    return {str(line.get_color()) for line in axes.lines}


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_progress_is_a_png_and_the_same_log_gives_the_same_bytes(log: Log) -> None:
    png = progress_png(log, num_epochs=9)
    assert png.startswith(b"\x89PNG")
    width, height = np.frombuffer(png[16:24], ">u4")
    assert (width, height) == (990, 1100)
    assert progress_png(log, num_epochs=9) == png


def test_dsc_is_told_by_class_with_the_latest_that_is_known_and_the_best(log: Log) -> None:
    log[-1]["dsc"]["WT"] = None
    losses, dsc, rate, _ = progress_figure(log).axes
    assert legend(losses) == ["training", "held-out patches"]
    assert legend(dsc) == ["WT 0.62 (0.62)", "ET 0.40 (0.40)", "mean 0.40 (0.53)"]
    assert rate.get_ylim()[1] > 0.01
    assert dsc.get_xlim() == (0, 6.5)


def test_progress_can_be_drawn_before_and_after_the_first_epoch_and_of_an_unvalidated_training(log: Log) -> None:
    def drawn(entries: Log) -> tuple[Figure, list[Axes]]:
        figure = progress_figure(entries)
        return figure, figure.axes

    _, (losses, dsc, *_) = drawn([])
    assert texts(losses) == ["no epoch is finished yet"]
    _, (losses, dsc, *_) = drawn(log[:1])
    assert losses.lines[0].get_marker() == "o"  # one point has no line to be seen by
    for nothing in ({}, None, {"WT": None}):
        _, (losses, dsc, *_) = drawn([{**entry, "validation_loss": None, "dsc": nothing} for entry in log])
        assert legend(losses) == ["training"]
        assert texts(dsc) == ["nothing was scored"]


def test_of_many_classes_the_mean_and_the_worst_have_names(log: Log) -> None:
    many = [{**log[0], "epoch": epoch, "dsc": {f"organ {i}": 0.01 * i for i in range(40)}} for epoch in range(3)]
    dsc = progress_figure(many).axes[1]
    assert [label.rsplit(" ", 2)[0] for label in legend(dsc)] == ["organ 0", "organ 1", "organ 2", "mean"]
    assert len(dsc.lines) == 41


def test_of_many_epochs_a_running_mean_shows_where_they_go(log: Log) -> None:
    many = [{**log[0], "epoch": epoch, "train_loss": float(epoch % 2), "validation_loss": None} for epoch in range(80)]
    many[7]["train_loss"] = None
    faint, smooth = progress_figure(many).axes[0].lines
    assert faint.get_alpha() < 0.5
    assert np.nanstd(np.asarray(faint.get_ydata(), float)) > 0.4
    assert np.std(np.asarray(smooth.get_ydata(), float)[10:]) < 0.1
    assert np.asarray(smooth.get_ydata(), float)[-4:] == pytest.approx(0.5)


def test_what_befell_a_training_is_marked_where_it_did(log: Log) -> None:
    kinds = ("divided", "skipped", "skipped", "extended", "extended", "collapsed", "ends_early")
    events = [{"kind": kind, "iteration": 125} for kind in kinds]
    losses, *others = progress_figure(log, events=events).axes
    marks = legend(losses)[2:]
    assert marks == ["step skipped", "divided", "extended", "collapsed", "ends early"]
    for axes in others:
        assert {"#E69F00", "#D55E00", "#009E73"} <= colours(axes)
    assert 2.5 in {np.asarray(line.get_xdata(), float)[0] for line in others[0].lines}
    assert not progress_figure([], events=events).axes[0].lines


def test_a_second_try_shows_what_befell_itself(log: Log) -> None:
    events = [{"kind": kind, "iteration": 50} for kind in ("divided", "restarted", "extended")]
    figure = progress_figure(log, events=events)
    assert legend(figure.axes[0])[2:] == ["extended"]
    assert figure.get_suptitle().startswith("second try   epoch 6")


def test_where_the_time_went_is_drawn_where_it_was_logged(log: Log) -> None:
    parts = {"step": 9.0, "waiting": 1.0, "validation": 2.5, "reading": 1.0, "augmentation": 1.0, "transfer": 0.0}
    timed = [{**entry, "seconds_by_part": parts} for entry in log]
    assert legend(progress_figure(timed).axes[3]) == ["steps", "waiting", "held-out batches"]
    assert legend(progress_figure([*timed[:-1], log[-1]]).axes[3]) == []


@pytest.mark.parametrize(
    ("num_epochs", "text"),
    [
        (None, "epoch 6   waiting 2.0 %   4 steps skipped   3.0 GB"),
        (26, "epoch 6 of 26   4:10 left   waiting 2.0 %   4 steps skipped   3.0 GB"),
        (6, "epoch 6 of 6   waiting 2.0 %   4 steps skipped   3.0 GB"),
    ],
)
def test_the_headline_says_where_it_stands(log: Log, num_epochs: int | None, text: str) -> None:
    log[2]["num_skipped"] = 4
    assert headline(log, num_epochs) == text


def test_the_headline_of_an_instant_needs_no_time(log: Log) -> None:
    assert headline([{**log[0], "seconds": 0.0}]) == "epoch 1   3.0 GB"
    assert headline([]) == "no epoch is finished yet"
