"""What becomes of each tensor of a network that is begun with the weights of another one."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from tumorseg.errors import PlanError
from tumorseg.networks.transfer.fitting import ALL_IMAGES, Images, Shape, fit_note, fitted, is_as_wanted, misfit
from tumorseg.networks.transfer.kinds import FOREIGN, Kind
from tumorseg.networks.transfer.roles import Role
from tumorseg.schema.initial_weights import TakenTensor

BEFORE_NORMS = (
    (r"\.1$", ".0"),
    (r"\.norm$", ".spatial"),
    (r"\.norm$", ""),
    (r"\.norm(\d)$", r".conv\1"),
    (r"\.adn\.\w+$", ""),
)
"""From what the name of a norm ends with to that of its convolution."""


class Transfer(NamedTuple):
    """Weights that are taken over, and what was decided."""

    weights: dict[str, Tensor]
    """The network's whole state dict: what was taken over, and its own values where nothing was."""
    tensors: tuple[TakenTensor, ...]
    """In the order of the network; `source` is the name that was given."""


def decide(
    own: Mapping[str, Shape],
    given: Mapping[str, Shape],
    *,
    kind: Kind,
    has_same_outputs: bool,
    images: Images = ALL_IMAGES,
) -> tuple[TakenTensor, ...]:
    """Decide for each tensor of a network, by names and shapes alone, what it takes over.

    Args:
        own: shapes by name in the network that is to be trained.
        given: shapes by name in the other one, names as in ours.
        kind: of the network, which says what a tensor is for; if it is foreign, only the same name and shape match.
        has_same_outputs: whether both predict the same labels or regions in the same order; else heads begin anew.
        images: which input channels show images.
    """
    climbing = kind.num_climbing(given)
    shift = climbing - kind.num_climbing(own)
    found: dict[str, TakenTensor] = {}
    for name, shape in own.items():
        source, role = kind.shifted(name, shift), kind.role_of(name)
        if source not in given:
            found[name] = TakenTensor(
                name=name, outcome="skipped", note="not there: a part that the given network lacks"
            )
        elif not kind.takes(name):
            note = "belongs to the network's own window or patch"
            found[name] = TakenTensor(name=name, outcome="skipped", source=source, note=note)
        # An encoder alone does not tell its depth.
        elif climbing and shift and re.fullmatch(kind.deepest, name):
            note = "lies at another depth there"
            found[name] = TakenTensor(name=name, outcome="skipped", source=source, note=note)
        elif role is Role.HEAD and not has_same_outputs:
            note = "a new head, as the given one is not known to predict the same labels in the same order"
            found[name] = TakenTensor(name=name, outcome="skipped", source=source, note=note)
        else:
            found[name] = _by_shape(name, source, None if kind is FOREIGN else role, (shape, given[source]), images)
    return tuple(_with_its_convolution(one, own, found) for one in found.values())


def _by_shape(name: str, source: str, role: Role | None, shapes: tuple[Shape, Shape], images: Images) -> TakenTensor:
    """Decide by the shapes, own and given; without a role only the same shape will do."""
    own, given = shapes
    if own == given and (role is not Role.INPUT or is_as_wanted(own, given, images)):
        return TakenTensor(name=name, outcome="matched", source=source)
    problem = f"is of {list(given)} there, of {list(own)} here" if role is None else misfit(role, own, given)
    if role is None or problem is not None:
        return TakenTensor(name=name, outcome="skipped", source=source, note=problem or "")
    return TakenTensor(name=name, outcome="adapted", source=source, note=fit_note(role, own, given, images))


def _with_its_convolution(one: TakenTensor, own: Mapping[str, Shape], found: Mapping[str, TakenTensor]) -> TakenTensor:
    """Leave a bias or norm whose convolution was left: they mean nothing for other features."""
    convolution = _convolution_before(one.name, own)
    if one.outcome == "skipped" or convolution is None or found[convolution].outcome != "skipped":
        return one
    return one.changed(outcome="skipped", note=f"belongs to {convolution}, which is skipped")


def _convolution_before(name: str, own: Mapping[str, Shape]) -> str | None:
    """Return the weight of the convolution that a bias belongs to, or that a norm goes with."""
    if len(own[name]) > 1:  # a convolution itself, which may be the second of a list of them
        return None
    for module in _modules_before(name.rpartition(".")[0]):
        for candidate in (f"{module}.weight", f"{module}.conv.weight"):
            if candidate != name and len(own.get(candidate, ())) > 2:
                return candidate
    return None


def _modules_before(module: str) -> Iterator[str]:
    """Yield the module itself, and those that a norm of its name goes with: second of a pair, in MedNeXt and in MONAI's blocks."""
    yield module
    for pattern, before in BEFORE_NORMS:
        if (found := re.sub(pattern, before, module)) != module:
            yield found


def transfer(
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    *,
    kind: Kind,
    has_same_outputs: bool,
    images: Images = ALL_IMAGES,
) -> Transfer:
    """Return a network's weights with those of another one wherever they fit.

    Args:
        own: the state dict of the network that is to be trained, freshly drawn.
        given: tensors of the other one, names as in ours.
        kind: as in `decide`.
        has_same_outputs: as in `decide`.
        images: as in `decide`.

    Raises:
        PlanError: a tensor that is to be taken over holds values that are not finite.
    """
    decided = decide(_shapes(own), _shapes(given), kind=kind, has_same_outputs=has_same_outputs, images=images)
    weights = dict(own)
    for one in decided:
        if one.outcome == "skipped":
            continue
        assert one.source is not None  # what is taken comes from somewhere
        # In the network's own precision, in which sums and means are taken too; 8 bits could not even be tested.
        tensor = given[one.source].to(own[one.name].dtype)
        if not bool(tensor.isfinite().all()):
            raise PlanError(
                f"weight {one.source} holds values that are not finite; give weights of a training that went well"
            )
        is_adapted, shape = one.outcome == "adapted", tuple(own[one.name].shape)
        weights[one.name] = fitted(tensor, shape, kind.role_of(one.name), images) if is_adapted else tensor
    return Transfer(weights, decided)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
