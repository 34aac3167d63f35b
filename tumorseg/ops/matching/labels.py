"""What of a model's predictions can be scored on a dataset whose labels are called or numbered otherwise."""

from typing import NamedTuple

from tumorseg.ops.matching.common import Common, Party, common_structures, stated_structures
from tumorseg.schema.dataset import DatasetDescription
from tumorseg.schema.mapping import PREDICTION, REFERENCE, LabelMapping
from tumorseg.schema.targets import Targets, targets_of


class TargetMatch(NamedTuple):
    """Structures that predictions and references have in common."""

    prediction: Targets
    """What the label values of predictions mean."""
    reference: Targets
    """What those of references mean; its `scored_names` are the same."""
    left_out: tuple[str, ...]
    """What cannot be scored, and why, one sentence each."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of what is scored."""
        return self.prediction.scored_names


def match_targets(
    model: DatasetDescription, dataset: DatasetDescription, stated: LabelMapping | None = None, *, is_one: bool = False
) -> TargetMatch:
    """Match the labels and regions that a model predicts with those of a dataset.

    By name, whatever its case, spaces and spelling; regions of gliomas also follow from their parts. Numbers alone mean nothing.

    Args:
        model: the dataset that it was planned for; predictions hold its label values.
        dataset: references hold its label values.
        stated: what is the same instead, where a user says so: of the sides `prediction` and `reference`, or by the datasets' names.
        is_one: whether the caller knows, as by their content, that the model was planned for this dataset: labels without names are
            then the same.

    Raises:
        InputError: nothing is in common; the message says what each side has.
    """
    if stated is None:
        common = common_structures((model, dataset), is_one=is_one)
    else:
        common = stated_structures((_party(model, PREDICTION, dataset), _party(dataset, REFERENCE, model)), stated)
    return TargetMatch(targets_in_common(model, common, 0), targets_in_common(dataset, common, 1), common.left_out)


def _party(own: DatasetDescription, side: str, other: DatasetDescription) -> Party:
    # A name that both bear, perhaps a made-up one, tells nobody which side is meant.
    return Party(own, (side, own.name), f"the {side}" if own.name == other.name else own.name)


def targets_in_common(description: DatasetDescription, common: Common, number: int) -> Targets:
    """Return the targets of the dataset of that number whose regions are the structures in common."""
    targets = targets_of(description)
    index = {value: position for position, value in enumerate(targets.label_values)}
    values = common.values[number]
    regions = tuple(tuple(sorted(index[value] for value in members)) for members in values)
    # Nothing is painted with these targets, but each region needs a value.
    painted = tuple(members[0] for members in values)
    return targets.changed(region_names=common.names, regions=regions, region_values=painted)
