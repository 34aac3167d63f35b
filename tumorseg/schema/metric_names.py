"""Every metric: what it is called, how it is shown, what it means, and what it is where a mask is empty."""

from typing import Literal, NamedTuple

Group = Literal["overlap", "surface", "centreline", "volume", "lesions", "panoptic"]

_ZERO = "One of P and R empty: 0. Both: undefined"
_SURFACE = "P or R empty: undefined"
_DEFINED = "Always defined"
_LESION_MEAN = "P empty: every lesion of R is missed. R empty: as `lesions` says of where no lesion of R counts"
_LESION_SHARE = "Nothing found, missed or invented: undefined. Nothing found: 0"
_PANOPTIC = "P and R both empty: undefined. No pair of components matches: 0"
_BRATS = "Saluja et al., BraTS 2023 performance metrics"


class Metric(NamedTuple):
    """One metric of a prediction P against its reference R."""

    group: Group
    title: str
    decimals: int
    """With which it is shown to people; files keep all."""
    better: Literal["higher", "lower", "nearer 0"]
    definition: str
    when_empty: str
    """What it is where P, R or both are empty."""
    source: str = ""
    """Paper or standard."""
    is_share: bool = False
    """Whether it lies between 0 and 1."""
    has_tolerance: bool = False
    """Whether it is measured at a tolerance, in mm."""

    @property
    def sign(self) -> int:
        """Return 1 where more is better, -1 where less is; of `nearer 0` the size counts, of which less is better."""
        return 1 if self.better == "higher" else -1


METRICS: dict[str, Metric] = {
    "dsc": Metric(
        *("overlap", "DSC", 3, "higher"),
        "Dice similarity coefficient, 2 |P ∩ R| / (|P| + |R|) over voxels of prediction P and reference R",
        _ZERO,
        "Dice, Ecology 1945",
        is_share=True,
    ),
    "iou": Metric(
        *("overlap", "IoU", 3, "higher"),
        "Intersection over union (Jaccard index), |P ∩ R| / |P ∪ R| over voxels",
        _ZERO,
        "Jaccard, New Phytologist 1912",
        is_share=True,
    ),
    "precision": Metric(
        *("overlap", "Precision", 3, "higher"),
        "Share of the voxels of P that are in R, |P ∩ R| / |P|",
        _ZERO,
        "Maier-Hein et al., Nature Methods 2024",
        is_share=True,
    ),
    "recall": Metric(
        *("overlap", "Recall", 3, "higher"),
        "Share of the voxels of R that are in P (sensitivity), |P ∩ R| / |R|",
        _ZERO,
        "Maier-Hein et al., Nature Methods 2024",
        is_share=True,
    ),
    "nsd": Metric(
        *("surface", "NSD", 3, "higher"),
        "Normalised surface distance: share of the border voxels of P and R together that lie within the tolerance of the other's "
        "border",
        _ZERO,
        "Nikolov et al., JMIR 2021",
        is_share=True,
        has_tolerance=True,
    ),
    "hd95_mm": Metric(
        *("surface", "HD95 (mm)", 2, "lower"),
        "95th percentile Hausdorff distance in mm: the larger of the 95th percentiles (linear between ranks) of the distances from P's "
        "border voxels to R's border and back",
        _SURFACE,
        "Huttenlocher et al., TPAMI 1993",
    ),
    "hd_mm": Metric(
        *("surface", "HD (mm)", 2, "lower"),
        "Hausdorff distance in mm: the largest distance from a border voxel of P or R to the other's border",
        _SURFACE,
        "Huttenlocher et al., TPAMI 1993",
    ),
    "assd_mm": Metric(
        *("surface", "ASSD (mm)", 2, "lower"),
        "Average symmetric surface distance in mm: the mean of the distances of all border voxels of P and R together to the other's "
        "border",
        _SURFACE,
        "Heimann et al., TMI 2009",
    ),
    "masd_mm": Metric(
        *("surface", "MASD (mm)", 2, "lower"),
        "Mean average surface distance in mm: the mean of the two directed mean distances between the borders of P and R",
        _SURFACE,
        "Maier-Hein et al., Nature Methods 2024",
    ),
    "boundary_iou": Metric(
        *("surface", "Boundary IoU", 3, "higher"),
        "Intersection over union of those voxels of P and of R that lie within the tolerance of a border voxel of their own mask",
        _ZERO,
        "Cheng et al., CVPR 2021",
        is_share=True,
        has_tolerance=True,
    ),
    "cl_dice": Metric(
        *("centreline", "clDice", 3, "higher"),
        "Centre-line Dice: the harmonic mean of the share of P's skeleton in R and the share of R's skeleton in P; skeletons by Lee's "
        "thinning, in a 2D image by Zhang's",
        f"{_ZERO}. Neither skeleton in the other mask: 0",
        "Shit et al., CVPR 2021",
        is_share=True,
    ),
    "volume_error_ml": Metric(
        *("volume", "Volume error (ml)", 2, "nearer 0"),
        "Volume of P minus volume of R in ml; below 0 the prediction is too small",
        _DEFINED,
    ),
    "false_positive_ml": Metric(
        *("volume", "False positive (ml)", 2, "lower"),
        "Volume in ml of the components of P (neighbours over faces and edges) that share no voxel with R",
        _DEFINED,
        "Gatidis et al., Scientific Data 2022 (autoPET)",
    ),
    "false_negative_ml": Metric(
        *("volume", "False negative (ml)", 2, "lower"),
        "Volume in ml of the components of R (neighbours over faces and edges) that share no voxel with P",
        _DEFINED,
        "Gatidis et al., Scientific Data 2022 (autoPET)",
    ),
    "lesion_dsc": Metric(
        *("lesions", "Lesion DSC", 3, "higher"),
        "Lesion-wise DSC: the mean over lesions of the DSC of a lesion of R and all of P that belongs to it, as `lesions` says",
        _LESION_MEAN,
        _BRATS,
        is_share=True,
    ),
    "lesion_hd95_mm": Metric(
        *("lesions", "Lesion HD95 (mm)", 2, "lower"),
        "Lesion-wise HD95 in mm: the mean over lesions of the HD95 of a lesion of R and all of P that belongs to it, between border "
        "voxels, as `lesions` says",
        _LESION_MEAN,
        _BRATS,
    ),
    "lesion_f1": Metric(
        *("lesions", "Lesion F1", 3, "higher"),
        "Detection: 2 TP / (2 TP + FP + FN) of lesions found (TP), invented (FP) and missed (FN)",
        _LESION_SHARE,
        _BRATS,
        is_share=True,
    ),
    "lesion_precision": Metric(
        *("lesions", "Lesion precision", 3, "higher"),
        "TP / (TP + FP) of lesions found and invented",
        _LESION_SHARE,
        _BRATS,
        is_share=True,
    ),
    "lesion_recall": Metric(
        *("lesions", "Lesion recall", 3, "higher"),
        "TP / (TP + FN) of lesions found and missed",
        _LESION_SHARE,
        _BRATS,
        is_share=True,
    ),
    "lesions_found": Metric(
        *("lesions", "Lesions found", 0, "higher"),
        "Lesions of R to which something of P belongs (TP)",
        _DEFINED,
        _BRATS,
    ),
    "lesions_missed": Metric(
        *("lesions", "Lesions missed", 0, "lower"),
        "Lesions of R to which nothing of P belongs (FN)",
        _DEFINED,
        _BRATS,
    ),
    "lesions_invented": Metric(
        *("lesions", "Lesions invented", 0, "lower"),
        "Lesions of P that belong to none of R (FP)",
        _DEFINED,
        _BRATS,
    ),
    "panoptic_quality": Metric(
        *("panoptic", "PQ", 3, "higher"),
        "Panoptic quality: segmentation quality times recognition quality",
        _PANOPTIC,
        "Kirillov et al., CVPR 2019",
        is_share=True,
    ),
    "segmentation_quality": Metric(
        *("panoptic", "SQ", 3, "higher"),
        "Mean IoU of the pairs of components (neighbours over faces, edges and corners) of P and R whose IoU is above 0.5",
        _PANOPTIC,
        "Kirillov et al., CVPR 2019",
        is_share=True,
    ),
    "recognition_quality": Metric(
        *("panoptic", "RQ", 3, "higher"),
        "2 TP / (2 TP + FP + FN) over components; TP: pairs of an IoU above 0.5",
        _PANOPTIC,
        "Kirillov et al., CVPR 2019",
        is_share=True,
    ),
}
"""In the order in which tables show them."""

DEFAULT_METRICS = ("dsc", "nsd", "hd95_mm", "volume_error_ml")
"""What is measured unless something else is asked for: cheap, and each says something that the others do not."""
GROUPS: tuple[Group, ...] = ("overlap", "surface", "centreline", "volume", "lesions", "panoptic")


def chosen_metrics(words: str) -> tuple[str, ...]:
    """Return the metrics that a list of names names, in the order of tables.

    Args:
        words: names of metrics and of groups, `default` and `all`, separated by commas.

    Raises:
        ValueError: there is no such metric or group.
    """
    chosen: set[str] = set()
    for word in (part.strip() for part in words.split(",")):
        if word in METRICS:
            chosen.add(word)
        elif word == "default":
            chosen.update(DEFAULT_METRICS)
        elif word == "all":
            chosen.update(METRICS)
        elif word in GROUPS:
            chosen.update(name for name, metric in METRICS.items() if metric.group == word)
        else:
            known = ", ".join(("default", "all", *GROUPS, *METRICS))
            raise ValueError(f"there is no metric {word!r}; choose of {known}")
    return tuple(name for name in METRICS if name in chosen)
