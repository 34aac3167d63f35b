"""Whether this machine can carry a plan out."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tumorseg.schema.health import Check
from tumorseg.schema.plan import Configuration, MemoryCount, Plan
from tumorseg.schema.quantities import bytes_text
from tumorseg.stages.watching.checks.gpu import BF16_CAPABILITY, Device

TEMPORARY = 2
"""A file is written beside the one that it replaces."""
IMAGE_BYTES, LABEL_BYTES = 4, 1
"""Of a voxel, before it is compressed."""


class Content(NamedTuple):
    """What was found of a plan's dataset."""

    place: str = ""
    """Where it is."""
    failure: str = ""
    """Why it cannot be opened."""
    num_cases: int = 0
    """Of the dataset that is there."""
    num_unread: int = 0
    """Cases whose files changed, or were never read, since hashes are kept."""
    content_hash: str | None = None
    """Of the dataset that is there; None where cases would have to be read for it."""


class Room(NamedTuple):
    """What was found of a plan's disk."""

    free_bytes: int
    """On the disk of the work folder."""
    num_stored: int
    """Cases that are preprocessed already, of whatever plan of the dataset."""


def check_budget(plan: Plan, devices: tuple[Device, ...], available: int | None) -> Check:
    """Return whether a training fits into the memory of the device that it will run on.

    Args:
        plan: to be carried out.
        devices: GPUs that torch can use.
        available: main memory, in bytes; where there is no GPU.
    """
    needed = plan.budget.predicted_bytes or plan.budget.vram_bytes
    name, there = ("the processor", available) if not devices else (devices[0].name, devices[0].total_bytes)
    found = f"needs {bytes_text(needed)}"
    if there is None:
        return Check(name="plan: memory", grade="note", found=f"{found}; how much there is is not known")
    found = f"{found} of {bytes_text(there)} on {name}"
    if needed > there:
        budget = max(math.floor(there / 2**30), 1)
        advice = f"plan again with --vram {budget}, or train on another machine"
        return Check(name="plan: memory", grade="blocker", found=found, advice=advice)
    return Check(name="plan: memory", grade="ok", found=found)


def check_precision(plan: Plan, devices: tuple[Device, ...]) -> Iterator[Check]:
    """Yield whether the GPU computes in the plan's precision."""
    if devices and plan.training.precision.cuda == "bf16" and devices[0].capability < BF16_CAPABILITY:
        found = f"bf16, in which {devices[0].name} does not compute"
        advice = "plan with --set training.precision.cuda=fp16"
        yield Check(name="plan: precision", grade="warning", found=found, advice=advice)


def check_room(plan: Plan, room: Room, num_cases: int) -> Check:
    """Return whether the disk takes what preprocessing and one fold's training write."""
    store = store_bytes(plan.configurations, len(plan.dataset.channels), num_cases)
    share_left = 1 - min(room.num_stored / max(num_cases * len(plan.configurations), 1), 1)
    needed = math.ceil(store * share_left) + checkpoint_bytes(plan.budget.counts)
    found = f"at most {bytes_text(needed)} for cases and a fold's checkpoints, {bytes_text(room.free_bytes)} free"
    if needed > room.free_bytes:
        advice = "free disk space, give a --work on another disk, or preprocess one --configuration alone"
        return Check(name="plan: disk", grade="warning", found=found, advice=advice)
    return Check(name="plan: disk", grade="ok", found=found)


def store_bytes(configurations: Mapping[str, Configuration], num_channels: int, num_cases: int) -> int:
    """Return what preprocessed cases take before they are compressed, by the median shape."""
    voxels = sum(math.prod(one.median_shape) for one in configurations.values())
    return num_cases * voxels * (num_channels * IMAGE_BYTES + LABEL_BYTES)


def checkpoint_bytes(counts: Mapping[str, MemoryCount]) -> int:
    """Return what the checkpoints of one fold take while the latest is written, of the configuration that takes most."""
    sizes = [TEMPORARY * (one.parameters_bytes + one.optimizer_bytes) + one.parameters_bytes for one in counts.values()]
    return max(sizes, default=0)


def check_content(plan: Plan, content: Content) -> Check:
    """Return whether the dataset is there, and is the one that was planned."""
    name = "plan: dataset"
    if content.failure:
        advice = "give --data-root, or -d to the verbs that read it"
        return Check(name=name, grade="blocker", found=content.failure, advice=advice)
    found = f"{content.num_cases} cases in {content.place}"
    if content.num_unread:
        found = f"{found}, of which {content.num_unread} have to be read to know that they are those that were planned"
        return Check(
            name=name,
            grade="note",
            found=found,
            advice="preprocess and train do that; tumorseg plan validate does it now",
        )
    if plan.dataset.content_hash is None:
        found = f"{found}; the plan was made without images, so that nothing tells whether they are those"
        return Check(name=name, grade="note", found=found)
    if content.content_hash != plan.dataset.content_hash:
        advice = "tumorseg plan validate tells which; plan anew, or point -d at the dataset that was planned"
        return Check(name=name, grade="blocker", found=f"{found}, whose content is not what was planned", advice=advice)
    return Check(name=name, grade="ok", found=f"{found}, unchanged since they were planned")
