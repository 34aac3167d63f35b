"""The errors that a user can cause or mend; anything else is a bug and keeps its traceback."""

import os
import unicodedata
from collections.abc import Sequence
from typing import TypeVar

E = TypeVar("E", bound="TumorsegError")

COMMANDS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of signs that terminals and pages obey or cannot show: control, format, lone surrogates, line and paragraph ends."""

LONGEST_BEGINNING, LONGEST_END = 4500, 1500
"""Characters of a line that are shown: room for a path of the greatest length, and for what to do."""


def is_plain(text: str) -> bool:
    """Tell whether a text has no sign that a terminal or a page obeys, or that is no character."""
    # `isprintable` is quick, and stricter: it refuses blanks other than the usual one, too.
    return text.isprintable() or not any(unicodedata.category(sign) in COMMANDS for sign in text)


def escaped(text: str) -> str:
    r"""Return a text on one line, with escapes such as `\x1b` for the signs that terminals and pages obey.

    Whatever is quoted from a file passes through here before it is shown; a text that did is left as it is.
    """
    if is_plain(text):
        return text
    return "".join(sign if is_plain(sign) else sign.encode("unicode_escape").decode() for sign in text)


def shortened(text: str) -> str:
    """Return a text whose middle is left out where nobody would read all of it: files quote names of any length."""
    if len(text) <= LONGEST_BEGINNING + LONGEST_END:
        return text
    return f"{text[:LONGEST_BEGINNING]} (... the middle is left out ...) {text[-LONGEST_END:]}"


def quoted(text: str) -> str:
    """Return a text that a file or a library gave, escaped and no longer than anybody reads, at no cost that grows with it."""
    # Escapes are longer than what they stand for.
    return shortened(escaped(shortened(text)))


def escaped_lines(text: str) -> str:
    """Return a text of several lines with each line escaped."""
    return "\n".join(map(escaped, text.split("\n")))


class TumorsegError(Exception):
    """Base of every error that the command line turns into one line on stderr, or into a list.

    What it is about is kept in fields, which survive pickling; its text is built from them here and nowhere else.
    """

    def __init__(
        self,
        reason: str,
        *,
        case_id: str | None = None,
        file: str | os.PathLike[str] | None = None,
        kind: str | None = None,
        lines: Sequence[str] = (),
    ) -> None:
        """Set the fields.

        Args:
            reason: what was found, what was expected, what to do.
            case_id: of the case that it is about.
            file: that it is about, or a folder, or several in one text.
            kind: of the finding that it becomes in a report, a name of `SEVERITIES`.
            lines: that follow the first.
        """
        super().__init__(reason)  # what unpickling calls the class with; the fields come back with __dict__
        self.reason = reason
        self.case_id = case_id
        self.file = None if file is None else os.fspath(file)
        self.kind = kind
        self.lines = tuple(lines)

    def __str__(self) -> str:
        return self.text()

    def text(self, *, case_id: str | None = None, file: str | None = None) -> str:
        """Return the message with what it quotes escaped, without the case and the file where the reader knows them already.

        Args:
            case_id: the case that is named beside the message.
            file: the file that is.
        """
        # Libraries give reasons in several lines, too.
        first = " ".join(self.reason.split("\n"))
        if self.file not in (None, file):
            first = f"{self.file}: {first}"
        if self.case_id not in (None, case_id):
            first = f"case {self.case_id}: {first}"
        return "\n".join(map(quoted, (first, *self.lines)))


def with_advice(error: E, advice: str) -> E:
    """Return an error that says more of what to do: on the line of the others, or below its list."""
    reason = error.reason if error.lines else f"{error.reason}; {advice}"
    lines = (*error.lines, advice) if error.lines else ()
    return type(error)(reason, case_id=error.case_id, file=error.file, kind=error.kind, lines=lines)


class InputError(TumorsegError, ValueError):
    """An image, label, dataset or option is not what was expected."""


class PlanError(TumorsegError, ValueError):
    """A plan is malformed, contradicts itself, or belongs to something else."""


class TrainingError(TumorsegError):
    """Training cannot start, or cannot go on."""


class StorageError(TumorsegError):
    """A file cannot be written or is damaged."""


class Stopped(Exception):  # noqa: N818 (nothing is wrong)
    """A signal asked the command to stop, and it does at a moment at which nothing is lost.

    No `TumorsegError`: nothing is wrong with a case, and the same command goes on. Its text says what is kept.
    """
