import json
import sys

import pytest

from tumorseg.cli.main import run
from tumorseg.reports.doctor_table import doctor_text
from tumorseg.schema.health import Check, DoctorReport
from tumorseg.schema.plan import MemoryCount
from tumorseg.schema.quantities import GB
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.watching.checks import plan as checks
from tumorseg.stages.watching.checks.gpu import Device
from tumorseg.stages.watching.checks.plan import Content, Room
from tumorseg.stages.watching.doctor import DoctorRequest, doctor

A100 = Device("A100", (8, 0), total_bytes=80 * GB, free_bytes=79 * GB)
V100 = A100._replace(name="V100", capability=(7, 0))


def of_plan(report):
    return {check.name: check.grade for check in report.checks if check.name.startswith("plan")}


def test_a_plan_that_was_just_made_can_be_carried_out(toy):
    report = doctor(DoctorRequest(roots=toy.roots, plan=toy.plan_path))
    assert of_plan(report) == {"plan": "ok", "plan: memory": "ok", "plan: dataset": "ok", "plan: disk": "ok"}
    assert {"python", "packages", "cores", "memory", "gpu", "disk", "mlflow"} <= {check.name for check in report.checks}


def test_a_plan_whose_dataset_is_elsewhere_cannot(toy, tmp_path):
    roots = Roots(data_root=tmp_path, work=tmp_path / "runs")
    report = doctor(DoctorRequest(roots=roots, plan=toy.plan_path))
    assert of_plan(report)["plan: dataset"] == "blocker"
    assert report.has_blockers
    assert not (tmp_path / "runs").exists()


def test_without_torch_all_else_is_looked_at(toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.cuda", None)
    report = doctor(DoctorRequest(roots=toy.roots, plan=toy.plan_path))
    (check,) = (one for one in report.checks if one.name == "torch")
    assert (check.grade, check.found.partition(":")[0]) == ("blocker", "torch cannot be imported")
    assert {"python", "packages", "cores", "disk", "plan: dataset"} <= {one.name for one in report.checks}
    assert "gpu" not in {one.name for one in report.checks}


def test_cases_that_were_never_read_are_told_of(toy, tmp_path):
    roots = Roots(data_root=toy.data.parent, work=tmp_path)
    (check,) = (
        one for one in doctor(DoctorRequest(roots=roots, plan=toy.plan_path)).checks if one.name == "plan: dataset"
    )
    assert check.grade == "note"
    assert f"of which {len(list((toy.data).glob('case_*'))) or 6} have to be read" in check.found


def test_files_that_are_gone_are_a_blocker(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("tumorseg.stages.watching.doctor.missing_files", lambda case: [f"{case.case_id}.nii.gz"])
    report = doctor(DoctorRequest(roots=toy.roots, plan=toy.plan_path))
    (check,) = (one for one in report.checks if one.name == "plan: dataset")
    assert "files of the planned dataset are missing" in check.found


def test_a_plan_of_another_version_is_a_blocker(toy, tmp_path):
    document = json.loads(toy.plan_path.read_text()) | {"schema_version": 1}
    (tmp_path / "old.json").write_text(json.dumps(document))
    report = doctor(DoctorRequest(roots=toy.roots, plan=tmp_path / "old.json"))
    assert of_plan(report) == {"plan": "blocker"}


def test_memory_is_that_of_the_gpu_or_of_the_machine(toy):
    plan = toy.plan.changed(budget=toy.plan.budget.changed(predicted_bytes=16 * GB))
    assert checks.check_budget(plan, (A100,), 8 * GB).grade == "ok"
    assert checks.check_budget(plan, (), 32 * GB).grade == "ok"
    assert checks.check_budget(plan, (), None).grade == "note"
    check = checks.check_budget(plan, (), 8 * GB)
    assert check.grade == "blocker"
    assert "--vram 8" in check.advice


def test_a_gpu_must_compute_in_the_precision_of_the_plan(toy):
    precision = toy.plan.training.precision.changed(cuda="bf16")
    plan = toy.plan.changed(training=toy.plan.training.changed(precision=precision))
    assert [check.grade for check in checks.check_precision(plan, (V100,))] == ["warning"]
    assert list(checks.check_precision(plan, (A100,))) == []
    assert list(checks.check_precision(plan, ())) == []
    assert list(checks.check_precision(toy.plan, (V100,))) == []


def test_the_disk_must_take_cases_and_checkpoints(toy):
    needed = checks.store_bytes(toy.plan.configurations, len(toy.plan.dataset.channels), 6)
    files = checks.checkpoint_bytes(toy.plan.budget.counts)
    assert checks.check_room(toy.plan, Room(needed + files, 0), 6).grade == "ok"
    assert checks.check_room(toy.plan, Room(needed + files - 1, 0), 6).grade == "warning"
    stored = 6 * len(toy.plan.configurations)
    assert checks.check_room(toy.plan, Room(files, stored), 6).grade == "ok"


def test_checkpoints_are_the_latest_written_beside_itself_and_the_best():
    count = MemoryCount(
        parameters_bytes=100,
        gradients_bytes=100,
        optimizer_bytes=200,
        activations_bytes=1,
        workspace_bytes=1,
        peak_bytes=1,
        inference_bytes=1,
    )
    assert checks.checkpoint_bytes({"3d": count, "2d": count.changed(parameters_bytes=10)}) == 2 * 300 + 100
    assert checks.checkpoint_bytes({}) == 0


@pytest.mark.parametrize(
    ("content", "grade"),
    [
        (Content(failure="no such dataset"), "blocker"),
        (Content("data", num_cases=6, num_unread=2), "note"),
        (Content("data", num_cases=6, content_hash="another"), "blocker"),
    ],
)
def test_the_dataset_must_be_the_one_that_was_planned(toy, content, grade):
    assert checks.check_content(toy.plan, content).grade == grade


def test_a_plan_made_without_images_knows_no_content(toy):
    plan = toy.plan.changed(dataset=toy.plan.dataset.changed(content_hash=None))
    assert checks.check_content(plan, Content("data", num_cases=6, content_hash="any")).grade == "note"


def test_the_table_has_what_to_do_below_the_gravest_first():
    ok = Check(name="python", grade="ok", found="3.11.7")
    note = Check(name="gpu", grade="note", found="none", advice="buy one")
    blocker = Check(name="disk", grade="blocker", found="0 bytes free", advice="free some")
    text = doctor_text(DoctorReport(checks=(ok, note, blocker)))
    assert text.endswith("what to do:\ndisk: free some\ngpu: buy one\n\n1 x blocker, 1 x note, 1 x ok")
    assert doctor_text(DoctorReport(checks=(ok,))).endswith("3.11.7\n\n1 x ok")


def test_the_verb_leaves_with_1_on_a_blocker(toy, tmp_path, capsys):
    before = ["--data-root", str(toy.data.parent), "--work", str(toy.roots.work)]
    assert run([*before, "--json", "doctor", "-p", str(toy.plan_path)]) == 0
    assert {check["grade"] for check in json.loads(capsys.readouterr().out)["checks"]} <= {"ok", "note", "warning"}
    assert run([*before, "doctor", "-p", str(tmp_path / "none.json"), "--mlflow", "off"]) == 1
    assert "plan again" in capsys.readouterr().out
