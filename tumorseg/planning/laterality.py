"""Labels that only their side tells apart: mirrored across it, they would become each other."""

import re
from collections.abc import Iterable

SIDES = {"left": "right", "lt": "rt", "l": "r", "lh": "rh", "sin": "dex", "sinister": "dexter"}


def mirror_pairs(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return the (left, right) pairs among label names, such as `kidney_left` and `kidney_right`."""
    by_words = {tuple(_words(name)): name for name in names}
    pairs = []
    for words, name in by_words.items():
        for position, word in enumerate(words):
            other = (*words[:position], SIDES.get(word, ""), *words[position + 1 :])
            if other in by_words:
                pairs.append((name, by_words[other]))
    return tuple(sorted(pairs))


def _words(name: str) -> list[str]:
    """Split at punctuation and at capitals: `LeftKidney`, `kidney_L` and `l-kidney` all show their side."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.casefold()) if word]
