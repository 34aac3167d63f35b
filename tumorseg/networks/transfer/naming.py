"""Whose names a file's tensors have, and what they are called here."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from tumorseg.networks.nnunet_weights import WRAPPERS
from tumorseg.networks.transfer.kinds import MONAI, Kind
from tumorseg.networks.transfer.layouts import NNUNET, NOTHING, Adaptation, Layout, Translate, nnssl

PREFIXES = (*WRAPPERS, "model.", "network.", "net.", "backbone.")
"""What wrappers, training frameworks and larger networks put before every name of the network that they hold."""


class Naming(NamedTuple):
    """Our names of a file's tensors."""

    layout: str
    """Whose names they are; `unknown` where none is understood."""
    names: dict[str, str]
    """Names in the file by ours."""
    unknown: tuple[str, ...]
    """Names in the file that we have none for; weights that are listed twice count once."""
    turned: str = NOTHING
    """Pattern of weights, by our names, that list channels in before channels out in the file."""
    is_x_first: bool = False
    """Whether axes in the file are those of MONAI's images."""

    def renamed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a file's tensors under our names, the order of their channels as ours."""
        found = {}
        for ours, theirs in self.names.items():
            is_turned = re.fullmatch(self.turned, ours) is not None
            found[ours] = tensors[theirs].transpose(0, 1) if is_turned else tensors[theirs]
        return found


def naming_of(names: Iterable[str], kind: Kind, own: Iterable[str], *, adaptation: Adaptation | None = None) -> Naming:
    """Return what a file's tensors are called in a network.

    Of all prefixes and layouts those are taken that find the most.

    Args:
        names: in the file.
        kind: of the network.
        own: names in the network; numbers in them do not matter, as a deeper network has more.
        adaptation: where an nnssl checkpoint says that the parts of its network are.
    """
    listed, patterns = list(names), {_pattern(name) for name in own}
    best, most = Naming("unknown", {}, tuple(_once(listed, kind.layouts))), (0, 0)
    for prefix in _prefixes(listed):
        for layout in _layouts(kind, patterns, adaptation):
            found = _read(listed, prefix, layout)
            known = sum(_pattern(ours) in patterns for ours in found.names)
            # Of two that find as much, the one that leaves less over.
            if known and (known, -len(found.unknown)) > most:
                best, most = found, (known, -len(found.unknown))
    return best


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return all that may come before the names of the network, the shortest first."""
    found = {""}
    for name in names:
        found.update(_prefixes_of(name))
    return sorted(found, key=len)


def _prefixes_of(name: str) -> Iterator[str]:
    prefix, rest = "", name
    while (part := next((one for one in PREFIXES if rest.startswith(one)), None)) is not None:
        prefix, rest = prefix + part, rest.removeprefix(part)
        yield prefix


def _layouts(kind: Kind, patterns: Collection[str], adaptation: Adaptation | None) -> list[Layout]:
    def as_here(_: Collection[str]) -> Translate:
        return lambda name: name if _pattern(name) in patterns else None

    others = [nnssl(adaptation) if adaptation is not None and one is NNUNET else one for one in kind.layouts]
    return [Layout(kind.layout, as_here, is_x_first=kind.layout == MONAI), *others]


def _read(names: Collection[str], prefix: str, layout: Layout) -> Naming:
    """Return what a layout makes of the names behind a prefix."""
    bare = {name: name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    translate = layout.translator(bare.values())
    found: dict[str, str] = {}
    left = [name for name in names if name not in bare]
    # safetensors keeps one name of several, whichever it is; where all are there, the straight one counts.
    for name, short in sorted(bare.items(), key=lambda item: layout.straight(item[1]) != item[1]):
        ours = translate(short)
        if ours is None:
            left.append(name)
        else:
            found.setdefault(ours, name)
    return Naming(layout.name, found, tuple(_once(left, (layout,))), layout.turned, layout.is_x_first)


def _once(names: Iterable[str], layouts: Iterable[Layout]) -> list[str]:
    """Return names of which none is another one's second name."""
    found: dict[str, str] = {}
    for name in names:
        straight = name
        for layout in layouts:
            straight = layout.straight(straight)
        found.setdefault(straight, name)
    return list(found.values())
