"""A trained model in memory: the networks of its folds and their plan."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tumorseg.engine.weights import place
from tumorseg.networks.registry import build_network
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.stages.inference.previous_sources import KnownPrevious
from tumorseg.storage.hashing import check_unchanged, hash_files


class Model(NamedTuple):
    """The folds of one model, ready to predict."""

    plan: Plan
    configuration: Configuration
    networks: tuple[nn.Module, ...]
    """On the device, in eval mode."""
    device: torch.device
    weight_hashes: tuple[str, ...]
    """Of the checkpoints that were loaded, and of those that made what a cascade is shown."""
    previous: "Model | KnownPrevious | None" = None
    """Where a cascade gets the previous segmentation; None for a model that is none."""

    @property
    def previous_model(self) -> "Model | None":
        """Return the model that segments an image for this one; None unless this is a cascade without files."""
        return self.previous if isinstance(self.previous, Model) else None

    def previous_file(self, case_id: str) -> Path | None:
        """Return the file of a case's previous segmentation; None unless this is a cascade with files."""
        return self.previous.files[case_id] if isinstance(self.previous, KnownPrevious) else None


def load_networks(
    plan: Plan,
    configuration: Configuration,
    checkpoints: Sequence[Path],
    device: str,
    read: Callable[[Path, nn.Module], Mapping[str, Tensor]],
) -> Model:
    """Build a network for each checkpoint and load its weights; what a cascade is shown is not looked for.

    Args:
        plan: the model's.
        configuration: the one that predicts.
        checkpoints: a file for each fold.
        device: where to compute.
        read: returns the state dict that a checkpoint holds for a network.

    Raises:
        InputError: a checkpoint was replaced while it was loaded.
    """
    states = hash_files(map(str, checkpoints))
    networks = []
    for path in checkpoints:
        network = _build(plan, configuration)
        network.load_state_dict(read(path, network))
        networks.append(place(network, torch.device(device)).eval())
    check_unchanged(states)  # a training that goes on replaces its checkpoints
    hashes = tuple(state.digest for state in states.values())
    return Model(plan, configuration, tuple(networks), torch.device(device), hashes)


def _build(plan: Plan, configuration: Configuration) -> nn.Module:
    targets = targets_of(plan.dataset)
    return build_network(
        configuration.network,
        num_channels=num_inputs(configuration, targets),
        num_outputs=targets.num_outputs,
    )
