"""What a selection chose, in words."""

from collections.abc import Sequence

from tumorseg.schema.ensembles import PostprocessingStep


def step_text(step: PostprocessingStep) -> str:
    """Return a step of postprocessing in words."""
    if step.kind == "keep_largest":
        return f"only the largest part of {_joined(step.labels)}"
    if step.kind == "remove_small":
        return f"no parts of {_joined(step.labels)} below {step.least_mm3:g} mm3"
    if step.kind == "fill_holes":
        return f"holes of {step.label} filled"
    return f"{step.label} below {step.least_mm3:g} mm3 becomes {step.by}"


def _joined(labels: Sequence[str]) -> str:
    return " and ".join(labels) if len(labels) < 3 else f"{', '.join(labels[:-1])} and {labels[-1]}"
