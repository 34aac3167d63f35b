import re

import pytest

from tests.planning.measured import fingerprint, planned
from tests.reports.markup import Balance
from tumorseg.planning.reading.difference import diff_plans
from tumorseg.planning.reading.explanation import explain
from tumorseg.reports.difference import diff_text
from tumorseg.reports.explanation import explanation_html, explanation_text, plain_text, value_text
from tumorseg.schema.extensions import External

ATTACK = '<img src=x onerror="alert(1)">'


def without_images(page):
    return re.sub(r"base64,[^\"]+", "", page)


@pytest.fixture(scope="module")
def plan():
    return planned(fingerprint(), "training.epochs=777", "configurations.2d.optimizer.lr=0.5", vram_gb=9)


def test_the_page_is_whole_holds_every_value_and_rule_and_asks_nothing_of_any_network(plan):
    page = explanation_html(explain(plan))
    balance = Balance()
    balance.feed(page.replace("<wbr>", ""))
    assert balance.open == []
    text = without_images(page)
    for item, reason in explain(plan).leaves():
        assert f'title="{item.field}"' in text
        assert reason is None or reason.rule.replace("'", "&#39;") in text
    assert page.count("data:image/svg+xml;base64,") == len(plan.configurations)
    assert re.findall(r"https?:|//[a-z]|url\(|@import|<script|<link", text) == []


def test_what_the_user_set_is_listed_first_and_marked_where_it_stands(plan):
    text = without_images(explanation_html(explain(plan)))
    assert text.index("Set by the user</h2>") < text.index("Fingerprint</h2>")
    assert text.count('<span class="tag user">') == 3
    assert f"set by the user; planned was {planned(fingerprint()).training.epochs}" in text
    assert "Set by the user</h2>" not in explanation_html(explain(planned(fingerprint())))


def test_hostile_names_cannot_write_markup(plan):
    dataset = plan.dataset.model_copy(update={"labels": {"background": 0, ATTACK: 1}})
    reason = plan.reasons["folds"].model_copy(
        update={"rule": ATTACK, "inputs": {ATTACK: ATTACK}, "alternative": ATTACK}
    )
    hostile = plan.model_copy(
        update={
            "dataset": dataset,
            "name": ATTACK,
            "reasons": plan.reasons | {"folds": reason, "training.seed": reason},
        }
    )
    page = explanation_html(explain(hostile))
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x") >= 8


def test_the_text_has_value_meaning_rule_figures_and_alternative_and_marks_the_users_own(plan):
    text = explanation_text(explain(plan))
    lines = text.splitlines()
    assert max(map(len, lines)) < 160
    assert "* vram_bytes: 9.00 GB (9663676416 bytes)" in text
    assert re.search(r"^\*   epochs: 777 +Epochs; after each one", text, re.M)
    block = text[text.index("  patch_size: ") : text.index("  batch_size: ")]
    assert re.findall(r"^ {6}(\w+) {2,}", block, re.M) == ["because", "from", "instead"]
    initial = plan.reasons["configurations.3d_fullres.patch_size"].inputs["initial"]
    assert f"initial {initial}" in block
    for stage in explain(plan).sections[4].anatomy.stages:
        assert re.search(rf"{stage.side} {stage.level} .* {stage.features} ", text)


def test_another_packages_network_has_a_sentence_in_place_of_its_picture(plan):
    other = External(name="my_net", distribution="pkg", version="2")
    plane = plan.configurations["2d"].model_copy(update={"network": other})
    changed = plan.model_copy(update={"configurations": plan.configurations | {"2d": plane}})
    assert "my_net has no stages that are known here" in explanation_text(explain(changed))
    assert explanation_html(explain(changed)).count("data:image/svg+xml") == 2


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("a", 0.30000000000000004, "0.3"),
        ("a", None, "null"),
        ("a", True, "true"),
        ("a", [[1, 2], [2.5, 3]], "[[1, 2], [2.5, 3]]"),
        ("a", {"low": 0.7, "high": 1}, "low 0.7, high 1"),
        ("a", {}, "none"),
        ("budget.vram_bytes", 2**33, "8.00 GB (8589934592 bytes)"),
        ("budget.measured_bytes", None, "null"),
        ("folds", [["case"] * 40, ["case"] * 39], "2 lists of 40, 39 entries"),
        ("a", ["case"] * 99, "99 entries: case, case, case, …"),
        ("a", {f"field_{number}": "long" for number in range(40)}, "40 fields"),
        ("a", "x" * 400, "x" * 400),
    ],
)
def test_values_are_told_in_few_letters(field, value, expected):
    assert value_text(field, value) == expected


def test_plain_text_keeps_names_of_json():
    assert plain_text([False, "a", None]) == "[false, a, null]"


def test_a_diff_tells_each_field_once_with_its_rules(plan):
    before = planned(fingerprint())
    text = diff_text(diff_plans(before, plan))
    assert text.startswith("Toy__plan -> Toy__plan: 3 fields differ")
    assert f"training.epochs\n  - {before.training.epochs}\n      because  " in text
    assert "  + 777\n      because  set by the user" in text


def test_a_diff_does_not_repeat_the_rules_of_one_part(plan):
    text = diff_text(diff_plans(planned(fingerprint()), planned(fingerprint(), network="plain_unet")))
    assert "configurations.2d.network.blocks_per_stage\n  - [1, " in text
    assert "\n  + not there" in text
    assert text.count("because  residual_unet of preset optimized") == 2


def test_a_diff_of_equals_says_so(plan):
    assert diff_text(diff_plans(plan, plan)) == "Toy__plan and Toy__plan are the same in everything but their names"
    other = plan.model_copy(update={"reasons": {}})
    assert "; 0 of" not in diff_text(diff_plans(plan, plan))
    assert diff_text(diff_plans(plan, other)).endswith(f"; {len(plan.reasons)} of their reasons differ")
    moved = plan.model_copy(update={"dataset": plan.dataset.model_copy(update={"name": "B"})})
    assert diff_text(diff_plans(plan, moved)) == (
        "Toy__plan -> Toy__plan: 0 fields differ\n  they are for different datasets: Toy and B"
    )
