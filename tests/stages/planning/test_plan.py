import json

import pytest

from tests.planning.measured import case, fingerprint
from tumorseg.errors import InputError, PlanError, TrainingError
from tumorseg.planning.folds.splits import split_folds
from tumorseg.planning.overrides import parse_override
from tumorseg.stages.planning.plan import PlanRequest, plan, read_flops_limit, read_splits
from tumorseg.storage.json_files import write_record

FOLDS = [["a"], ["b", "c"]]
SMALL = (12, 14, 11)
"""Voxels of a case: as few as a network takes, as its memory is counted."""


def planned(tmp_path, splits, **fields):
    cases = []
    for number, name in enumerate("abcd"):
        own = {key: values[number] for key, values in fields.items()}
        cases.append(case(name, shape=SMALL, **own))
    write_record(tmp_path / "f.json", fingerprint(cases))
    given = {"fingerprint": tmp_path / "f.json", "preset": "fast_prototyping", "splits": splits}
    return plan(PlanRequest(output=tmp_path / "p.json", **given)).plan


@pytest.mark.parametrize("content", [FOLDS, [{"train": sorted({*"abcd"} - {*fold}), "val": fold} for fold in FOLDS]])
def test_folds_are_read_as_lists_or_as_nnunets_file(tmp_path, content):
    (tmp_path / "s.json").write_text(json.dumps(content))
    made = planned(tmp_path, str(tmp_path / "s.json"))
    assert (made.folds, made.kept_from_training) == ((("a",), ("b", "c")), ())
    assert made.reasons["folds"].rule == "--splits: the lists of a file"


@pytest.mark.parametrize("content", [[], {}, 3, [["a"], "b"], [[1]], [{"train": []}], [{"val": "a"}]])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "s.json").write_text(json.dumps(content))
    with pytest.raises(PlanError, match="expected a list of folds"):
        read_splits(tmp_path / "s.json")


def test_sites_are_held_out_one_by_one(tmp_path):
    made = planned(tmp_path, "site", site=["x", "y", "x", "z"])
    assert made.folds == (("a", "c"), ("b",), ("d",))
    assert "site" in made.reasons["folds"].rule


def test_folds_are_stratified_on_request(tmp_path):
    made = planned(tmp_path, "stratified", label_voxels=[{"tumour": 0}, {"tumour": 5}, {"tumour": 1}, {"tumour": 0}])
    assert len(made.folds) == 4
    assert made.reasons["folds"].rule.startswith("--splits stratified: five folds with like numbers")


def test_groups_are_kept_together(tmp_path):
    made = planned(tmp_path, "group", group=["p", "q", "p", "q"])
    assert sorted(made.folds) == [("a", "c"), ("b", "d")]
    assert made.folds == split_folds({"a": "p", "b": "q", "c": "p", "d": "q"})
    with pytest.raises(PlanError, match="no case has a group"):
        planned(tmp_path, "group")


@pytest.mark.parametrize("fields", [{"dataset": "Toy"}, {"channels": ("T1",)}, {"regions": "brats"}])
def test_a_fingerprint_holds_the_dataset_already(tmp_path, fields):
    with pytest.raises(InputError, match="--fingerprint holds the dataset already"):
        plan(PlanRequest(fingerprint=tmp_path / "f.json", **fields))


def test_a_plan_needs_a_dataset_or_a_fingerprint():
    with pytest.raises(InputError, match="no dataset"):
        plan(PlanRequest())


@pytest.mark.parametrize("stem", [".x", " x", "x" * 201])
def test_a_name_that_no_plan_can_have_is_refused_before_the_work(tmp_path, stem):
    with pytest.raises(PlanError, match="a plan cannot be called") as refused:
        plan(PlanRequest(output=tmp_path / f"{stem}.json", dataset="none"))
    assert "\n" not in str(refused.value)


def test_a_default_name_that_is_too_long_asks_for_another(tmp_path):
    measured = fingerprint([case("a")], name="x" * 190)
    write_record(tmp_path / "f.json", measured)
    with pytest.raises(PlanError, match=r"the name has 208 letters.*; give another -o"):
        plan(PlanRequest(fingerprint=tmp_path / "f.json", preset="fast_prototyping"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flops")
    write_record(folder / "f.json", fingerprint([case(name, shape=SMALL) for name in "abcd"]))
    given = {"fingerprint": folder / "f.json", "preset": "fast_prototyping"}
    plan(PlanRequest(output=folder / "big.json", **given))
    return folder, given


def test_a_network_is_narrowed_to_a_share_of_what_another_plans_computes(teacher):
    folder, given = teacher
    small = plan(PlanRequest(output=folder / "small.json", flops_of=f"{folder / 'big.json'}:0.25", **given)).plan
    reason = small.reasons["configurations.3d_fullres.network"]
    assert "0.25 times the operations per mm3 of big (--flops-of)" in reason.rule
    assert small.configurations["3d_fullres"].network.features_per_stage[0] < reason.inputs["planned"] == 16


@pytest.mark.parametrize("share", ["0", "-0.5", "1.5", "nan", "inf", "much", ""])
def test_a_share_out_of_range_is_refused(teacher, share):
    folder, given = teacher
    with pytest.raises(PlanError, match="expected a plan and a share above 0 and at most 1, such as") as refused:
        plan(PlanRequest(output=folder / "x.json", flops_of=f"{folder / 'big.json'}:{share}", **given))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["0.25", ":0.25", "big.json"])
def test_a_share_needs_its_plan(text):
    with pytest.raises(PlanError, match=f"--flops-of {text}: expected a plan and a share"):
        read_flops_limit(text)


def test_a_plan_that_is_not_there_or_none_is_told_so(teacher):
    folder, _ = teacher
    for name in ("none.json", "f.json"):
        with pytest.raises(PlanError, match=name) as refused:
            read_flops_limit(f"{folder / name}:0.5")
        assert "\n" not in str(refused.value)


def planned_for(tmp_path, monkeypatch, *, has_gpu=False, step_s=0.1, timed=None, **fields):
    monkeypatch.setattr(
        "tumorseg.stages.planning.plan.choose_device", lambda name: name or ("cuda" if has_gpu else "cpu")
    )
    timed = [] if timed is None else timed

    def seconds(configuration, setting, device):
        timed.append(device)
        return step_s() if callable(step_s) else step_s

    monkeypatch.setattr(
        "tumorseg.stages.planning.plan.step_seconds",
        seconds,
    )
    write_record(tmp_path / "f.json", fingerprint([case(name, shape=SMALL) for name in "abcd"]))
    given = {"fingerprint": tmp_path / "f.json", "preset": "fast_prototyping"} | fields
    return plan(PlanRequest(output=tmp_path / "p.json", force=True, **given)).plan


def test_hours_of_a_fast_training_are_those_of_the_cpu_where_there_is_no_gpu(tmp_path, monkeypatch):
    made = planned_for(tmp_path, monkeypatch, max_hours=0.1)
    assert (made.budget.device, made.budget.step_s) == ("cpu", 0.1)
    reason = made.reasons["budget.device"]
    assert reason.source == "device"
    assert "this machine has no GPU" in reason.rule
    asked = planned_for(tmp_path, monkeypatch, max_hours=0.1, device="cpu").reasons["budget.device"]
    assert (asked.source, asked.rule[:12]) == ("user", "--device cpu")


@pytest.mark.parametrize(
    "fields",
    [
        {"max_hours": None},
        {"has_gpu": True, "max_hours": None},
        {"has_gpu": True, "vram_gb": 8.0},
        {"has_gpu": True, "preset": "mednext"},
        {"device": "cuda"},
        {"vram_gb": 8.0},
        {"num_gpus": 2},
        {"preset": "optimized"},
    ],
)
def test_otherwise_plans_are_for_gpus(tmp_path, monkeypatch, fields):
    made = planned_for(tmp_path, monkeypatch, **({"max_hours": 0.1} | fields))
    assert made.budget.step_s is None


@pytest.mark.parametrize(
    ("fields", "device"), [({}, "cuda"), ({"device": "cuda:1"}, "cuda:1"), ({"device": "cuda", "vram_gb": 6.0}, "cuda")]
)
def test_a_gpu_that_is_here_is_timed(tmp_path, monkeypatch, fields, device):
    timed = []
    made = planned_for(tmp_path, monkeypatch, has_gpu=True, max_hours=0.5, step_s=0.01, timed=timed, **fields)
    assert set(timed) == {device}
    assert (made.budget.device, made.budget.step_s) == ("predicted", 0.01)
    assert "budget.device" not in made.reasons
    assert "this machine's GPU" in made.reasons["budget.step_s"].rule
    assert "training.precision.cpu" not in made.reasons
    usual = planned_for(tmp_path, monkeypatch, has_gpu=True, vram_gb=4.0, max_hours=0.5)
    for name, one in made.configurations.items():
        assert one.network.features_per_stage[0] == 32 > usual.configurations[name].network.features_per_stage[0]


@pytest.mark.parametrize(("hours", "step_s", "is_short"), [(5.0, 0.5, False), (5.0, 0.6, True), (2.0, 0.1, False)])
def test_steps_of_a_gpu_that_is_here_tell_whether_a_training_is_short(tmp_path, monkeypatch, hours, step_s, is_short):
    timed = []
    given = {"preset": "optimized", "max_hours": hours, "has_gpu": True}
    made = planned_for(tmp_path, monkeypatch, step_s=step_s, timed=timed, **given)
    assert timed == ["cuda"]
    assert made.budget.step_s is None
    one = made.configurations["3d_fullres"]
    assert (one.network.name, one.optimizer.name) == (("plain_unet", "adamw") if is_short else ("residual_unet", "sgd"))
    if is_short:
        rule = made.reasons["configurations.3d_fullres.optimizer"].rule
        assert "5 hours are a short training (under 25000 steps, as timed on this machine's GPU)" in rule


def test_hours_alone_decide_where_the_memory_of_a_gpu_is_held_by_others(tmp_path, monkeypatch):
    def fails(*_):
        raise TrainingError("memory ran out while a training step was timed")

    given = {"preset": "optimized", "has_gpu": True, "step_s": fails}
    short = planned_for(tmp_path, monkeypatch, max_hours=3.0, **given)
    assert "(under 4)" in short.reasons["configurations.3d_fullres.optimizer"].rule
    whole = planned_for(tmp_path, monkeypatch, max_hours=5.0, **given)
    assert whole.configurations["3d_fullres"].optimizer.name == "sgd"


def test_hours_that_are_set_as_a_field_are_those_of_the_cpu_too(tmp_path, monkeypatch):
    made = planned_for(tmp_path, monkeypatch, overrides=(parse_override("training.max_hours=0.1"),))
    assert (made.budget.device, made.training.max_hours) == ("cpu", 0.1)


def test_who_plans_without_a_gpu_is_told_for_what(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    planned_for(tmp_path, monkeypatch, max_hours=0.1)
    assert "for a GPU elsewhere give --vram GB or --device cuda" in caplog.text
    planned_for(tmp_path, monkeypatch, max_hours=0.1, has_gpu=True)
    assert "planned for this machine's GPU" in caplog.text


def test_a_plan_that_differs_in_the_time_of_a_step_alone_stays_so_that_its_trainings_go_on(tmp_path, monkeypatch):
    made = planned_for(tmp_path, monkeypatch, max_hours=0.1)
    assert planned_for(tmp_path, monkeypatch, max_hours=0.1, step_s=0.11) == made
    longer = planned_for(tmp_path, monkeypatch, max_hours=0.2, step_s=0.11)
    assert (longer.training.max_hours, longer.budget.step_s) == (0.2, 0.11)


@pytest.mark.parametrize("content", ["{}", "no plan"])
def test_what_is_no_plan_is_replaced_when_forced_to(tmp_path, monkeypatch, content):
    (tmp_path / "p.json").write_text(content)
    assert planned_for(tmp_path, monkeypatch, max_hours=0.1).budget.step_s == 0.1


def test_a_plan_for_gpus_gives_way_to_one_for_the_cpu(tmp_path, monkeypatch):
    planned_for(tmp_path, monkeypatch)
    assert planned_for(tmp_path, monkeypatch, max_hours=0.1).budget.step_s == 0.1
