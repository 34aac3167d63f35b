"""Names of labels and regions as people spell them, in one spelling."""

import re

AMERICAN = {"tumour": "tumor", "oedema": "edema", "oesoph": "esoph", "haem": "hem", "grey": "gray", "centre": "center"}
"""British spellings in names of structures, and the American ones."""
SPEECHLESS = re.compile(r"(label|class|value|structure|segment|roi|mask|object|foreground|target|seg|segmentation)?\d*")
"""Spellings that say no more than that there is a label, or its number."""


def spelled(name: str) -> str:
    """Return a name in lower-case American letters and digits only, without spaces, underscores and hyphens."""
    letters = "".join(letter for letter in name.casefold() if letter.isalnum())
    for british, american in AMERICAN.items():
        letters = letters.replace(british, american)
    return letters


def is_telling(name: str) -> bool:
    """Tell whether a name says what a label is: `label_1` does not, whatever its number means in some other dataset."""
    return SPEECHLESS.fullmatch(spelled(name)) is None
