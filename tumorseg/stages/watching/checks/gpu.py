"""Whether the GPU that is there is the GPU that torch can use."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tumorseg.schema.health import Check
from tumorseg.schema.quantities import bytes_text

FREE_SHARE = 0.7
"""Of a GPU's memory; where less is free, others compute on it."""
BF16_CAPABILITY = (8, 0)
"""From which generation on a GPU computes in bf16."""
BUILDS = "https://pytorch.org/get-started/locally"


class Device(NamedTuple):
    """A GPU as torch sees it."""

    name: str
    """What it calls itself."""
    capability: tuple[int, int]
    """Its generation."""
    total_bytes: int
    """Its memory."""
    free_bytes: int
    """What is left of it."""


class Gpus(NamedTuple):
    """What the driver and torch say of GPUs."""

    driver: Sequence[str] | None
    """GPUs that nvidia-smi lists; None without it, none where it fails."""
    driver_failure: str
    """What it said then."""
    build: str | None
    """Version of CUDA that torch was built for; None for processors."""
    devices: Sequence[Device] = ()
    """That torch can use."""
    architectures: Sequence[str] = ()
    """That torch was built for, such as `sm_80`; a name of `compute_90` can be translated for later ones."""
    warning: str = ""
    """What torch said when it was asked."""
    visible: str | None = None
    """CUDA_VISIBLE_DEVICES, if it is set."""
    cudnn: str | None = None
    """Version of cuDNN that torch has loaded, such as 9.10.2; None without one."""
    failure: str = ""
    """Why nothing can be computed: torch cannot be imported, or cuDNN not be loaded."""


def check_gpus(gpus: Gpus) -> Iterator[Check]:
    """Yield whether training on a GPU will work, or anything that torch computes."""
    if gpus.failure:
        advice = f"install torch again, with the libraries that it brings: {BUILDS}"
        yield Check(name="torch", grade="blocker", found=gpus.failure, advice=advice)
    elif not gpus.devices:
        yield _without(gpus)
    for device in gpus.devices:
        yield from _check_device(device, gpus.architectures)


def _without(gpus: Gpus) -> Check:
    """Return why torch has no GPU."""
    if gpus.driver_failure:
        advice = "restart the machine, or install the driver again: its parts do not fit each other or the GPU is gone"
        return Check(name="gpu", grade="warning", found=f"nvidia-smi fails: {gpus.driver_failure}", advice=advice)
    if not gpus.driver:
        return Check(name="gpu", grade="note", found="none; networks are trained on the processor, many times slower")
    there = ", ".join(gpus.driver)
    if gpus.build is None:
        advice = f"install the build of torch for its CUDA version: {BUILDS}"
        return Check(name="gpu", grade="warning", found=f"{there}, but torch is built for processors", advice=advice)
    if gpus.visible is not None and gpus.visible.strip() in ("", "-1"):
        found = f"{there}, but CUDA_VISIBLE_DEVICES={gpus.visible} hides it"
        return Check(name="gpu", grade="warning", found=found, advice="unset CUDA_VISIBLE_DEVICES")
    reason = gpus.warning or "no reason given"
    advice = f"update the driver, or install a torch for an older CUDA than {gpus.build}: {BUILDS}"
    return Check(name="gpu", grade="warning", found=f"{there}, but torch cannot use it: {reason}", advice=advice)


def _check_device(device: Device, architectures: Sequence[str]) -> Iterator[Check]:
    generation = f"sm_{device.capability[0]}{device.capability[1]}"
    named = f"{device.name} ({generation}), {bytes_text(device.free_bytes, device.total_bytes)} free"
    if architectures and not supports(architectures, device.capability):
        advice = f"install a torch that is built for {generation}, or give --device cpu: {BUILDS}"
        yield Check(
            name="gpu", grade="blocker", found=f"{named}; torch is built for {', '.join(architectures)}", advice=advice
        )
        return
    if device.free_bytes < FREE_SHARE * device.total_bytes:
        advice = "end what computes on it (nvidia-smi lists it), choose another with --device cuda:N, or plan with a smaller --vram"
        yield Check(name="gpu", grade="warning", found=named, advice=advice)
    else:
        yield Check(name="gpu", grade="ok", found=named)
    if device.capability < BF16_CAPABILITY:
        found = f"{device.name} does not compute in bf16"
        yield Check(name="gpu", grade="note", found=found, advice="leave training.precision.cuda at fp16")


def supports(architectures: Sequence[str], capability: tuple[int, int]) -> bool:
    """Return whether a torch that is built for some architectures has code for a GPU.

    Code for a generation runs on later ones of the same major number; what can be translated, on all later ones.

    Args:
        architectures: such as `sm_80`, `sm_90a` or `compute_90`.
        capability: of the GPU.
    """
    for architecture in architectures:
        kind, _, number = architecture.partition("_")
        digits = "".join(filter(str.isdecimal, number))
        built = int(digits[:-1] or 0), int(digits[-1:] or 0)
        is_exact = number != digits
        if is_exact and built != capability:
            continue
        if built <= capability and (kind == "compute" or built[0] == capability[0]):
            return True
    return False
