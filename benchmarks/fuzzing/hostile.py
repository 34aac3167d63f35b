"""Numbers and texts that readers have stumbled over, in their own programs or in others."""

from random import Random

NUMBERS = (
    "-1",
    "0",
    "1",
    "-0.0",
    "0.5",
    "1e308",
    "1e-320",
    "1e999",
    "-1e999",
    "nan",
    "inf",
    "NaN",
    "Infinity",
    "65536",
    "2147483648",
    "4294967295",
    "1000000000000",
    "9223372036854775807",
    "18446744073709551616",
    "9" * 5000,
    "0x10",
    "1_000",
    "٣",
)
"""As a text may hold them."""
WORDS = (
    "",
    " ",
    "null",
    "../escaped",
    "../../../../tmp/escaped",
    "/etc/hostname",
    "/dev/zero",
    "a\x00b",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "tail\u202egnp.exe",
    "two\u2028lines",
    "two\nlines",
    "\ufeffmark",
    "%s%n%99999999d",
    "%d",
    "{0.__class__}",
    "<script>alert(1)</script>",
    "=cmd()",
    "-rf",
    "x" * 300,
    "é" * 200,
    "y" * 70_000,
    "CON",
    ".",
    "..",
)
"""Names, paths and free text."""
INTEGERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1)
"""For fields of bytes, cut to their width."""
REALS = (0.0, -0.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e-320, 1e38, 1e308, 3.4e38)


def integer(rng: Random) -> int:
    """Return a number at the edge of some type, or near it."""
    return rng.choice(INTEGERS) + rng.choice((-1, 0, 0, 0, 1))


def text(rng: Random) -> str:
    """Return a number or a word."""
    return rng.choice(rng.choice((NUMBERS, WORDS)))
