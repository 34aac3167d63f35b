"""Self-configuring segmentation of 3D and 2D medical images.

The Python interface mirrors the command line: `tumorseg.plan(tumorseg.PlanRequest(dataset="MSD_Brain"))`. Names are
imported on first use, so `import tumorseg` is instant and loads no torch.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tumorseg.planning.difference import diff_plans
    from tumorseg.stages.evaluate import EvaluateRequest, evaluate
    from tumorseg.stages.inference import load_model
    from tumorseg.stages.plan import PlanRequest, plan
    from tumorseg.stages.plan_explain import ExplainPlanRequest, explain_plan
    from tumorseg.stages.plan_validate import ValidatePlanRequest, validate_plan
    from tumorseg.stages.planned import Roots, read_plan
    from tumorseg.stages.predict import PredictRequest, predict, predict_array
    from tumorseg.stages.preprocess import PreprocessRequest, preprocess
    from tumorseg.stages.runs import TrainOptions
    from tumorseg.stages.stated import Stated
    from tumorseg.stages.train import TrainRequest, train
    from tumorseg.stages.validate import ValidateRequest, validate

__all__ = [
    "EvaluateRequest",
    "ExplainPlanRequest",
    "PlanRequest",
    "PredictRequest",
    "PreprocessRequest",
    "Roots",
    "Stated",
    "TrainOptions",
    "TrainRequest",
    "ValidatePlanRequest",
    "ValidateRequest",
    "__version__",
    "diff_plans",
    "evaluate",
    "explain_plan",
    "load_model",
    "plan",
    "predict",
    "predict_array",
    "preprocess",
    "read_plan",
    "train",
    "validate",
    "validate_plan",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use from the stage that it belongs to."""
    if name in ("EvaluateRequest", "evaluate"):
        import tumorseg.stages.evaluate

        return getattr(tumorseg.stages.evaluate, name)
    if name in ("load_model",):
        import tumorseg.stages.inference

        return getattr(tumorseg.stages.inference, name)
    if name in ("PlanRequest", "plan"):
        import tumorseg.stages.plan

        return getattr(tumorseg.stages.plan, name)
    if name in ("diff_plans",):
        import tumorseg.planning.difference

        return getattr(tumorseg.planning.difference, name)
    if name in ("ExplainPlanRequest", "explain_plan"):
        import tumorseg.stages.plan_explain

        return getattr(tumorseg.stages.plan_explain, name)
    if name in ("ValidatePlanRequest", "validate_plan"):
        import tumorseg.stages.plan_validate

        return getattr(tumorseg.stages.plan_validate, name)
    if name in ("Roots", "read_plan"):
        import tumorseg.stages.planned

        return getattr(tumorseg.stages.planned, name)
    if name in ("PredictRequest", "predict", "predict_array"):
        import tumorseg.stages.predict

        return getattr(tumorseg.stages.predict, name)
    if name in ("PreprocessRequest", "preprocess"):
        import tumorseg.stages.preprocess

        return getattr(tumorseg.stages.preprocess, name)
    if name in ("Stated",):
        import tumorseg.stages.stated

        return getattr(tumorseg.stages.stated, name)
    if name in ("TrainOptions",):
        import tumorseg.stages.runs

        return getattr(tumorseg.stages.runs, name)
    if name in ("TrainRequest", "train"):
        import tumorseg.stages.train

        return getattr(tumorseg.stages.train, name)
    if name in ("ValidateRequest", "validate"):
        import tumorseg.stages.validate

        return getattr(tumorseg.stages.validate, name)
    raise AttributeError(f"module 'tumorseg' has no attribute {name!r}")
