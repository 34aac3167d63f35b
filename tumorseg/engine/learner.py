"""What is trained: network, loss, optimizer, learning rate and precision, with all their state."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from tumorseg.engine.accumulation import Outputs, backward_in_parts
from tumorseg.engine.placement import place
from tumorseg.engine.schedules import Schedule, build_optimizer, build_schedule
from tumorseg.errors import TrainingError
from tumorseg.losses.compound import LossValue
from tumorseg.losses.registry import build_loss
from tumorseg.networks.registry import build_network
from tumorseg.schema.plan import Configuration, Training
from tumorseg.schema.targets import Targets

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class StepResult(NamedTuple):
    """Losses of one step, detached and still on the device."""

    total: Tensor
    components: dict[str, Tensor]
    has_stepped: bool
    """False where loss or gradient was not finite, so that the weights were left alone (and a gradient scaler's scale was
    lowered)."""


class Learner:
    """A network in training on one device."""

    def __init__(
        self,
        configuration: Configuration,
        training: Training,
        *,
        num_channels: int,
        targets: Targets,
        device: str,
    ) -> None:
        """Build everything from the plan; initial weights follow from the seed."""
        self.device = torch.device(device)
        self.targets = targets
        self._num_parts = configuration.gradient_accumulation
        self._clip = training.gradient_clip_norm
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            network = build_network(
                configuration.network,
                num_channels=num_channels,
                num_outputs=targets.num_outputs,
                activation_checkpointing=configuration.activation_checkpointing,
            )
        self.network = place(network, self.device)
        self.loss = build_loss(configuration.loss, targets, configuration.spacing_mm).to(self.device)
        self.optimizer = build_optimizer(configuration.optimizer, self.network.parameters())
        if weights := list(self.loss.weighting.parameters()):
            self.optimizer.add_param_group({"params": weights, "lr": self.loss.weighting.lr, "weight_decay": 0.0})
        self._num_iterations = training.epochs * training.iterations_per_epoch
        self.schedule: Schedule = build_schedule(
            configuration.schedule,
            configuration.optimizer.lr,
            epochs=training.epochs,
            iterations_per_epoch=training.iterations_per_epoch,
        )
        self._dtype = PRECISIONS[training.precision] if self.device.type == "cuda" else torch.float32
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self._dtype is torch.float16)

    def autocast(self) -> torch.autocast:
        """Return the context in which forward passes run."""
        enabled = self._dtype is not torch.float32
        return torch.autocast(self.device.type, dtype=self._dtype if enabled else torch.bfloat16, enabled=enabled)

    def step(
        self, images: Tensor, segmentations: Tensor, iteration: int, distances: Tensor | None = None
    ) -> StepResult:
        """Take one step of the optimizer.

        Args:
            images: (B, C, *patch).
            segmentations: (B, *patch) class indices.
            iteration: of the training, which decides the learning rate.
            distances: (B, K, *patch) signed distances, mm, if they were measured already.
        """
        self.optimizer.param_groups[0]["lr"] = self.schedule.lr(iteration)
        self.loss.progress = iteration / self._num_iterations
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        value = self._backward(images, segmentations, distances)
        self._scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self._clip)
        is_finite, has_stepped = torch.stack((value.total.isfinite(), (value.total + norm).isfinite())).tolist()
        if has_stepped:
            self._scaler.step(self.optimizer)
        self._scaler.update()
        if is_finite:
            self.loss.weighting.observe(value.components)
        return StepResult(value.total, value.components, has_stepped)

    def _backward(self, images: Tensor, segmentations: Tensor, distances: Tensor | None) -> LossValue:
        """Add the gradient of a batch to the parameters; return its loss, detached."""

        def backward(outputs: Outputs) -> LossValue:
            value = self.loss(outputs, segmentations, distances)
            self._scaler.scale(value.total).backward()
            return LossValue(value.total.detach(), value.components)

        num_parts = min(self._num_parts, len(images))
        if num_parts == 1:
            return backward(self._forward(images))
        parts = images.tensor_split(num_parts)
        return backward_in_parts(self.network, parts, forward=self._forward, backward=backward)

    def _forward(self, images: Tensor) -> Outputs:
        with self.autocast():
            outputs: Outputs = self.network(images)
            return outputs

    def state(self) -> dict[str, Any]:
        """Return everything that changes while training: tensors and plain values only."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "schedule": self.schedule.state(),
            "loss": {"progress": self.loss.progress, "weighting": self.loss.weighting.state_dict()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state.

        Raises:
            TrainingError: it belongs to another network, or to a version whose losses had no state.
        """
        if "loss" not in state:
            raise TrainingError("the checkpoint is of an earlier version of tumorseg; train with --restart")
        try:
            self.network.load_state_dict(state["network"])
        except RuntimeError as error:
            raise TrainingError(
                f"the checkpoint does not fit the plan's network: {str(error).splitlines()[-1]}"
            ) from None
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty after steps without a scaler, on the CPU or in another precision
            self._scaler.load_state_dict(state["scaler"])
        self.schedule.restore(state["schedule"])
        self.loss.progress = state["loss"]["progress"]
        self.loss.weighting.load_state_dict(state["loss"]["weighting"])
