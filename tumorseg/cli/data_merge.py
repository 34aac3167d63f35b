"""`tumorseg data merge`."""

from typing import TYPE_CHECKING, Any

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.output import roots_of, show
from tumorseg.cli.paths import FILE, OUTPUT_FILE, PLACE
from tumorseg.cli.stated import allow_outside, confirm_labels, stated_of

if TYPE_CHECKING:
    from tumorseg.stages.datasets.merge import Merged, MergedDataset


@click.command()
@click.option(
    "-d",
    "--dataset",
    "datasets",
    type=PLACE,
    multiple=True,
    required=True,
    help="Registered name, folder, name below the data root, or manifest; give two or more.",
)
@click.option("-o", "--output", type=OUTPUT_FILE, required=True, help="Manifest to write, a .json file.")
@click.option(
    "--labels",
    type=FILE,
    help='JSON of labels that are the same, by dataset: {"WT": {"A": [1, 2, 4], "B": ["tumour"]}}.',
)
@confirm_labels
@allow_outside
@click.option("--jobs", type=click.IntRange(min=1), help="Processes.  [default: as many as the machine holds]")
@click.pass_obj
def command(settings: Settings, /, **options: Any) -> None:
    """Pool datasets into one manifest, with the channels and labels that all of them have.

    Images stay where they are. Label files whose values have to change are written beside the manifest.
    """
    from tumorseg.stages.datasets.merge import MergeRequest, merge

    merged = merge(MergeRequest(roots=roots_of(settings), stated=stated_of(options), **options))
    description = merged.pool.description
    result = {
        "path": str(merged.path),
        "name": description.name,
        "labels": description.labels,
        "regions": [region.name for region in description.regions],
        "datasets": [one.model_dump(mode="json") for one in merged.datasets],
        "left_out": list(merged.pool.left_out),
    }
    show(settings, result, _text(merged))


def _text(merged: "Merged") -> str:
    """Return what was pooled, and what was not, for people."""
    description = merged.pool.description
    count = sum(one.num_cases for one in merged.datasets)
    names = [region.name for region in description.regions] or list(description.foreground)
    lines = [
        f"{description.name}: {count} cases of {len(merged.datasets)} datasets",
        f"  channels       {', '.join(channel.name for channel in description.channels)}",
        f"  labels         {', '.join(names)}",
    ]
    for one in merged.datasets:
        lines += _dataset_lines(one)
    if merged.pool.left_out:
        lines.append("not mapped")
        lines += [f"  {sentence}" for sentence in merged.pool.left_out]
    return "\n".join([*lines, f"written to {merged.path}"])


def _dataset_lines(one: "MergedDataset") -> list[str]:
    renamed = [own if own == pooled else f"{own} as {pooled}" for pooled, own in one.channels.items()]
    labels = [own if own == pooled else f"{own} as {pooled}" for own, pooled in one.labels.items()]
    dropped = f"; not used: {', '.join(one.dropped_channels)}" if one.dropped_channels else ""
    rewritten = f" ({one.num_rewritten} files written anew)" if one.num_rewritten else ""
    return [
        f"{one.name}: {one.num_cases} cases",
        f"  channels       {', '.join(renamed)}{dropped}",
        f"  labels         {', '.join(labels)}{rewritten}",
    ]
