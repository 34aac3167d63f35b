"""How masks are scored: which metrics, at which tolerance, and what counts as a lesion."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.metric_names import DEFAULT_METRICS, METRICS
from tumorseg.schema.metrics import Amount

Connectivity = Literal[6, 18, 26]
"""Neighbours of a voxel: over faces; over edges too; over corners too."""


class LesionRules(Record):
    """What counts as a lesion, and what it costs to miss or to invent one. The defaults are those of BraTS 2023 for gliomas."""

    matching: Literal["touching", "one_to_one"] = "touching"
    """touching: every predicted component that touches a lesion, dilated, belongs to it. one_to_one: pairs of components, those of the
    largest sum of DSC."""
    connectivity: Connectivity = 26
    """Of components."""
    dilation_steps: int = Field(default=3, ge=0)
    """Steps over faces and edges by which lesions are dilated: those that meet are one, and what they meet of the prediction is theirs."""
    joins_predictions: bool = False
    """Whether predicted components that meet after the same dilation are one, too."""
    joined_through: tuple[str, ...] = ()
    """Structures, one after another: lesions that touch the same component of one (the first, where they touch several) are one, in P
    and in R. Structures that the case does not have join nothing."""
    smallest_mm3: Amount = 50.0
    """Lesions of the reference that are not larger are neither found nor missed, and are left out of the means. With `one_to_one` smaller
    ones are left out of the means, and count all the same."""
    smallest_predicted_mm3: Amount = 0.0
    """Predicted lesions that are not larger are taken for background."""
    counts_missed: bool = True
    """Whether missed lesions enter the means, with DSC 0 and the penalty."""
    counts_invented: bool = True
    """Whether predicted lesions that belong to none enter the means, with DSC 0 and the penalty."""
    penalty_mm: Amount | Literal["diagonal", "diagonal_voxels"] = 374.0
    """HD95 of a lesion that is missed or invented; or the image's diagonal, in mm or in voxels."""
    percentile: Literal["larger", "pooled"] = "larger"
    """HD95 of a lesion: the larger of both directions' percentiles, or the percentile of both directions' distances together."""
    if_none: Literal["perfect", "worst", "undefined"] = "perfect"
    """Means where no lesion of the reference counts. perfect: 1 and 0 mm unless invented ones enter. worst: undefined if none is invented,
    else 0 and the penalty. undefined: always undefined."""


class LesionPreset(NamedTuple):
    """Rules as a challenge published them."""

    rules: LesionRules
    when: str
    by_label: Mapping[str, LesionRules] = MappingProxyType({})
    """Of labels that have other rules, by the challenge's names."""


_GLI_2023 = LesionRules()
_MEN_2023 = _GLI_2023.changed(dilation_steps=1)
_JOINED = _GLI_2023.changed(joins_predictions=True)
_GLI_2024 = _JOINED.changed(smallest_mm3=20.0, smallest_predicted_mm3=20.0, penalty_mm=337.0)
_MET_2024 = _JOINED.changed(
    dilation_steps=1, smallest_mm3=2.0, smallest_predicted_mm3=2.0, penalty_mm="diagonal_voxels"
)
_SSA_2024 = _JOINED.changed(smallest_predicted_mm3=50.0)
_2025 = LesionRules(
    matching="one_to_one", dilation_steps=0, smallest_mm3=0.0, penalty_mm=373.0, percentile="pooled", if_none="worst"
)

LESION_PRESETS: dict[str, LesionPreset] = {
    "brats_gli": LesionPreset(_GLI_2023, "BraTS 2023, gliomas"),
    "brats_ssa": LesionPreset(_GLI_2023, "BraTS 2023, sub-Saharan Africa"),
    "brats_ped": LesionPreset(_GLI_2023, "BraTS 2023, children"),
    "brats_men": LesionPreset(_MEN_2023, "BraTS 2023 and 2024, meningiomas before surgery"),
    "brats_met": LesionPreset(_MEN_2023.changed(smallest_mm3=2.0), "BraTS 2023, metastases"),
    "brats_2024_gli": LesionPreset(
        _GLI_2024,
        "BraTS 2024, gliomas after treatment",
        {
            "ET": _GLI_2024.changed(smallest_mm3=10.0, smallest_predicted_mm3=10.0, joined_through=("NETC", "RC")),
            "NETC": _GLI_2024.changed(dilation_steps=5, joined_through=("ET", "RC")),
            "RC": _GLI_2024.changed(dilation_steps=5, joined_through=("ET", "NETC")),
            "SNFH": _GLI_2024.changed(joined_through=("ET", "RC", "NETC")),
        },
    ),
    "brats_2024_ssa": LesionPreset(
        _SSA_2024, "BraTS 2024, sub-Saharan Africa", {"ET": _SSA_2024.changed(joined_through=("NETC",))}
    ),
    "brats_2024_ped": LesionPreset(
        _JOINED.changed(dilation_steps=5, smallest_mm3=10.0, smallest_predicted_mm3=10.0), "BraTS 2024, children"
    ),
    "brats_2024_met": LesionPreset(
        _MET_2024, "BraTS 2024, metastases", {"ET": _MET_2024.changed(joined_through=("NETC",))}
    ),
    "brats_2024_men_rt": LesionPreset(
        _SSA_2024.changed(dilation_steps=1, counts_invented=False, penalty_mm="diagonal_voxels"),
        "BraTS 2024, meningiomas for radiotherapy",
    ),
    "brats_2025": LesionPreset(
        _2025.changed(counts_missed=False, counts_invented=False), "BraTS 2025, all but metastases"
    ),
    "brats_2025_met": LesionPreset(_2025.changed(smallest_mm3=20.0, if_none="undefined"), "BraTS 2025, metastases"),
    "plain": LesionPreset(
        LesionRules(dilation_steps=0, smallest_mm3=0.0, penalty_mm="diagonal", if_none="worst"),
        "components that overlap in a voxel or more belong together; every one counts",
    ),
}
"""By name."""


class ScoreRules(Record):
    """How masks are scored."""

    metrics: tuple[str, ...] = DEFAULT_METRICS
    """Names of `METRICS`, in the order of tables."""
    tolerance_mm: Amount = 1.0
    """Tolerance of the normalised surface distance, and of the boundary IoU."""
    tolerances_mm: dict[str, Amount] = Field(default_factory=dict)
    """Of labels and regions that have another one."""
    lesions: LesionRules = LESION_PRESETS["brats_gli"].rules
    """What counts as a lesion."""
    label_lesions: dict[str, LesionRules] = Field(default_factory=dict)
    """Of labels and regions that have other rules."""

    @model_validator(mode="after")
    def _check(self) -> "ScoreRules":
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown:
            raise ValueError(f"there is no metric {unknown[0]!r}; choose of {', '.join(METRICS)}")
        return self

    def tolerance_of(self, label: str) -> float:
        """Return the tolerance of a label or region, in mm."""
        return self.tolerances_mm.get(label, self.tolerance_mm)

    def lesions_of(self, label: str) -> LesionRules:
        """Return what counts as a lesion of a label or region."""
        return self.label_lesions.get(label, self.lesions)


def lesion_preset(name: str) -> LesionPreset:
    """Return the rules of a preset.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in LESION_PRESETS:
        raise ValueError(f"there are no rules for lesions called {name!r}; choose of {', '.join(LESION_PRESETS)}")
    return LESION_PRESETS[name]
