"""Studies made by hand."""

from tumorseg import __version__
from tumorseg.schema.tuning import InnerSplit, Proxy, RealParameter, Space, Study


def study_of(plan_hash="0" * 32, **fields):
    """Return a study with some fields changed."""
    usual = {
        "tumorseg_version": __version__,
        "name": "study",
        "plan_name": "Toy__plan",
        "plan_hash": plan_hash,
        "configuration": "3d_fullres",
        "objectives": ("dsc",),
        "sampler": "random",
        "pruner": "none",
        "seed": 0,
        "space": Space(parameters=(RealParameter(field="optimizer.lr", low=1e-4, high=0.1, scale="log"),)),
        "proxy": Proxy(iterations=4, rungs=(2, 4), most_cases=8),
        "split": InnerSplit(training=("a",), scored=("b",)),
        "judges": (1,),
        "final_iterations": 40,
        "final_seeds": (1, 2),
    }
    return Study.model_validate(usual | fields)
