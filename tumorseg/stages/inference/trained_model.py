"""A trained model in memory: the networks of its folds and their plan."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tumorseg.engine.weights import place, weights_problem
from tumorseg.errors import StorageError
from tumorseg.networks.registry import build_network, outline_network
from tumorseg.schema.extensions import External
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.stages.inference.previous_sources import KnownPrevious
from tumorseg.stages.inference.runtime import AS_PLANNED, Networks, Runtime, RuntimeOptions, make_runtime
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
    runtime: Runtime
    """What they compute with."""
    previous: "Model | KnownPrevious | None" = None
    """Where a cascade gets the previous segmentation; None for a model that is none."""

    @property
    def previous_model(self) -> "Model | None":
        """Return the model that segments an image for this one; None unless this is a cascade without files."""
        return self.previous if isinstance(self.previous, Model) else None

    @property
    def configuration_name(self) -> str | None:
        """Return what its plan calls the configuration; None for one that is not of it.

        How images are segmented may have been changed since.
        """
        for name, planned in self.plan.configurations.items():
            # Not `changed`, which would check that the inference of one suits another.
            if planned.model_copy(update={"inference": self.configuration.inference}) == self.configuration:
                return name
        return None

    def stop(self) -> None:
        """Let cases that are being segmented fail soon, for good; also those that a cascade's previous model looks at."""
        self.runtime.stopped.set()

    def previous_file(self, case_id: str) -> Path | None:
        """Return the file of a case's previous segmentation; None unless this is a cascade with files."""
        return self.previous.files[case_id] if isinstance(self.previous, KnownPrevious) else None


class WeightFiles(NamedTuple):
    """Checkpoints of a model's folds."""

    paths: Sequence[Path]
    """A file for each fold."""
    read: Callable[[Path, nn.Module], Mapping[str, Tensor]]
    """Returns the state dict that a checkpoint holds for a network."""


def load_networks(
    plan: Plan,
    configuration: Configuration,
    weights: WeightFiles,
    device: str,
    *,
    runtime: RuntimeOptions = AS_PLANNED,
) -> Model:
    """Build a network for each checkpoint and load its weights; what a cascade is shown is not looked for.

    Args:
        plan: the model's.
        configuration: the one that predicts.
        weights: where its folds' are.
        device: where to compute.
        runtime: engine and precision.

    Raises:
        StorageError: a checkpoint is missing or damaged, or holds the weights of another network.
        InputError: a checkpoint was replaced while it was loaded, or the engine cannot run the network.
        PlanError: the network cannot be built, or is too large to be.
    """
    states = hash_files(map(str, weights.paths))
    # Files are held against names and shapes alone: a plan that claims a network of terabytes takes no memory for it.
    is_own = not isinstance(configuration.network, External)
    outline = _build(outline_network if is_own else build_network, plan, configuration)
    networks = []
    for path in weights.paths:
        found = weights.read(path, outline)
        if (problem := weights_problem(found, outline.state_dict())) is not None:
            raise StorageError(
                f"its weights are not those of the plan's network: {problem}; copy the whole model folder anew, or train again",
                file=path,
            )
        network = _build(build_network, plan, configuration)
        network.load_state_dict(found)
        networks.append(place(network, torch.device(device)).eval())
    check_unchanged(states)  # a training that goes on replaces its checkpoints
    hashes = tuple(state.digest for state in states.values())
    placed = Networks(networks, torch.device(device), hashes)
    made = make_runtime(plan, configuration, placed, runtime)
    return Model(plan, configuration, tuple(networks), torch.device(device), hashes, made)


def _build(build: Callable[..., nn.Module], plan: Plan, configuration: Configuration) -> nn.Module:
    targets = targets_of(plan.dataset)
    return build(
        configuration.network,
        num_channels=num_inputs(configuration, targets),
        num_outputs=targets.num_outputs,
    )
