"""Models as a setting has them: how many folds, with which overlap, run by what; and what that takes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from tumorseg.engine.sliding_window import Forward, Tiling, num_patches, tiling_of
from tumorseg.ops.geometry import spacing_of
from tumorseg.ops.preprocessing import axis_order, full_spacing
from tumorseg.ops.resampling import resampled_shape
from tumorseg.schema.settings import Setting
from tumorseg.stages.inference.method import PredictOptions, averaged_axes
from tumorseg.stages.inference.runtime import Networks, RuntimeOptions, make_runtime
from tumorseg.stages.inference.segment_case import AS_PLANNED, segmenter_of, within_memory
from tumorseg.stages.inference.trained_model import Model
from tumorseg.storage.formats.stored import Geometry

LEAST_PASSES = 3
"""Of which the median counts."""
LEAST_SECONDS = 0.6
"""Spent on the tiles of a network at least: on a shared machine one pass may take twice as long as the next."""


def networks_of(members: Sequence[Model]) -> list[Model]:
    """Return the models whose networks see an image: each member, followed by its cascade's previous model."""
    found: list[Model] = []
    for member in members:
        found.append(member)
        if member.previous_model is not None:
            found += networks_of([member.previous_model])
    return found


def network_name(model: Model) -> str:
    """Return what tables call a model by: plan/configuration."""
    return f"{model.plan.name}/{model.configuration_name}"


def chosen_folds_of(model: Model, setting: Setting) -> Model:
    """Return a model with the folds and the overlap of a setting, a cascade's previous model too; what runs it is as before."""
    count = len(model.networks)
    kept = model.networks[: setting.num_folds]
    previous, shown = model.previous, model.weight_hashes[count:]
    if isinstance(previous, Model):
        previous = chosen_folds_of(previous, setting)
        shown = previous.weight_hashes
    inference = model.configuration.inference
    configuration = model.configuration
    if inference.overlap != setting.overlap:
        configuration = configuration.changed(inference=inference.changed(overlap=setting.overlap))
    return model._replace(
        configuration=configuration,
        networks=kept,
        weight_hashes=(*model.weight_hashes[: len(kept)], *shown),
        previous=previous,
    )


def with_setting(model: Model, setting: Setting, *, cache: Path | None = None) -> Model:
    """Return a model that predicts as a setting says, on the thread and in the turn that it had.

    Args:
        model: all folds.
        setting: what it is to be.
        cache: folder of converted networks.

    Raises:
        InputError: the engine cannot run a network.
    """
    chosen = chosen_folds_of(model, setting)
    if isinstance(chosen.previous, Model):
        chosen = chosen._replace(previous=with_setting(chosen.previous, setting, cache=cache))
    networks = Networks(chosen.networks, chosen.device, chosen.weight_hashes[: len(chosen.networks)])
    options = RuntimeOptions(engine=setting.engine, precision=setting.precision, cache=cache)
    runtime = make_runtime(chosen.plan, chosen.configuration, networks, options)
    return chosen._replace(runtime=runtime.beside(model.runtime))


def tile_seconds(model: Model) -> float:
    """Time one patch through one network of a model, as a prediction computes it: with all views that the plan averages.

    Args:
        model: its first fold is timed.

    Raises:
        InputError: a single tile does not fit the GPU's memory.
    """
    runtime = replace(model.runtime, passes=model.runtime.passes[:1])
    first = model._replace(networks=model.networks[:1], runtime=runtime)

    def timed() -> float:
        segmenter = segmenter_of(first, AS_PLANNED)
        tiling = segmenter.tiling
        num_planes = tiling.patch_size[0] if tiling.is_planar else 1
        num_seen = tiling.batch_size * _num_views(model, None) * num_planes
        return _median_seconds(segmenter.forward, _noise(model, tiling)) / num_seen

    with runtime.turn:
        return within_memory([first], timed, AS_PLANNED)


def _noise(model: Model, tiling: Tiling) -> Tensor:
    """Return a batch of tiles of noise, as constant ones would be computed once; a cascade is shown background."""
    shape = (tiling.batch_size, len(model.plan.dataset.channels), *tiling.patch_size)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if model.previous is None:
        return noise
    return torch.cat((noise, torch.zeros_like(noise[:, :1])), dim=1)


def _median_seconds(forward: Forward, tiles: Tensor) -> float:
    forward(tiles)  # the first one finds memory and chooses algorithms
    took: list[float] = []
    while len(took) < LEAST_PASSES or sum(took) < LEAST_SECONDS:
        began = perf_counter()
        # On a GPU passes go on when the call returns; a value of the result has to be waited for.
        float(forward(tiles)[(0,) * 5])
        took.append(perf_counter() - began)
    return median(took)


def network_shape(model: Model, geometry: Geometry) -> tuple[int, ...]:
    """Return the voxels (Z, Y, X) of an input on a model's grid, if nothing of it is cropped away: no more than there will be."""
    orientation = axis_order(model.plan).orientation(geometry.affine)
    shape = tuple(geometry.shape[axis] for axis in orientation.axes)
    spacing_mm = spacing_of(geometry.affine, orientation)
    return resampled_shape(shape, spacing_mm, full_spacing(model.configuration.spacing_mm, spacing_mm))


def num_passes(model: Model, shape: Sequence[int], *, mirroring: bool | None) -> int:
    """Return how often the networks of a model see a patch of an image: patches times views times folds.

    Args:
        model: as it predicts.
        shape: voxels (Z, Y, X) of the image on its grid.
        mirroring: whether mirrored views are averaged; as its plan says if None.
    """
    return num_patches(shape, tiling_of(model.configuration)) * _num_views(model, mirroring) * len(model.networks)


def _num_views(model: Model, mirroring: bool | None) -> int:
    return 1 << len(averaged_axes(model.configuration, mirroring))


def options_of(setting: Setting, options: PredictOptions) -> PredictOptions:
    """Return the options of a prediction with the precision of a setting and its views: as each plan says, or none that are mirrored."""
    return options._replace(mirroring=None if setting.mirroring else False, precision=setting.precision)
