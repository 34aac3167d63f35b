"""Writes docs/losses.md and its picture from the catalogue and the benchmarks' results: `make losses-page`."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from tumorseg.losses.catalogue import list_losses, list_presets
from tumorseg.losses.registry import build_loss
from tumorseg.schema.losses import COMPONENTS, LossSpec
from tumorseg.schema.targets import Targets

ROOT = Path(__file__).parents[2]
PAGE, PICTURE = ROOT / "docs" / "losses.md", ROOT / "docs" / "losses.png"
RESULTS = ROOT / "benchmarks" / "results"
HEAD = """\
# Losses

A plan's loss is a weighted sum of components, at every resolution that the network is supervised at. Choose a preset,
or name components:

```console
$ tumorseg losses list
$ tumorseg plan -d MSD_Brain --set loss.preset=dice_focal
$ tumorseg plan -d MSD_Brain --set loss.preset=mine.json --set 'loss.components.0.weight={"name": "linear", "start": 1, "end": 0.5}'
```

`mine.json` is a preset of your own, checked against the plan's schema (docs/plan.schema.json, `LossPreset` fields):

```json
{
  "when": "thin vessels",
  "components": [
    {"name": "tversky", "alpha": 0.3, "beta": {"name": "cosine", "start": 0.5, "end": 0.8}},
    {"name": "cross_entropy", "class_weights": {"name": "inverse_frequency", "power": 0.5}, "label_smoothing": 0.05},
    {"name": "boundary", "weight": {"name": "warm_up", "value": 0.2, "until": 0.5}, "distance_maps": "loader"}
  ],
  "weighting": {"name": "uncertainty", "lr": 0.001}
}
```

The plan always holds every component and parameter. `log.jsonl` has the value and the weight of each component at every
epoch.
"""
NUMBERS = """\
## Numbers that move

Weights, and the parameters that `tumorseg losses list` marks with ~ (`alpha`, `beta`, `gamma`, `delta`, `balance`, `k`,
`label_smoothing`), may be schedules. Time is the fraction of the training that is done, so that a longer training moves
slower and not otherwise.

| schedule | value |
|---|---|
| `0.5` | constant |
| `{"name": "linear", "start": 1, "end": 0.5, "begin": 0.2, "until": 0.8}` | start until 20 % of the training, a line, end from 80 % on |
| `{"name": "cosine", "start": 1, "end": 0}` | the same along half a cosine |
| `{"name": "step", "steps": [1, 0.5, 0.1], "milestones": [0.5, 0.75]}` | the next value at each milestone |
| `{"name": "warm_up", "value": 1, "until": 0.1}` | from 0 to the value |

"The boundary's weight rises while Dice's falls" is two of them: `1 → 1 - w` and `0 → w`, as in preset
`dice_ce_boundary`.

## Weights that follow the training

`loss.weighting` multiplies the components' own weights; its state is in the checkpoint.

| name | factors | source |
|---|---|---|
| `fixed` | 1 | |
| `uncertainty` | exp(-s) with learnt log-variances s, Σs being added; an optimizer group of their own, rate `lr` | Kendall 2018 |
| `dynamic_average` | a softmax of how little each component fell between the last two epochs, mean 1 | Liu 2019 |
| `adaptive` | a softmax of a short running mean over a long one, at each step, mean 1, no less than `least` | |

## Class weights

`class_weights` of the cross-entropies: `{"name": "given", "values": [...]}` in the order of the network's outputs;
`inverse_frequency` (with a `power`); `effective_number` (with a `beta`). By frequency they count the voxels `of` the
`dataset`, which the planner writes into the plan as `voxels`, or those of each `batch`.

## What holds for all

- The loss is that of the whole batch, also where it goes through the network in parts (`gradient_accumulation`, or a
  plan for several GPUs on one): "batch" means all of it, and means are over all its supervised voxels.
- Voxels with the ignore label have no influence and no gradient; a patch without supervision has loss 0.
- A class that neither patch nor prediction shows has Dice 1; distances of a target that a patch does not show, or that
  fills it, are 0.
- Sums are float32 whatever the network's precision. Overlap and entropy of all components come from one pass over the
  logits, which keeps nothing but the logits for the backward pass.
- Distances are in mm of the configuration's spacing and cut off at `max_distance_mm`. `distance_maps: device` measures
  them after augmentation where the batch is; `loader` while batches are read, and turns them along with the image.
- MONAI's `DiceFocalLoss` and `GeneralizedDiceFocalLoss` take a sigmoid for the focal part even of exclusive classes;
  ours takes the softmax.
"""


def page() -> str:
    """Return docs/losses.md."""
    parts = [HEAD, *_presets(), NUMBERS, *_losses(), *_training(), *_speed()]
    return "\n".join(parts)


def _presets() -> Iterator[str]:
    yield "## Presets\n\n| preset | sum | when | source |\n|---|---|---|---|"
    for preset in list_presets():
        yield f"| `{preset['name']}` | {preset['sum']} | {preset['when']} | {preset['source']} |"
    yield ""


def _losses() -> Iterator[str]:
    yield "## Components\n\n| name | of | formula | range | source | adds to the shared pass |\n|---|---|---|---|---|---|"
    for loss in list_losses():
        cells = (loss["targets"], loss["formula"].replace("|", "\\|"), loss["range"], loss["source"], loss["cost"])
        yield f"| `{loss['name']}` | {' | '.join(cells)} |"
    yield (
        "\nWhere each pulls: the gradient with respect to the foreground's logit, for a prediction (dashed) that misses part of the\n"
        "reference (solid) and invents as much. Blue raises the logit, red lowers it; each picture by its own largest pull.\n\n"
        "![gradient of each loss](losses.png)\n"
    )
    yield "Parameters and defaults: `tumorseg losses list`.\n"


def _training() -> Iterator[str]:
    path = RESULTS / "losses_training.json"
    if not path.is_file():
        return
    found = json.loads(path.read_text())
    yield (
        "## What the presets train to\n\n"
        f"Task04_Hippocampus, fold 0, preset `fast_prototyping`, {found['iterations']} steps each, scores of {found['cases']} held-out cases at full\n"
        "resolution (means over both labels); one training each, so that differences of a few thousandths are chance. "
        f"`python -m benchmarks.losses training --epochs {found['epochs']}`\n"
    )
    yield "| preset | DSC | NSD | HD95 mm | epochs to 95 % of the best patch DSC |\n|---|---|---|---|---|"
    for row in found["rows"]:
        cells = (f"{row['dsc']:.4f}", f"{row['nsd']:.4f}", f"{row['hd95_mm']:.3f}", str(row["epochs_to_95_percent"]))
        yield f"| `{row['preset']}` | {' | '.join(cells)} |"
    yield f"\n{_machine(found)}\n"


def _speed() -> Iterator[str]:
    path = RESULTS / "losses_speed.json"
    if not path.is_file():
        return
    found = json.loads(path.read_text())
    yield (
        "## Time and memory\n\n"
        "Forward and backward pass of two patches in float32, by turns in one process, medians; memory is how far the process rose,\n"
        "gradient included. `python -m benchmarks.losses speed --peer FOLDER`, FOLDER holding nnunetv2 2.8.1. Times as fast and shares of\n"
        "the memory are those of the peer named.\n"
    )
    yield "| loss | classes x edge | ms | MiB | times as fast | share of memory |\n|---|---|---|---|---|---|"
    for row in found["rows"]:
        speedup = ", ".join(f"{value:.1f} ({name})" for name, value in row["speedup"].items()) or "no peer"
        memory = ", ".join(f"{value:.2f}" for value in row["memory_ratio"].values())
        name = row["loss"].replace("preset ", "preset `") + ("`" if row["loss"].startswith("preset") else "")
        yield f"| {name} | {row['classes']} x {row['edge']}³ | {row['ms']['ours']:.1f} | {row['mib']['ours']:.0f} | {speedup} | {memory} |"
    yield f"\n{_machine(found)}\n"


def _machine(found: dict) -> str:
    machine = found["machine"]
    return f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}, commit {machine['commit']}."


def gradients() -> dict[str, np.ndarray]:
    """Return the gradient with respect to the foreground's logit (64, 64) of each loss, on a disc that was predicted aside."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    reference = ((rows - 32).square() + (columns - 28).square() < 14**2).long()[None]
    inside = 14 - ((rows - 32).square() + (columns - 36).square()).sqrt()  # the prediction, 8 voxels to the right
    found = {}
    for name, record in COMPONENTS.items():
        has_regions = record.targets == "regions"
        targets = Targets(label_values=(0, 1), label_names=("background", "a"), ignore_value=None)
        if has_regions:
            targets = targets.model_copy(update={"region_names": ("a",), "regions": ((1,),), "region_values": (1,)})
        spec = LossSpec(preset=name, components=(record(weight=1.0),))
        logit = (inside / 2).clamp(-4, 4)
        logits = torch.stack([logit] if has_regions else [-logit / 2, logit / 2])[None].requires_grad_()
        build_loss(spec, targets, (1.0, 1.0))(logits, reference).total.backward()
        found[name] = logits.grad[0, -1].numpy()
    return found | {"": np.stack([reference[0].numpy(), (inside > 0).numpy()])}


def draw() -> None:
    """Write docs/losses.png."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    found = gradients()
    reference, prediction = found.pop("")
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    grid = figure.subplots(3, 5).ravel()
    for axes, (name, gradient) in zip(grid, found.items(), strict=False):
        limit = np.abs(gradient).max()
        axes.imshow(gradient, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        axes.contour(reference, [0.5], colors="black", linewidths=1)
        axes.contour(prediction, [0.5], colors="black", linewidths=1, linestyles="dashed")
        axes.set_title(name, fontsize=10)
    for axes in grid:
        axes.set_axis_off()
    figure.savefig(PICTURE, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    draw()
    PAGE.write_text(page(), encoding="utf-8")
