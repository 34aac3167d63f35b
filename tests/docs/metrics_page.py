"""Writes docs/metrics.md and its picture from the words of the metrics, frozen values and the benchmark: `python -m tests.docs.metrics_page`."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.ops.metrics import cases
from tumorseg.ops.distances import border_voxels
from tumorseg.ops.metrics.case import score_mask
from tumorseg.ops.metrics.definitions import lesion_words
from tumorseg.ops.metrics.pairs import MaskPair
from tumorseg.ops.metrics.surfaces import hausdorff_95, pooled_hausdorff_95
from tumorseg.schema.metric_names import DEFAULT_METRICS, METRICS
from tumorseg.schema.score_rules import LESION_PRESETS, ScoreRules

ROOT = Path(__file__).parents[2]
PAGE, PICTURE = ROOT / "docs" / "metrics.md", ROOT / "docs" / "metrics.png"
FROZEN = ROOT / "tests" / "ops" / "metrics" / "frozen.json"
RESULT = ROOT / "benchmarks" / "results" / "metrics.json"
CUBE = (1.0, 1.0, 1.0)
WITHOUT = {"perfect": "1, 0 mm", "worst": "undefined", "undefined": "undefined, whatever is invented"}
HEAD = """\
# Metrics

```console
$ tumorseg evaluate -i PREDICTIONS -r REFERENCES -o DIR                       # {default}
$ tumorseg evaluate … --metrics default,lesions,iou --lesions brats_2024_met  # groups and names
$ tumorseg evaluate … --metrics all --tolerance ET=0.5
```

P is the prediction, R the reference. Every metrics.json says in `definitions` what its figures mean, with the tolerance, the rules for lesions
and the rules for empty masks that were in force. What is undefined is null and left out of means.

| metric | group | what it is | where masks are empty | after |
|---|---|---|---|---|
"""
SHARED = """
- **Border**: voxels of a mask with a face neighbour outside of it; beyond the image's edge is outside. In a 2D image (one slice) borders lie
  within the plane.
- **Distances** are Euclidean, in mm of the spacing, between voxel centres. They are exact: searched among border voxels, or, where a box is
  full of these or masks hardly meet, taken from a distance transform in float32.
- **Ignored voxels** of the reference count in neither mask.
- **Components**: neighbours over faces, edges and corners (26) for lesions and panoptic quality; over faces and edges (18) for false-positive
  and false-negative volumes, as in autoPET.

## Lesions

`--lesions` names what counts as a lesion; metrics.json has it in words under `lesions`. With `brats_gli`, the default:

> {words}

| rules | from | R dilated | P too | smallest of R | smallest of P | a miss in HD95 | enter the means | without lesions in R |
|---|---|---|---|---|---|---|---|---|
"""
OTHERS = """
BraTS 2024 has rules by label, and joins lesions of one label through another: `brats_2024_gli`, `brats_2024_ssa` and `brats_2024_met` do so
for labels or regions called `ET`, `NETC`, `RC` and `SNFH`. Thresholds are volumes; the scripts of 2024 count voxels of a prediction, which is
the same at 1 mm. A volume within 1e-5 of a threshold is on it, so that the last digits of a spacing decide nothing. In 2023 and 2024, P and R
without any lesion are DSC 1 and HD95 0 mm.

## Where others differ

Frozen or live, the tests hold each metric against other packages. Where the definitions are equal, figures are to 1e-6 of their size, but for two of
MONAI's: its HD95 computes the rank of the percentile in float32, so that with n border voxels it is that of a rank up to 1.5e-7 n away from ours (in
the tests, of up to 1,100 border voxels, 2e-5); and its NSD compares float32 distances, so that one that equals the tolerance may fall on
either side (the tests allow a thousandth of the tolerance).

| package | equal | differs |
|---|---|---|
| MONAI 1.6 | DSC, IoU, NSD, HD95, HD, ASSD (`symmetric=True`), MASD (mean of both directions), PQ, SQ, RQ | undefined values are NaN or infinite; HD95 to 2e-5 alone, and NSD to ties, as above |
| SimpleITK | overlap, HD | its average Hausdorff distance measures voxels of masks, not of borders |
| MedPy 0.5.2 | DSC, IoU, precision, recall, HD, ASSD | HD95 pools both directions: half as sensitive to what one mask alone has |
| panoptica 2.1.7 | PQ, SQ, RQ, DSC, IoU, HD, clDice | its ASSD is our MASD; HD95 as MedPy's; an IoU of just 0.5 matches, with us (as with Kirillov and MONAI) it does not |
| surface-distance | DSC | surface elements between voxels, weighted by their area, in place of border voxels |
| autoPET | false-positive and false-negative volume | |
| BraTS 2023, 2024 | lesion-wise DSC, TP, FP, FN; HD95 if measured between border voxels | their HD95 is surface-distance's |
| BraTS 2025 (brats-evaluation 0.0.10) | lesion-wise DSC and HD95, TP, FP, FN | where nothing of a structure matches, its HD95 is infinite; here 373 mm, as in its tables |
| boundary IoU of Cheng et al. | | they erode by a share of the image's diagonal, in pixels; here the depth is the tolerance, in mm |

![three definitions that differ](metrics.png)

Left: border voxels (dots) as here, in MONAI, MedPy and panoptica, and the points of surface-distance (crosses), which lie between voxels. From
voxel to voxel the masks are 3 mm apart, from point to point 2 mm: masks that lie beside each other are up to a voxel further apart here, masks
within each other as far. Middle: a prediction (dashed) with a
speck far away; HD95 is {larger:.1f} mm as the larger of both directions, and {pooled:.1f} mm pooled. Right: one pair of masks by three rules
for lesions.
"""


def page() -> str:
    """Return docs/metrics.md."""
    facts = percentiles()
    others = OTHERS.format(larger=facts["larger"], pooled=facts["pooled"])
    head = HEAD.format(default=", ".join(DEFAULT_METRICS))
    shared = SHARED.format(words=lesion_words(LESION_PRESETS["brats_gli"].rules))
    parts = [head + "\n".join(_metrics()), shared + "\n".join(_presets()), others, *_surfels(), *_speed()]
    return "\n".join(parts)


def _metrics() -> Iterator[str]:
    for name, metric in METRICS.items():
        cells = (metric.group, metric.definition, metric.when_empty, metric.source)
        yield f"| `{name}` | {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _presets() -> Iterator[str]:
    for name, (rules, when, by_label) in LESION_PRESETS.items():
        joined = "; by label" if by_label else ""
        steps = f"{rules.dilation_steps} x" if rules.dilation_steps else "no"
        entering = {"found": True, "missed": rules.counts_missed, "invented": rules.counts_invented}
        cells = (
            *(f"`{name}`", f"{when}{joined}", "pairs" if rules.matching == "one_to_one" else steps),
            "yes" if rules.joins_predictions else "no",
            *(f"{limit:g} mm³" for limit in (rules.smallest_mm3, rules.smallest_predicted_mm3)),
            str(rules.penalty_mm).replace("_", " in ")
            if isinstance(rules.penalty_mm, str)
            else f"{rules.penalty_mm:g} mm",
            ", ".join(kind for kind, enters in entering.items() if enters),
            WITHOUT[rules.if_none],
        )
        yield f"| {' | '.join(cells)} |"


def _surfels() -> Iterator[str]:
    rows = json.loads(FROZEN.read_text())["pairs"]
    rules = ScoreRules(metrics=("hd95_mm", "hd_mm", "masd_mm", "nsd"), tolerance_mm=1.5)
    yield (
        f"Against surface-distance on {len(rows)} pairs of masks of {' x '.join(f'{edge:g}' for edge in cases.ANISOTROPIC)} mm, difference of ours:\n"
    )
    yield "| | mean | from | to |\n|---|---|---|---|"
    found = [score_mask(*cases.pair(n), spacing_mm=cases.ANISOTROPIC, rules=rules).scores for n in range(len(rows))]
    for name in rules.metrics:
        gaps = [ours[name] - row["surface_distance"][name] for ours, row in zip(found, rows, strict=True)]
        # A 0 is added, so that what rounds to 0 has one sign.
        cells = [f"{round(float(gap), 3) + 0.0:+.3f}" for gap in (np.mean(gaps), min(gaps), max(gaps))]
        yield f"| {METRICS[name].title} | {' | '.join(cells)} |"
    yield ""


def _speed() -> Iterator[str]:
    if not RESULT.is_file():
        return
    found = json.loads(RESULT.read_text())
    speed, memory, machine = found["speed"], found["memory"], found["machine"]
    yield (
        "## Time and memory\n\n"
        f"`python -m benchmarks.metrics`: a tumour of three regions in {' x '.join(map(str, speed['shape']))} voxels, seconds of one core, and\n"
        f"{len(memory['resident_mib_after'])} looks at the memory over {memory['records'] // 3:,} smaller cases with all metrics but clDice.\n"
    )
    yield "| what | s |\n|---|---|"
    for name, seconds in speed["seconds"].items():
        yield f"| {name} | {seconds:.2f} |"
    yield f"\nHD95 and NSD are {speed['speedup']:g} times as fast as MONAI's; all but clDice take {speed['cost_of_all']:g} times as long as DSC, NSD and HD95."
    after = ", ".join(
        f"{mib:g} MiB after {number}"
        for number, mib in sorted(memory["resident_mib_after"].items(), key=lambda row: int(row[0]))
    )
    yield f"Memory: {after}.\n\n{machine['cpu']}, {machine['cores']} cores, python {machine['python']}, commit {machine['commit']}.\n"


def plane(*boxes: tuple[int, int, int, int], shape: tuple[int, int]) -> np.ndarray:
    """Return a 2D mask (1, Y, X) of boxes from Y to Y and from X to X."""
    mask = np.zeros((1, *shape), dtype=bool)
    for top, bottom, left, right in boxes:
        mask[0, top:bottom, left:right] = True
    return mask


def speckled() -> tuple[np.ndarray, np.ndarray]:
    """Return a prediction with a speck far away, and its reference, (1, Y, X)."""
    shape = (24, 46)
    return plane((5, 17, 6, 18), (11, 13, 38, 40), shape=shape), plane((6, 19, 5, 18), shape=shape)


def percentiles() -> dict[str, float]:
    """Return HD95 of the speckled prediction by two definitions."""
    distances = MaskPair(*speckled(), spacing_mm=CUBE).distances
    return {"larger": hausdorff_95(*distances), "pooled": pooled_hausdorff_95(*distances)}


def lesioned() -> tuple[np.ndarray, np.ndarray]:
    """Return a prediction and a reference, (1, Y, X), of lesions that rules see differently."""
    shape = (34, 46)
    reference = plane((3, 13, 3, 15), (3, 13, 18, 26), (22, 31, 6, 16), (22, 31, 34, 42), shape=shape)
    prediction = plane((4, 13, 4, 24), (24, 31, 19, 26), (21, 31, 33, 42), (3, 9, 36, 43), shape=shape)
    return prediction, reference


def lesion_rows() -> dict[str, tuple[float, ...]]:
    """Return found, missed and invented lesions and lesion-wise DSC by rules."""
    names = ("lesions_found", "lesions_missed", "lesions_invented", "lesion_dsc")
    rows = {}
    for preset in ("brats_gli", "brats_2025", "plain"):
        rules = ScoreRules(metrics=names, lesions=LESION_PRESETS[preset].rules)
        scores = score_mask(*lesioned(), spacing_mm=CUBE, rules=rules).scores
        rows[preset] = tuple(float(scores[name] or 0) for name in names)
    return rows


def draw() -> None:
    """Write docs/metrics.png."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    borders, specks, lesions = figure.subplots(1, 3)
    reference = plane((2, 10, 2, 8), shape=(12, 20))
    reference[0, 5, 5] = False
    prediction = plane((2, 10, 10, 17), shape=(12, 20))
    show(borders, prediction, reference)
    for mask, colour in ((reference, "black"), (prediction, "tab:blue")):
        borders.plot(*np.argwhere(border_voxels(mask)[0])[:, ::-1].T, ".", color=colour, markersize=6)
        borders.plot(*corners(mask[0]).T, "x", color="tab:orange", markersize=5)
    borders.set_title("border voxels, and surface elements", fontsize=10)
    show(specks, *speckled())
    found = percentiles()
    specks.set_title(f"HD95 {found['larger']:.1f} mm, pooled {found['pooled']:.1f} mm", fontsize=10)
    show(lesions, *lesioned())
    words = [
        f"{name}: {hit:.0f} found, {miss:.0f} missed, {more:.0f} invented, DSC {dsc:.2f}"
        for name, (hit, miss, more, dsc) in lesion_rows().items()
    ]
    lesions.set_title("\n".join(words), fontsize=9)
    figure.savefig(PICTURE, dpi=110, metadata={"Software": None})


def show(axes, prediction: np.ndarray, reference: np.ndarray) -> None:
    """Draw a reference filled and solid, a prediction dashed."""
    axes.imshow(np.where(reference[0], 0.75, 1.0), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.contour(
        np.kron(prediction[0], np.ones((8, 8))),
        [0.5],
        colors="tab:blue",
        linestyles="dashed",
        extent=extent(prediction),
    )
    axes.contour(np.kron(reference[0], np.ones((8, 8))), [0.5], colors="black", linewidths=1, extent=extent(reference))
    axes.set_axis_off()


def extent(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Return the edges of an image in its voxels."""
    return (-0.5, mask.shape[2] - 0.5, -0.5, mask.shape[1] - 0.5)


def corners(mask: np.ndarray) -> np.ndarray:
    """Return where four pixels meet that are not all alike, (N, 2) as X and Y: the points of surface-distance."""
    wide = np.pad(mask, 1).astype(int)
    around = wide[1:, 1:] + wide[1:, :-1] + wide[:-1, 1:] + wide[:-1, :-1]
    return np.argwhere((around > 0) & (around < 4))[:, ::-1] - 0.5


if __name__ == "__main__":
    draw()
    PAGE.write_text(page(), encoding="utf-8")
