"""What a message must be: one line that no terminal obeys."""

import unicodedata
from collections.abc import Sequence

from tumorseg.errors import TumorsegError

MOST_CHARACTERS = 8000
"""Of a line: as many as a person may be asked to look at."""
OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of characters that are not shown but do something, or that cannot be written at all."""


def control_signs(text: str) -> str:
    """Return the signs of a text that a terminal would obey, each once."""
    return "".join(sign for sign in dict.fromkeys(text) if unicodedata.category(sign) in OBEYED)


def message_fault(error: TumorsegError) -> str:
    """Return what is wrong with a message; nothing where it is one line, or one and those of a list."""
    text = str(error)
    return fault_of([text.partition("\n")[0], *error.lines] if error.lines else [text])


def fault_of(lines: Sequence[str]) -> str:
    """Return what is wrong with lines; nothing where all are of plain characters, and of a length that may be read."""
    if signs := control_signs("".join(lines)):
        return f"control characters {signs!r} in the message"
    longest = max(map(len, lines))
    return f"a message of {longest} characters" if longest > MOST_CHARACTERS else ""
