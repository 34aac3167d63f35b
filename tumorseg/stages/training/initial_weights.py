"""The weights that a training is begun with: brought under our names, and taken over where they fit."""

import logging
from collections.abc import Mapping

from torch import nn

from tumorseg.engine.learner import Learner
from tumorseg.engine.parameter_groups import Freezing, parameter_groups
from tumorseg.errors import PlanError
from tumorseg.networks.parts import names_in
from tumorseg.networks.registry import outline_network
from tumorseg.networks.transfer.deciding import Transfer, transfer
from tumorseg.networks.transfer.fitting import Images
from tumorseg.networks.transfer.kinds import Kind, kind_of
from tumorseg.networks.transfer.layouts import Adaptation
from tumorseg.networks.transfer.naming import Naming, naming_of
from tumorseg.networks.transfer.turning import told
from tumorseg.schema.initial_weights import OUTCOMES, InitialWeights
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.stages.training.given_axes import axes_of, with_axes
from tumorseg.stages.training.given_weights import Initial, Origin
from tumorseg.storage.layout import ALL_CASES

logger = logging.getLogger(__name__)

EXPECTED = (
    "expected a model of tumorseg or nnU-Net, an nnssl checkpoint of a residual encoder, weights of MONAI, SuPreM or MedNeXt, or a "
    "state dict, with the kind and width of the encoder of the plan's network"
)


def check_weights_given(plan: Plan, *, is_given: bool) -> None:
    """Check that a plan that goes easy on given weights is given some.

    Raises:
        PlanError: it freezes, or hardly trains, weights that would be random.
    """
    fine_tuning = plan.training.fine_tuning
    if fine_tuning is not None and fine_tuning.needs_weights and not is_given:
        raise PlanError(
            f"plan {plan.name} has training.fine_tuning with freeze or layer_decay, which leave random weights nearly as they are; give "
            "--init MODEL, or set training.fine_tuning=null"
        )


def check_fine_tuning(plan: Plan, configuration: Configuration) -> None:
    """Check that the parts of the network that the plan names are there, before hours go into preprocessing.

    Raises:
        PlanError: one is not, nothing is left to train, or the network's depths are not known.
    """
    fine_tuning = plan.training.fine_tuning
    if fine_tuning is None:
        return
    targets = targets_of(plan.dataset)
    network = outline_network(
        configuration.network, num_channels=num_inputs(configuration, targets), num_outputs=targets.num_outputs
    )
    Freezing(network, fine_tuning, num_iterations=1)
    parameter_groups(network, configuration.optimizer, fine_tuning)


def begin_with(learner: Learner, initial: Initial, plan: Plan, *, configuration: str, fold: str) -> InitialWeights:
    """Give a training's network the weights that fit, and return what became of each tensor.

    Args:
        learner: of the training, before its first step.
        initial: the weights.
        plan: of the training.
        configuration: name of the plan's configuration that is trained.
        fold: that is trained.

    Raises:
        PlanError: no weight of the encoder fits, one holds values that are not finite, or random ones would be frozen.
    """
    network, kind = learner.network, kind_of(plan.configurations[configuration].network.name)
    own = network.state_dict()
    naming = naming_of(initial.file.tensors, kind, own, adaptation=_adaptation(initial.file.adaptation))
    theirs = initial.origin.plan
    axes = axes_of(initial, naming, plan, plan.configurations[configuration])
    given = with_axes(naming.renamed(initial.file.tensors), axes, kind)
    same, images = _has_same_outputs(theirs, plan), _images(theirs, plan)
    found = transfer(own, given.weights, kind=given.kind, has_same_outputs=same, images=images)
    found = found._replace(tensors=told(found.tensors, given.notes))
    if not any(one.outcome != "skipped" and kind.is_of_encoder(one.name) for one in found.tensors):
        raise PlanError(_nothing_fits(naming, found, kind), file=initial.origin.path)
    _check_frozen(network, plan, found)
    report = _report(initial, naming, found).changed(warnings=(*_warnings(initial.origin, plan, fold), *given.warnings))
    learner.begin_with(found.weights)
    _tell(report)
    return report


def _adaptation(notes: Mapping[str, object]) -> Adaptation | None:
    encoder, stem = notes.get("key_to_encoder"), notes.get("key_to_stem")
    return Adaptation(encoder, stem) if isinstance(encoder, str) and isinstance(stem, str) else None


def _has_same_outputs(given: Plan | None, own: Plan) -> bool:
    if given is None:
        return False
    theirs, ours = targets_of(given.dataset), targets_of(own.dataset)
    return (theirs.label_names, theirs.region_names) == (ours.label_names, ours.region_names)


def _images(given: Plan | None, own: Plan) -> Images:
    return Images(len(own.dataset.channels), None if given is None else len(given.dataset.channels))


def _check_frozen(network: nn.Module, plan: Plan, found: Transfer) -> None:
    """Refuse to leave random weights as they are."""
    fine_tuning = plan.training.fine_tuning
    frozen = set() if fine_tuning is None else names_in(network, fine_tuning.freeze)
    random = [one for one in found.tensors if one.outcome == "skipped" and one.name in frozen]
    if random:
        first = random[0]
        raise PlanError(
            f"training.fine_tuning.freeze names {len(random)} tensors that the given weights have nothing for, the first {first.name} "
            f"({first.note}); freeze parts that are taken over only"
        )


def _nothing_fits(naming: Naming, found: Transfer, kind: Kind) -> str:
    names = [*naming.names.values(), *naming.unknown]
    # What is there under another shape says more than what is not there at all.
    example = min(found.tensors, key=lambda one: (one.source is None, not kind.is_of_encoder(one.name)))
    return (
        f"none of its {len(names)} tensors ({', '.join(names[:3])}, …; layout: {naming.layout}) fits the plan's encoder; {example.name}: "
        f"{example.note}; {EXPECTED}"
    )


def _report(initial: Initial, naming: Naming, found: Transfer) -> InitialWeights:
    """Return the report, under the names of the file."""
    tensors, used = [], set()
    for one in found.tensors:
        theirs = None if one.source is None else naming.names[one.source]
        tensors.append(one.changed(source=theirs))
        if one.outcome != "skipped":
            used.add(theirs)
    unused = [theirs for theirs in (*naming.names.values(), *naming.unknown) if theirs not in used]
    return InitialWeights(
        source=str(initial.origin.path),
        source_hash=initial.digest,
        layout=naming.layout,
        tensors=tuple(tensors),
        unused=tuple(unused),
    )


def _warnings(origin: Origin, plan: Plan, fold: str) -> list[str]:
    found = [origin.warning] if origin.warning else []
    if origin.plan is not None:
        theirs = [channel.name for channel in origin.plan.dataset.channels]
        ours = [channel.name for channel in plan.dataset.channels]
        if theirs != ours and sorted(theirs) == sorted(ours):
            found.append(
                f"its channels are {', '.join(theirs)}, those here {', '.join(ours)}: the order differs, and weights follow the order"
            )
        is_same_dataset = origin.plan.dataset.name == plan.dataset.name
        if fold != ALL_CASES and is_same_dataset and origin.trained_on is not None:
            seen = sorted(origin.trained_on & set(plan.folds[int(fold)]))
            if seen:
                named = ", ".join(seen[:3])
                found.append(
                    f"it was trained on {len(seen)} of the cases that fold {fold} holds out ({named}, …), so that their scores will be too good; "
                    "begin with the same fold of a model that has the same folds"
                )
    return found


def _tell(report: InitialWeights) -> None:
    counts = ", ".join(f"{report.count(outcome)} {outcome}" for outcome in OUTCOMES)
    logger.info(
        "begun with the weights of %s (%s): of %d tensors %s; %d of the file not used; init.json lists them",
        report.source,
        report.layout,
        len(report.tensors),
        counts,
        len(report.unused),
    )
    for warning in report.warnings:
        logger.warning("%s: %s", report.source, warning)
