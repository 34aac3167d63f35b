"""Shards: the cases of a command divided among machines that fill one folder side by side."""

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case

_WRITTEN = re.compile(r"(\d+)/(\d+)")
_NAMED = re.compile(r"shard-\d+-of-(\d+)")


class Shard(NamedTuple):
    """One of several parts of all cases."""

    number: int
    """From 1 on."""
    num: int
    """Of all parts."""

    @property
    def name(self) -> str:
        """Return what locks and notes of it are called."""
        return f"shard-{self.number}-of-{self.num}"

    def has(self, case_id: str) -> bool:
        """Return whether a case is in this part: by its id alone, so that every machine divides alike, whatever there is."""
        digest = hashlib.sha256(case_id.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.num == self.number - 1

    def fits(self, other: str) -> bool:
        """Return whether another shard, by its name, is of the same division."""
        found = _NAMED.fullmatch(other)
        return found is not None and int(found[1]) == self.num


def read_shard(text: str) -> Shard:
    """Return the shard that is written as `2/4`.

    Raises:
        InputError: it is written otherwise, or there is none of that number.
    """
    found = _WRITTEN.fullmatch(text.strip())
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise InputError(f"--shard {text}: expected i/n with i from 1 to n, such as 1/4; give another")
    return Shard(number, count)


def cases_of(shard: Shard | None, cases: Iterable[Case]) -> list[Case]:
    """Return the cases of a shard, or all of them."""
    return [case for case in cases if shard is None or shard.has(case.case_id)]
