"""Transforms that imitate artefacts, beside MONAI's of the same kind."""

from collections.abc import Callable
from typing import Any, NamedTuple

from monai import transforms as monai

from tumorseg.schema.augmentation import KnownTransform
from tumorseg.schema.transforms.ct import HuShift
from tumorseg.schema.transforms.histograms import HistogramEqualization
from tumorseg.schema.transforms.mr import BiasField, Gibbs, RicianNoise, Spikes
from tumorseg.schema.transforms.resolution import ThickSlices


class Artefact(NamedTuple):
    """A transform of ours, applied for certain, and MONAI's."""

    record: KnownTransform
    monai: Callable[[], Any]


ARTEFACTS: dict[str, Artefact] = {
    "bias_field": Artefact(BiasField(probability=1), lambda: monai.RandBiasField(prob=1)),
    "rician_noise": Artefact(RicianNoise(probability=1), lambda: monai.RandRicianNoise(prob=1, std=0.2)),
    # Ours along all axes, as MONAI's ball in k-space cuts them.
    "gibbs": Artefact(Gibbs(probability=1, axis_probability=1), lambda: monai.RandGibbsNoise(prob=1, alpha=(0.3, 0.6))),
    # With a range given, MONAI need not look for one first.
    "spikes": Artefact(Spikes(probability=1), lambda: monai.RandKSpaceSpikeNoise(prob=1, intensity_range=(10.0, 11.0))),
    "thick_slices": Artefact(
        ThickSlices(probability=1), lambda: monai.RandSimulateLowResolution(prob=1, zoom_range=(0.25, 0.5))
    ),
    "histogram_equalization": Artefact(
        HistogramEqualization(probability=1), lambda: monai.Compose([monai.HistogramNormalize(num_bins=1024)])
    ),
    "hu_shift": Artefact(
        HuShift(probability=1),
        # Neither clips, nor leaves alone what was clipped.
        lambda: monai.Compose(
            [monai.RandScaleIntensity(prob=1, factors=0.05), monai.RandShiftIntensity(prob=1, offsets=0.1)]
        ),
    ),
}
"""By our names."""
