"""Checks of a plan by itself, beyond those of its schema."""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from tumorseg.errors import PlanError
from tumorseg.planning.evidence.laterality import LATERAL_AXIS, sided_pairs
from tumorseg.schema.extensions import External, load_external
from tumorseg.schema.fields import is_field
from tumorseg.schema.findings import Finding, finding
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.preprocessing import CtNormalization
from tumorseg.schema.quantities import gb_text
from tumorseg.schema.transforms.acquisition import CopyPaste
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform
from tumorseg.schema.wording import problems_of, shown

MOST_DEVIATION = 0.01
"""Share by which a prediction may differ from what is counted now."""
COUNTED_PARTS = frozenset(("budget", "configurations", "dataset", "training"))
"""Parts of a plan without which its memory cannot be counted."""
REMEDY = "plan with a larger --vram, or make patch_size or batch_size smaller"

LARGEST_TURN_DEG = 90.0
"""Beyond it a rotation and a flip may exchange two sides."""


class Parsed(NamedTuple):
    """A plan as far as it can be read."""

    plan: Plan
    """Holds the parts that are sound by themselves, and no others."""
    parts: frozenset[str]
    """Their names."""
    findings: tuple[Finding, ...]
    """What is wrong with the other parts."""

    @classmethod
    def of(cls, plan: Plan) -> "Parsed":
        """Return a plan that is sound as a record."""
        return cls(plan, frozenset(Plan.model_fields), ())


def parse_plan(document: Any) -> Parsed:
    """Read a plan part by part, so that what is wrong with one hides nothing of the others."""
    if not isinstance(document, dict):
        wrong = finding("plan_document", f"found {shown(document)}, expected an object; is this a plan?")
        return parsed_parts({}, wrong)
    try:
        return Parsed.of(Plan.model_validate(document))
    except ValidationError as invalid:
        # Contradictions between parts have no field; `check_plan` finds them again.
        problems = [(field, message) for field, message in problems_of(invalid, document) if field]
    found = (finding("plan_document", f"{field}: {message}") for field, message in problems)
    return parsed_parts(dict(_sound_parts(document)), *found)


def parsed_parts(parts: Mapping[str, Any], *findings: Finding) -> Parsed:
    """Return a plan of some parts only."""
    return Parsed(Plan.model_construct(**parts), frozenset(parts), findings)


def _sound_parts(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield name and value of each part that is sound by itself."""
    for name, field in Plan.model_fields.items():
        if name not in document and not field.is_required():
            yield name, field.get_default()
        elif name in document:
            try:
                adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
                yield name, adapter.validate_python(document[name])
            except ValidationError:
                continue


def check_plan(parsed: Parsed, needed: Mapping[str, int]) -> list[Finding]:
    """Return everything that is wrong with a plan by itself, as far as it can be read.

    Args:
        parsed: the plan.
        needed: bytes that each configuration is counted to need on a GPU; those that cannot be counted are left out.
    """
    found = list(parsed.findings)
    if "budget" in parsed.parts:
        found += _check_counts(parsed.plan, needed)
    for parts, check in CHECKS:
        if parsed.parts.issuperset(parts):
            found += check(parsed.plan)
    return found


def _check_configurations(plan: Plan) -> Iterator[Finding]:
    for problem in plan.configuration_contradictions():
        yield finding("plan_contradiction", problem)


def _check_budget(plan: Plan) -> Iterator[Finding]:
    """Yield what the plan itself says to need more than its budget."""
    budget = plan.budget
    for what, needed in (("predicted", budget.predicted_bytes), ("measured", budget.measured_bytes)):
        if needed is not None and needed > budget.vram_bytes:
            message = f"budget: {what} to need {gb_text(needed)}, over its {gb_text(budget.vram_bytes)}; {REMEDY}"
            yield finding("over_budget", message)


def _check_counts(plan: Plan, needed: Mapping[str, int]) -> Iterator[Finding]:
    """Yield what the networks need, whatever the figures in the plan say: one of them may have been edited."""
    budget = plan.budget
    for name, count in needed.items():
        if count > budget.vram_bytes:
            message = (
                f"configurations.{name}: counted to need {gb_text(count)}, over the budget of "
                f"{gb_text(budget.vram_bytes)}; {REMEDY}"
            )
            yield finding("over_budget", message)
    most, predicted = max(needed.values(), default=None), budget.predicted_bytes
    if most is None:
        return
    if predicted is None or abs(most - predicted) > MOST_DEVIATION * most:
        stated = "null" if predicted is None else gb_text(predicted)
        message = (
            f"budget.predicted_bytes: is {stated}, but the networks of this plan are counted to need {gb_text(most)}; "
            "the plan was edited, or made by another version"
        )
        yield finding("stale_prediction", message)


def _check_batches(plan: Plan) -> Iterator[Finding]:
    """Yield batches that cannot be divided so often."""
    for name, configuration in plan.configurations.items():
        num_parts = configuration.gradient_accumulation * plan.budget.num_gpus
        if configuration.batch_size < num_parts:
            message = (
                f"configurations.{name}: batch_size {configuration.batch_size} cannot be divided into "
                f"{configuration.gradient_accumulation} parts on each of {plan.budget.num_gpus} GPUs; expected "
                f"{num_parts} patches at least"
            )
            yield finding("batch_too_small", message)


def _check_normalization(plan: Plan) -> Iterator[Finding]:
    for name, configuration in plan.configurations.items():
        for number, spec in enumerate(configuration.normalization):
            if isinstance(spec, CtNormalization) and spec.lower_hu >= spec.upper_hu:
                message = (
                    f"configurations.{name}.normalization.{number}: clips to {spec.lower_hu:g} to {spec.upper_hu:g}, "
                    "which leaves nothing of the image; expected lower_hu below upper_hu"
                )
                yield finding("empty_range", message)


def _check_folds(plan: Plan) -> Iterator[Finding]:
    """Yield folds that leave nothing to train on or to hold out."""
    num_cases = _num_used(plan)
    for number, fold in enumerate(plan.folds):
        num_trained = num_cases - len(plan.not_trained_on(number))
        if not fold or num_trained <= 0:
            # The number of cases may have been edited, so the difference may be negative.
            message = (
                f"folds.{number}: holds out {len(fold)} of {num_cases} cases and trains on {max(num_trained, 0)}; "
                "leave some on both sides"
            )
            yield finding("bad_folds", message)
    held_out = len(set(chain.from_iterable(plan.folds)))
    if held_out > num_cases:
        message = f"folds: hold out {held_out} cases, but the plan was made for {num_cases}"
        yield finding("bad_folds", message)
    elif held_out < num_cases:
        message = (
            f"folds: {num_cases - held_out} of {num_cases} cases are held out by no fold: trained on, and never scored"
        )
        yield finding("never_held_out", message)


def _num_used(plan: Plan) -> int:
    """Return how many cases the plan uses; nnU-Net's plans were measured on all, whatever a split file lists."""
    return plan.fingerprint.num_cases if plan.dataset.listed is None else len(plan.dataset.listed)


def _check_overlaps(plan: Plan) -> Iterator[Finding]:
    for problem in plan.fold_contradictions():
        yield finding("bad_folds", problem)


def _check_unused(plan: Plan) -> Iterator[Finding]:
    for problem in plan.unused_contradictions():
        yield finding("bad_folds", problem)


def _check_cascades(plan: Plan) -> Iterator[Finding]:
    """Yield cascades that cannot be trained, for want of cases that their previous configuration has not seen."""
    num_cases = _num_used(plan)
    num_missing = num_cases - len(set(chain.from_iterable(plan.folds)))
    for name, configuration in plan.configurations.items():
        if configuration.previous_configuration is not None and num_missing > 0:
            message = (
                f"configurations.{name}: learns from what {configuration.previous_configuration} finds in held-out "
                f"cases, but {num_missing} of {num_cases} cases are held out by no fold, so that it cannot be trained; "
                "plan with folds that hold out each case once, or leave it out"
            )
            yield finding("untrainable_cascade", message)


def _check_sides(plan: Plan) -> Iterator[Finding]:
    """Yield configurations that mirror left and right, although labels differ by their side only."""
    sides = _stated_sides(plan)
    for name, configuration in plan.configurations.items():
        lateral = _lateral_axis(plan, configuration)
        if sides is None:
            continue
        mirrored = _predicted_axes(configuration) | _trained_axes(configuration)
        for problem in _side_problems(configuration, mirrored, lateral):
            yield finding("mirrors_sides", f"configurations.{name}: {problem}, although {sides}")


def _side_problems(configuration: Configuration, mirrored: set[int], lateral: int) -> Iterator[str]:
    """Yield what exchanges left and right, where labels have sides."""
    if lateral in mirrored:
        yield f"mirrors left and right (axis {lateral})"
    for transform in configuration.augmentation.transforms:
        if isinstance(transform, CopyPaste) and transform.probability > 0:
            yield "pastes labels of other cases on whatever side they come to lie (copy_paste)"
        if isinstance(transform, SpatialTransform) and transform.rotation_probability > 0 and mirrored:
            largest = max(transform.rotation_deg)
            # Half a turn and a flip along another axis are a flip from left to right.
            if largest > LARGEST_TURN_DEG and lateral not in mirrored:
                yield f"turns by up to {largest:g} degrees and mirrors, which exchanges left and right"


def _lateral_axis(plan: Plan, configuration: Configuration) -> int:
    """Return the axis from left to right in the configuration's own numbering; -1 where its planes lack it."""
    # A transpose that is no order of axes is a contradiction of its own.
    is_order = sorted(plan.transpose) == [0, 1, 2]
    return plan.transpose.index(LATERAL_AXIS) - (3 - configuration.num_axes) if is_order else -1


def _stated_sides(plan: Plan) -> str | None:
    """Return which labels differ by their side only, by name or else in the images; None if there are none."""
    if pairs := sided_pairs(plan.dataset):
        return f"{' and '.join(pairs[0])} differ by their side only"
    if not plan.dataset.mirrored_labels:
        return None
    found = plan.dataset.mirrored_labels[0]
    return (
        f"{found.left} and {found.right} mirror each other in {found.num_mirrored} of {found.num_cases} cases; if they "
        "are two sides of one thing, plan with a preset that is not nnU-Net's, or set mirroring_axes without that axis"
    )


def _predicted_axes(configuration: Configuration) -> set[int]:
    return set(configuration.inference.mirroring_axes if configuration.inference.mirroring else ())


def _trained_axes(configuration: Configuration) -> set[int]:
    axes: set[int] = set()
    for transform in configuration.augmentation.transforms:
        if isinstance(transform, MirrorTransform) and transform.probability > 0:
            axes |= set(transform.axes)
    return axes


def _check_views(plan: Plan) -> Iterator[Finding]:
    """Yield configurations that are asked about mirrored views, of which they have seen none in training."""
    has_sides = _stated_sides(plan) is not None
    for name, configuration in plan.configurations.items():
        # Where labels have sides, another finding tells of the axis between them.
        told = {_lateral_axis(plan, configuration)} if has_sides else set()
        # What another package's transform does is not known; it may mirror.
        is_known = not any(isinstance(one, External) for one in configuration.augmentation.transforms)
        unseen = sorted(_predicted_axes(configuration) - _trained_axes(configuration) - told)
        if is_known and unseen:
            message = (
                f"configurations.{name}: predicts views mirrored along axes {unseen}, along which training mirrors nothing; "
                "leave them out of inference.mirroring_axes, or set inference.mirroring=false"
            )
            yield finding("unseen_views", message)


def _check_reasons(plan: Plan) -> Iterator[Finding]:
    """Yield reasons of fields that are not there; the plan was edited."""
    document = plan.model_dump(mode="json", exclude={"reasons"})
    for field in plan.reasons:
        if not is_field(document, field.split(".")):
            yield finding("stale_reason", f"reasons.{field}: gives a reason for a field that the plan does not have")


def _check_extensions(plan: Plan) -> Iterator[Finding]:
    """Yield names of other packages that are not installed in the plan's version."""
    for name, configuration in plan.configurations.items():
        for where, spec, group in _extensions(configuration):
            try:
                load_external(spec, group)
            except PlanError as error:
                yield finding("missing_extension", f"configurations.{name}.{where}: {error}")


def _extensions(configuration: Configuration) -> Iterator[tuple[str, External, str]]:
    """Yield place, name and entry-point group of what other packages provide."""
    if isinstance(configuration.network, External):
        yield "network", configuration.network, "tumorseg.networks"
    for number, component in enumerate(configuration.loss.components):
        if isinstance(component, External):
            yield f"loss.components.{number}", component, "tumorseg.losses"
    for number, transform in enumerate(configuration.augmentation.transforms):
        if isinstance(transform, External):
            yield f"augmentation.transforms.{number}", transform, "tumorseg.augmentation"


Check = Callable[[Plan], Iterator[Finding]]
CHECKS: tuple[tuple[tuple[str, ...], Check], ...] = (
    (("default_configuration", "configurations", "transpose", "dataset"), _check_configurations),
    (("budget",), _check_budget),
    (("budget", "configurations"), _check_batches),
    (("configurations",), _check_normalization),
    (("folds", "kept_from_training"), _check_overlaps),
    (("dataset", "folds", "kept_from_training"), _check_unused),
    (("dataset", "fingerprint", "folds", "kept_from_training"), _check_folds),
    (("configurations", "dataset", "fingerprint", "folds"), _check_cascades),
    (("configurations", "dataset", "transpose"), _check_sides),
    (("configurations", "dataset", "transpose"), _check_views),
    (tuple(Plan.model_fields), _check_reasons),
    (("configurations",), _check_extensions),
)
"""The parts that each check looks at."""
