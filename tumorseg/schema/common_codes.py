"""Which coded term a label most likely means, by its name: the table of `label_terms`, matched loosely.

Case, signs between words, plurals and the place of the side do not matter: `kidney_left`, `Left Kidney` and `KIDNEYS-L` are alike. What
befalls an organ is coded as what it is, in the region of that organ: `liver tumour`.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from tumorseg.schema import label_terms
from tumorseg.schema.codes import CodedTerm, LabelCode

WORDS_OF_SIDES = {
    "left": "left", "l": "left", "lt": "left",
    "right": "right", "r": "right", "rt": "right",
}  # fmt: skip
DOUBTFUL_SIDES = {"lt", "rt"}
"""That say something else beside a finding: the RT of a `GTV_RT` is radiotherapy."""
VENTRICLES = {"left ventricle", "right ventricle", "lv", "rv"}
"""Keys that are the heart's beside other parts of it; the brain has some on either side too."""
OF_HEART = {
    "acdc", "atrium", "cardiac", "emidec", "endocardium", "epicardium", "heart", "lvm", "mmwhs", "mnms", "myo", "myocardium",
    "pericardium",
}  # fmt: skip
OF_BRAIN = {
    "brain", "brainstem", "caudate", "cerebellum", "cerebral", "cortex", "csf", "gm", "hippocampus", "putamen", "thalamus", "wm",
}  # fmt: skip
FILLERS = {"the", "of", "in", "structure"}
"""Words that change no meaning."""
CATEGORIES = {
    "anatomy": label_terms.ANATOMY,
    "tissue": label_terms.TISSUES,
    "substance": label_terms.SUBSTANCES,
    "object": label_terms.OBJECTS,
    "finding": label_terms.FINDINGS,
}


class _Line(NamedTuple):
    """A line of the table."""

    term: CodedTerm
    names: tuple[str, ...]
    further: str
    """Name of a region or a side."""


class _Table(NamedTuple):
    codes: dict[str, LabelCode]
    """By key of a name."""
    findings: frozenset[str]
    """Keys of what befalls an organ, which may stand beside the organ's name."""


def known_code(name: str, dataset: str = "", labels: Sequence[str] = ()) -> LabelCode | None:
    """Return what a label most likely is, or None where the table has nothing like it.

    Args:
        name: of the label.
        dataset: its name, whose last word may say what labels are parts of: `Anterior` of `Task04_Hippocampus`.
        labels: names of all its labels, beside which a ventricle is known to be the heart's.
    """
    key, words = key_of(name), key_of(dataset).split()
    if key in VENTRICLES and not _is_of_heart((dataset, *labels)):
        return None
    found = _code_of(key)
    if found is None and words:
        found = _code_of(key_of(f"{words[-1]} {name}"))
    is_doubtful = found is not None and found.category == _categories()["finding"] and _sides_in(name) <= DOUBTFUL_SIDES
    return found.changed(side=None) if found is not None and is_doubtful else found


def _is_of_heart(texts: Sequence[str]) -> bool:
    """Tell whether names speak of the heart, and of no brain."""
    words = {word for text in texts for word in key_of(text).split()}
    heart, brain = ({_singular(word) for word in known} for known in (OF_HEART, OF_BRAIN))
    return bool(words & heart) and not words & brain


def _code_of(key: str) -> LabelCode | None:
    side = next((side for side in ("left", "right") if key.startswith(f"{side} ")), None)
    # Whole names go first: a left ventricle is a part of the heart, and no ventricle of the brain on the left.
    if (found := _table().codes.get(key)) is not None or side is None:
        return found or _finding_in_organ(key)
    bare = key.removeprefix(f"{side} ")
    found = _table().codes.get(bare) or _finding_in_organ(bare)
    if found is None or found.side is not None:
        return None
    # A term that has a side of its own takes no other, and needs none.
    terms = (found.type, found.region)
    own = {word for term in terms if term is not None for word in _sides_in(term.meaning)}
    if own:
        return found if own == {side} else None
    return found.changed(side=_sides()[side])


def category_of(term: CodedTerm) -> CodedTerm:
    """Return what kind of thing a term is: as the table says, else an anatomical structure."""
    known = (
        code for code in _table().codes.values() if (code.type.scheme, code.type.value) == (term.scheme, term.value)
    )
    code = next(known, None)
    found = None if code is None else code.category
    return found or _categories()["anatomy"]


def key_of(name: str) -> str:
    """Return a name as the table is looked up by: lower case, singular, without filling words, the side in front."""
    words = [word for word in _words(name) if word not in FILLERS]
    sides = [WORDS_OF_SIDES[word] for word in words if word in WORDS_OF_SIDES]
    others = [_singular(word) for word in words if word not in WORDS_OF_SIDES]
    return " ".join(sides + others)


def _words(name: str) -> list[str]:
    # Also those that are only told apart by capitals: LeftKidney.
    return re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def _sides_in(name: str) -> set[str]:
    """Return the words of a name that are taken for sides."""
    return {word for word in _words(name) if word in WORDS_OF_SIDES}


def _singular(word: str) -> str:
    # Applied to names of the table too, so that it does no harm to make a `pancrea` of the pancreas.
    return word[:-1] if len(word) > 3 and word.endswith("s") else word


def _finding_in_organ(key: str) -> LabelCode | None:
    """Return the code of a name that puts a finding and an organ together, in either order."""
    codes, findings = _table()
    words = key.split()
    for place in range(1, len(words)):
        first, last = " ".join(words[:place]), " ".join(words[place:])
        for finding, organ in ((last, first), (first, last)):
            is_pair = finding in findings and organ in codes and organ not in findings
            if is_pair and codes[finding].region is None:
                where = codes[organ]
                return codes[finding].changed(region=where.type, side=where.side)
    return None


@cache
def _table() -> _Table:
    codes: dict[str, LabelCode] = {}
    findings: set[str] = set()
    for kind, text in CATEGORIES.items():
        for line in _lines(text):
            code = LabelCode(type=line.term, category=_categories()[kind], **_further(line.further, codes))
            keys = [key_of(name) for name in line.names]
            codes.update(dict.fromkeys(keys, code))
            if kind == "finding":
                findings.update(keys)
    for name, term in (*_vertebrae(), *_ribs()):
        codes[key_of(name)] = LabelCode(type=term, category=_categories()["anatomy"])
    return _Table(codes, frozenset(findings))


def _further(name: str, codes: dict[str, LabelCode]) -> dict[str, CodedTerm]:
    """Return the region or the side that a line adds to its term."""
    if not name:
        return {}
    return {"side": _sides()[name]} if name in _sides() else {"region": codes[key_of(name)].type}


def _lines(text: str) -> Iterator[_Line]:
    for line in text.strip().splitlines():
        code, meaning, names, *further = (part.strip() for part in line.split("|"))
        scheme, value = code[1:].split() if code.startswith("~") else ("SCT", code)
        term = CodedTerm(value=value, scheme=scheme, meaning=meaning)
        yield _Line(term, tuple(names.split(", ")), further[0] if further else "")


def _vertebrae() -> Iterator[tuple[str, CodedTerm]]:
    for line in label_terms.VERTEBRAE.strip().splitlines():
        letter, *values = line.split()
        for number, value in enumerate(values, start=1):
            term = CodedTerm(value=value, meaning=f"{letter}{number} vertebra")
            yield from ((f"{word} {letter}{number}", term) for word in ("vertebra", "vertebrae"))
            yield f"{letter}{number} vertebra", term


def _ribs() -> Iterator[tuple[str, CodedTerm]]:
    for number, text in enumerate(label_terms.RIBS.split(","), start=1):
        value, ordinal = text.split()
        yield f"rib {number}", CodedTerm(value=value, meaning=f"{ordinal} rib")


@cache
def _sides() -> dict[str, CodedTerm]:
    return {line.names[0]: line.term for line in _lines(label_terms.SIDES)}


@cache
def _categories() -> dict[str, CodedTerm]:
    return {line.names[0]: line.term for line in _lines(label_terms.CATEGORIES)}


_TISSUE = next(line.term for line in _lines(label_terms.CATEGORIES) if line.names[0] == "tissue")
UNKNOWN_TISSUE = LabelCode(type=_TISSUE, category=_TISSUE)
"""What a label is that no code is known for."""
