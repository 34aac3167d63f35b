import csv
import io

import pytest

from tumorseg.reports.crossing import crossing_content
from tumorseg.reports.crossing_tables import cell_remarks, crossing_csv, crossing_text
from tumorseg.reports.results.page import results_page
from tumorseg.reports.shift_figure import shift_png
from tumorseg.schema.crossing import (
    Cell,
    CrossedDataset,
    CrossedModel,
    CrossReport,
    DatasetShift,
    Gap,
    Spread,
)
from tumorseg.schema.metrics import LabelSummary, MetricSummary

SLICE = b"\x89PNG and more"


def summary(dsc, hd95):
    metrics = {
        "dsc": MetricSummary(mean=dsc, std=0.1, ci95=None if dsc is None else (dsc - 0.05, dsc + 0.05), num=5),
        "hd95_mm": MetricSummary(mean=hd95, std=None, ci95=None, num=1),
    }
    return LabelSummary(metrics=metrics, num_cases=12, num_undefined=0, num_missed=0, num_invented=0)


def spread(what, of, unit="mm", factor=1.0):
    quantiles = {str(at): factor * at for at in (5, 25, 50, 75, 95)}
    return Spread(what=what, of=of, unit=unit, quantiles=quantiles, num=3)


def shift(name, *spreads):
    return DatasetShift(dataset=name, content_hash="h", num_cases=9, num_measured=3, spreads=spreads)


@pytest.fixture
def report():
    own = Cell(
        model="first",
        dataset="Home",
        state="done",
        channels={"T1": "T1", "T2": "t2w"},
        scored=("core",),
        num_cases=5,
        held_out=("a", "b"),
        left_out=("c",),
        warnings=("few cases",),
        summary={"core": summary(0.8, 4.0)},
    )
    failed = own.changed(
        dataset="<b>Away",
        state="failed",
        held_out=(),
        left_out=(),
        failures=("x  broken",),
        summary={"core": summary(0.6, 8.0)},
    )
    dropped = own.changed(
        dropped=("T2",), missing_channels=("T2",), filling="mean", summary={"core": summary(0.4, None)}
    )
    refused = Cell(model="second", dataset="Home", state="refused", refused="no channel in common")
    return CrossReport(
        metrics=("dsc", "hd95_mm"),
        missing_channels="refuse",
        models=tuple(
            CrossedModel(name=name, plan=name, configuration="3d_fullres", trained_on="Home", folds=("0", "1"))
            for name in ("first", "second")
        ),
        datasets=tuple(
            CrossedDataset(name=name, num_cases=5, num_unlabelled=1, channels=("T1", "T2"), targets=("core",))
            for name in ("Home", "<b>Away")
        ),
        cells=(own, dropped, failed, refused, refused.changed(dataset="<b>Away")),
        gaps=(
            Gap(
                model="first",
                own="Home",
                other="<b>Away",
                label="core",
                metric="dsc",
                own_mean=0.8,
                other_mean=0.6,
                difference=0.2,
                ci95=(0.1, 0.3),
                num=(2, 5),
                num_units=(2, 5),
            ),
        ),
        shifts=(shift("Home", spread("spacing", "Z")), shift("<b>Away", spread("volume", "core", "ml", 100.0))),
    )


def section(report, heading):
    return next(one for one in crossing_content(report, {}).sections if one.heading == heading)


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_the_text_marks_what_was_held_out_and_tells_why_cells_are_not_done(report):
    table, *told = crossing_text(report).split("\n\n")[0].partition("mean dsc")
    assert "0.800*" in table
    assert "0.600 " in table.replace("0.600\n", "0.600 \n")
    assert "second on Home: refused: no channel in common" in "".join(told)
    assert "first on <b>Away: failed: failed: x  broken" in "".join(told)


def test_csv_has_a_line_for_each_cell_and_label_and_for_each_refused_cell(report):
    rows = list(csv.DictReader(io.StringIO(crossing_csv(report))))
    assert [(row["model"], row["without"], row["state"]) for row in rows] == [
        ("first", "", "done"),
        ("first", "T2", "done"),
        ("first", "", "failed"),
        ("second", "", "refused"),
        ("second", "", "refused"),
    ]
    assert (rows[0]["dsc"], float(rows[0]["dsc_low"]), rows[0]["hd95_mm_low"]) == ("0.8", pytest.approx(0.75), "")
    assert rows[3]["remark"] == "no channel in common"


def test_the_heat_map_is_dark_where_a_model_is_good_whatever_the_metric(report):
    dsc, hd95 = section(report, "Models and datasets").tables
    assert [cell.shade for cell in dsc.rows[0][2:]] == [0.8, 0.6]
    # 4 mm is better than 8 mm, the worst there is.
    assert [cell.shade for cell in hd95.rows[0][2:]] == [0.5, 0.0]
    assert [cell.note for cell in dsc.rows[0][2:]] == ["0.750 to 0.850, held out", "0.550 to 0.650, incomplete"]
    assert texts(dsc)[1] == ["second", "", "refused", "refused"]


def test_counts_are_shaded_on_a_scale_of_their_own(report):
    counts = [MetricSummary(mean=mean, std=None, ci95=None, num=5) for mean in (2.0, 8.0)]
    own, _, failed, *others = report.cells
    cells = [
        cell.changed(summary={"core": cell.summary["core"].changed(metrics={"lesions_found": found})})
        for cell, found in zip((own, failed), counts, strict=True)
    ]
    counted = report.changed(metrics=("lesions_found",), cells=(*cells, *others), gaps=(), compared=(), rankings={})
    (table,) = section(counted, "Models and datasets").tables
    assert [cell.shade for cell in table.rows[0][2:]] == [0.25, 1.0]


def test_cases_of_patients_of_the_training_are_told(report):
    told = cell_remarks(report.cells[0].changed(relatives=("d",)))
    assert "1 case left out, as every fold was trained on other cases of their patients" in told


def test_the_sweep_stands_beside_all_channels(report):
    (table,) = section(report, "Missing channels").tables
    assert [row[:3] for row in texts(table)] == [
        ["all channels", "core", "0.800"],
        ["without T2", "core", "0.400"],
    ]


def test_what_was_mapped_and_filled_is_told(report):
    table, told = section(report, "What belongs together").tables
    assert texts(told)[0] == ["first on Home", "1 case left out, as every fold was trained on them; few cases"]
    assert texts(told)[2] == ["second on Home", "no channel in common"]
    assert texts(table)[0][5] == "T1, T2 = t2w"
    assert cell_remarks(report.cells[0]) == "1 case left out, as every fold was trained on them"


def test_a_gap_shows_its_sign_and_interval(report):
    (table,) = section(report, "Generalisation gap").tables
    assert (table.rows[0][7].text, table.rows[0][7].note) == ("+0.2000", "+0.1000 to +0.3000")


def test_the_page_escapes_names_and_holds_the_pictures(report):
    html = results_page(crossing_content(report, {"Home": SLICE})).html
    assert "<b>Away" not in html
    assert "&lt;b&gt;Away" in html
    assert html.count("data:image/png;base64,") == 2


def test_datasets_without_a_measurement_in_common_are_drawn_as_well(report):
    assert shift_png(report.shifts).startswith(b"\x89PNG")
    assert shift_png(report.shifts) == shift_png(report.shifts)
