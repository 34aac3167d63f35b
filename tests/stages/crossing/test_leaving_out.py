"""Sites that are left out in turn: trained without, tested on."""

import csv
import json

import pytest

from tests.stages.conftest import plan_toy
from tests.stages.crossing.conftest import write_dataset
from tests.toys import write_toy
from tumorseg.cli.main import run
from tumorseg.schema.crossing import CrossReport
from tumorseg.stages.training.request import TrainRequest
from tumorseg.stages.training.train import train
from tumorseg.storage.json_files import read_record

SITES = ["A", "B", "C", "A", "B", "C"]
PATIENTS = ["p0", "p1", "p2", "p3", "p4", "p0"]
"""The first patient was seen at A and at C."""


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Return the plan of a dataset of three sites."""
    root = tmp_path_factory.mktemp("sites")
    data = write_toy(root / "data" / "Sites")
    rows = list(csv.reader((data / "manifest.csv").read_text().splitlines()))
    rows[0] += ["site", "group"]
    for row, site, patient in zip(rows[1:], SITES, PATIENTS, strict=True):
        row += [site, patient]
    with (data / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    fewer = {"training.epochs": 1, "training.iterations_per_epoch": 2}
    toy = plan_toy(root, data, **fewer)
    # Cross-validation of the whole plan, as far as it is trained, is a row of the matrix too.
    train(TrainRequest(roots=toy.roots, plan=toy.plan, fold="0", device="cpu", jobs=1, has_validation=False))
    return toy


@pytest.mark.slow
def test_a_model_is_trained_without_each_site_and_tested_on_it(sites, tmp_path, capsys):
    before = ["--data-root", str(sites.roots.data_root), "--work", str(sites.roots.work), "--json"]
    command = [*before, "cross-evaluate", "--leave-out", "site", "-p", str(sites.plan_path), "--device", "cpu"]
    command += ["--jobs", "1", "-o", str(tmp_path)]
    known = {case_id: SITES[int(case_id[-1])] for case_id in sites.plan.folds[0]}
    assert run([*command, "--shard", "2/4"]) == 0
    # Two models of three sites each, and the row that is another shard's.
    assert json.loads(capsys.readouterr().out)["num_waiting"] == 6 + len(set(known.values()))
    assert run(command) == 0
    report = read_record(CrossReport, tmp_path / "cross.json")
    assert [model.without for model in report.models] == [None, "A", "B", "C"]
    states = {(cell.model, cell.dataset): cell.state for cell in report.cells}
    assert [states[f"without-{site}", site] for site in "ABC"] == ["done"] * 3
    assert [cell.held_out for cell in report.cells if cell.state == "done" and cell.model != "toy"] == [
        ("case_0", "case_3"),
        ("case_1", "case_4"),
        ("case_2", "case_5"),
    ]
    # p0 was at A and C: what is left of it at C is neither trained on nor held out without A.
    plan = json.loads((tmp_path / "plans" / "toy__leave_out_site.json").read_text())
    assert plan["kept_from_training"] == [["case_5"], [], ["case_0"]]
    assert states["without-A", "B"] == "refused"
    assert report.gaps == ()
    own = [case_id for cell in report.cells if cell.model == "toy" for case_id in cell.held_out]
    assert set(own) == set(known)
    times = {path: path.stat().st_mtime_ns for path in sites.roots.work.glob("**/*.ckpt")}
    assert len(times) == 8
    assert run(command) == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.slow
def test_a_model_is_trained_without_each_dataset_of_a_pool_and_tested_on_it(tmp_path, capsys):
    channels, labels = {"T1": 0, "T2": 1}, {"shell": 2, "core": 7}
    places = [
        write_dataset(tmp_path / "data" / name, channels, labels, first=first, count=2, case=name.lower())
        for name, first in (("East", 0), ("West", 9))
    ]
    before = ["--data-root", str(tmp_path / "data"), "--work", str(tmp_path / "runs"), "--json"]
    merged, plan = tmp_path / "data" / "Pool.json", tmp_path / "pool.json"
    named = [word for place in places for word in ("-d", str(place))]
    assert run([*before, "data", "merge", *named, "-o", str(merged)]) == 0
    short = ["training.epochs=1", "training.iterations_per_epoch=2"]
    options = [word for value in short for word in ("--set", value)]
    assert run([*before, "plan", "-d", str(merged), "--preset", "fast_prototyping", *options, "-o", str(plan)]) == 0
    command = ["cross-evaluate", "--leave-out", "dataset", "-p", str(plan), "--device", "cpu", "--jobs", "1"]
    assert run([*before, *command, "-o", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    report = read_record(CrossReport, tmp_path / "out" / "cross.json")
    scored = {(cell.model, cell.dataset): cell.held_out for cell in report.cells if cell.state == "done"}
    assert scored == {
        ("without-East", "East"): ("east_0", "east_1"),
        ("without-West", "West"): ("west_10", "west_9"),
    }
