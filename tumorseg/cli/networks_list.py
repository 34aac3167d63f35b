"""`tumorseg networks list`."""

from collections.abc import Iterator
from typing import Any

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.names import split_names
from tumorseg.cli.numbers import GIGABYTES
from tumorseg.cli.output import roots_of, show
from tumorseg.cli.paths import FILE, PLACE


@click.command()
@click.option("--patch", metavar="Z,Y,X", help="Compare all for a patch of so many cubic voxels, or Y,X.")
@click.option("--vram", "vram_gb", type=GIGABYTES, help="Compare them as planned for a GPU of so many GB (2^30 bytes).")
@click.option("-d", "--dataset", type=PLACE, help="Dataset of that plan: registered name, folder or manifest.")
@click.option("--fingerprint", type=FILE, help="Its fingerprint instead.")
@click.option("--channels", type=click.IntRange(min=1), help="Channels of the images of --patch.  [default: 1]")
@click.option("--classes", type=click.IntRange(min=2), help="Classes with the background, of --patch.  [default: 2]")
@click.option(
    "--network", "networks", multiple=True, metavar="NAME", help="Compare this one; may be given often.  [default: all]"
)
@click.option("--preset", type=PLACE, metavar="NAME|FILE", help="Whose widths they have.  [default: optimized]")
@click.option("--time", "is_timed", is_flag=True, help="Time a training step and a tile of each on this machine too.")
@click.pass_obj
def command(settings: Settings, /, *, patch: str | None, **options: Any) -> None:
    """List the networks that a plan can name.

    With --patch, or with -d or --fingerprint, tell what all of them cost, side by side.
    """
    if patch is None and not options["dataset"] and not options["fingerprint"]:
        _list_all(settings, options)
        return
    counts = {"num_channels": options.pop("channels"), "num_classes": options.pop("classes")}
    if patch is None and any(counts.values()):
        raise click.UsageError("--channels and --classes are for --patch; a dataset has its own.")
    if patch is not None and any(options[name] for name in ("dataset", "fingerprint", "vram_gb")):
        raise click.UsageError("--patch is compared as it is; leave out --vram, -d and --fingerprint.")
    from tumorseg.reports.network_tables import compared_text
    from tumorseg.stages.planning.networks import CompareRequest, compare_networks

    size = None if patch is None else _edges(patch)
    given = {name: value for name, value in {**counts, **options}.items() if value is not None}
    found = compare_networks(CompareRequest(patch_size=size, roots=roots_of(settings), **given))
    result = {"networks": [one.model_dump(mode="json") for one in found.costs], "refused": found.refused}
    show(settings, result, compared_text(*found))


def _edges(patch: str) -> tuple[int, ...]:
    names = split_names(patch)
    if len(names) not in (2, 3) or not all(name.isdecimal() and int(name) for name in names):
        raise click.UsageError(f"--patch {patch}: give 2 or 3 numbers of voxels, such as 64,64,64.")
    return tuple(map(int, names))


def _list_all(settings: Settings, options: dict[str, Any]) -> None:
    if any(options.values()):
        raise click.UsageError("Nothing to compare for: give --patch, or -d or --fingerprint.")
    from tumorseg.networks.catalogue import list_networks

    networks = list_networks()
    show(settings, {"networks": networks}, "\n".join(_networks(networks)))


def _networks(networks: list[dict[str, Any]]) -> Iterator[str]:
    yield "Networks, for --network NAME; --patch 64,64,64 tells what all of them cost"
    for one in networks:
        yield f"  {one['name']}  ({one['axes']} axes)"
        yield click.wrap_text(one["summary"], 100, "      ", "      ")
        yield click.wrap_text(f"edges of a patch are multiples of {one['divisors']}", 100, "      ", "      ")
        yield click.wrap_text(f"sized by {', '.join(one['sized_by'])}", 100, "      ", "      ")
        yield click.wrap_text(f"from {one['source']}", 100, "      ", "      ")
