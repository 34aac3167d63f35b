"""Targets of a network, derived from a dataset's labels and regions."""

from tumorseg.schema.base import Record
from tumorseg.schema.dataset import DatasetDescription
from tumorseg.schema.plan import Configuration

IGNORE = -1
"""Class index of voxels that carry no supervision."""


class Targets(Record):
    """Class indices inside, label values outside."""

    label_values: tuple[int, ...]
    """Label value of each class index; the first is 0, the background."""
    label_names: tuple[str, ...]
    """Name of each class index."""
    ignore_value: int | None
    """Label value that becomes `IGNORE`."""
    ignore_name: str | None = None
    """Its name, for label files that know names only."""
    region_names: tuple[str, ...] = ()
    """One per region; empty where labels are predicted with a softmax."""
    regions: tuple[tuple[int, ...], ...] = ()
    """Class indices of each region."""
    region_values: tuple[int, ...] = ()
    """Label value painted for each region, later ones over earlier ones."""

    @property
    def has_regions(self) -> bool:
        """Whether outputs are independent sigmoids, one per region."""
        return bool(self.regions)

    @property
    def values_by_name(self) -> dict[str, int]:
        """Return the label value of each name but the background's."""
        named = dict(zip(self.label_names[1:], self.label_values[1:], strict=True))
        if self.ignore_name is not None and self.ignore_value is not None:
            named[self.ignore_name] = self.ignore_value
        return named

    @property
    def num_classes(self) -> int:
        """Return the number of class indices, background included."""
        return len(self.label_values)

    @property
    def num_outputs(self) -> int:
        """Return the number of the network's output channels K."""
        return len(self.regions) or self.num_classes

    @property
    def scored_names(self) -> tuple[str, ...]:
        """Return the names of what is scored: regions, or foreground labels."""
        return self.region_names or self.label_names[1:]

    @property
    def scored_classes(self) -> tuple[tuple[int, ...], ...]:
        """Return the class indices that make up each scored name."""
        return self.regions or tuple((index,) for index in range(1, self.num_classes))


def targets_of(dataset: DatasetDescription) -> Targets:
    """Return what a network for this dataset predicts."""
    names = {value: name for name, value in dataset.labels.items() if value not in (0, dataset.ignore_label)}
    # The background is class 0 even where label values are negative.
    values = (0, *sorted(names))
    index = {value: position for position, value in enumerate(values)}
    label_names = [names[value] for value in values[1:]]
    ignored = (name for name, value in dataset.labels.items() if value == dataset.ignore_label)
    region_names, regions, region_values = [], [], []
    for region in dataset.regions:
        classes = sorted(index[label] for label in region.labels)
        region_names.append(region.name)
        regions.append(tuple(classes))
        region_values.append(region.value)
    return Targets(
        label_values=values,
        label_names=("background", *label_names),
        ignore_value=dataset.ignore_label,
        ignore_name=next(ignored, None),
        region_names=tuple(region_names),
        regions=tuple(regions),
        region_values=tuple(region_values),
    )


def num_previous(configuration: Configuration, targets: Targets) -> int:
    """Return how many input channels of a cascade's network show the previous segmentation: one per foreground label.

    Regions are shown as the labels that they are painted with.
    """
    return 0 if configuration.previous_configuration is None else targets.num_classes - 1


def num_inputs(configuration: Configuration, targets: Targets) -> int:
    """Return the number of input channels C of a configuration's network: the images', and the previous segmentation's."""
    return len(configuration.normalization) + num_previous(configuration, targets)
