"""Show what a plan's augmentation does to a real case: each transform by itself, and all together."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from tumorseg.reports.augmentation_page import Gallery, Group, Tile, gallery_html
from tumorseg.reports.augmentation_sheet import gallery_png
from tumorseg.reports.augmentation_tiles import MOST_CHANNELS, PREVIOUS, Frame, is_same, shown_rows, tile_pixels
from tumorseg.reports.augmentation_words import draw_json, draw_text, settings_text
from tumorseg.reports.figures import class_color
from tumorseg.reports.overlays import window
from tumorseg.schema.base import Record
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.targets import targets_of
from tumorseg.stages.opening.loaded import Roots, choose_configuration
from tumorseg.stages.training.shown_cases import CaseOpener
from tumorseg.stages.training.shown_patches import Place, ShownPatch, ShownPatches, slices_of
from tumorseg.storage.atomic import HTML_ENDINGS, require_file_name, write_bytes, write_text
from tumorseg.tracking.progress import progress
from tumorseg.types import Json

PLANES = ("axial", "coronal", "sagittal")
"""Slices across each canonical axis (Z, Y, X)."""


class AugmentRequest(Record):
    """Options of `augment`."""

    roots: Roots = Roots()
    """Data and work folder."""
    plan: Plan
    """Whose augmentation is shown."""
    configuration: str | None = None
    """The plan's default if None."""
    case_id: str | None = None
    """The first case that has foreground if None."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides place and draws."""
    dataset: str | None = None
    """Where the dataset is, if it moved."""
    output: Path
    """PNG or HTML file to write; one that is there is replaced."""


class Augmented(NamedTuple):
    """Result of `augment`."""

    output: Path
    case_id: str
    configuration: str
    transforms: tuple[tuple[str, tuple[Json, ...]], ...]
    """Each transform's name, and what its draws were."""
    samples: tuple[tuple[tuple[str, Json], ...], ...]
    """Of each sample of all transforms together: name and draw of each one that did something."""


class _Scene(NamedTuple):
    """What is shown, and how."""

    plan: Plan
    name: str
    """Of the configuration."""
    place: Place
    original: ShownPatch
    frame: Frame

    @property
    def configuration(self) -> Configuration:
        """Return the configuration that is shown."""
        return self.plan.configurations[self.name]

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the channels' names."""
        return tuple(channel.name for channel in self.plan.dataset.channels)

    @property
    def is_cascade(self) -> bool:
        """Return whether there is a previous segmentation."""
        return self.configuration.previous_configuration is not None


def augment(request: AugmentRequest) -> Augmented:
    """Draw what each transform of a plan, and all of them together, make of patches of a case.

    Each transform is applied for certain, so that it can be seen; samples of all together have the plan's probabilities.
    A case that is not in the case store is prepared in memory.

    Raises:
        InputError: the output's name is no PNG or HTML file's, there is no such case, or it cannot be read.
        PlanError: there is no such configuration, the dataset is not the plan's, or another package's transform is not installed.
        StorageError: the output cannot be written.
    """
    require_file_name("--output", request.output, (".png", *HTML_ENDINGS))
    scene, patches = _set_up(request)
    transforms = scene.configuration.augmentation.transforms
    groups: list[Group] = []
    drawn: list[tuple[str, tuple[Json, ...]]] = []
    with progress("augment", len(transforms) + 1) as advance:
        for position, transform in enumerate(transforms):
            shown = patches.alone(transform, scene.place, stream=position)
            groups.append(_group(scene, position, shown))
            drawn.append((transform.name, tuple(_told(one)[0][1] for one in shown)))
            advance(transform.name)
        samples = list(patches.together(request.seed))
        _write(request.output, _gallery(scene, groups, samples))
        advance("all together")
    return Augmented(request.output, scene.place.case.case_id, scene.name, tuple(drawn), tuple(map(_told, samples)))


def _told(one: ShownPatch) -> tuple[tuple[str, Json], ...]:
    return tuple((name, draw_json(draw)) for name, draw in one.draws)


def _set_up(request: AugmentRequest) -> tuple[_Scene, ShownPatches]:
    """Choose case and place, and how they are shown."""
    name, configuration = choose_configuration(request.plan, request.configuration)
    opener = CaseOpener(request.plan, name, request.roots, request.dataset)
    case = opener.first() if request.case_id is None else opener.named(request.case_id)
    patches = ShownPatches(opener, case, configuration, targets_of(request.plan.dataset))
    place = patches.best_place(request.seed)
    sample = patches.read(place)
    limits = tuple(window(channel.numpy()) for channel in sample.image)
    is_canonical = request.plan.orientation == "RAS"
    frame = Frame(limits, configuration.patch_size, configuration.spacing_mm, is_canonical)
    return _Scene(request.plan, name, place, ShownPatch(slices_of(sample)), frame), patches


def _group(scene: _Scene, position: int, shown: Sequence[ShownPatch]) -> Group:
    """Return the pictures of a transform of the list, the original before them."""
    transforms = scene.configuration.augmentation.transforms
    transform = transforms[position]
    names = [other.name for other in transforms]
    # By its number in the plan where another has the same name.
    name = transform.name if names.count(transform.name) == 1 else f"{transform.name} ({position})"
    before = scene.original.slices
    rows = shown_rows(before, [one.slices for one in shown], scene.frame.limits)
    tiles = [_tile(scene, "original", scene.original, rows)]
    for number, one in enumerate(shown, start=1):
        (draw,) = (draw for _, draw in one.draws)
        lines = [draw_text(draw, scene.channels), *_source(one)]
        if is_same(one.slices, before):
            lines.append("no change in these slices")
        tiles.append(_tile(scene, f"draw {number}", one, rows, lines))
    settings = settings_text(transform, scene.channels)
    return Group(name, settings, _row_names(scene, rows), tuple(tiles) if shown else ())


def _together(scene: _Scene, samples: Sequence[ShownPatch]) -> Group:
    """Return the pictures of samples of all transforms."""
    rows = list(range(min(len(scene.channels), MOST_CHANNELS)))
    if scene.is_cascade:
        rows.append(PREVIOUS)
    tiles = []
    for number, one in enumerate(samples, start=1):
        lines = []
        for transform, draw in one.draws:
            text = draw_text(draw, scene.channels)
            lines.append(f"{transform}: {text}" if text else transform)
        lines += _source(one)
        tiles.append(_tile(scene, f"sample {number}", one, rows, lines or ["nothing was drawn"]))
    text = "patches of the case as a training reads and augments them, with the plan's probabilities"
    return Group("all together", text, _row_names(scene, rows), tuple(tiles))


def _source(one: ShownPatch) -> list[str]:
    return [] if one.donor is None else [f"copied from case {one.donor}"]


def _tile(scene: _Scene, name: str, one: ShownPatch, rows: Sequence[int], lines: Sequence[str] = ()) -> Tile:
    return Tile(name, tuple(filter(None, lines)), tile_pixels(one.slices, rows, scene.frame))


def _row_names(scene: _Scene, rows: Sequence[int]) -> tuple[str, ...]:
    return tuple("previous segmentation" if row == PREVIOUS else scene.channels[row] for row in rows)


def _gallery(scene: _Scene, groups: Sequence[Group], samples: Sequence[ShownPatch]) -> Gallery:
    legend = []
    for index, label in enumerate(targets_of(scene.plan.dataset).label_names[1:]):
        legend.append((label, class_color(index)))
    title = f"Augmentation of {scene.plan.name}, {scene.name}"
    return Gallery(title, _subtitle(scene), tuple(legend), tuple(groups), _together(scene, samples))


def _subtitle(scene: _Scene) -> str:
    """Return which patch is shown, and how."""
    size = " x ".join(map(str, scene.configuration.patch_size))
    parts = [f"case {scene.place.case.case_id}, a patch of {size} voxels"]
    # A patch of two axes lies across the plan's first one, one of three is cut across its first and its second.
    num_slices = len(scene.original.slices.images)
    if scene.frame.is_flipped:
        planes = " and ".join(PLANES[axis] for axis in scene.plan.transpose[:num_slices])
    else:
        planes = " and ".join(("first axis", "second axis")[:num_slices])
    parts.append(f"{planes}: middle slices" if num_slices > 1 else planes)
    parts.append("draws of each transform from weak to strong; black and white are those of the original throughout")
    if scene.is_cascade:
        parts.append("the reference stands for the previous segmentation, and is outlined in white on it")
    return "; ".join(parts)


def _write(path: Path, gallery: Gallery) -> None:
    if path.suffix.lower() == ".png":
        write_bytes(path, gallery_png(gallery))
    else:
        write_text(path, gallery_html(gallery))
