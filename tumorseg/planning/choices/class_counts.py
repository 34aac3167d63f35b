"""Voxel counts of the dataset, for losses that weight classes by frequency."""

import math
from collections import Counter

from tumorseg.errors import PlanError
from tumorseg.schema.class_weights import CountedWeights
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.losses import EntropyLoss
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.targets import Targets, targets_of


def with_class_counts(plan: Plan, fingerprint: Fingerprint) -> Plan:
    """Return the plan with the dataset's voxels in all class weights that count them and do not hold them yet.

    Raises:
        PlanError: the fingerprint did not count the voxels of labels.
    """
    counts: tuple[float, ...] | None = None
    changed = {}
    for name, configuration in plan.configurations.items():
        if any(map(_lacks_counts, configuration.loss.components)):
            # Asked for only here: without such a loss, a fingerprint without counts is no error.
            counts = counts or output_voxels(fingerprint, targets_of(plan.dataset))
            changed[name] = _filled(configuration, counts)
    return plan.changed(configurations=plan.configurations | changed) if changed else plan


def output_voxels(fingerprint: Fingerprint, targets: Targets) -> tuple[float, ...]:
    """Return how many stored voxels of all cases each output of a network has, those cropped away left out.

    Raises:
        PlanError: the fingerprint did not count the voxels of labels.
    """
    unknown = [case.case_id for case in fingerprint.cases if case.label_voxels is None]
    if unknown:
        raise PlanError(
            f"class_weights count the dataset's voxels, but the fingerprint has no label_voxels of {len(unknown)} "
            f'cases ({", ".join(unknown[:5])}); measure it anew with tumorseg fingerprint, or set "of": "batch"'
        )
    counts: Counter[str] = Counter()
    num_stored = 0
    for case in fingerprint.cases:
        counts.update(case.label_voxels or {})
        num_stored += math.prod(case.shape_after_crop)
    held = [counts[name] for name in targets.label_names]
    # Labels are counted in whole images: where cropping took much of them, the rest could come out below nothing.
    held[0] = max(0, num_stored - sum(held[1:]))
    if not targets.regions:
        return tuple(map(float, held))
    voxels = []
    for region in targets.regions:
        voxels.append(float(sum(held[index] for index in region)))
    return tuple(voxels)


def _lacks_counts(component: object) -> bool:
    weights = component.class_weights if isinstance(component, EntropyLoss) else None
    return isinstance(weights, CountedWeights) and weights.of == "dataset" and weights.voxels is None


def _filled(configuration: Configuration, counts: tuple[float, ...]) -> Configuration:
    components = []
    for component in configuration.loss.components:
        if isinstance(component, EntropyLoss) and component.class_weights is not None and _lacks_counts(component):
            component = component.changed(class_weights=component.class_weights.changed(voxels=counts))
        components.append(component)
    return configuration.changed(loss=configuration.loss.changed(components=tuple(components)))
