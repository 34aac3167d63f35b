"""In which order the axes of given weights lie, and which tokens they merge; and the same weights as the plan's network has them."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from tumorseg.networks.transfer.kinds import Kind
from tumorseg.networks.transfer.merging import with_distinct_tokens
from tumorseg.networks.transfer.naming import Naming
from tumorseg.networks.transfer.turning import other_positions, turned, with_kernels
from tumorseg.schema.network_base import Axes
from tumorseg.schema.networks import NetworkSpec
from tumorseg.schema.networks_monai import SwinUnetr
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.stages.training.given_weights import Initial

LETTERS = "ZYX"
TURNED, MERGING = "axes turned", "merging of MONAI before 1.5 adapted"
"""What was done to a given tensor."""


class GivenAxes(NamedTuple):
    """Axes of given weights, and of those that are wanted: 0 Z, 1 Y, 2 X."""

    own: Axes
    given: Axes
    network: NetworkSpec
    """That is to take them."""
    theirs: NetworkSpec | None
    """That they are of; None if that is not known."""
    merges_as_before: bool = False
    """Whether tokens of volumes were merged as by MONAI before 1.5."""


class Weights(NamedTuple):
    """Given weights, axes as in the plan where they can be brought there."""

    weights: dict[str, Tensor]
    kind: Kind
    """Of the network, with what it does not take of these."""
    notes: dict[str, str]
    """What was done to those that are not as they were given, by their names."""
    warnings: tuple[str, ...] = ()


def axes_of(initial: Initial, naming: Naming, plan: Plan, configuration: Configuration) -> GivenAxes:
    """Return the axes of given weights: those of their plan if it is known, X first in MONAI's files, else those here.

    MONAI's files do not tell its version. All that are published are of one before 1.5; of a later one the plan has to tell.

    Args:
        initial: the weights.
        naming: whose names they have.
        plan: of the training that takes them.
        configuration: that is trained.
    """
    first = 3 - len(configuration.patch_size)
    own = given = tuple(plan.transpose[first:])
    theirs, network, fine_tuning = initial.origin.plan, configuration.network, plan.training.fine_tuning
    is_monais = theirs is None and naming.is_x_first and not initial.file.is_own
    if theirs is not None:
        given = tuple(theirs.transpose[first:])
    elif is_monais:
        given = tuple(sorted(own, reverse=True))
    is_swin = isinstance(network, SwinUnetr) and network.num_axes == 3
    is_older = fine_tuning is None or fine_tuning.swin_merging == "before_monai_1_5"
    return GivenAxes(own, given, network, initial.origin.network, merges_as_before=is_monais and is_swin and is_older)


def with_axes(weights: Mapping[str, Tensor], axes: GivenAxes, kind: Kind) -> Weights:
    """Return given weights, their axes turned into the plan's, and those that merge tokens fitted to the tokens that are merged here.

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
    # First, as the order of merged tokens is that of MONAI's axes.
    merged = with_distinct_tokens(given) if axes.merges_as_before else given
    found = turned(merged, order, axes.network)
    notes = _notes(given, merged, found)
    if any(MERGING in note for note in notes.values()):
        warnings.append(
            "taken to be of MONAI before 1.5, whose Swin UNETR merged two of eight tokens twice and two never: adapted to the merging here, nearly "
            "the same and not exactly; if MONAI 1.5 or later trained it, plan with --set training.fine_tuning.swin_merging=monai_1_5"
        )
    left = rf"{kind.never_taken}|{other_positions(axes.network, axes.theirs, order)}"
    return Weights(found, kind._replace(never_taken=left), notes, tuple(warnings))


def _notes(given: Mapping[str, Tensor], merged: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, str]:
    """Return what was done to each tensor, first to its merging and then to its axes."""
    notes = {}
    for name, tensor in found.items():
        changes = {MERGING: merged[name] is not given[name], TURNED: tensor is not merged[name]}
        if done := [change for change, is_done in changes.items() if is_done]:
            notes[name] = "; ".join(done)
    return notes


def _letters(axes: Axes) -> str:
    return "".join(LETTERS[axis] for axis in axes)
