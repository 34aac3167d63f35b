"""Self-configuring segmentation of 3D and 2D medical images.

The Python interface mirrors the command line: `tumorseg.plan(tumorseg.PlanRequest(dataset="MSD_Brain"))`. Names are
imported on first use, so `import tumorseg` is instant and loads no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tumorseg.planning.reading.difference import diff_plans
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


PLACES = {
    "tumorseg.planning.reading.difference": ("diff_plans",),
    "tumorseg.stages.evaluate": ("EvaluateRequest", "evaluate"),
    "tumorseg.stages.inference": ("load_model",),
    "tumorseg.stages.plan": ("PlanRequest", "plan"),
    "tumorseg.stages.plan_explain": ("ExplainPlanRequest", "explain_plan"),
    "tumorseg.stages.plan_validate": ("ValidatePlanRequest", "validate_plan"),
    "tumorseg.stages.planned": ("Roots", "read_plan"),
    "tumorseg.stages.predict": ("PredictRequest", "predict", "predict_array"),
    "tumorseg.stages.preprocess": ("PreprocessRequest", "preprocess"),
    "tumorseg.stages.runs": ("TrainOptions",),
    "tumorseg.stages.stated": ("Stated",),
    "tumorseg.stages.train": ("TrainRequest", "train"),
    "tumorseg.stages.validate": ("ValidateRequest", "validate"),
}
"""Module to the public names that it holds."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use from the stage that it belongs to."""
    for module, names in PLACES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'tumorseg' has no attribute {name!r}")
