"""Targets of so many classes, or of so many regions."""

from tumorseg.schema.targets import Targets


def classes(count: int) -> Targets:
    """Return labels 0, 10, 20, … of which each is a class."""
    values = tuple(range(0, 10 * count, 10))
    return Targets(label_values=values, label_names=tuple(map(str, values)), ignore_value=None)


def regions(count: int) -> Targets:
    """Return regions, each inside the one before."""
    labels = classes(count + 1)
    return labels.changed(
        region_names=tuple(f"region {number}" for number in range(count)),
        regions=tuple(tuple(range(number + 1, count + 1)) for number in range(count)),
        region_values=labels.label_values[1:],
    )
