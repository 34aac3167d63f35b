"""Training steps on patches of noise: how long they take on this machine, and what they reserve on a GPU."""

import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Literal

import torch

from tumorseg.engine.averaging import NetworkForward
from tumorseg.engine.dividing import memory_explained
from tumorseg.engine.learner import Inputs, Learner
from tumorseg.engine.sliding_window import tiling_of
from tumorseg.errors import TrainingError
from tumorseg.planning.memory.rehearsal import Setting
from tumorseg.schema.plan import Configuration
from tumorseg.schema.training import Ema, Precisions, Training

WARM_UP, TIMED = 1, 3
"""Steps before the clock runs, and under it."""
VERIFIED = 2
"""Steps whose memory is measured: the second one meets the optimizer's state."""
PATIENCE_S = 600.0
"""After this a device that has not answered is given up."""


@memory_explained("while a training step was timed")
def step_seconds(configuration: Configuration, setting: Setting, device: str = "cpu") -> float:
    """Return the median time of a training step on a device, in seconds; a step ends when its loss is known.

    Raises:
        TrainingError: the device has not enough memory.
    """
    learner, inputs = noise_learner(configuration, setting, device)
    times = []
    for number in range(WARM_UP + TIMED):
        started = time.perf_counter()
        learner.step(inputs, 0)
        if number >= WARM_UP:
            times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]


@memory_explained("while an inference tile was timed")
def tile_seconds(configuration: Configuration, setting: Setting, device: str = "cpu") -> float:
    """Return the median time of an inference tile of the patch's size on a device, in seconds, without mirroring.

    Raises:
        TrainingError: the device has not enough memory.
    """
    learner, inputs = noise_learner(configuration, setting, device)
    forward = NetworkForward([learner.network.eval()], (), configuration.num_axes, learner.autocast, learner.device)
    # Planes are slices of a tile of one plane.
    tile = inputs.images[:1] if configuration.num_axes == 3 else inputs.images[:1, :, None]
    times = []
    for number in range(WARM_UP + TIMED):
        started = time.perf_counter()
        # One number is asked for, so that a GPU has finished.
        float(forward(tile).flatten()[0])
        if number >= WARM_UP:
            times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]


def measure_reserved(configuration: Configuration, setting: Setting, device: str) -> int | None:
    """Return the peak of reserved bytes of two training steps and an inference tile, in a process of its own.

    Returns:
        Bytes; None if the device has not enough.

    Raises:
        TrainingError: the process failed for another reason, or does not answer.
    """
    # CUDA cannot be used in a forked process.
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sending, configuration, setting, device), daemon=True)
    process.start()
    # While this copy of the writing end is open, a child that dies would never end the pipe.
    sending.close()
    try:
        if not receiving.poll(PATIENCE_S):
            raise TrainingError(
                f"{device} has not finished two steps in {PATIENCE_S:g} s; look at the device, or plan without --verify"
            )
        found = receiving.recv()
    except EOFError:
        process.join()
        raise TrainingError(
            f"the process that measured memory on {device} ended with exit code {process.exitcode}; its message stands above"
        ) from None
    finally:
        process.terminate()
        process.join()
    return None if found is None else int(found)


def versions() -> dict[str, str]:
    """Return the versions of torch and cuDNN, which decide what a step reserves."""
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch leaves it without types
    return {"torch": str(torch.__version__), "cudnn": "none" if cudnn is None else str(cudnn)}


def _measure(sending: Connection, configuration: Configuration, setting: Setting, device: str) -> None:
    """Run in a process of its own: send the peak, or None if the device ran out of memory."""
    try:
        sending.send(_reserved_peak(configuration, setting, device))
    except torch.OutOfMemoryError:
        sending.send(None)


def _reserved_peak(configuration: Configuration, setting: Setting, device: str) -> int:
    torch.cuda.set_device(device)
    learner, inputs = noise_learner(configuration, setting, device)
    for number in range(VERIFIED):
        learner.step(inputs, number)
    del inputs
    learner.network.eval()
    # Views follow each other, so that one mirrored beside the plain one reserves what all would.
    axes = configuration.inference.mirroring_axes[:1] if configuration.inference.mirroring else ()
    forward = NetworkForward([learner.network], axes, configuration.num_axes, learner.autocast, learner.device)
    forward(torch.randn(1, setting.num_channels, *tiling_of(configuration).patch_size))
    return torch.cuda.max_memory_reserved(device)


def noise_learner(configuration: Configuration, setting: Setting, device: str) -> tuple[Learner, Inputs]:
    """Return a learner, and a batch of noise and random labels on its device."""
    # A processor has no scaler for fp16.
    on_cpu: Literal["fp32", "bf16"] = "bf16" if setting.precision == "bf16" else "fp32"
    precision = Precisions.model_validate({"cpu": on_cpu, "cuda": setting.precision})
    ema = Ema() if setting.has_average else None
    training = Training(epochs=1, iterations_per_epoch=10, validation_iterations=1, precision=precision, ema=ema)
    learner = Learner(
        configuration, training, num_channels=setting.num_channels, targets=setting.targets, device=device
    )
    generator = torch.Generator().manual_seed(0)
    shape = (configuration.batch_size, *configuration.patch_size)
    images = torch.randn(shape[0], setting.num_channels, *shape[1:], generator=generator)
    segmentations = torch.randint(setting.targets.num_classes, shape, generator=generator)
    return learner, Inputs(images.to(device), segmentations.to(device), has_ignored=False)
