"""Gliomas, whose labels every dataset numbers, names and nests in its own way.

| dataset | necrotic or non-enhancing core | edema | enhancing tumour |
|---|---|---|---|
| BraTS 2018 to 2021 | 1 | 2 | 4 |
| BraTS 2023 and later | 1 | 2 | 3 (4 is the resection cavity, part of no region) |
| MSD_Brain | 2 | 1 | 3 |

Whole tumour (WT) joins the three, tumour core (TC) all but the edema. Some datasets have the whole tumour alone.

References:
    Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 benchmark, arXiv:2107.02314; Antonelli et al., The Medical Segmentation
    Decathlon, Nature Communications 13, 4128 (2022).
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from tumorseg.ops.matching.channels import meaning_of
from tumorseg.ops.matching.spelling import spelled
from tumorseg.schema.dataset import DatasetDescription

Part = Literal["WT", "TC", "ET", "edema", "core"]

SPELLINGS: dict[Part, frozenset[str]] = {
    "edema": frozenset(
        (
            "edema",
            "peritumoraledema",
            "peritumoraledematousinvadedtissue",
            "ed",
            "snfh",
            "surroundingnonenhancingflairhyperintensity",
        )
    ),
    "core": frozenset(
        (
            "necroticcore",
            "necrotictumorcore",
            "necrosis",
            "nonenhancingtumor",
            "nonenhancingtumorcore",
            "necroticandnonenhancingtumor",
            "necroticandnonenhancingtumorcore",
            "ncr",
            "ncrnet",
            "netc",
        )
    ),
    "ET": frozenset(("enhancingtumor", "gdenhancingtumor", "enhancing", "et")),
    "TC": frozenset(("tumorcore", "tc")),
    "WT": frozenset(("wholetumor", "wt", "completetumor")),
}
"""What the parts are called, as `spelled` has it."""
BRATS_VALUES: dict[Part, int] = {"edema": 2, "core": 1, "ET": 4}
"""Label values of BraTS up to 2021. 1, 2 and 3 mean other things in other datasets, so that they alone tell nothing."""
BRATS_CHANNELS = frozenset(("T2-FLAIR", "T1, with contrast"))
"""Channels of which one at least shows that unnamed labels 1, 2 and 4 are a glioma's."""


PARTS: tuple[Part, ...] = ("edema", "core", "ET")
"""Those that every convention labels."""


class Glioma(NamedTuple):
    """Label values of a glioma's parts in one dataset."""

    values: Mapping[Part, tuple[int, ...]]
    """Those of each part that has a label."""

    def regions(self) -> dict[str, tuple[int, ...]]:
        """Return the values of the regions WT, TC and ET, as far as the labels tell them completely."""
        core = self._joined("TC", "core", "ET")
        has_core = "TC" in self.values or {"core", "ET"} <= self.values.keys()
        # Edema and core together are all; with a part of the core missing nobody knows whether it counts as background.
        has_whole = "WT" in self.values or ("edema" in self.values and has_core)
        found = {"WT": self._joined("WT", "edema", "TC", "core", "ET")} if has_whole else {}
        found |= {"TC": core} if has_core else {}
        return found | ({"ET": self.values["ET"]} if "ET" in self.values else {})

    def _joined(self, *parts: Part) -> tuple[int, ...]:
        joined: set[int] = set()
        for part in parts:
            joined.update(self.values.get(part, ()))
        return tuple(sorted(joined))


def part_of(name: str) -> Part | None:
    """Return the part of a glioma that a label of this name is, or None."""
    spelling = spelled(name)
    return next((part for part, known in SPELLINGS.items() if spelling in known), None)


def glioma_of(description: DatasetDescription) -> Glioma:
    """Return the parts of a glioma among a dataset's labels: by their names, or by the values of BraTS beside its channels."""
    foreground = description.foreground
    if has_brats_values(foreground) and any(meaning_of(one.name) in BRATS_CHANNELS for one in description.channels):
        return Glioma({part: (value,) for part, value in BRATS_VALUES.items()})
    found: dict[Part, tuple[int, ...]] = {}
    for name, value in foreground.items():
        if (part := part_of(name)) is not None:
            found[part] = (*found.get(part, ()), value)
    return Glioma(found)


def has_brats_values(foreground: Mapping[str, int]) -> bool:
    """Tell whether labels that are called by their values alone have just those of BraTS up to 2021."""
    return dict(foreground) == {f"label_{value}": value for value in sorted(BRATS_VALUES.values())}
