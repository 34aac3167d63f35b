"""`tumorseg predict`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.names import split_names
from tumorseg.cli.output import show
from tumorseg.cli.stated import allow_outside, assume_orientation, stated_of

if TYPE_CHECKING:
    from tumorseg.stages.inference.outputs import Outputs

PATH = click.Path(path_type=Path)
LABEL_MAPS = ("nii.gz", "nii", "nrrd", "mha")
DICOM = ("seg", "rtstruct")
MAPS = ("probabilities", "entropy", "disagreement")


@click.command()
@click.option(
    "-m",
    "--model",
    "models",
    type=PATH,
    multiple=True,
    required=True,
    help="Model folder or fold's folder; several of one model are averaged.",
)
@click.option("-i", "--input", "inputs", type=PATH, multiple=True, required=True, help="Files, folders or manifests.")
@click.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    help="Folder for <case_id>.nii.gz; for one case also a file: x.nii.gz, x.nrrd, x.mha, x.dcm.",
)
@click.option(
    "--format",
    "formats",
    type=click.Choice([*LABEL_MAPS, *DICOM]),
    multiple=True,
    help="Of the masks; may be given often, but for one label map at most. seg and rtstruct are for DICOM images.  "
    "[default: nii.gz]",
)
@click.option(
    "--seg-type",
    type=click.Choice(["binary", "labelmap"]),
    default="binary",
    show_default=True,
    help="Of DICOM SEG: bit maps, which every viewer reads, or one label map.",
)
@click.option("--probabilities", is_flag=True, help="Write the probability of every class, 4D, into probabilities/.")
@click.option("--entropy", is_flag=True, help="Write how uncertain the model is, from 0 to 1, into entropy/.")
@click.option(
    "--disagreement",
    is_flag=True,
    help="Write which share of folds and mirrored views decided otherwise, into disagreement/.",
)
@click.option(
    "--only-labels", default="", metavar="A,B", help="Confine masks to these labels; all others become background."
)
@click.option("--folds", default="", help="Folds of a model folder, separated by commas.  [default: all]")
@click.option("--no-mirroring", is_flag=True, help="Do not average mirrored views: up to 8 times faster.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32"]),
    help="auto: half precision where the device computes in it; fp32: none but float32.  [default: as planned]",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "torch", "compile", "openvino"]),
    help="What runs the network.  [default: as planned]",
)
@click.option(
    "--shard",
    metavar="i/n",
    help="Segment one of n parts of the cases; others may fill the same folder at the same time.",
)
@assume_orientation
@allow_outside
@click.option("--device", help="cpu, cuda, cuda:N.  [default: the best there is]")
@click.pass_obj
def command(settings: Settings, /, *, folds: str, no_mirroring: bool, only_labels: str, **options: Any) -> None:
    """Segment images; each result lies on its input's own grid. Cases that are done already are left alone."""
    from tumorseg.stages.inference.predict import PredictRequest, predict
    from tumorseg.storage.layout import engine_cache
    from tumorseg.workers.pages import keep_freed_pages

    keep_freed_pages()
    # None leaves it to the model's plan; there is no option that turns mirroring on against it.
    mirroring = False if no_mirroring else None
    request = PredictRequest(
        folds=split_names(folds),
        only_labels=split_names(only_labels),
        mirroring=mirroring,
        stated=stated_of(options),
        outputs=_outputs(options),
        engine_cache=engine_cache(settings.work),
        **options,
    )
    predicted = predict(request)
    files = {case_id: str(path) for case_id, path in predicted.files.items()}
    outputs = {case_id: [str(path) for path in paths] for case_id, paths in predicted.all_files.items()}
    num_left_alone = len(predicted.left_alone)
    num_segmented = len(files) - num_left_alone
    counts = {"num_segmented": num_segmented, "num_left_alone": num_left_alone}
    text = f"{num_segmented} cases segmented, {num_left_alone} left alone as already done, in {predicted.output}"
    show(settings, {"files": files, "outputs": outputs, **counts}, text)


def _outputs(options: dict[str, Any]) -> "Outputs":
    """Take what is to be written out of the command's options."""
    from tumorseg.stages.inference.maps import MapRequest
    from tumorseg.stages.inference.outputs import AS_USUAL, Outputs

    formats = tuple(dict.fromkeys(options.pop("formats")))
    if len(label_maps := [one for one in formats if one in LABEL_MAPS]) > 1:
        raise click.UsageError(f"--format: found {' and '.join(label_maps)}, expected one format of label maps at most")
    if options["seg_type"] != "binary" and "seg" not in formats:
        raise click.UsageError(
            f"--seg-type {options['seg_type']}: found no --format seg; give it, or leave --seg-type out"
        )
    maps = MapRequest(**{name: options.pop(name) for name in MAPS})
    return Outputs(formats=formats or AS_USUAL.formats, seg_type=options.pop("seg_type"), maps=maps)
