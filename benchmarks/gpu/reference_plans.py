"""The reference plans under plans/, and what of them is small enough for a try on a processor."""

from typing import NamedTuple

import torch

from benchmarks.gpu.parts import ROOT
from benchmarks.gpu.sizes import MissingError, Row, Size
from tumorseg.engine.learner import Inputs, Learner
from tumorseg.errors import InputError
from tumorseg.planning.memory.rehearsal import Setting, setting_of
from tumorseg.planning.memory.totals import plan_setting
from tumorseg.schema.networks import UNetTopology
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.training import Training
from tumorseg.stages.inference.engines import chosen_engine
from tumorseg.storage.json_files import read_record

TINY_FEATURES = 2
"""Of each stage of a network that is but tried."""


class Planned(NamedTuple):
    """A configuration of a reference plan."""

    plan: Plan
    name: str
    """Of the configuration."""
    configuration: Configuration

    @property
    def setting(self) -> Setting:
        """Return channels, targets and precision of its training."""
        return setting_of(plan_setting(self.plan), self.configuration)

    def row(self) -> Row:
        """Return what a table says of it."""
        patch = "x".join(map(str, self.configuration.patch_size))
        return {"plan": self.plan.name, "patch": patch, "batch": self.configuration.batch_size}


def planned(plan: str, name: str, size: Size) -> Planned:
    """Return a configuration of a reference plan, made small if this is but a try.

    Raises:
        InputError: the plan is not there, or is of another version.
    """
    found = read_record(Plan, ROOT / "plans" / f"{plan}.json", error=InputError)
    configuration = found.configurations[name]
    return Planned(found, name, shrunk(configuration) if size.is_tiny else configuration)


def shrunk(configuration: Configuration) -> Configuration:
    """Return a configuration with the narrowest network, and the smallest patch that it normalises."""
    network = configuration.network
    assert isinstance(network, UNetTopology)  # reference plans name no other package's
    narrow = network.changed(features_per_stage=(TINY_FEATURES,) * len(network.features_per_stage))
    *others, last = network.divisors
    # At the bottom there must be more than one voxel, or there is no variance to divide by.
    return configuration.changed(network=narrow, patch_size=(*others, 2 * last), batch_size=1)


def learner_of(found: Planned, training: Training, device: str) -> Learner:
    """Return a learner of a configuration."""
    setting = found.setting
    channels, targets = setting.num_channels, setting.targets
    return Learner(found.configuration, training, num_channels=channels, targets=targets, device=device)


def noise_of(found: Planned, device: str) -> Inputs:
    """Return a batch of noise and of labels drawn voxel by voxel, on a device."""
    configuration, setting = found.configuration, found.setting
    generator = torch.Generator().manual_seed(0)
    shape = (configuration.batch_size, *configuration.patch_size)
    images = torch.randn(shape[0], setting.num_channels, *shape[1:], generator=generator)
    segmentations = torch.randint(setting.targets.num_classes, shape, generator=generator)
    return Inputs(images.to(device), segmentations.to(device), has_ignored=False)


def require_compiler(device: str) -> None:
    """See that torch.compile works on a device.

    Raises:
        MissingError: it has no compiler.
    """
    try:
        chosen_engine("compile", torch.device(device))
    except InputError as error:
        raise MissingError(error.reason) from error
