"""What a dataset has in common with others: channels and regions on which one model can be compared on all of them."""

from collections.abc import Sequence

from tumorseg.ops.matching.channels import common_channels
from tumorseg.ops.matching.common import common_structures
from tumorseg.ops.matching.numbering import regions_in_common
from tumorseg.schema.base import Record
from tumorseg.schema.dataset import DatasetDescription, Region
from tumorseg.schema.plan import Reason

REGIONS_ADVICE = "say which labels make up the same structure, and call it as the others do, with --regions FILE"


class CommonGround(Record):
    """Channels and regions of a dataset that others have as well."""

    others: tuple[str, ...]
    """Names of the other datasets."""
    channels: tuple[str, ...]
    """Its channels that all have, as it calls them."""
    dropped: tuple[str, ...]
    """Its other channels."""
    regions: tuple[Region, ...] | None
    """Regions that all have, over its own labels; null where those it has, or its labels, are just what all have."""
    left_out: tuple[str, ...]
    """What of its labels and regions, and of theirs, is not among them, one sentence each."""

    def reasons(self) -> dict[str, Reason]:
        """Return the reasons of the fields of a plan that it decides."""
        asked = f"--common-with {', '.join(self.others)}"
        alternative = "all channels of the dataset"
        channels = Reason(
            source="user",
            rule=f"{asked}: the channels that all have",
            inputs={"left_out": list(self.dropped)},
            alternative=alternative,
        )
        regions = Reason(
            source="user",
            rule=f"{asked}: the labels or regions that all have",
            inputs={"left_out": list(self.left_out)},
            alternative="the dataset's own regions, or its labels",
        )
        return {"dataset.channels": channels, "dataset.regions": regions}


def find_common_ground(dataset: DatasetDescription, others: Sequence[DatasetDescription]) -> CommonGround:
    """Return what a dataset has in common with others.

    Raises:
        InputError: they have no channel, or no label, in common.
    """
    shared = common_channels((dataset, *others))[0]
    common = common_structures((dataset, *others), advice=REGIONS_ADVICE)
    scored = {region.name: region.labels for region in dataset.regions}
    scored = scored or {name: (value,) for name, value in dataset.foreground.items()}
    is_all = dict(zip(common.names, common.values[0], strict=True)) == scored
    return CommonGround(
        others=tuple(one.name for one in others),
        channels=tuple(shared),
        dropped=tuple(channel.name for channel in dataset.channels if channel.name not in shared),
        regions=None if is_all else regions_in_common(dataset, common, 0),
        left_out=common.left_out,
    )
