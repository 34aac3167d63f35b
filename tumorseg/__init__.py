"""Self-configuring segmentation of 3D and 2D medical images.

The Python interface mirrors the command line: `tumorseg.plan(tumorseg.PlanRequest(dataset="MSD_Brain"))`. Names are
imported on first use, so `import tumorseg` is instant and loads no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tumorseg.planning.reading.difference import diff_plans
    from tumorseg.stages.crossing.cross_evaluate import cross_evaluate
    from tumorseg.stages.crossing.request import CrossEvaluateRequest
    from tumorseg.stages.distillation.distill import DistillRequest, distill
    from tumorseg.stages.distillation.student import LessonOptions
    from tumorseg.stages.evaluation.comparing import CompareRequest, compare_scores
    from tumorseg.stages.evaluation.evaluate import EvaluateRequest, evaluate
    from tumorseg.stages.inference.ensemble import EnsembleRequest, ensemble
    from tumorseg.stages.inference.ensembles import load_ensemble
    from tumorseg.stages.inference.maps import MapRequest
    from tumorseg.stages.inference.models import load_model
    from tumorseg.stages.inference.outputs import Outputs
    from tumorseg.stages.inference.predict import PredictRequest, predict
    from tumorseg.stages.inference.predict_array import predict_array, predict_array_probabilities
    from tumorseg.stages.inference.runtime import RuntimeOptions
    from tumorseg.stages.opening.fold_folders import TrainOptions
    from tumorseg.stages.opening.loaded import Roots, read_plan
    from tumorseg.stages.opening.stated import Stated
    from tumorseg.stages.planning.explain import ExplainPlanRequest, explain_plan
    from tumorseg.stages.planning.plan import PlanRequest, plan
    from tumorseg.stages.planning.validate_plan import ValidatePlanRequest, validate_plan
    from tumorseg.stages.selection.select import SelectRequest, select
    from tumorseg.stages.training.augment import AugmentRequest, augment
    from tumorseg.stages.training.preprocess import PreprocessRequest, preprocess
    from tumorseg.stages.training.request import TrainRequest
    from tumorseg.stages.training.train import train
    from tumorseg.stages.training.validate import ValidateRequest, validate
    from tumorseg.stages.tuning.request import TuneRequest
    from tumorseg.stages.tuning.tune import tune

__all__ = [
    "AugmentRequest",
    "CompareRequest",
    "CrossEvaluateRequest",
    "DistillRequest",
    "EnsembleRequest",
    "EvaluateRequest",
    "ExplainPlanRequest",
    "LessonOptions",
    "MapRequest",
    "Outputs",
    "PlanRequest",
    "PredictRequest",
    "PreprocessRequest",
    "Roots",
    "RuntimeOptions",
    "SelectRequest",
    "Stated",
    "TrainOptions",
    "TrainRequest",
    "TuneRequest",
    "ValidatePlanRequest",
    "ValidateRequest",
    "__version__",
    "augment",
    "compare_scores",
    "cross_evaluate",
    "diff_plans",
    "distill",
    "ensemble",
    "evaluate",
    "explain_plan",
    "load_ensemble",
    "load_model",
    "plan",
    "predict",
    "predict_array",
    "predict_array_probabilities",
    "preprocess",
    "read_plan",
    "select",
    "train",
    "tune",
    "validate",
    "validate_plan",
]


PLACES = {
    "tumorseg.planning.reading.difference": ("diff_plans",),
    "tumorseg.stages.crossing.cross_evaluate": ("cross_evaluate",),
    "tumorseg.stages.crossing.request": ("CrossEvaluateRequest",),
    "tumorseg.stages.distillation.distill": ("DistillRequest", "distill"),
    "tumorseg.stages.distillation.student": ("LessonOptions",),
    "tumorseg.stages.evaluation.comparing": ("CompareRequest", "compare_scores"),
    "tumorseg.stages.evaluation.evaluate": ("EvaluateRequest", "evaluate"),
    "tumorseg.stages.inference.ensemble": ("EnsembleRequest", "ensemble"),
    "tumorseg.stages.inference.ensembles": ("load_ensemble",),
    "tumorseg.stages.inference.maps": ("MapRequest",),
    "tumorseg.stages.inference.models": ("load_model",),
    "tumorseg.stages.planning.plan": ("PlanRequest", "plan"),
    "tumorseg.stages.planning.explain": ("ExplainPlanRequest", "explain_plan"),
    "tumorseg.stages.planning.validate_plan": ("ValidatePlanRequest", "validate_plan"),
    "tumorseg.stages.opening.loaded": ("Roots", "read_plan"),
    "tumorseg.stages.inference.outputs": ("Outputs",),
    "tumorseg.stages.inference.predict": ("PredictRequest", "predict"),
    "tumorseg.stages.inference.predict_array": ("predict_array", "predict_array_probabilities"),
    "tumorseg.stages.inference.runtime": ("RuntimeOptions",),
    "tumorseg.stages.selection.select": ("SelectRequest", "select"),
    "tumorseg.stages.training.augment": ("AugmentRequest", "augment"),
    "tumorseg.stages.training.preprocess": ("PreprocessRequest", "preprocess"),
    "tumorseg.stages.opening.fold_folders": ("TrainOptions",),
    "tumorseg.stages.opening.stated": ("Stated",),
    "tumorseg.stages.training.request": ("TrainRequest",),
    "tumorseg.stages.training.train": ("train",),
    "tumorseg.stages.training.validate": ("ValidateRequest", "validate"),
    "tumorseg.stages.tuning.request": ("TuneRequest",),
    "tumorseg.stages.tuning.tune": ("tune",),
}
"""Module to the public names that it holds."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use from the stage that it belongs to."""
    for module, names in PLACES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'tumorseg' has no attribute {name!r}")
