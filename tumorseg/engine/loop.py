"""The fit loop: it only sequences."""

import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tumorseg.augmentation.pipeline import augment_with_maps, source_size
from tumorseg.engine.batches import (
    TRAINING,
    VALIDATION,
    Batch,
    CaseReader,
    PatchSpec,
    read_ahead,
    read_batch,
    torch_generator,
)
from tumorseg.engine.cascade_channels import with_previous
from tumorseg.engine.learner import Learner, StepResult
from tumorseg.engine.scores import PooledDice
from tumorseg.errors import TrainingError
from tumorseg.losses.compound import CompoundLoss
from tumorseg.losses.registry import build_loss
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.logs import EpochLog
from tumorseg.schema.plan import Configuration, Training
from tumorseg.schema.targets import Targets, num_previous

BEST_DECAY = 0.9
"""Weight of the past in the running mean that decides the best epoch, as in nnU-Net."""
MOST_SKIPPED = 32
"""Steps in a row whose loss or gradient may be other than finite: twice as many as a gradient scaler needs from its first
scale, 2^16, down to 1."""


class Data(NamedTuple):
    """Where patches come from."""

    training: CaseReader
    validation: CaseReader | None
    """None with `--fold all`."""


class Inputs(NamedTuple):
    """A batch as network and loss take it, on the device."""

    images: Tensor
    """(B, C, *patch)."""
    segmentations: Tensor
    """(B, *patch) class indices."""
    distances: Tensor | None
    """(B, K, *patch), mm, if they were measured while reading."""


class Hooks(NamedTuple):
    """What the caller wants to hear."""

    on_iteration: Callable[[int, float], None]
    """Iteration and loss, after each step."""
    on_epoch: Callable[[EpochLog, dict[str, Any], bool], None]
    """Log, full state, and whether this is the best epoch so far."""
    should_stop: Callable[[], bool]
    """Asked after each step."""
    on_stop: Callable[[dict[str, Any]], None]
    """Full state in the middle of an epoch, when told to stop."""
    on_skip: Callable[[int, float, tuple[str, ...]], None] = lambda *_: None
    """Iteration, loss and cases of a step that was not taken, because loss or gradient were not finite."""


@dataclass
class Progress:
    """Where the training stands: plain values that a checkpoint keeps."""

    iteration: int = 0
    losses: list[float] = field(default_factory=list)
    """Finite ones of the present epoch."""
    components: dict[str, float] = field(default_factory=dict)
    """Their sums in the present epoch."""
    running: float | None = None
    """Running mean of the validation DSC, or of the negative training loss."""
    best: float = -math.inf
    """Best value of it."""
    skipped: int = 0
    """Steps in a row, up to the latest, that were not taken."""

    def add(self, result: StepResult) -> float:
        """Count a step; return its loss, which counts if it is finite."""
        loss = float(result.total)
        if math.isfinite(loss):
            self.losses.append(loss)
            for name, value in result.components.items():
                self.components[name] = self.components.get(name, 0.0) + float(value)
        self.skipped = 0 if result.has_stepped else self.skipped + 1
        self.iteration += 1
        return loss

    def update_best(self, value: float) -> bool:
        """Take an epoch's measure into the running mean; return whether that is the best so far."""
        self.running = value if self.running is None else BEST_DECAY * self.running + (1 - BEST_DECAY) * value
        is_best = self.running > self.best
        self.best = max(self.best, self.running)
        return is_best


@dataclass
class Fit:
    """One training of a configuration on cases."""

    learner: Learner
    configuration: Configuration
    training: Training
    data: Data
    hooks: Hooks
    progress: Progress = field(default_factory=Progress)

    @property
    def num_iterations(self) -> int:
        """Return the planned number of steps."""
        return self.training.epochs * self.training.iterations_per_epoch

    def state(self) -> dict[str, Any]:
        """Return everything that a resumed training needs."""
        return self.learner.state() | {"progress": vars(self.progress).copy()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.learner.restore(state)
        self.progress = Progress(**state["progress"])

    def run(self) -> bool:
        """Train to the planned end.

        Returns:
            Whether the end was reached; False if told to stop.

        Raises:
            TrainingError: loss or gradient are not finite time after time.
        """
        while self.progress.iteration < self.num_iterations:
            if not self._run_epoch():
                self.hooks.on_stop(self.state())
                return False
        return True

    def _run_epoch(self) -> bool:
        """Train to the end of the present epoch, validate and tell; False if told to stop before its end."""
        started, waited = time.perf_counter(), 0.0
        first = self.progress.iteration
        epoch = first // self.training.iterations_per_epoch
        batches = read_ahead(self.load, range(first, (epoch + 1) * self.training.iterations_per_epoch))
        try:
            for iteration in range(first, (epoch + 1) * self.training.iterations_per_epoch):
                asked = time.perf_counter()
                batch = next(batches)
                waited += time.perf_counter() - asked
                self._step(batch, iteration)
                is_last = (iteration + 1) % self.training.iterations_per_epoch == 0
                if not is_last and self.hooks.should_stop():
                    return False
        finally:
            batches.close()
        self._end_epoch(epoch, started, waited)
        return not self.hooks.should_stop() or self.progress.iteration >= self.num_iterations

    def load(self, number: int) -> Batch:
        """Read a batch of the training, with distances if they are to be measured while reading; called by a thread."""
        spec = patch_spec(self.configuration, self.learner.targets, self.configuration.augmentation)
        batch = read_batch(self.data.training, spec, seed=self.training.seed, stream=TRAINING, number=number)
        if not self.configuration.loss.reads_distances:
            return batch
        is_cascade = self.configuration.previous_configuration is not None
        reference = batch.segmentations[:, 0] if is_cascade else batch.segmentations
        return batch._replace(distances=self._reader_loss.distance_maps(reference))

    @cached_property
    def _reader_loss(self) -> CompoundLoss:
        """Return the loss on the CPU, to measure distances there."""
        return build_loss(self.configuration.loss, self.learner.targets, self.configuration.spacing_mm)

    def _step(self, batch: Batch, iteration: int) -> None:
        inputs = self.inputs(batch, self.configuration.augmentation, TRAINING, iteration)
        result = self.learner.step(inputs.images, inputs.segmentations, iteration, inputs.distances)
        loss = self.progress.add(result)
        if not result.has_stepped:
            self.hooks.on_skip(iteration, loss, batch.case_ids)
            _check_skipped(self.progress, self.training, loss, batch.case_ids)
        self.hooks.on_iteration(iteration + 1, loss)

    def inputs(self, batch: Batch, spec: AugmentationSpec, stream: int, number: int) -> Inputs:
        """Return a batch as network and loss take it, on the device."""
        device = self.learner.device
        maps = batch.images[:, :0] if batch.distances is None else batch.distances
        images, segmentations, distances = augment_with_maps(
            batch.images.to(device, non_blocking=True),
            batch.segmentations.to(device, non_blocking=True),
            maps.to(device, non_blocking=True),
            spec,
            patch_size=self.configuration.patch_size,
            generator=torch_generator(self.training.seed, stream, number),
        )
        if self.configuration.previous_configuration is not None:
            segmentations, previous = segmentations.unbind(1)
            images = with_previous(images, previous, num_previous(self.configuration, self.learner.targets))
        return Inputs(images, segmentations, None if batch.distances is None else distances)

    def _end_epoch(self, epoch: int, started: float, waited: float) -> None:
        progress = self.progress
        count = len(progress.losses)
        train_loss = sum(progress.losses) / count
        components = {name: total / count for name, total in sorted(progress.components.items())}
        trained = time.perf_counter() - started
        lr = self.learner.schedule.lr(progress.iteration - 1)
        weights = self.learner.loss.weights()
        watched = self.learner.loss.yardstick(components)
        self.learner.schedule.end_epoch(watched)
        validation_loss, dsc = self._validate()
        self.learner.loss.weighting.end_epoch()
        is_best = self._update_best(watched, dsc)
        progress.losses, progress.components = [], {}
        log = EpochLog(
            epoch=epoch,
            iteration=progress.iteration,
            train_loss=train_loss,
            train_losses=components,
            loss_weights=weights,
            validation_loss=validation_loss,
            dsc=dsc,
            lr=lr,
            seconds=time.perf_counter() - started,
            data_wait_fraction=min(1.0, waited / max(trained, 1e-9)),
            memory_bytes=_peak_memory(self.learner.device),
        )
        self.hooks.on_epoch(log, self.state(), is_best)

    def _validate(self) -> tuple[float | None, dict[str, float | None]]:
        """Return the loss and the pooled DSC over the same held-out patches each time."""
        if self.data.validation is None:
            return None, {}
        reader, count = self.data.validation, self.training.validation_iterations
        spec = patch_spec(self.configuration, self.learner.targets, AugmentationSpec())

        def load(number: int) -> Batch:
            return read_batch(reader, spec, seed=self.training.seed, stream=VALIDATION, number=number)

        pooled, total, num_finite = PooledDice(self.learner.targets), 0.0, 0
        self.learner.network.eval()
        with torch.inference_mode():
            for number, batch in enumerate(read_ahead(load, range(count))):
                images, segmentations, _ = self.inputs(batch, AugmentationSpec(), VALIDATION, number)
                with self.learner.autocast():
                    logits = self.learner.network(images)
                loss = float(self.learner.loss(logits, segmentations).total)
                if math.isfinite(loss):
                    total, num_finite = total + loss, num_finite + 1
                pooled.add(logits, segmentations)
        if num_finite == 0:
            raise TrainingError(
                f"the validation loss became {loss} on every batch after iteration {self.progress.iteration}; look at the held-out cases "
                "for extreme intensities, or set a lower optimizer.lr; earlier checkpoints are untouched"
            )
        return total / num_finite, pooled.dsc()

    def _update_best(self, train_loss: float, dsc: dict[str, float | None]) -> bool:
        known = [value for value in dsc.values() if value is not None]
        value = sum(known) / len(known) if known else (-train_loss if self.data.validation is None else 0.0)
        return self.progress.update_best(value)


def _check_skipped(progress: Progress, training: Training, loss: float, case_ids: tuple[str, ...]) -> None:
    """Let one overflow pass; many in a row, or an epoch without a finite loss, end the training."""
    is_last = progress.iteration % training.iterations_per_epoch == 0
    most = min(MOST_SKIPPED, training.epochs * training.iterations_per_epoch)
    if progress.skipped < most and not (is_last and not progress.losses):
        return
    found = "the gradient is not finite" if math.isfinite(loss) else f"the loss became {loss}"
    remedy = ", or training.precision=bf16 or fp32" if training.precision == "fp16" else ""
    raise TrainingError(
        f"{found} at iteration {progress.iteration - 1} on cases {', '.join(case_ids)} (steps in a row that were not taken: "
        f"{progress.skipped}); look at these cases for extreme intensities, or set a lower optimizer.lr{remedy}; earlier "
        "checkpoints are untouched"
    )


def patch_spec(configuration: Configuration, targets: Targets, augmentation: AugmentationSpec) -> PatchSpec:
    """Return what patches of a configuration are like."""
    return PatchSpec(
        patch_size=configuration.patch_size,
        source_size=source_size(augmentation, configuration.patch_size),
        batch_size=configuration.batch_size,
        foreground_fraction=configuration.sampling.foreground_fraction,
        scored_classes=targets.scored_classes,
        has_previous=configuration.previous_configuration is not None,
    )


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
