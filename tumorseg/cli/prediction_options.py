"""Options of the verbs that segment images, and what they say when they are done."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tumorseg.cli.main import Settings
from tumorseg.cli.names import split_names
from tumorseg.cli.paths import OUTPUT, PATH
from tumorseg.cli.stated import allow_outside, assume_orientation, stated_of

if TYPE_CHECKING:
    from tumorseg.stages.inference.outputs import Outputs
    from tumorseg.stages.inference.predict_cases import Predicted

LABEL_MAPS = ("nii.gz", "nii", "nrrd", "mha")
DICOM = ("seg", "rtstruct")
MAPS = ("probabilities", "entropy", "disagreement")


F = TypeVar("F", bound=Callable[..., Any])

WRITTEN = (
    click.option(
        "--format",
        "formats",
        type=click.Choice([*LABEL_MAPS, *DICOM]),
        multiple=True,
        help="Of the masks; may be given often, but for one label map at most. seg and rtstruct are for DICOM images.  "
        "[default: nii.gz]",
    ),
    click.option(
        "--seg-type",
        type=click.Choice(["binary", "labelmap"]),
        default="binary",
        show_default=True,
        help="Of DICOM SEG: bit maps, which every viewer reads, or one label map.",
    ),
    click.option(
        "--probabilities", is_flag=True, help="Write the probability of every class, 4D, into probabilities/."
    ),
    click.option("--entropy", is_flag=True, help="Write how uncertain the model is, from 0 to 1, into entropy/."),
    click.option(
        "--disagreement",
        is_flag=True,
        help="Write which share of models, folds and mirrored views decided otherwise, into disagreement/.",
    ),
    click.option(
        "--only-labels", default="", metavar="A,B", help="Confine masks to these labels; all others become background."
    ),
)
"""Options that say what is written of each case, in the order of the help."""
RUNNING = (
    click.option("--folds", default="", help="Folds of a model folder, separated by commas.  [default: all]"),
    click.option("--no-mirroring", is_flag=True, help="Do not average mirrored views: up to 8 times faster."),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32"]),
        help="auto: half precision where the device computes in it; fp32: none but float32.  [default: as planned]",
    ),
    click.option(
        "--engine",
        type=click.Choice(["auto", "torch", "compile", "openvino"]),
        help="What runs the network.  [default: as planned]",
    ),
    click.option(
        "--shard",
        metavar="i/n",
        help="Segment one of n parts of the cases; others may fill the same folder at the same time.",
    ),
    assume_orientation,
    allow_outside,
    click.option("--device", help="cpu, cuda, cuda:N.  [default: the best there is]"),
)
"""Options that say how the networks run, likewise."""


def models_option(help: str) -> Callable[[F], F]:
    """Return the option that names one model, or several."""
    return click.option("-m", "--model", "models", type=PATH, multiple=True, required=True, help=help)


def files_options(*, required: bool) -> Callable[[F], F]:
    """Return the options that name images, and where their masks go."""

    def add(command: F) -> F:
        command = click.option(
            "-o",
            "--output",
            type=OUTPUT,
            required=required,
            help="Folder for <case_id>.nii.gz; for one case also a file: x.nii.gz, x.nrrd, x.mha, x.dcm.",
        )(command)
        return click.option(
            "-i",
            "--input",
            "inputs",
            type=PATH,
            multiple=True,
            required=required,
            help="Files, folders or manifests.",
        )(command)

    return add


def prediction_options(command: F) -> F:
    """Add the options that `predict` and `ensemble` share to a command."""
    # Decorators work from the inside out; help lists the outermost first.
    for option in reversed((*WRITTEN, *RUNNING)):
        command = option(command)
    return command


def fields_of(settings: Settings, options: dict[str, Any]) -> dict[str, Any]:
    """Take these options out of a command's, and return the fields of `PredictionOptions` that they state.

    Raises:
        click.UsageError: formats contradict each other.
    """
    from tumorseg.storage.layout import engine_cache

    # None leaves it to the model's plan; there is no option that turns mirroring on against it.
    mirroring = False if options.pop("no_mirroring") else None
    taken = {name: options.pop(name) for name in ("precision", "engine", "shard", "device")}
    return {
        "folds": split_names(options.pop("folds")),
        "only_labels": split_names(options.pop("only_labels")),
        "mirroring": mirroring,
        "stated": stated_of(options),
        "outputs": _outputs(options),
        "engine_cache": engine_cache(settings.work),
        **taken,
    }


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


def predicted_json(predicted: "Predicted") -> dict[str, Any]:
    """Return what was segmented as a JSON object."""
    found = {
        "files": {case_id: str(path) for case_id, path in predicted.files.items()},
        "outputs": {case_id: [str(path) for path in paths] for case_id, paths in predicted.all_files.items()},
        "num_segmented": len(predicted.files) - len(predicted.left_alone),
        "num_left_alone": len(predicted.left_alone),
    }
    if predicted.trusts:
        reviewed = {case_id: trust.review for case_id, trust in predicted.trusts.items() if trust.review is not None}
        found["review"] = reviewed
    return found


def predicted_text(predicted: "Predicted") -> str:
    """Return what was segmented, and the cases that a person should look at."""
    num_left_alone = len(predicted.left_alone)
    num_segmented = len(predicted.files) - num_left_alone
    closing = f"{num_segmented} cases segmented, {num_left_alone} left alone as already done, in {predicted.output}"
    if not predicted.trusts:
        return closing
    from tumorseg.stages.inference.trusting import review_lines, review_summary

    lines = review_lines(predicted.trusts)
    return "\n".join([*lines, closing, review_summary(len(lines), len(predicted.trusts))])
