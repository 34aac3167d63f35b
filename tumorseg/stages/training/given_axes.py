"""In which order the axes of given weights lie, and the same weights in the plan's."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from tumorseg.networks.transfer.kinds import Kind
from tumorseg.networks.transfer.naming import Naming
from tumorseg.networks.transfer.turning import other_positions, turned, with_kernels
from tumorseg.schema.network_base import Axes
from tumorseg.schema.networks import NetworkSpec
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.stages.training.given_weights import Initial

LETTERS = "ZYX"


class GivenAxes(NamedTuple):
    """Axes of given weights, and of those that are wanted: 0 Z, 1 Y, 2 X."""

    own: Axes
    given: Axes
    network: NetworkSpec
    """That is to take them."""
    theirs: NetworkSpec | None
    """That they are of; None if that is not known."""


class Weights(NamedTuple):
    """Given weights, axes as in the plan where they can be brought there."""

    weights: dict[str, Tensor]
    kind: Kind
    """Of the network, with what it does not take of these."""
    turned: frozenset[str]
    """Names of those whose axes were turned."""
    warnings: tuple[str, ...] = ()


def axes_of(initial: Initial, naming: Naming, plan: Plan, configuration: Configuration) -> GivenAxes:
    """Return the axes of given weights: those of their plan if it is known, X first in MONAI's files, else those here.

    Args:
        initial: the weights.
        naming: whose names they have.
        plan: of the training that takes them.
        configuration: that is trained.
    """
    first = 3 - len(configuration.patch_size)
    own = given = tuple(plan.transpose[first:])
    theirs = initial.origin.plan
    if theirs is not None:
        given = tuple(theirs.transpose[first:])
    elif naming.is_x_first and not initial.file.is_own:
        given = tuple(sorted(own, reverse=True))
    return GivenAxes(own, given, configuration.network, initial.origin.network)


def with_axes(weights: Mapping[str, Tensor], axes: GivenAxes, kind: Kind) -> Weights:
    """Return given weights, their axes turned into the plan's.

    Args:
        weights: by our names.
        axes: theirs and the plan's.
        kind: of the network.
    """
    given, order = with_kernels(weights, axes.network), tuple(range(len(axes.own)))
    names = [_letters(axes.given), _letters(axes.own)]
    warnings = []
    if sorted(axes.given) != sorted(axes.own):
        warnings.append(f"its planes are of axes {names[0]}, those here of {names[1]}: weights stay as they lie")
    elif axes.given != axes.own and kind.tells_axes_apart:
        warnings.append(
            f"its axes are {names[0]}, those here {names[1]}: weights stay as they lie, as parts of this network differ by axis"
        )
    else:
        order = tuple(map(axes.given.index, axes.own))
    found = turned(given, order, axes.network)
    left = rf"{kind.never_taken}|{other_positions(axes.network, axes.theirs, order)}"
    names_turned = frozenset(name for name, tensor in found.items() if tensor is not given[name])
    return Weights(found, kind._replace(never_taken=left), names_turned, tuple(warnings))


def _letters(axes: Axes) -> str:
    return "".join(LETTERS[axis] for axis in axes)
