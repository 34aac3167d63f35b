"""The best setting that keeps a time: chosen by a table and by tiles that are timed here."""

import json
import logging

import pytest
from torch import nn

from tests.stages.inference.test_nnunet_model import write_model
from tests.stages.models import Above, small_model, with_network, write_image
from tumorseg.errors import InputError, TumorsegError
from tumorseg.schema.base import to_json
from tumorseg.schema.settings import BesideSeconds, MachineNote, MeasuredSetting, Setting, SettingsTable
from tumorseg.sources.inputs import open_inputs
from tumorseg.stages.inference import runtime, settings
from tumorseg.stages.inference.budget import Budget, BudgetRequest, read_budget, read_settings, within_budget
from tumorseg.stages.inference.ensembles import alone
from tumorseg.stages.inference.method import AS_PLANNED, PredictOptions
from tumorseg.stages.inference.offers import Wish
from tumorseg.stages.inference.predict import PredictRequest, predict
from tumorseg.stages.inference.predict_cases import predict_cases

PATCH_S = 0.01
"""That the network of these tests takes for a patch; a case is one, seen in four views."""


class Clock:
    """Goes on as networks say, whatever else the machine does, and a little whenever somebody looks."""

    now = 0.0

    def look(self):
        self.now += 1e-4
        return self.now


CLOCK = Clock()


class Slow(nn.Module):
    """A network that takes a while for each patch."""

    def forward(self, images):
        CLOCK.now += PATCH_S * len(images)
        return Above()(images)


def row(dsc, **fields):
    known = {"num_folds": 1, "mirroring": False, "overlap": 0.5, "precision": "auto", "engine": "torch"}
    return MeasuredSetting(
        setting=Setting(**known | fields),
        dsc=dsc,
        nsd=dsc,
        is_of_one_fold=False,
        seconds=1.0,
        peak_bytes=None,
        tile_s=(PATCH_S,),
        beside=BesideSeconds(),
        num_cases=3,
    )


def table_of(*rows):
    machine = MachineNote(processor="p", cores=2, device="cpu", versions={})
    return SettingsTable(
        machine=machine, networks=("nnUNetPlans/3d_fullres",), cases=("a",), tolerance_mm=1.0, rows=rows
    )


PLAIN, MIRRORED = row(0.8), row(0.9, mirroring=True)
TABLE = table_of(MIRRORED, PLAIN)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    return alone(with_network(small_model(tmp_path_factory.mktemp("model") / "model"), Slow()))


@pytest.fixture
def cases(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "perf_counter", CLOCK.look)
    # Timing takes two passes of four patches.
    monkeypatch.setattr(settings, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(settings, "LEAST_PASSES", 1)
    monkeypatch.setattr(runtime, "VOXELS_PER_PASS", 4 * 8 * 24 * 24)
    for seed, name in enumerate("ab"):
        write_image(tmp_path / "in", name, seed)
    return open_inputs([tmp_path / "in"], ["T1", "T2"]).cases


def choose(ensemble, cases, seconds, *, table=TABLE, folder=None, **wish):
    request = BudgetRequest(Budget(seconds, f"{seconds:g}s"), Wish(**{"options": AS_PLANNED, **wish}), folder=folder)
    return within_budget(ensemble, cases, request=request, table=table)


@pytest.mark.parametrize(
    ("text", "seconds"), [("20s", 20), ("1.5min", 90), ("2m", 120), (" .5 s ", 0.5), ("1h", 3600), ("3.s", 3)]
)
def test_times_are_written_with_their_unit(text, seconds):
    assert read_budget(text) == (seconds, text.strip())


@pytest.mark.parametrize("text", ["20", "s", "-3s", "0s", "1e3s", "20 sec", "1:30", "", "9" * 400 + "s", "nan s"])
def test_other_times_are_refused_in_one_line(text):
    with pytest.raises(InputError, match=r"expected a time that a case may take, such as 20s or 1\.5min") as raised:
        read_budget(text)
    assert "\n" not in str(raised.value)


def test_a_model_that_was_never_measured_says_what_makes_one_that_was(tmp_path):
    with pytest.raises(InputError, match=r"has no settings\.json.*`tumorseg select` makes a model that has"):
        read_settings(tmp_path)
    (tmp_path / "settings.json").write_text(to_json(TABLE))
    assert read_settings(tmp_path) == TABLE


def test_the_best_setting_that_fits_is_taken_and_said(ensemble, cases, caplog):
    with caplog.at_level(logging.INFO, logger="tumorseg"):
        chosen = choose(ensemble, cases, 10)
    assert chosen.setting == MIRRORED.setting
    assert chosen.options == PredictOptions(mirroring=None, precision="auto")
    assert chosen.seconds == pytest.approx(4 * PATCH_S, rel=0.5)
    assert "--budget 10s: 1 fold, mirrored views, overlap 0.5, auto, torch; 0.0" in caplog.text
    # Too short for four views, long enough for one.
    chosen = choose(ensemble, cases, 2 * PATCH_S)
    assert chosen.setting == PLAIN.setting
    assert chosen.options.mirroring is False


def test_where_nothing_fits_the_fastest_is_named(ensemble, cases):
    with pytest.raises(
        InputError, match=r"--budget 0.001s: the fastest setting \(1 fold, one view.* takes about 0\.01"
    ) as raised:
        choose(ensemble, cases, 0.001)
    assert "if nothing of the image is cropped away; give --budget 1s or more" in str(raised.value)
    slow = PLAIN.changed(setting=PLAIN.setting.changed(engine="compile"), beside=BesideSeconds(per_case=9.9))
    with pytest.raises(InputError, match="give --budget 11s or more"):
        choose(ensemble, cases, 1, table=table_of(slow))


def test_what_is_beside_the_network_counts_by_the_ratio_of_the_tiles(ensemble, cases):
    # There a tile took a tenth of the time, so that all else takes ten times as long here.
    slow = PLAIN.changed(tile_s=(PATCH_S / 10,), beside=BesideSeconds(per_case=0.1))
    assert choose(ensemble, cases, 10, table=table_of(slow)).seconds == pytest.approx(1 + PATCH_S, rel=0.5)


def test_the_largest_case_decides(ensemble, cases, tmp_path):
    large = PLAIN.changed(beside=BesideSeconds(per_megavoxel=1e4))
    (voxels,) = {chosen.seconds for chosen in [choose(ensemble, cases[:1], 99, table=table_of(large))]}
    assert voxels == pytest.approx(1e4 * 9 * 11 * 7 / 1e6 + PATCH_S, rel=0.3)


def test_options_that_are_given_confine_the_choice(ensemble, cases):
    assert choose(ensemble, cases, 10, options=PredictOptions(mirroring=False)).setting == PLAIN.setting
    exact = choose(ensemble, cases, 10, options=PredictOptions(precision="fp32"))
    assert exact.setting == MIRRORED.setting.changed(precision="fp32")
    assert exact.ensemble.lead.runtime.is_exact
    both = table_of(row(0.9, precision="auto"), row(0.8, precision="fp32"))
    assert choose(ensemble, cases, 10, table=both, options=PredictOptions(precision="fp32")).setting.precision == "fp32"
    with pytest.raises(InputError, match="has no setting with the options that are given"):
        choose(ensemble, cases, 10, table=table_of(PLAIN), options=PredictOptions(mirroring=True))


def test_folds_that_are_named_all_predict(ensemble, cases):
    network = ensemble.lead.networks[0]
    two = ensemble.lead._replace(networks=(network, network), weight_hashes=("x", "y"))
    table = table_of(PLAIN, row(0.8, num_folds=5))
    assert choose(alone(two), cases, 10, table=table).setting.num_folds == 5
    assert choose(alone(two), cases, 1.5 * PATCH_S, table=table).setting.num_folds == 1
    assert choose(alone(two), cases, 10, table=table_of(PLAIN), has_folds=True).setting.num_folds == 2


def test_a_folder_goes_on_with_the_setting_that_it_was_made_with_as_long_as_that_fits(
    ensemble, cases, tmp_path, caplog
):
    first = choose(ensemble, cases, 2 * PATCH_S, folder=tmp_path / "out")
    predict_cases(first.ensemble, cases, tmp_path / "out", options=first.options)
    # Now there is time for mirrored views, and the masks would all be made anew.
    again = choose(ensemble, cases, 10, folder=tmp_path / "out")
    assert again.setting == PLAIN.setting
    assert predict_cases(again.ensemble, cases, tmp_path / "out", options=again.options).left_alone == ("a", "b")


def test_a_little_too_slow_by_todays_clock_is_no_reason_to_begin_anew(ensemble, cases, tmp_path):
    # Of an engine that is not timed here, so that all but the tiles takes what it took there.
    steady = PLAIN.changed(setting=PLAIN.setting.changed(engine="compile"), beside=BesideSeconds(per_case=1.0))
    table, folder = table_of(steady), tmp_path / "out"
    first = choose(ensemble, cases, 2, table=table, folder=folder)
    with pytest.raises(InputError, match="the fastest setting"):
        choose(ensemble, cases, 0.95, table=table, folder=folder)
    predict_cases(first.ensemble, cases, folder, options=first.options)
    assert choose(ensemble, cases, 0.95, table=table, folder=folder).setting == PLAIN.setting
    with pytest.raises(InputError, match="the fastest setting"):
        choose(ensemble, cases, 0.9, table=table, folder=folder)


def test_a_setting_that_no_longer_fits_is_left_with_one_line(ensemble, cases, tmp_path, caplog):
    first = choose(ensemble, cases, 10, folder=tmp_path / "out")
    predict_cases(first.ensemble, cases, tmp_path / "out", options=first.options)
    with caplog.at_level(logging.WARNING, logger="tumorseg"):
        assert choose(ensemble, cases, 2 * PATCH_S, folder=tmp_path / "out").setting == PLAIN.setting
    assert "takes 0.04" in caplog.text
    assert "they are made anew" in caplog.text


def test_a_map_of_disagreement_confines_the_choice_to_what_can_disagree(ensemble, cases):
    # Enough for one view alone.
    with pytest.raises(InputError, match=r"fastest setting \(1 fold, mirrored views"):
        choose(ensemble, cases, 2 * PATCH_S, disagreement=True)
    with pytest.raises(InputError, match="--budget and --disagreement: no setting"):
        choose(ensemble, cases, 10, table=table_of(PLAIN), disagreement=True)


def test_a_table_of_another_model_is_refused(ensemble, cases):
    other = TABLE.changed(networks=("a/2d", "b/2d"), rows=(PLAIN.changed(tile_s=(1.0, 1.0)),))
    with pytest.raises(InputError, match="tells of a/2d, b/2d, and the model is nnUNetPlans/3d_fullres"):
        choose(ensemble, cases, 10, table=other)


def test_an_image_that_cannot_be_read_does_not_count(ensemble, cases, tmp_path):
    (tmp_path / "in" / "b_0000.nii.gz").write_bytes(b"no image")
    assert choose(ensemble, cases, 10).setting == MIRRORED.setting
    with pytest.raises(TumorsegError, match="prediction: 1 of 1 cases failed") as raised:
        choose(ensemble, cases[1:], 10)
    assert "b  " in str(raised.value)
    assert "b_0000.nii.gz" in str(raised.value)


def predicted(tmp_path, budget, **fields):
    """Predict two cases by a model of two folds whose table knows two settings."""
    if not (tmp_path / "model").is_dir():
        write_model(tmp_path / "model", folds=("0", "1"))
        rows = (row(0.9, mirroring=True, num_folds=2, overlap=0.25), row(0.8))
        (tmp_path / "model" / "settings.json").write_text(to_json(table_of(*rows)))
    request = {
        "models": (tmp_path / "model",),
        "inputs": (tmp_path / "in",),
        "output": tmp_path / "out",
        "device": "cpu",
    }
    return predict(PredictRequest(**request | fields, budget=budget))


@pytest.mark.usefixtures("cases")
def test_a_prediction_within_a_budget_is_made_as_its_report_tells(tmp_path):
    made = predicted(tmp_path, "60s")
    assert made.files.keys() == {"a", "b"}
    (run,) = json.loads((tmp_path / "out" / "report.json").read_text())["runs"].values()
    told = {name: run[name] for name in ("num_folds", "mirroring", "overlap", "engine", "configuration")}
    assert told == {
        "num_folds": 2,
        "mirroring": True,
        "overlap": 0.25,
        "engine": "torch",
        "configuration": "3d_fullres",
    }
    assert predicted(tmp_path, "60s").left_alone == ("a", "b")


@pytest.mark.usefixtures("cases")
def test_a_prediction_that_cannot_keep_its_budget_writes_nothing(tmp_path):
    with pytest.raises(InputError, match="the fastest setting"):
        predicted(tmp_path, "0.00001s")
    assert not list((tmp_path / "out").glob("*"))
    with pytest.raises(InputError, match=r"found 2 models, expected one that `tumorseg select` made"):
        predicted(tmp_path, "60s", models=(tmp_path / "model", tmp_path / "model"))


@pytest.mark.usefixtures("cases")
def test_one_file_keeps_a_budget_too(tmp_path):
    inputs = tuple(sorted((tmp_path / "in").glob("a_*")))
    made = predicted(tmp_path, "60s", inputs=inputs, output=tmp_path / "a.nii.gz")
    assert made.files == {"a": tmp_path / "a.nii.gz"}


@pytest.mark.usefixtures("cases")
def test_inputs_that_are_all_refused_fail_as_without_a_budget(tmp_path):
    (tmp_path / "in" / "b_0001.nii.gz").unlink()
    inputs = (tmp_path / "in" / "b_0000.nii.gz",)
    told = []
    for budget in ("60s", None):
        with pytest.raises(TumorsegError) as raised:
            predicted(tmp_path, budget, inputs=inputs)
        told.append(str(raised.value))
    assert told[0] == told[1]
