"""Which parameters of a network share a learning rate and a weight decay, and which are frozen for now."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from torch import nn

from tumorseg.errors import PlanError
from tumorseg.networks.parts import depths, names_in
from tumorseg.schema.optimizers import OptimizerSpec
from tumorseg.schema.training import FineTuning


class ParameterGroup(NamedTuple):
    """Parameters that an optimizer moves in the same way."""

    parameters: list[nn.Parameter]
    lr_scale: float
    """The schedule's learning rate is multiplied by this."""
    weight_decay: float


def parameter_groups(network: nn.Module, spec: OptimizerSpec, fine_tuning: FineTuning | None) -> list[ParameterGroup]:
    """Return a network's parameters in groups; in a single one, in the network's order, unless the plan says otherwise.

    Args:
        network: whose parameters are trained; those that are frozen for a while are among them.
        spec: the weight decay, and whether norms and biases are spared it.
        fine_tuning: how the lr falls with the depth; the same everywhere if None.

    Raises:
        PlanError: the lr is to fall with the depth in a network whose depths are not known.

    References:
        Clark et al., ELECTRA, ICLR 2020 (layer-wise decay of the lr).
    """
    layer_decay = 1.0 if fine_tuning is None else fine_tuning.layer_decay
    depth_of = {} if layer_decay == 1 else depths(network)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        # What has one axis is a bias, or the scale of a norm.
        is_spared = not spec.decay_norms_and_biases and parameter.ndim <= 1
        groups.setdefault((depth_of.get(name, 0), is_spared), []).append(parameter)
    found = []
    for (depth, is_spared), parameters in groups.items():
        weight_decay = 0.0 if is_spared else spec.weight_decay
        found.append(ParameterGroup(parameters, layer_decay**depth, weight_decay))
    return found


class Freezing:
    """The parts of a network that a training leaves alone at first; what is frozen follows from the iteration alone."""

    def __init__(self, network: nn.Module, fine_tuning: FineTuning | None, num_iterations: int) -> None:
        """Find the parts.

        Args:
            network: in training.
            fine_tuning: which parts, and for how long; nothing is frozen if None.
            num_iterations: the planned length, of which the plan says a share.

        Raises:
            PlanError: the network has no such part, or nothing would be left to train.
        """
        frozen = set() if fine_tuning is None else names_in(network, fine_tuning.freeze)
        self._parameters = [parameter for name, parameter in network.named_parameters() if name in frozen]
        self._norms = list(_running_norms(network, frozen))
        if self._parameters and len(self._parameters) == len(list(network.parameters())):
            raise PlanError(
                "training.fine_tuning.freeze names the whole network; leave a part to be trained, such as heads"
            )
        fraction = 1.0 if fine_tuning is None else fine_tuning.freeze_fraction
        # All of it is also what a training does beyond its planned end.
        self._until = None if fraction == 1 else round(fraction * num_iterations)

    @property
    def ends_at(self) -> int:
        """Return the first step in which nothing is frozen for a while only."""
        return self._until if self._parameters and self._until is not None else 0

    def apply(self, iteration: int) -> None:
        """Let a step move those parameters and running statistics only that it may move; the network is in training mode."""
        is_trained = self._until is not None and iteration >= self._until
        for parameter in self._parameters:
            parameter.requires_grad_(is_trained)
        for norm in self._norms:
            norm.train(is_trained)


def _running_norms(network: nn.Module, frozen: Collection[str]) -> Iterator[nn.Module]:
    """Yield the norms of frozen parts that go by running statistics, which every pass in training mode would move."""
    still = {id(parameter) for name, parameter in network.named_parameters() if name in frozen}
    for name, module in network.named_modules():
        if getattr(module, "running_mean", None) is None:
            continue
        # One without weights of its own belongs to the layers beside it.
        owner = module if list(module.parameters()) else network.get_submodule(name.rpartition(".")[0])
        own = [id(parameter) for parameter in owner.parameters()]
        if own and still.issuperset(own):
            yield module
