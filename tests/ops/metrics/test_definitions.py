import pytest

from tumorseg.ops.metrics.definitions import definitions, lesion_words
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.score_rules import LESION_PRESETS, LesionRules, ScoreRules


def test_what_was_measured_is_defined_and_nothing_else():
    assert set(definitions(ScoreRules(metrics=("dsc",)))) == {"dsc", "empty_masks", "ignored_voxels"}
    assert set(definitions(ScoreRules(metrics=("nsd",)))) == {"nsd", "border", "empty_masks", "ignored_voxels"}
    every = definitions(ScoreRules(metrics=tuple(METRICS)))
    assert set(every) == {*METRICS, "border", "lesions", "empty_masks", "ignored_voxels"}


def test_a_definition_tells_the_tolerance_the_empty_masks_and_the_source():
    rules = ScoreRules(metrics=("nsd", "dsc"), tolerance_mm=2.0, tolerances_mm={"TC": 0.5})
    found = definitions(rules)
    assert found["nsd"].endswith(
        ". Tolerance: 2 mm, TC 0.5 mm. One of P and R empty: 0. Both: undefined. After Nikolov et al., JMIR 2021"
    )
    assert "Tolerance" not in found["dsc"]


def test_metrics_whose_definition_names_a_tolerance_are_measured_at_one():
    found = definitions(ScoreRules(metrics=tuple(METRICS)))
    told = {name for name in METRICS if "Tolerance: 1 mm" in found[name]}
    assert (
        told
        == {name for name, metric in METRICS.items() if "the tolerance" in metric.definition}
        == {"nsd", "boundary_iou"}
    )


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_what_it_is_where_masks_are_empty(name):
    metric = METRICS[name]
    assert metric.when_empty
    assert metric.source or metric.group == "volume"
    assert not metric.definition.endswith(".")


def test_labels_with_rules_of_their_own_are_told():
    own = LesionRules(smallest_mm3=7.0)
    found = definitions(ScoreRules(metrics=("lesion_dsc",), label_lesions={"ET": own}))
    assert found["lesions: ET"] == lesion_words(own) != found["lesions"]


def test_rules_of_a_challenge_name_it():
    words = lesion_words(LESION_PRESETS["brats_gli"].rules)
    assert words.startswith("As in BraTS 2023, gliomas; BraTS 2023, sub-Saharan Africa; BraTS 2023, children. ")
    assert "dilated 3 x over faces and edges are one lesion" in words
    assert "of 50 mm³ or less are left out" in words
    assert "with DSC 0 and HD95 374 mm" in words


CHANGES = {
    "matching": "one_to_one",
    "connectivity": 6,
    "dilation_steps": 2,
    "joins_predictions": True,
    "joined_through": ("NETC", "RC"),
    "smallest_mm3": 3.0,
    "smallest_predicted_mm3": 4.0,
    "counts_missed": False,
    "counts_invented": False,
    "penalty_mm": "diagonal",
    "percentile": "pooled",
    "if_none": "undefined",
}


@pytest.mark.parametrize("field", LesionRules.model_fields)
def test_every_rule_changes_the_words(field):
    assert lesion_words(LesionRules().changed(**{field: CHANGES[field]})) != lesion_words(LesionRules())
