"""One step after another: network, loss and optimisation on a device."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tumorseg.engine.accumulation import Outputs, backward_in_parts, carry_back, listed
from tumorseg.engine.batches import TRAINING, Item
from tumorseg.engine.collapse import LabelTally
from tumorseg.engine.distillation import Lesson, Teaching
from tumorseg.engine.dividing import IN_STEP, Division, Meeting, memory_explained
from tumorseg.engine.ema import MovingAverage
from tumorseg.engine.execution import compiled, execution_on, mixed_precision
from tumorseg.engine.faults import can_be_taken
from tumorseg.engine.moments import Buffers, draws_random_numbers, seeded
from tumorseg.engine.optimisation import Optimisation, groups_of
from tumorseg.engine.ranks import ALONE, Ranks
from tumorseg.engine.weights import initial_network, load_weights, place
from tumorseg.losses.compound import LossValue
from tumorseg.losses.registry import build_loss
from tumorseg.schema.plan import Configuration
from tumorseg.schema.targets import Targets
from tumorseg.schema.training import Training


class Inputs(NamedTuple):
    """A batch as network and loss take it, on the device."""

    images: Tensor
    """(B, C, *patch)."""
    segmentations: Tensor
    """(B, *patch) class indices."""
    distances: Tensor | None = None
    """(B, K, *patch) signed distances, mm, if they were measured while reading."""
    has_ignored: bool | None = None
    """Whether any voxel may be `IGNORE`, where the class indices are known to be sound; None if they have to be looked at."""
    taught: Tensor | None = None
    """(B, S, *patch) mean probabilities by teachers that have seen the cases before, if there are any: of each region, or of each label but
    the background."""
    trust: Tensor | None = None
    """(B,) how far teachers are believed; None: wholly."""


class StepResult(NamedTuple):
    """Losses of one step."""

    total: float
    components: dict[str, float]
    has_stepped: bool
    """False where loss or gradient was not finite, so that the weights were left alone (and a gradient scaler's scale was
    lowered)."""


class Passed(NamedTuple):
    """What the passes of a batch through the network leave, beside gradients."""

    value: LossValue
    """Detached."""
    counts: Tensor | None
    """What a tally counts; None if nobody wants to know."""


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
        ranks: Ranks = ALONE,
    ) -> None:
        """Build everything from the plan; initial weights follow from the seed.

        Args:
            configuration: network, loss and optimizer.
            training: length and precision.
            num_channels: of the images.
            targets: what is predicted.
            device: where.
            ranks: the processes that train together; batches are divided among them.
        """
        self.ranks = ranks
        self.seed = training.seed
        self.batch_size = configuration.batch_size
        self.device = torch.device(device)
        self.targets = targets
        self.division = Division(
            configuration.gradient_accumulation, configuration.batch_size, ranks, torch.device(device)
        )
        """In how many parts a batch goes through the network."""
        self.tally: LabelTally | None = None
        """Told of what steps find in their batches, if anybody wants to know."""
        self.teaching: Teaching | None = None
        """Teachers beside the reference, if there are any; `teach` takes them."""
        self.execution = execution_on(self.device, training)
        """How the network runs in a step."""
        network = initial_network(
            configuration,
            num_channels=num_channels,
            num_outputs=targets.num_outputs,
            seed=training.seed,
            device=self.device,
        )
        self.network = place(network, self.device, channels_last=self.execution.channels_last)
        self.average = None if training.ema is None else MovingAverage(self.network, training.ema)
        self._pass = compiled(self.network) if self.execution.compiles else self.network
        self.loss = build_loss(configuration.loss, targets, configuration.spacing_mm).to(self.device)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.execution.dtype is torch.float16)
        self.optimisation = Optimisation(configuration, training, self.network, groups_of(self.loss.weighting), scaler)

    @property
    def predictor(self) -> nn.Module:
        """Return the network that validates and predicts: the moving average if there is one, else the trained one itself."""
        return self.network if self.average is None else self.average.network

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        """Take up weights before the first step, instead of those that follow from the seed."""
        load_weights(self.network, weights)
        if self.average is not None:
            self.average.begin_again()

    def teach(self, teaching: Teaching) -> None:
        """Take teachers, before the first step."""
        self.teaching = teaching
        if teaching.hints is not None:
            # What is compiled would not tell its features.
            self._pass = self.network
            self.optimisation.add_group(list(teaching.hints.way.parameters()))

    def autocast(self) -> torch.autocast:
        """Return the context in which forward passes run."""
        return mixed_precision(self.device, self.execution.dtype)

    @memory_explained(IN_STEP)
    def step(self, inputs: Inputs, iteration: int) -> StepResult:
        """Take one step of the optimizer, unless loss or gradient is not finite.

        Args:
            inputs: the batch.
            iteration: of the training, which decides the learning rate.

        Raises:
            TrainingError: not even one patch fits the memory.
        """
        self.loss.progress = self.optimisation.length.progress(iteration)
        self.network.train()
        buffers = Buffers(self.network)
        value = _passed(self, self.joined(inputs), iteration)
        self.ranks.add_up([one.grad for one in self.network.parameters() if one.grad is not None])
        norms = self.optimisation.gradient_norms()
        # The one place where a step waits for the device: everything that is decided or logged comes in one transfer.
        total, *read = torch.stack([value.total, *norms, *value.components.values()]).tolist()
        has_stepped = not self.ranks.any(not can_be_taken(total, read[: len(norms)]))
        if not has_stepped and self.ranks.any(not math.isfinite(total)):
            # In all processes, which decide by it what becomes of the training.
            total = math.nan if math.isfinite(total) else total
        self.optimisation.end_step(is_taken=has_stepped)
        if not has_stepped:
            # Running means that took in what is not finite would never be finite again.
            buffers.restore()
        if has_stepped and self.average is not None:
            self.average.update()
        # A finite loss counts even if its gradient overflowed; any other would spoil the running means for good.
        if math.isfinite(total):
            self.loss.weighting.observe(value.components)
        return StepResult(total, dict(zip(value.components, read[len(norms) :], strict=True)), has_stepped)

    def joined(self, inputs: Inputs) -> Inputs:
        """Return a batch with the reference of all processes' shares; images stay where they are."""
        if self.ranks.size == 1:
            return inputs
        # Half of what would have to be sent; gloo knows no 16 bits.
        classes = self.whole(inputs.segmentations.to(torch.int32)).to(inputs.segmentations.dtype)
        distances = None if inputs.distances is None else self.whole(inputs.distances)
        return inputs._replace(segmentations=classes, distances=distances)

    def whole(self, tensor: Tensor) -> Tensor:
        """Return a tensor of all processes' shares of a batch."""
        return self.ranks.whole(tensor, self.batch_size)

    def whole_batch(self, inputs: Inputs) -> Inputs:
        """Return a batch with all processes' shares of it."""
        return self.joined(inputs)._replace(images=self.whole(inputs.images))

    def loss_of(self, outputs: Outputs, inputs: Inputs) -> LossValue:
        """Return the loss of a network's outputs on a whole batch."""
        value: LossValue = self.loss(outputs, inputs.segmentations, inputs.distances, has_ignored=inputs.has_ignored)
        return value

    def forward(self, images: Tensor) -> Outputs:
        """Return the logits of images (B, C, *patch) as a step computes them, and the features that hints are about."""
        with self.autocast():
            outputs = self._pass(self.execution.ordered(images))
        return outputs if self.teaching is None else self.teaching.with_features(outputs)

    def state(self) -> dict[str, Any]:
        """Return everything that changes while training: tensors and plain values only."""
        loss = {"progress": self.loss.progress, "weighting": self.loss.weighting.state_dict()}
        # What validates and predicts is the network of a checkpoint, also for those who know nothing of averages.
        average = {} if self.average is None else {"average": self.average.state()}
        hints = None if self.teaching is None else self.teaching.hints
        way = {} if hints is None else {"hints": hints.way.state_dict()}
        return {"network": self.predictor.state_dict(), **average, **way, **self.optimisation.state(), "loss": loss}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state, in which `saved` has found no problem.

        Raises:
            TrainingError: it belongs to another network.
        """
        load_weights(self.predictor, state["network"])
        if self.average is not None:
            load_weights(self.network, state["average"]["trained"])
            self.average.restore(state["average"])
        if self.teaching is not None and self.teaching.hints is not None:
            load_weights(self.teaching.hints.way, state["hints"])
        self.optimisation.restore(state)
        self.loss.progress = state["loss"]["progress"]
        self.loss.weighting.load_state_dict(state["loss"]["weighting"])


def _passed(learner: Learner, inputs: Inputs, iteration: int) -> LossValue:
    """Do the passes of a step in as few parts as fit the memory; return its loss, detached."""

    def attempt(meeting: Meeting) -> Passed:
        # Or the graph of a try that memory was too little for would lie beside the next one's.
        if learner.teaching is not None:
            learner.teaching.forget()
        learner.optimisation.begin_step(iteration)
        return _backward(learner, inputs, meeting)

    with _draws(learner, iteration):
        value, counts = learner.division.fitted(learner.network, attempt)
    # Once, however often the batch was divided.
    if learner.tally is not None and counts is not None:
        learner.tally.add(counts)
    return value


def _draws(learner: Learner, iteration: int) -> AbstractContextManager[None]:
    """Let what layers draw follow from the place of this process's patches in the training, however often it was interrupted."""
    if not draws_random_numbers(learner.network):
        return nullcontext()
    first = learner.ranks.share(learner.batch_size).start
    return seeded(Item(learner.seed, TRAINING, iteration, first).network_seed(), learner.device)


def _backward(learner: Learner, inputs: Inputs, meeting: Meeting) -> Passed:
    """Add the gradient of a batch to the parameters."""
    counts: Tensor | None = None
    # The parts of several GPUs may be more than a batch has patches, and none may be empty.
    num_parts = min(learner.division.num_parts, len(inputs.images))
    lesson = _lesson(learner, inputs, num_parts)

    def backward(outputs: Outputs) -> LossValue:
        nonlocal counts
        levels = listed(outputs)
        # With others, the loss is that of all logits, and the gradient of this process's share is carried on.
        with meeting.transfer():
            leaves = (
                levels if learner.ranks.size == 1 else [learner.whole(one.detach()).requires_grad_() for one in levels]
            )
            taught = None if lesson is None else _whole_lesson(learner, lesson)
        found = leaves[0] if isinstance(outputs, Tensor) else leaves
        if learner.teaching is None or taught is None:
            value = learner.loss_of(found, inputs)
        else:
            value = learner.loss_of(learner.teaching.without_features(found), inputs)
            value = learner.teaching.joined(value, found, taught)
        learner.optimisation.backward(value.total)
        if learner.ranks.size > 1:
            share = learner.ranks.share(learner.batch_size)
            carry_back(outputs, [leaf.grad for leaf in leaves], share.start)
        # Last, when no activation takes memory any more.
        if learner.tally is not None:
            counts = learner.tally.count(leaves[0].detach(), inputs.segmentations)
        return LossValue(value.total.detach(), value.components)

    if num_parts == 1:
        return Passed(backward(learner.forward(inputs.images)), counts)
    parts = inputs.images.tensor_split(num_parts)
    value = backward_in_parts(learner.network, parts, forward=learner.forward, backward=backward)
    return Passed(value, counts)


def _lesson(learner: Learner, inputs: Inputs, num_parts: int) -> Lesson | None:
    """Return what teachers say of this process's share of a batch, part by part; None without teachers."""
    if learner.teaching is None:
        return None
    parts = inputs.images.tensor_split(num_parts)
    read = [None] * num_parts if inputs.taught is None else inputs.taught.tensor_split(num_parts)
    found, features, hints = [], [], learner.teaching.hints
    with learner.autocast():
        for images, taught in zip(parts, read, strict=True):
            found.append(learner.teaching.probabilities(learner.execution.ordered(images), taught))
            features += [] if hints is None else [hints.teacher_features()]
    return Lesson(torch.cat(found), inputs.trust, torch.cat(features) if features else None)


def _whole_lesson(learner: Learner, lesson: Lesson) -> Lesson:
    """Return what is taught about all processes' shares of a batch."""
    trust = None if lesson.trust is None else learner.whole(lesson.trust)
    features = None if lesson.features is None else learner.whole(lesson.features)
    return Lesson(learner.whole(lesson.probabilities), trust, features)
