"""What teachers find in whole cases, by `predict`'s own path: their mean on the student's grid, quantised, kept for its training."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.engine.distillation import parts_of
from tumorseg.errors import InputError, Stopped, StorageError
from tumorseg.ops.cropping import box_slices
from tumorseg.ops.geometry import orient
from tumorseg.ops.preprocessing import NetworkGrid, axis_order, network_grid, resampling_orders
from tumorseg.ops.quantised import STEPS, num_stored
from tumorseg.ops.resampling import resample_image
from tumorseg.schema.base import content_hash
from tumorseg.schema.cases import Preprocessing
from tumorseg.schema.dataset import Case
from tumorseg.schema.quantities import gb_text
from tumorseg.schema.targets import Targets, targets_of
from tumorseg.stages.distillation.opening import FoundTeacher, check_weights
from tumorseg.stages.inference.method import PredictOptions, method_hash
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.loaded import failed_cases
from tumorseg.stages.opening.reading import CaseImage, read_case_image
from tumorseg.stages.opening.stopping import UntilStopped
from tumorseg.stages.selection.out_of_fold import write_probabilities
from tumorseg.storage.probability_cache import (
    ProbabilityCache,
    StoredVolumes,
    Volume,
    Volumes,
    affine_rows,
    open_volumes,
    write_volumes,
)
from tumorseg.tracking.progress import progress
from tumorseg.workers.lanes import run_lanes
from tumorseg.workers.outcomes import Failure

FORM_VERSION = 2
"""Raised when the same would be kept otherwise."""
LEAST = 0.0
"""As for `write_probabilities`: nothing that is at least a step counts as impossible, as a temperature raises what is improbable."""
TITLE = "teachers look at cases"
LINEAR = 1
"""Order of the splines with which probabilities are resampled: they stay between 0 and 1, and what leaves a class goes to others."""
Shares = NDArray[np.float32]


class SeenCase(NamedTuple):
    """A case that teachers look at as a whole."""

    case: Case
    """With the student's channels."""
    own: tuple[Case, ...]
    """With each teacher's channels."""
    key: str
    """Under which is kept what they find."""


class Audience(NamedTuple):
    """For whom teachers look at cases."""

    preprocessing: Preprocessing
    """The way to the student's grid."""
    targets: Targets
    """What it predicts."""


class TaughtCase(NamedTuple):
    """A case with what was found in it."""

    case: Case
    """With the student's channels."""
    key: str
    """Under which it is kept."""
    volumes: Volumes


class Desk(NamedTuple):
    """Where and how teachers look at cases."""

    cache: ProbabilityCache
    """Where it is kept what they find."""
    device: str
    """Where they compute."""
    mirroring: bool | None = None
    """Whether mirrored views are averaged; as each one's plan says if None."""


def key_of(
    teachers: Sequence[FoundTeacher],
    audience: Audience,
    case_hashes: Sequence[str],
    *,
    mirroring: bool | None = None,
) -> str:
    """Return the name of what teachers find in a case together.

    Args:
        teachers: that look at it.
        audience: for whom.
        case_hashes: of its files, as the student and as each teacher reads it.
        mirroring: as for a `Desk`.
    """
    options = PredictOptions(mirroring=mirroring)
    methods = [method_hash(one.plan, one.configuration, weights=(one.weights,), options=options) for one in teachers]
    wanted = [audience.preprocessing.model_dump(mode="json"), audience.targets.model_dump(mode="json")]
    return content_hash([FORM_VERSION, LEAST, methods, wanted, list(case_hashes)])


def look_at(
    cases: Sequence[SeenCase], teachers: Sequence[FoundTeacher], audience: Audience, desk: Desk
) -> dict[str, Volumes]:
    """Return what teachers find in cases, by case_id; what is kept already is only looked up.

    Args:
        cases: what to look at.
        teachers: that do; networks of all are in memory together.
        audience: for whom.
        desk: where and how.

    Raises:
        StorageError: there is not room enough for all of it.
        TumorsegError: cases failed; all are listed, and the others are kept.
        Stopped: a signal asked to; what is done is kept.
    """
    cache = desk.cache
    found = {one.case.case_id: cache.find(one.key) for one in cases}
    missing = [one for one in cases if found[one.case.case_id] is None]
    if missing:
        _fill(missing, [_load(teacher, desk) for teacher in teachers], audience, cache)
        found |= {one.case.case_id: cache.find(one.key) for one in missing}
    kept = {case_id: volumes for case_id, volumes in found.items() if volumes is not None}
    if len(kept) < len(cases):
        raise StorageError(
            f"what teachers found in {len(kept)} of {len(cases)} cases fills --cache-gb ({gb_text(cache.num_bytes)}); give more, or teachers "
            "whose plans prepare images as the student's does",
            file=cache.folder,
        )
    return kept


class Room(NamedTuple):
    """Where it is kept what teachers find."""

    folder: Path
    """Of volumes."""
    cases: Path
    """The case store."""
    cache: ProbabilityCache | None
    """Of the folder; None in a process that only looks, once all is there."""
    device: str
    """Where teachers compute."""

    @property
    def may_write(self) -> bool:
        """Return whether this process writes files."""
        return self.cache is not None

    def look_at(
        self,
        cases: Sequence[SeenCase],
        teachers: Sequence[FoundTeacher],
        audience: Audience,
        *,
        mirroring: bool | None = None,
    ) -> list[TaughtCase]:
        """Return what teachers find in cases, in their order; arguments and errors as for `whole_cases.look_at`."""
        if self.cache is None:
            volumes = {one.case.case_id: open_volumes(self.folder / one.key) for one in cases}
        else:
            volumes = look_at(cases, teachers, audience, Desk(self.cache, self.device, mirroring))
        return [TaughtCase(one.case, one.key, volumes[one.case.case_id]) for one in cases]


def _load(teacher: FoundTeacher, desk: Desk) -> Model:
    model = load_model([teacher.folder], desk.device)
    check_weights(teacher, model.weight_hashes[0])
    if desk.mirroring is None:
        return model
    inference = model.configuration.inference.changed(mirroring=desk.mirroring)
    return model._replace(configuration=model.configuration.changed(inference=inference))


def _fill(cases: Sequence[SeenCase], models: Sequence[Model], audience: Audience, cache: ProbabilityCache) -> None:
    failures: list[Failure] = []
    items = UntilStopped((one.case.case_id, one) for one in cases)

    def look(one: SeenCase) -> None:
        # Without room, computing it would be in vain.
        if not cache.is_full:
            _look(one, models, audience, cache)

    with progress(TITLE, len(cases)) as advance, closing(run_lanes(look, items, num_lanes=1)) as lanes:
        for outcome in lanes:
            if isinstance(outcome, Failure):
                failures.append(outcome)
            advance(outcome.case_id)
    if items.has_more:
        raise Stopped("what teachers have found so far is kept")
    if failures:
        raise failed_cases(failures, len(cases), TITLE)


def _look(one: SeenCase, models: Sequence[Model], audience: Audience, cache: ProbabilityCache) -> None:
    with cache.partial(one.key) as scratch, cache.partial(one.key) as folder:
        seen = []
        for number, (model, own) in enumerate(zip(models, one.own, strict=True)):
            place = scratch / str(number)
            place.mkdir()
            seen.append(write_probabilities(model, own, place, least=LEAST))
        targets = [targets_of(model.plan.dataset) for model in models]
        write_mean(one.case, list(zip(seen, targets, strict=True)), audience, folder)
        cache.keep(folder, one.key)


def write_mean(case: Case, seen: Sequence[tuple[Volumes, Targets]], audience: Audience, folder: Path) -> Volumes:
    """Write the mean of teachers' probabilities on the student's grid.

    Args:
        case: with the student's channels.
        seen: what each teacher found, on the grid of the files, and what its outputs mean.
        audience: for whom.
        folder: an empty one.

    Raises:
        InputError: a teacher reads the case on another grid of voxels than the student.
        StorageError: the folder cannot be written.
    """
    spec = audience.preprocessing
    image = read_case_image(case, spec.reading, axis_order(spec))
    for volumes, _ in seen:
        _check_grid(case, volumes.about, image)
    grid = network_grid(image.image, image.spacing_mm, spec, covered=image.covered)
    depth, rows, columns = grid.shape
    thickness, height, width = grid.target_spacing_mm
    about = StoredVolumes(
        shape=(depth, rows, columns),
        spacing_mm=(thickness, height, width),
        # Nobody asks where in the world a prepared case lies.
        affine=affine_rows(np.eye(4)),
        box=((0, depth), (0, rows), (0, columns)),
        num_volumes=num_stored(audience.targets),
    )
    return write_volumes(folder, about, _means(seen, audience, image.without_voxels(), grid))


def _check_grid(case: Case, about: StoredVolumes, image: CaseImage) -> None:
    has_same_place = np.allclose(np.array(about.affine), image.affine, atol=1e-3)
    if about.shape != tuple(image.stored_shape) or not has_same_place:
        raise InputError(
            f"a teacher reads it on voxels {list(about.shape)} of one of its channels, the student on {list(image.stored_shape)} of another; "
            "give teachers with the student's channels",
            case_id=case.case_id,
        )


def _means(
    seen: Sequence[tuple[Volumes, Targets]], audience: Audience, image: CaseImage, grid: NetworkGrid
) -> Iterator[Volume]:
    """Yield the mean of each output that is stored, so that no more than one is in memory."""
    orders = resampling_orders(LINEAR, grid.spacing_mm, grid.target_spacing_mm, audience.preprocessing)
    parts = [stored_parts(own, audience.targets) for _, own in seen]
    for number in range(num_stored(audience.targets)):
        total = np.zeros(grid.shape, np.float32)
        for (volumes, _), sources in zip(seen, parts, strict=True):
            shares = _joined(volumes, sources[number])
            held = orient(shares, image.orientation)[box_slices(grid.box)]
            total += resample_image(np.ascontiguousarray(held)[None], grid.shape, orders)[0]
        yield np.rint((total / len(seen)).clip(0, 1) * STEPS).astype(np.uint16)


def _joined(volumes: Volumes, numbers: Sequence[int]) -> Shares:
    """Return the sum of some volumes (Z, Y, X) of a teacher, at most 1, in the stored axis order."""
    total = np.zeros(volumes.about.shape, np.float32)
    for number in numbers:
        total += volumes.volume(number) / np.float32(STEPS)
    return np.minimum(total, 1, out=total)


def stored_parts(own: Targets, wanted: Targets) -> list[tuple[int, ...]]:
    """Return, of each output of the student that is stored, which stored ones of a teacher add up to it.

    Args:
        own: what the teacher predicts.
        wanted: what the student predicts; `parts_of` has found that the one tells the other.
    """
    parts = parts_of(own, wanted)
    assert parts is not None
    # The background of labels is not stored, on either side.
    first = 0 if own.has_regions else 1
    asked = parts if wanted.has_regions else parts[1:]
    return [tuple(number - first for number in numbers) for numbers in asked]
