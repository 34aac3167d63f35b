"""A small network for each row of the contract suite, with a patch that it takes: a new network joins with one row a kind of grid."""

from typing import NamedTuple

import pytest
import torch

from tests.networks.monai.specs import IN_CI, Row
from tests.networks.monai.specs import ROWS as MONAI_ROWS
from tests.networks.part_rows import changes_of
from tumorseg.networks.lazy import LazyBuilder
from tumorseg.networks.registry import BUILDERS, build_network
from tumorseg.planning.families.base import Grid
from tumorseg.schema.networks import MedNext, PlainUNet, ResidualUNet

NUM_CHANNELS, NUM_OUTPUTS = 2, 3
OWN = tuple(name for name, builder in BUILDERS.items() if not isinstance(builder, LazyBuilder))
"""Networks of this package; MONAI builds the others."""

SHAPES = {
    "2d": ((16, 24), ((1, 1), (2, 2), (2, 2)), ((3, 3), (3, 3), (3, 3))),
    "3d": ((8, 8, 16), ((1, 1, 1), (2, 2, 2), (2, 2, 2)), ((3, 3, 3),) * 3),
    "3d anisotropic": ((6, 16, 8), ((1, 1, 1), (1, 2, 2), (2, 2, 1)), ((1, 3, 3), (1, 3, 3), (3, 3, 3))),
    "3d with stride 3": ((6, 12, 6), ((1, 1, 1), (3, 3, 3), (1, 2, 1)), ((3, 3, 3),) * 3),
    "2d anisotropic": ((6, 16), ((1, 1), (1, 2), (2, 2)), ((1, 3), (3, 3), (3, 3))),
}
"""Space, strides and kernels of each shape of network."""
KINDS = {
    "": Grid((1.0, 1.0, 1.0), (96.0, 96.0, 96.0), 1e7, 3),
    " anisotropic": Grid((5.0, 0.8, 0.8), (24.0, 250.0, 180.0), 1e8, 2),
    " 2d": Grid((0.7, 0.7), (301.0, 203.0), 1e7, 3),
    " 2d anisotropic": Grid((3.0, 0.7), (70.0, 203.0), 1e7, 3),
}
"""Grids by what the name of a network's row on them ends with."""


def topology(shape, deep_supervision):
    """Return what all networks of stages have in common."""
    _, strides, kernels = SHAPES[shape]
    return {
        "features_per_stage": (4, 6, 6),
        "strides": strides,
        "kernel_sizes": kernels,
        "deep_supervision": deep_supervision,
    }


def spec_of(name, shape, deep_supervision):
    """Return the record of a network of this package."""
    fields = topology(shape, deep_supervision)
    decoder = {"decoder_convs_per_stage": (1, 2)}
    specs = {
        "plain_unet": lambda: PlainUNet(convs_per_stage=(2, 1, 2), **decoder, **fields),
        "residual_unet": lambda: ResidualUNet(blocks_per_stage=(1, 2, 2), **decoder, **fields),
        "mednext": lambda: MedNext(blocks_per_stage=(1, 2, 1, 1, 2), expansion_per_stage=(2, 3, 2, 4, 2), **fields),
    }
    return specs[name]()


def with_parts(name, shape, part, *, deep_supervision=True):
    """Return a small network's record with a part, or with all of them that it may have."""
    return spec_of(name, shape, deep_supervision).changed(**changes_of(name, part))


def _own(name, shape, *, deep_supervision=True):
    return Row(spec_of(name, shape, deep_supervision), SHAPES[shape][0])


OWN_ROWS = {
    **{name: _own(name, "3d") for name in OWN},
    **{f"{name} anisotropic": _own(name, "3d anisotropic") for name in OWN},
    **{f"{name} 2d": _own(name, "2d") for name in OWN},
    **{f"{name} 2d anisotropic": _own(name, "2d anisotropic") for name in OWN},
    **{f"{name} with stride 3": _own(name, "3d with stride 3") for name in OWN},
    **{f"{name} shallow": _own(name, "3d", deep_supervision=False) for name in OWN},
}
PART_ROWS = {
    f"{name} with {part}": Row(
        with_parts(name, "3d", part), SHAPES["3d"][0], differs="it drops channels or counts batches"
    )
    for name, part in (
        ("plain_unet", "group, gates"),
        ("plain_unet", "all, layer"),
        ("residual_unet", "all, batch"),
        ("mednext", "all, layer"),
    )
}
ROWS = OWN_ROWS | PART_ROWS | MONAI_ROWS
SIZES = {(channels, outputs): f"{channels} channels {outputs} classes" for channels in (1, 4) for outputs in (2, 14)}
CI_SIZE = (4, 14)
ODD = (" 2d anisotropic", " with stride 3", " shallow")
"""Rows of this package's networks that are hardly like a plan's."""


class Subject(NamedTuple):
    """A row's network for some channels and classes."""

    row: Row
    num_channels: int = NUM_CHANNELS
    num_outputs: int = NUM_OUTPUTS

    @property
    def spec(self):
        """Return the network's record."""
        return self.row.spec

    @property
    def patch(self):
        """Return the patch that it takes."""
        return self.row.patch

    def build(self, seed=0):
        """Return the network with weights of a seed."""
        torch.manual_seed(seed)
        return build_network(self.spec, num_channels=self.num_channels, num_outputs=self.num_outputs)

    def images(self, batch=2, space=None):
        """Return images of noise."""
        shape = (batch, self.num_channels, *(space or self.patch))
        return torch.randn(shape, generator=torch.Generator().manual_seed(1))

    def exact(self):
        """Return network and images in double precision: a dozen norms of a few voxels each make the last digits large."""
        return self.build().double(), self.images().double()


def _marks(name, size):
    """Run what this package builds by default, a row of each other network with the slow ones, and the rest for evidence."""
    if size != CI_SIZE or (name in MONAI_ROWS and name not in IN_CI):
        return (pytest.mark.slow, pytest.mark.long)
    # MONAI's import takes longer than its networks.
    return (pytest.mark.slow,) if name in MONAI_ROWS or name.endswith(ODD) or name in PART_ROWS else ()


SUBJECTS = [
    pytest.param(Subject(row, *size), id=f"{name}, {SIZES[size]}", marks=_marks(name, size))
    for name, row in ROWS.items()
    for size in SIZES
]
FAMILY_ROWS = {name: ROWS[name] for name in OWN} | {row.spec.name: row for row in map(ROWS.__getitem__, IN_CI)}
"""One row a family."""
