"""`tumorseg predict`."""

from pathlib import Path
from typing import Any

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.names import split_names
from tumorseg.cli.output import show
from tumorseg.cli.stated import allow_outside, assume_orientation, stated_of

PATH = click.Path(path_type=Path)


@click.command()
@click.option("-m", "--model", "models", type=PATH, multiple=True, required=True, help="Model folder or fold's folder.")
@click.option("-i", "--input", "inputs", type=PATH, multiple=True, required=True, help="Files, folders or manifests.")
@click.option(
    "-o", "--output", type=PATH, required=True, help="Folder for <case_id>.nii.gz; for one case also a file, x.nii.gz."
)
@click.option("--folds", default="", help="Folds of a model folder, separated by commas.  [default: all]")
@click.option("--no-mirroring", is_flag=True, help="Do not average mirrored views: up to 8 times faster.")
@assume_orientation
@allow_outside
@click.option("--device", help="cpu, cuda, cuda:N.  [default: the best there is]")
@click.pass_obj
def command(settings: Settings, /, *, folds: str, no_mirroring: bool, **options: Any) -> None:
    """Segment images; each result lies on its input's own grid. Cases that are done already are left alone."""
    from tumorseg.stages.inference.predict import PredictRequest, predict

    # None leaves it to the model's plan; there is no option that turns mirroring on against it.
    mirroring = False if no_mirroring else None
    stated = stated_of(options)
    predicted = predict(PredictRequest(folds=split_names(folds), mirroring=mirroring, stated=stated, **options))
    files = {case_id: str(path) for case_id, path in predicted.files.items()}
    num_left_alone = len(predicted.left_alone)
    num_segmented = len(files) - num_left_alone
    counts = {"num_segmented": num_segmented, "num_left_alone": num_left_alone}
    text = f"{num_segmented} cases segmented, {num_left_alone} left alone as already done, in {predicted.output}"
    show(settings, {"files": files, **counts}, text)
