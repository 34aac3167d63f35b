"""One case through a model: an image in, label values on its own grid out."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from tumorseg.engine.averaging import NetworkForward, VoteKind
from tumorseg.engine.combining import AS_LIKELY, Decision
from tumorseg.engine.execution import mixed_precision
from tumorseg.engine.segmentation import Observer, OrientedImage, Prepared, Segmenter, prepare, segment
from tumorseg.engine.sliding_window import tiling_of
from tumorseg.engine.stopwatch import Stopwatch
from tumorseg.errors import InputError
from tumorseg.ops.geometry import Orientation, orient, restore_orientation
from tumorseg.ops.labels import to_indices
from tumorseg.schema.cases import preprocessing_of, reading_of
from tumorseg.schema.dataset import Case
from tumorseg.schema.targets import Targets, num_previous, targets_of
from tumorseg.stages.inference.method import averaged_axes
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.reading import CaseImage, read_previous
from tumorseg.types import Segmentation

T = TypeVar("T")


class RunOptions(NamedTuple):
    """How a case runs through a model."""

    mirroring: bool | None = None
    """Whether mirrored views are averaged, along the axes that the plan allows, by a cascade's previous model too; as each one's
    plan says if None."""
    with_votes: bool = False
    """Whether observers are shown what each fold and view decides by itself."""
    stopwatch: Stopwatch | None = None
    """Counts seconds by part."""
    decision: Decision = AS_LIKELY
    """From a model's logits to labels; an ensemble has its own."""
    scratch: Path | None = None
    """Where an ensemble may put what is too large for memory meanwhile; the system's temporary folder if None."""


AS_PLANNED = RunOptions()


def segment_case(
    model: Model,
    found: CaseImage,
    *,
    options: RunOptions = AS_PLANNED,
    previous: Segmentation | None = None,
    observers: Sequence[Observer] = (),
) -> Segmentation:
    """Segment the image of a case; several cases may be given at once, from several threads.

    Args:
        model: the networks and their plan.
        found: channels in the plan's axis order.
        options: how.
        previous: class indices in the plan's axis order, for a cascade; what its previous model finds if None.
        observers: are shown each slice of the result, in the plan's axis order, as it is decided.

    Returns:
        Label values (Z, Y, X) in the axis order in which the image was stored.

    Raises:
        InputError: the number of channels is not the plan's, the logits are not finite, or the GPU's memory does not suffice.
    """
    prepared = prepare_case(model, found, options=options, previous=previous)
    return segment_prepared(model, prepared, found.orientation, options=options, observers=observers)


def segment_prepared(
    model: Model,
    prepared: Prepared,
    orientation: Orientation,
    *,
    options: RunOptions = AS_PLANNED,
    observers: Sequence[Observer] = (),
) -> Segmentation:
    """Segment an image that was prepared; nothing else of it is needed any more.

    Args:
        model: the networks and their plan.
        prepared: the image on their grid.
        orientation: the way to the plan's axis order from the stored one.
        options: how.
        observers: are shown each slice of the result.

    Returns:
        Label values (Z, Y, X) in the axis order in which the image was stored.

    Raises:
        InputError: the logits are not finite, or the GPU's memory does not suffice.
    """

    def run() -> Segmentation:
        return segment(prepared, segmenter_of(model, options), observers, decision=options.decision)

    # Cases are prepared side by side; the network, and the sums of its logits, are one case's at a time.
    with model.runtime.turn:
        values = within_memory([model], run, options)
    return np.ascontiguousarray(restore_orientation(values, orientation))


def prepare_case(
    model: Model, found: CaseImage, *, options: RunOptions = AS_PLANNED, previous: Segmentation | None = None
) -> Prepared:
    """Bring the image of a case to the grid of a model's networks; a cascade's previous model segments it for that.

    Args and Raises:
        As for `segment_case`. Nobody may hold the turn at the networks.
    """
    expected = len(model.plan.dataset.channels)
    if found.image.shape[0] != expected:
        names = ", ".join(channel.name for channel in model.plan.dataset.channels)
        raise InputError(f"the image has {found.image.shape[0]} channels, the model needs {expected}: {names}")
    if previous is None and model.previous_model is not None:
        # It answers in the order in which the image was stored, and is shown in the plan's.
        shown = options._replace(with_votes=False, decision=AS_LIKELY)
        values = segment_case(model.previous_model, found, options=shown)
        previous = to_indices(orient(values, found.orientation), targets_of(model.plan.dataset))
    # A network without a previous configuration would take the segmentation for one more channel of the image.
    assert (previous is None) == (model.configuration.previous_configuration is None)
    oriented = OrientedImage(found.image, found.spacing_mm, found.covered, previous, found.absent)
    with (options.stopwatch or Stopwatch()).part("prepare"):
        return prepare(oriented, preprocessing_of(model.plan, model.configuration))


def within_memory(models: Sequence[Model], run: Callable[[], T], options: RunOptions) -> T:
    """Return what `run` makes with networks whose turn the caller holds; it begins anew in less memory where a GPU's runs out.

    Args:
        models: whose networks it takes.
        run: segments an image; all of it that is not waiting for a network counts as restoration.
        options: its stopwatch.

    Raises:
        InputError: the GPU's memory does not suffice.
    """
    while True:
        try:
            return _timed(run, options.stopwatch or Stopwatch())
        except torch.OutOfMemoryError as error:
            relieved = [model.runtime.relieve() for model in models]
            if not any(relieved):
                raise InputError(
                    f"a single tile does not fit the GPU's memory ({error}); end other programs on it, or give --device cpu"
                ) from None


def _timed(run: Callable[[], T], stopwatch: Stopwatch) -> T:
    began, waited = perf_counter(), stopwatch.seconds.get("wait", 0.0)
    made = run()
    stopwatch.add("restore", perf_counter() - began - (stopwatch.seconds.get("wait", 0.0) - waited))
    return made


def read_known_previous(model: Model, case: Case, found: CaseImage) -> Segmentation | None:
    """Read the class indices of a case's previous segmentation; None unless the model is a cascade with files.

    Raises:
        InputError: the file cannot be read, or does not lie on the image's grid.
    """
    file = model.previous_file(case.case_id)
    if file is None:
        return None
    dataset = model.plan.dataset
    return read_previous(case, file, found, targets=targets_of(dataset), reading=reading_of(dataset))


def num_voters(model: Model, options: RunOptions) -> int:
    """Return how many there are to decide by themselves: folds times views."""
    return len(model.networks) * (1 << len(averaged_axes(model.configuration, options.mirroring)))


def segmenter_of(model: Model, options: RunOptions) -> Segmenter:
    """Return a model's way from a prepared image to logits; it takes the turn that the caller holds."""
    configuration, runtime = model.configuration, model.runtime
    targets, tiling = targets_of(model.plan.dataset), tiling_of(configuration)
    axes = averaged_axes(configuration, options.mirroring)
    num_views = 2 ** len(axes)
    stopwatch = options.stopwatch or Stopwatch()
    forward = NetworkForward(
        runtime.passes,
        axes,
        configuration.num_axes,
        partial(mixed_precision, model.device, runtime.dtype),
        model.device,
        keeps_on_device=not runtime.sums_on_cpu,
        num_previous=num_previous(configuration, targets),
        background=runtime.background,
        views_per_pass=min(num_views, runtime.patches_per_pass),
        votes=_vote_kind(targets) if options.with_votes else None,
        stopped=runtime.stopped,
        stopwatch=stopwatch,
    )
    return Segmenter(
        preprocessing_of(model.plan, configuration),
        tiling._replace(batch_size=max(1, runtime.patches_per_pass // num_views), is_exact=runtime.is_exact),
        forward,
        targets,
        has_votes=options.with_votes,
    )


def _vote_kind(targets: Targets) -> VoteKind:
    return "regions" if targets.has_regions else "labels"
