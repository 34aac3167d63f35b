"""Limiting a dataset to what it has in common with others."""

import logging
from collections.abc import Sequence

from tumorseg.errors import InputError
from tumorseg.planning.common_ground import CommonGround, find_common_ground
from tumorseg.schema.base import parse_record
from tumorseg.schema.dataset import Dataset
from tumorseg.sources.regions import select_channels
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.opening.stated import Stated, open_stated

logger = logging.getLogger(__name__)


def limit_to_common(
    dataset: Dataset, names: Sequence[str], roots: Roots, stated: Stated
) -> tuple[Dataset, CommonGround]:
    """Return a dataset with the channels and regions that others have too, and say what is left out.

    Args:
        dataset: that is planned for.
        names: of the others, what `-d` would say.
        roots: where they are looked for.
        stated: what is stated of the dataset; leave to follow links holds for the others too.

    Raises:
        InputError: one of the others is not there or unsound, or nothing is in common.
    """
    leave = Stated(allow_outside=stated.allow_outside)
    others = [open_stated(name, roots, leave).description() for name in names]
    ground = find_common_ground(dataset.description(), others)
    for sentence in ground.left_out:
        logger.info("not planned for: %s", sentence)
    if ground.dropped:
        logger.info("not planned for: channels %s of %s", ", ".join(ground.dropped), dataset.name)
    limited = select_channels(dataset, ground.channels)
    if ground.regions is None:
        return limited, ground
    fields = {name: getattr(limited, name) for name in Dataset.model_fields}
    given = {**fields, "regions": ground.regions}
    return parse_record(Dataset, given, source=f"--common-with {', '.join(names)}", error=InputError), ground
