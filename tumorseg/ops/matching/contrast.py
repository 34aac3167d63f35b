"""Names of channels in words, and whether these say that no contrast agent was given: `T1 -Gd`, `T1 (Gd-)`, `T1 non-contrast`."""

import re
from collections.abc import Sequence

AGENTS = ("contrast", "gadolinium", "gado", "gad", "gd", "ce", "km", "c")
"""What a contrast agent is called in names of channels; longer words first, as one may begin with another."""
ENHANCED = frozenset((*AGENTS, "agent", "enhanced", "enhancing", "enhancement"))
"""Words that speak of contrast."""
NEGATIONS = frozenset(
    (
        "minus",
        "without",
        "no",
        "non",
        "not",
        "pre",
        "before",
        "native",
        "nativ",
        "plain",
        "unenhanced",
        "wo",
        "sans",
        "ohne",
    )
)
"""Words that say that there is none."""
NATIVE_T1, NATIVE_CT = "t1n", "nect"
"""Spellings of T1 and CT without contrast."""

_AGENT = "|".join(AGENTS)
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"))
# A minus closes a name or bracket, stands before a blank behind an agent, or between a blank or bracket and one; others are hyphens.
_MINUS = re.compile(
    r"-(?=\s*(?:$|[)\]},;]))"
    r"|(?:(?<=gd)|(?<=ce)|(?<=contrast)|(?<=\bc)|(?<=t1c))-(?=[\s_])"
    rf"|(?<![^\s_()\[{{,;/])-(?=(?:{_AGENT})(?![^\W_]|-[^\W_]))"
)
_DASH = re.compile(rf"-(?=[\s_]+(?:{_AGENT})(?![^\W_]))")
_GLUED = re.compile(r"(non?|pre|un|without)(contrast|enhanced|enhancing|gadolinium|gado|gad|gd|ce|km)")
_PLAIN_T1 = re.compile(r"t1(?:w|wi|weighted)?")
_AGENT_T1 = re.compile(rf"t1(?:w|wi|weighted)?(?:{_AGENT})")
_PLAIN_CT = re.compile(r"ct|computedtomography|cthu")


def words_of(name: str) -> list[str]:
    """Return a name in lower-case words of letters and digits; signs that tell two channels apart become words."""
    text = name.casefold().translate(_DASHES).replace("w/o", " without ").replace("±", " plus minus ")
    # Between blanks it may be a minus or separate words: what is called so means itself alone.
    text = _DASH.sub(" dash ", _MINUS.sub(" minus ", text))
    # T1+ has contrast, T2* is no T2.
    text = text.replace("+", " plus ").replace("*", " star ")
    return re.findall(r"[^\W_]+", text)


def without_contrast(words: Sequence[str]) -> str | None:
    """Return the spelling of what a name that denies contrast shows.

    Args:
        words: of the name, without those that say nothing of which channel it is.

    Returns:
        `NATIVE_T1` or `NATIVE_CT`; empty where it denies something of another channel; None where it denies nothing.
    """
    split: list[str] = []
    for word in words:
        glued = _GLUED.fullmatch(word)
        split += glued.groups() if glued else [word]
    denied = NEGATIONS.intersection(split) | {"un"}.intersection(split)
    if not denied:
        return None
    rest = "".join(word for word in split if word not in denied | ENHANCED | {"dash"})
    # `T1Gd-` denies its own agent; `native T1Gd` contradicts itself.
    if _PLAIN_T1.fullmatch(rest) or ("minus" in denied and _AGENT_T1.fullmatch(rest)):
        return NATIVE_T1
    return NATIVE_CT if _PLAIN_CT.fullmatch(rest) else ""
