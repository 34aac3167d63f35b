"""A sample of what benchmarks/training.py and benchmarks/training_study.py show, and of what they reckon with."""

import json
import sys
from argparse import Namespace
from math import isnan

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import training_study
from benchmarks.rows import read_rows, write_rows
from benchmarks.training import PARTS, THREADS, keep, parse
from benchmarks.training_networks import OPTIMIZERS, VARIANTS, WAYS, ShuffledUpsampling, optimizer_rows, passes
from benchmarks.training_rounds import compare_feeding, compare_measures, compare_networks, compare_steps
from benchmarks.training_steps import run, time_steps
from benchmarks.training_study import what_trains
from benchmarks.training_study_scores import CHANGES, MEAN, scores_of, summary, table
from tests.engine.phantoms import configuration_of, fit_of, training_of
from tests.stages.conftest import plan_toy
from tests.toys import write_toy
from tumorseg.networks.registry import build_network
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.networks import PlainUNet
from tumorseg.schema.plan import Reason
from tumorseg.schema.transforms.intensity import GaussianNoise
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.planning.plan import read_preset

SPEC = PlainUNet(
    features_per_stage=(4, 8, 8),
    kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    convs_per_stage=(2, 1, 2),
    decoder_convs_per_stage=(1, 2),
    deep_supervision=True,
)


@pytest.mark.parametrize("stride", [(1, 2, 2), (2, 2, 2), (1, 1, 3)])
def test_a_convolution_whose_channels_are_spread_over_blocks_is_a_transposed_one(stride):
    torch.manual_seed(1)
    transposed = nn.ConvTranspose3d(5, 3, stride, stride)
    features = torch.randn(2, 5, 3, 4, 7)
    for images in (features, features.contiguous(memory_format=torch.channels_last_3d)):
        torch.testing.assert_close(ShuffledUpsampling(transposed)(images), transposed(images))


@pytest.mark.parametrize("variant", VARIANTS[1:], ids=lambda variant: variant.name)
def test_each_variant_of_a_network_has_its_gradients(variant):
    found = []
    for change in (VARIANTS[0].change, variant.change):
        torch.manual_seed(2)
        network = build_network(SPEC, num_channels=1, num_outputs=2).train()
        change(network)
        images = torch.randn(2, 1, 4, 8, 12, generator=torch.Generator().manual_seed(3), requires_grad=True)
        assert passes(network, images, "fp32") > 0
        found.append(images.grad)
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-3 * float(found[0].abs().max()))


def test_steps_are_timed_from_the_end_of_the_one_before_with_what_they_wait_for():
    configuration = configuration_of(transforms=(GaussianNoise(probability=1.0),))
    fit = fit_of(configuration, training_of(epochs=1, iterations_per_epoch=9), num_workers=0)
    found = time_steps(fit, warm_up=2, iterations=3)
    assert fit.progress.iteration == 5
    assert len(found["steps_s"]) == len(found["waiting_s"]) == 3
    assert all(0 < waiting < step for waiting, step in zip(found["waiting_s"], found["steps_s"], strict=True))
    # Without a thread that reads ahead, each step waits until its own batch is read and augmented.
    assert sum(found["waiting_s"]) / 3 > found["reading_s"] + found["augmentation_s"]
    assert min(found["reading_s"], found["augmentation_s"]) > 0


def test_steps_that_wait_for_a_twentieth_of_their_time_wait_too_long():
    def row(side: str, waiting_share: float) -> dict[str, object]:
        return {"side": side, "turn": 0, "step_s": 2.0, "mean_step_s": 2.1, "waiting_share": waiting_share}

    found = compare_feeding([row("tumorseg_ct", 0.01), row("tumorseg_mr", 0.06), row("tumorseg_ct", 0.03)])
    assert {name: one["is_met"] for name, one in found.items()} == {"tumorseg_ct": True, "tumorseg_mr": False}
    assert found["tumorseg_ct"]["waiting_share"] == pytest.approx(0.02)


@pytest.mark.slow
def test_steps_of_a_plan_are_timed_while_later_batches_are_read(tmp_path):
    toy = plan_toy(tmp_path, write_toy(tmp_path / "data" / "Toy"))
    options = Namespace(plan=toy.plan_path, data_root=toy.roots.data_root, work=toy.roots.work, precision="fp32")
    options.num_workers, options.no_augmentation, options.no_kept_pages = 1, False, True
    options.iterations, options.warm_up = 8, 1
    found = run(options)
    # In the last steps too, as batches beyond these are planned.
    assert (len(found["steps_s"]), found["readers"]) == (8, 1)
    assert found["augmentation_s"] > 0
    rows = list(optimizer_rows(toy.plan, Namespace(warm_up=0, iterations=1)))
    assert len({one["variant"] for one in rows}) == len(OPTIMIZERS) * len(WAYS)
    assert all(one["step_s"] > 0 for one in rows)


def row(side, turn, step_s):
    return {"side": side, "turn": turn, "step_s": step_s, "mean_step_s": step_s, "waiting_share": 0.0}


def test_ours_is_held_against_the_faster_number_of_nnunets_processes():
    rows = [row("nnunetv2_1", 0, 2.0), row("nnunetv2_2", 0, 1.8), row("tumorseg_fp32", 0, 1.5)]
    rows += [row("nnunetv2_2", 1, 2.2), row("tumorseg_fp32", 1, 1.3), row("nnunetv2_2", 2, 2.0)]
    found = compare_steps(rows)
    assert found["peer_chosen"] == "nnunetv2_2"
    assert found["nnunetv2_2"]["step_s"] == 2.0
    assert (found["tumorseg_fp32"]["share"], found["tumorseg_fp32"]["is_met"]) == (0.7, True)
    # Cut off in the first turn, there is nothing to hold it against yet.
    assert "share" not in compare_steps([rows[0], rows[2]])["tumorseg_fp32"]


def test_measures_and_variants_are_held_against_what_has_them_all():
    found = compare_measures([row("tumorseg_as_it_is", 0, 1.0), row("tumorseg_no_augmentation", 0, 0.9)])
    assert found["tumorseg_no_augmentation"]["ratio"] == 0.9
    variants = (("as_it_is_fp32", 2.0), ("as_it_is_bf16", 1.0), ("as_it_is_fp32", 4.0), ("nnunetv2", 6.0))
    rows = [{"plan": "a", "variant": variant, "step_s": step_s} for variant, step_s in variants]
    ratios = {name: one["ratio"] for name, one in compare_networks(rows)["a"].items()}
    assert ratios == {"as_it_is_fp32": 1.0, "as_it_is_bf16": 0.333, "nnunetv2": 2.0}


def test_a_part_that_is_written_leaves_the_others(tmp_path):
    for name, found in (("steps", {"rows": [1]}), ("networks", {"rows": []}), ("steps", {"rows": [1, 2]})):
        keep(tmp_path / "training.json", name, found)
    assert json.loads((tmp_path / "training.json").read_text()) == {"steps": {"rows": [1, 2]}, "networks": {"rows": []}}


def study_row(arm, seed, dsc, dataset="A"):
    run = {"dataset": dataset, "arm": arm, "seed": seed, "fold": 1, "steps": 20, "step_s": 0.5}
    return run | {"dsc": dsc}


def test_the_mean_of_labels_leaves_out_what_is_in_neither_segmentation():
    found = scores_of(study_row("none", 0, {"one": {"x": 0.5, "y": None}, "two": {"y": None, "x": 0.7}}))
    assert (found.labels, found.case_ids) == (("one", "two", MEAN), ("x", "y"))
    assert found.table[0] == pytest.approx([0.5, 0.7, 0.6])
    assert all(isnan(value) for value in found.table[1])


def test_arms_differ_by_the_mean_over_seeds_of_each_case():
    cases = [f"case_{number}" for number in range(12)]
    generator = np.random.default_rng(0)
    rows, apart = [], []
    for seed in (0, 1):
        base, other = generator.uniform(0.6, 0.7, 12).round(5), generator.uniform(0.7, 0.9, 12).round(5)
        rows += [study_row("none", seed, {"one": dict(zip(cases, base.tolist(), strict=True))})]
        rows += [study_row("nnunet", seed, {"one": dict(zip(cases, other.tolist(), strict=True))})]
        apart.append(other - base)
    # Of a seed that the other arm lacks nothing can be said.
    rows.append(study_row("nnunet", 2, {"one": dict.fromkeys(cases, 0.1)}))
    found = summary(rows)["A, 20 steps"]
    assert found["none"].keys() == {"trainings", "dsc", "step_s"}
    one = found["nnunet"]["differences"][MEAN]
    assert (found["nnunet"]["trainings"], found["nnunet"]["cases"]) == (3, 12)
    assert one["difference"] == pytest.approx(np.mean(apart), abs=1e-4)
    assert one["ci95"][0] < one["difference"] < one["ci95"][1]
    assert one["p"] == one["p_holm"] < 0.01
    assert found["nnunet"]["by_training"]["fold 1, seed 1"] == pytest.approx(apart[1].mean(), abs=1e-4)
    assert any(f"{one['difference']:+.4f}" in line and "to none" in line for line in table(summary(rows)))


def test_two_frames_of_a_heart_are_one_patient():
    def summarized(case_ids):
        values = dict(zip(case_ids, (0.7, 0.72, 0.9, 0.88), strict=True))
        rows = [study_row("none", 0, {"one": dict.fromkeys(case_ids, 0.5)}), study_row("basic", 0, {"one": values})]
        return summary(rows)["A, 20 steps"]["basic"]["differences"][MEAN]

    paired = summarized(["p1_frame01", "p1_frame02", "p2_frame01", "p2_frame02"])
    apart = summarized(["p1", "p2", "p3", "p4"])
    assert paired["difference"] == apart["difference"] == 0.3
    # Of two patients, one sign in two turns by chance; of four, one in eight.
    assert (paired["p"], apart["p"]) == (0.5, 0.125)


def test_rows_are_written_a_line_each_and_read_again(tmp_path):
    rows = [study_row("none", seed, {"one": {"x": 0.5, "y": 0.25}}) for seed in (0, 1)]
    write_rows(tmp_path / "study.json", rows, summary(rows))
    text = (tmp_path / "study.json").read_text()
    assert json.loads(text) == {"rows": rows, "summary": summary(rows)}
    assert sum(line.startswith('{"arm"') for line in text.splitlines()) == 2
    assert read_rows(tmp_path / "study.json") == rows
    assert read_rows(tmp_path / "none.json") == []


@pytest.mark.parametrize("name", CHANGES)
def test_an_arm_of_the_presets_study_is_the_preset_with_its_change(tmp_path, monkeypatch, name):
    asked = []
    monkeypatch.setattr(training_study, "tumorseg", lambda *arguments: asked.extend(arguments))
    monkeypatch.setattr(training_study, "write_splits", lambda path, dataset: None)
    monkeypatch.setattr(training_study, "open_dataset", lambda name, root: None)
    study = training_study.Study(tmp_path, tmp_path, 20.0)
    training_study.make_plan(study, training_study.Arm("A", name, 3, 1, 40))
    preset = read_preset(asked[asked.index("--preset") + 1])
    assert preset == PRESETS["fast_prototyping"].changed(
        name=preset.name, purpose=preset.purpose, **CHANGES[name].preset
    )
    settings = [asked[place + 1] for place, one in enumerate(asked) if one == "--set"]
    assert settings == [
        "training.epochs=2",
        "training.iterations_per_epoch=20",
        "training.seed=3",
        *CHANGES[name].settings,
    ]
    assert len(CHANGES[name].settings) + len(CHANGES[name].preset) <= 3


def test_a_row_is_of_what_trains_and_not_of_the_words_that_explain_it(tmp_path):
    plan = plan_toy(tmp_path, write_toy(tmp_path / "data" / "Toy")).plan
    explained = plan.changed(reasons={**plan.reasons, "orientation": Reason(rule="otherwise")})
    assert what_trains(explained) == what_trains(plan)
    assert what_trains(plan.changed(training=plan.training.changed(seed=7))) != what_trains(plan)


def test_arms_that_decide_most_come_first():
    options = Namespace(
        datasets=list(training_study.DATASETS), arms=["strong", "none", "nnunet"], seeds=[0, 1], fold=2, steps=40
    )
    found = list(training_study.arms(options))
    assert len(found) == len(set(found)) == 18
    assert [arm.arm for arm in found[12:]] == ["strong"] * 6
    assert {(arm.fold, arm.steps) for arm in found} == {(2, 40)}


def test_both_frames_of_a_heart_lie_in_one_fold(tmp_path):
    folder = write_toy(tmp_path / "data" / "Toy")
    dataset = open_dataset(str(folder), folder.parent)
    names = [f"p{number // 2}_frame{number % 2}" for number in range(len(dataset.cases))]
    cases = tuple(case.changed(case_id=name) for case, name in zip(dataset.cases, names, strict=True))
    training_study.write_splits(tmp_path / "splits.json", dataset.changed(cases=cases))
    folds = json.loads((tmp_path / "splits.json").read_text())
    held_out = [case_id for fold in folds for case_id in fold["val"]]
    assert sorted(held_out) == sorted(names)
    for fold in folds:
        assert sorted(fold["train"] + fold["val"]) == sorted(names)
        both = {case_id.partition("_")[0] for case_id in fold["val"]} & {one.partition("_")[0] for one in fold["train"]}
        assert not both


@pytest.fixture
def parsed(monkeypatch):
    """Return what parses arguments where nobody steers threads."""
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)

    def parsed(*arguments):
        monkeypatch.setattr(sys, "argv", ["training", *arguments])
        return parse()

    return parsed


def test_without_the_peer_all_parts_run_that_do_not_need_it(parsed):
    assert parsed().parts == ["prepare", "measures", "networks", "feeding"]
    assert parsed("--peer", "python").parts == list(PARTS)


@pytest.mark.parametrize(
    ("arguments", "variable", "message"),
    [
        (("--parts", "steps"), None, "steps: a comparison with nnunetv2; give --peer"),
        (("--warm-up", "0"), None, "--warm-up has to be at least 1"),
        ((), "OMP_NUM_THREADS", "unset OMP_NUM_THREADS"),
    ],
)
def test_what_cannot_be_compared_is_refused(parsed, monkeypatch, capsys, arguments, variable, message):
    if variable:
        monkeypatch.setenv(variable, "1")
    with pytest.raises(SystemExit):
        parsed(*arguments)
    assert message in capsys.readouterr().err
