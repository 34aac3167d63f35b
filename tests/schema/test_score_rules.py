import pytest
from pydantic import ValidationError

from tumorseg.schema.base import to_json
from tumorseg.schema.metric_names import DEFAULT_METRICS, METRICS, chosen_metrics
from tumorseg.schema.score_rules import LESION_PRESETS, LesionRules, ScoreRules, lesion_preset


def test_the_defaults_are_those_of_the_challenge_for_gliomas():
    rules = ScoreRules()
    assert (rules.metrics, rules.tolerance_mm, rules.lesions) == (DEFAULT_METRICS, 1.0, LesionRules())
    assert lesion_preset("brats_gli").rules == LesionRules()


def test_labels_may_have_rules_of_their_own():
    own = LesionRules(smallest_mm3=3.0)
    rules = ScoreRules(tolerances_mm={"TC": 2.0}, label_lesions={"ET": own})
    assert (rules.tolerance_of("TC"), rules.tolerance_of("ET")) == (2.0, 1.0)
    assert (rules.lesions_of("ET"), rules.lesions_of("TC")) == (own, rules.lesions)


def test_an_unknown_metric_is_refused_with_all_that_there_are():
    with pytest.raises(ValidationError, match="there is no metric 'dice'; choose of dsc, iou"):
        ScoreRules(metrics=("dsc", "dice"))


def test_an_unknown_preset_is_refused_with_all_that_there_are():
    with pytest.raises(ValueError, match="no rules for lesions called 'brats'; choose of brats_gli, "):
        lesion_preset("brats")


@pytest.mark.parametrize("name", LESION_PRESETS)
def test_presets_survive_json(name):
    rules, when, by_label = lesion_preset(name)
    scoring = ScoreRules(lesions=rules, label_lesions=dict(by_label))
    assert ScoreRules.model_validate_json(to_json(scoring)) == scoring
    assert when


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("default", DEFAULT_METRICS),
        ("all", tuple(METRICS)),
        ("recall, dsc", ("dsc", "recall")),
        ("panoptic,default", (*DEFAULT_METRICS, "panoptic_quality", "segmentation_quality", "recognition_quality")),
    ],
)
def test_metrics_are_chosen_by_name_or_group_and_stand_in_the_order_of_tables(words, expected):
    assert chosen_metrics(words) == expected


def test_a_metric_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="there is no metric 'hd96'; choose of default, all, overlap"):
        chosen_metrics("dsc,hd96")
