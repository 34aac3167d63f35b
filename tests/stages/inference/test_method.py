import pytest

from tests.stages.models import small_model
from tumorseg.schema.codes import CodedTerm, LabelCode
from tumorseg.schema.dataset import Region
from tumorseg.schema.preprocessing import RgbNormalization
from tumorseg.stages.inference import method
from tumorseg.stages.inference.method import AS_PLANNED, PredictOptions, method_hash


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("method") / "model")


def hash_of(model, plan=None, configuration=None, options=AS_PLANNED, weights=("a", "b"), previous=None):
    plan, configuration = plan or model.plan, configuration or model.configuration
    return method_hash(plan, configuration, weights=weights, options=options, previous=previous)


def regions(plan, *named):
    found = tuple(Region(name=name, labels=labels, value=value) for name, labels, value in named)
    return plan.model_copy(update={"dataset": plan.dataset.model_copy(update={"regions": found})})


def changed(record, field, **fields):
    return record.model_copy(update={field: getattr(record, field).model_copy(update=fields)})


WHOLE, PART = ("whole", (1, 2), 1), ("part", (2,), 2)


def test_parts_of_the_plan_that_shape_a_mask_count(model):
    plan = model.plan
    plans = [
        plan,
        plan.model_copy(update={"transpose": (0, 1, 2)}),
        plan.model_copy(update={"cropping": not plan.cropping}),
        plan.model_copy(update={"orientation": "RAS"}),
        changed(plan, "dataset", labels={"background": 0, "kidney_left": 1, "kidney_right": 5}),
        regions(plan, WHOLE, PART),
        regions(plan, PART, WHOLE),
        regions(plan, WHOLE, (*PART[:2], 1)),
    ]
    assert len({hash_of(model, plan=one) for one in plans}) == len(plans)


def test_parts_of_the_configuration_that_shape_a_mask_count(model):
    planned = model.configuration
    configurations = [
        planned,
        planned.model_copy(update={"spacing_mm": (3.0, 1.0, 1.0)}),
        planned.model_copy(update={"patch_size": (8, 24, 48)}),
        planned.model_copy(update={"normalization": (RgbNormalization(), planned.normalization[1])}),
        changed(planned, "resampling", logit_order=0),
        changed(planned, "network", norm_eps=0.5),
        changed(planned, "inference", overlap=0.25),
        changed(planned, "inference", mirroring_axes=(0,)),
        changed(planned, "inference", mirroring=False),
    ]
    assert len({hash_of(model, configuration=one) for one in configurations}) == len(configurations)


def test_weights_options_and_the_previous_model_count(model):
    hashes = [
        hash_of(model),
        hash_of(model, weights=("a",)),
        hash_of(model, options=PredictOptions(mirroring=False)),
        hash_of(model, options=PredictOptions(assumed_orientation="LPS")),
        hash_of(model, previous="c"),
        hash_of(model, options=PredictOptions(precision="fp32")),
        hash_of(model, options=PredictOptions(only_labels=("kidney_left",))),
    ]
    assert len(set(hashes)) == len(hashes)


def test_what_shapes_no_mask_does_not_count(model):
    plan = model.plan
    others = {"name": "other", "parent": "p", "folds": (("x",),), "reasons": {}, "default_configuration": "other"}
    plan = changed(plan.model_copy(update=others), "training", seed=7, epochs=3)
    plan = changed(changed(plan, "budget", vram_bytes=1), "dataset", name="other", content_hash="c")
    trained = {"batch_size": 9, "gradient_accumulation": 2, "activation_checkpointing": True}
    configuration = changed(model.configuration.model_copy(update=trained), "sampling", foreground_fraction=0.9)
    assert hash_of(model, plan=plan, configuration=configuration) == hash_of(model)


def test_rounding_does_not_count_but_where_float32_is_asked_for(model):
    planned = model.configuration
    engine = changed(planned, "inference", engine="openvino")
    assert hash_of(model, configuration=engine) == hash_of(model)
    assert hash_of(model, options=PredictOptions(precision="auto")) == hash_of(model)
    exact = changed(planned, "inference", precision="fp32")
    asked = PredictOptions(precision="fp32")
    assert hash_of(model, configuration=exact) == hash_of(model, options=asked) != hash_of(model)
    assert hash_of(model, configuration=exact, options=PredictOptions(precision="auto")) == hash_of(model)


def test_what_labels_are_called_in_coded_terms_shapes_no_mask(model):
    code = LabelCode(type=CodedTerm(value="64033007", meaning="Kidney"))
    described = changed(model.plan, "dataset", codes={"kidney_left": code})
    assert hash_of(model, plan=described) == hash_of(model)


def test_mirroring_that_is_asked_for_as_planned_is_the_same(model):
    assert hash_of(model, options=PredictOptions(mirroring=True)) == hash_of(model)
    without = changed(model.configuration, "inference", mirroring_axes=())
    never = PredictOptions(mirroring=False)
    assert hash_of(model, configuration=without) == hash_of(model, configuration=without, options=never)


def test_the_version_of_the_method_counts(model, monkeypatch):
    before = hash_of(model)
    monkeypatch.setattr(method, "METHOD_VERSION", method.METHOD_VERSION + 1)
    assert hash_of(model) != before
