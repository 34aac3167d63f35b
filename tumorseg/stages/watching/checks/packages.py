"""Whether the installed packages are those that tumorseg needs, and known to work together."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tumorseg.schema.health import Check


class KnownBad(NamedTuple):
    """Versions that break or slow down a run."""

    package: str
    """`cudnn` is the library that torch has loaded, whichever package it came with."""
    versions: str
    """As packages specify versions."""
    what: str
    """What they do."""
    advice: str
    """What to do."""
    source: str
    """Where it was reported."""


KNOWN_BAD = (
    KnownBad(
        "cudnn",
        ">=9.8,<9.15",
        "3D convolutions in bf16 may be wrong, or slow where torch does without it",
        "install a newer torch, or cuDNN alone: pip install 'nvidia-cudnn-cu12>=9.15'",
        "github.com/pytorch/pytorch/issues/163539, pull/166480",
    ),
    KnownBad(
        "cudnn",
        ">=9.10.2,<=9.15",
        "3D convolutions in fp32 may be wrong where they are computed in TF32",
        "train in fp16, as training.precision.cuda is by default, or install a newer torch",
        "github.com/pytorch/pytorch/pull/167024",
    ),
)


def check_packages(installed: Mapping[str, str], requirements: Sequence[str] | None) -> Iterator[Check]:
    """Yield whether what is required is installed; nothing is known of optional packages.

    Args:
        installed: version by name, of what is required at least.
        requirements: as the package states them; None if it is not installed itself.
    """
    if requirements is None:
        advice = "install it: pip install . in its folder, so that versions can be compared"
        yield Check(name="packages", grade="note", found="tumorseg runs from a folder", advice=advice)
        return
    needed = [found for found in map(Requirement, requirements) if _is_needed(found)]
    wrong = [found for found in needed if not _fits(found, installed.get(found.name))]
    for requirement in wrong:
        version = installed.get(requirement.name, "missing")
        found = f"{requirement.name} {version}; expected {requirement.specifier or 'any version'}"
        advice = f"pip install '{requirement.name}{requirement.specifier}'"
        yield Check(name="packages", grade="blocker", found=found, advice=advice)
    if not wrong:
        yield Check(name="packages", grade="ok", found=f"{len(needed)} packages in the versions that are required")


def check_known_bad(installed: Mapping[str, str], known: Sequence[KnownBad] = KNOWN_BAD) -> Iterator[Check]:
    """Yield which of the installed versions are known to break or slow down a run.

    Args:
        installed: version by name; that of cuDNN as `cudnn`, if torch uses one.
        known: the list.
    """
    for bad in known:
        version = installed.get(bad.package)
        # Builds such as 2.10.0+cu128 count as what they are built from.
        if version is not None and SpecifierSet(bad.versions).contains(version.partition("+")[0], prereleases=True):
            found = f"{bad.package} {version}: {bad.what} ({bad.source})"
            yield Check(name="known problems", grade="warning", found=found, advice=bad.advice)


def check_python(version: tuple[int, int, int], supported: str | None) -> Check:
    """Return whether this Python is one that the package supports.

    Args:
        version: of the interpreter.
        supported: as the package states it; None if that is not known.
    """
    text = ".".join(map(str, version))
    if supported is None or SpecifierSet(supported).contains(text):
        return Check(name="python", grade="ok", found=text)
    advice = f"make an environment with Python {supported}"
    return Check(name="python", grade="blocker", found=f"{text}; expected {supported}", advice=advice)


def _is_needed(requirement: Requirement) -> bool:
    """Return whether a requirement holds here, without any extra."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _fits(requirement: Requirement, version: str | None) -> bool:
    return version is not None and requirement.specifier.contains(version, prereleases=True)
