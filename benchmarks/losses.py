"""Losses: time and memory of a forward and backward pass against MONAI's and nnU-Net's, and what each preset trains to.

python -m benchmarks.losses speed --peer SITE      SITE: a folder with nnunetv2, such as `pip install --target` makes
python -m benchmarks.losses training --data-root DATA --epochs 40
"""

import argparse
import ctypes
import json
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from benchmarks.hippocampus import tumorseg
from benchmarks.machine import machine
from tumorseg.losses.compound import CompoundLoss
from tumorseg.losses.presets import LOSS_PRESETS, loss_preset
from tumorseg.losses.registry import build_loss
from tumorseg.schema.losses import COMPONENTS, LossSpec
from tumorseg.schema.targets import Targets

RESULTS = Path(__file__).parent / "results"
SIZES = ((3, 64), (3, 128), (14, 64))
"""Classes and edge of two patches."""
MOST_ROUNDS, MOST_S = 15, 20.0
NEAR = 0.95
"""Share of the best DSC of an epoch's patches at which a training counts as converged."""
Loss = Callable[[Tensor, Tensor], Tensor]


class Contest(NamedTuple):
    """A loss of ours, and the same of others."""

    name: str
    components: tuple[dict[str, Any], ...] | str
    """Components, or a preset's name."""
    peers: dict[str, Loss]
    regions: bool = False
    classes: int | None = None
    """If it can be compared for so many only."""


def contests() -> list[Contest]:
    """Return every loss and preset with what others have of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai import losses as monai
        from nnunetv2.training.loss import compound_losses as compound
        from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss as Efficient
        from nnunetv2.training.loss.robust_ce_loss import TopKLoss
        from nnunetv2.utilities.helpers import softmax_helper_dim1

        hot: dict[str, Any] = {"to_onehot_y": True, "softmax": True}
        plain: dict[str, Any] = {"include_background": False, "smooth_nr": 1e-5, "smooth_dr": 1e-5} | hot
        theirs: dict[str, Any] = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
        top = TopKLoss(k=10)
        dice_top = compound.DC_and_topk_loss(dict(theirs), {"k": 10})
        focal = monai.FocalLoss(to_onehot_y=True, use_softmax=True, gamma=2.0)

    def monais(loss: Any) -> Loss:
        return lambda logits, target: loss(logits, target[:, None])

    def with_entropy(loss: Any) -> Loss:
        return lambda logits, target: loss(logits, target[:, None]) + F.cross_entropy(logits, target)

    def with_focal(loss: Any) -> Loss:
        return lambda logits, target: with_entropy(loss)(logits, target) + focal(logits, target[:, None])

    def with_boundary(loss: Loss) -> Loss:
        return lambda logits, target: loss(logits, target) + written_boundary(logits, target)

    efficient = Efficient(apply_nonlin=softmax_helper_dim1, **theirs)
    dice_ce = {
        "nnU-Net": monais(compound.DC_and_CE_loss(dict(theirs), {}, dice_class=Efficient)),
        "MONAI": monais(monai.DiceCELoss(**plain)),
    }
    tversky = monai.TverskyLoss(alpha=0.3, beta=0.7, **plain)
    monai_dice_ce, torch_entropy = dice_ce["MONAI"], F.cross_entropy
    return [
        Contest("dice", ({"name": "dice"},), {"nnU-Net": monais(efficient), "MONAI": monais(monai.DiceLoss(**plain))}),
        Contest(
            "dice, squared",
            ({"name": "dice", "denominator": "squared"},),
            {"MONAI": monais(monai.DiceLoss(squared_pred=True, **plain))},
        ),
        Contest(
            "generalized_dice", ({"name": "generalized_dice"},), {"MONAI": monais(monai.GeneralizedDiceLoss(**hot))}
        ),
        Contest("jaccard", ({"name": "jaccard"},), {"MONAI": monais(monai.DiceLoss(jaccard=True, **plain))}),
        Contest("tversky", ({"name": "tversky"},), {"MONAI": monais(tversky)}),
        Contest("unified_focal", ({"name": "unified_focal"},), {"MONAI": unified(monai)}, classes=2),
        Contest("cross_entropy", ({"name": "cross_entropy"},), {"torch": torch_entropy}),
        Contest("binary_cross_entropy", ({"name": "binary_cross_entropy"},), {"torch": binary_entropy}, regions=True),
        Contest("focal", ({"name": "focal"},), {"MONAI": monais(focal)}),
        Contest("topk", ({"name": "topk"},), {"nnU-Net": monais(top)}),
        Contest("ohem", ({"name": "ohem"},), {"nnU-Net's TopK": monais(top)}),
        Contest(
            "cross_entropy + nacl",
            ({"name": "cross_entropy"}, {"name": "nacl"}),
            {"MONAI": lambda logits, target: nacl(monai, logits, target)},
        ),
        Contest("boundary", ({"name": "boundary"},), {"written out": written_boundary}),
        Contest(
            "hausdorff",
            ({"name": "hausdorff", "max_distance_mm": None},),
            {"MONAI": monais(monai.HausdorffDTLoss(include_background=False, **hot))},
        ),
        Contest("surface_dice", ({"name": "surface_dice"},), {}),
        Contest("preset dice_ce", "dice_ce", dice_ce),
        Contest("preset nnunet", "nnunet", dice_ce),
        Contest("preset dice_focal", "dice_focal", {"MONAI": monais(monai.DiceFocalLoss(gamma=2.0, **plain))}),
        Contest("preset dice_topk", "dice_topk", {"nnU-Net": monais(dice_top)}),
        Contest("preset focal_tversky", "focal_tversky", {"MONAI + torch": with_entropy(tversky)}),
        Contest(
            "preset generalized_dice_focal",
            "generalized_dice_focal",
            {"MONAI": monais(monai.GeneralizedDiceFocalLoss(gamma=2.0, **hot))},
        ),
        Contest("preset dice_ce_boundary", "dice_ce_boundary", {"MONAI + written out": with_boundary(monai_dice_ce)}),
        Contest(
            "preset tversky_boundary", "tversky_boundary", {"MONAI + written out": with_boundary(with_entropy(tversky))}
        ),
        Contest(
            "preset adaptive_combined", "adaptive_combined", {"MONAI + torch": with_focal(monai.DiceLoss(**plain))}
        ),
    ]


def unified(monai: Any) -> Loss:
    """Return MONAI's unified focal loss, which takes probabilities."""
    loss = monai.AsymmetricUnifiedFocalLoss(to_onehot_y=True)
    return lambda logits, target: loss(logits.softmax(1), target[:, None])


def binary_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return torch's cross-entropy of one region for each class but the first."""
    masks = torch.stack([target >= number for number in range(1, logits.shape[1] + 1)], dim=1)
    return F.binary_cross_entropy_with_logits(logits, masks.float())


def nacl(monai: Any, logits: Tensor, target: Tensor) -> Tensor:
    """Return MONAI's cross-entropy with its penalty."""
    value: Tensor = monai.NACLLoss(classes=logits.shape[1], dim=3)(logits, target)
    return value


def written_boundary(logits: Tensor, target: Tensor) -> Tensor:
    """Return the boundary loss as its authors write it: scipy's distances of a one-hot reference, times a softmax."""
    masks = F.one_hot(target, logits.shape[1]).movedim(-1, 1).numpy().astype(bool)
    fields = np.zeros(masks.shape, np.float32)
    for index in np.ndindex(masks.shape[:2]):
        if index[1] and masks[index].any():
            outside, inside = (ndimage.distance_transform_edt(kind) for kind in (~masks[index], masks[index]))
            fields[index] = outside - inside
    return (logits.softmax(1)[:, 1:] * torch.from_numpy(fields)[:, 1:]).mean()


def ours(contest: Contest, classes: int) -> Loss:
    """Build a loss of ours, to be called as others are."""
    loss = built(contest, classes)
    return lambda logits, target: loss(logits, target).total


def built(contest: Contest, classes: int) -> CompoundLoss:
    """Build a loss of ours, for so many outputs."""
    count = classes if not contest.regions else classes + 1
    names = tuple(f"c{number}" for number in range(count))
    targets = Targets(label_values=tuple(range(count)), label_names=names, ignore_value=None)
    if contest.regions:
        regions = tuple(tuple(range(number, count)) for number in range(1, count))
        update = {"region_names": names[1:], "regions": regions, "region_values": tuple(range(1, count))}
        targets = targets.model_copy(update=update)
    if isinstance(contest.components, str):
        spec = loss_preset(contest.components, has_regions=False, batch_dice=False, deep_supervision_weights=(1.0,))
    else:
        spec = LossSpec.model_validate({"preset": "benchmark", "components": contest.components})
    loss = build_loss(spec, targets, (1.0, 1.0, 1.0))
    loss.progress = 0.5
    return loss


def batch(classes: int, edge: int, labels: int) -> tuple[Tensor, Tensor]:
    """Return logits and blobs of labels, as a network and a patch have them."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 1, *(edge // 8,) * 3, generator=generator)
    smooth = F.interpolate(noise, (edge,) * 3, mode="trilinear")[:, 0]
    limits = torch.quantile(smooth.flatten()[::7], torch.linspace(0.4, 0.95, labels - 1))
    return torch.randn(2, classes, *(edge,) * 3, generator=generator), torch.bucketize(smooth, limits)


def seconds_of(loss: Loss, logits: Tensor, target: Tensor) -> float:
    """Time one forward and backward pass."""
    leaf = logits.clone().requires_grad_()
    started = time.perf_counter()
    loss(leaf, target).backward()  # type: ignore[no-untyped-call]
    return time.perf_counter() - started


def peak_bytes(loss: Loss, logits: Tensor, target: Tensor) -> int:
    """Return how far the process's memory rises in a forward and backward pass, the gradient included."""
    leaf = logits.clone().requires_grad_()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    loss(leaf, target).backward()  # type: ignore[no-untyped-call]
    return _status("VmHWM") - before


def _status(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def compare(contest: Contest, classes: int, edge: int) -> dict[str, Any]:
    """Run a loss and its peers by turns; return medians and ratios."""
    count = classes - 1 if contest.regions else classes
    logits, target = batch(count, edge, classes)
    contenders: dict[str, Loss] = {"ours": ours(contest, count)} | contest.peers
    memory = {name: peak_bytes(loss, logits, target) for name, loss in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    started = time.perf_counter()
    for _ in range(MOST_ROUNDS):
        for name, loss in contenders.items():
            times[name].append(seconds_of(loss, logits, target))
        if time.perf_counter() - started > MOST_S and len(times["ours"]) >= 2:
            break
    medians = {name: float(np.median(found)) for name, found in times.items()}
    row: dict[str, Any] = {"loss": contest.name, "classes": classes, "edge": edge, "rounds": len(times["ours"])}
    row |= {"ms": {name: round(value * 1e3, 2) for name, value in medians.items()}}
    row |= {"mib": {name: round(value / 2**20, 1) for name, value in memory.items()}}
    row["speedup"] = {name: round(medians[name] / medians["ours"], 2) for name in contest.peers}
    row["memory_ratio"] = {name: round(memory["ours"] / memory[name], 2) for name in contest.peers}
    return row


def speed(peer: Path) -> dict[str, Any]:
    """Measure every loss and preset."""
    sys.path.append(str(peer))
    rows = []
    for classes, edge in SIZES:
        for contest in contests():
            if contest.classes is None or classes == 3:
                rows.append(compare(contest, contest.classes or classes, edge))
                print(json.dumps(rows[-1]), flush=True)
    measured = {row["loss"] for row in rows}
    assert {f"preset {name}" for name in LOSS_PRESETS} <= measured
    assert all(any(name in loss for loss in measured) for name in COMPONENTS)
    return {"threads": torch.get_num_threads(), "rows": rows}


def training(data_root: Path, epochs: int) -> dict[str, Any]:
    """Train fold 0 of Task04_Hippocampus with each preset, for the same number of steps, and score its held-out cases."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        roots = ["--data-root", str(data_root), "--work", f"{folder}/runs"]
        for name in LOSS_PRESETS:
            plan = f"{folder}/{name}.json"
            length = ["--set", f"training.epochs={epochs}"]
            planning = ["plan", "-d", "MSD_Hippocampus", "--preset", "fast_prototyping", "--set", f"loss.preset={name}"]
            tumorseg(*roots, *planning, *length, "-o", plan)
            tumorseg(*roots, "preprocess", "-p", plan)
            started = time.perf_counter()
            trained = tumorseg(*roots, "train", "-p", plan, "--fold", "0")
            rows.append(summary(name, trained, time.perf_counter() - started))
            print(json.dumps(rows[-1]), flush=True)
    return {"epochs": epochs, "iterations": rows[0]["iterations"], "cases": rows[0]["cases"], "rows": rows}


def summary(name: str, trained: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return the scores of a fold, and how soon it came near its best."""
    found = trained["metrics"]["summary"]
    log = [json.loads(line) for line in (Path(trained["folder"]) / "log.jsonl").read_text().splitlines()]
    dsc = [float(np.mean([value for value in entry["dsc"].values() if value is not None] or [0.0])) for entry in log]
    near = next(number for number, value in enumerate(dsc, start=1) if value >= NEAR * max(dsc))
    metrics = ("dsc", "nsd", "hd95_mm")
    means = {metric: round(float(np.mean([of[metric]["mean"] for of in found.values()])), 4) for metric in metrics}
    labels = {label: round(of["dsc"]["mean"], 4) for label, of in found.items()}
    cases = len({case["case_id"] for case in trained["metrics"]["cases"]})
    row = {"preset": name, "iterations": log[-1]["iteration"], "dsc_by_label": labels, "seconds": round(seconds)}
    return row | means | {"cases": cases, "epochs_to_95_percent": near}


def main() -> None:
    """Run one part and keep its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["speed", "training"])
    parser.add_argument("--peer", type=Path, help="folder with nnunetv2")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--epochs", type=int, default=40)
    arguments = parser.parse_args()
    if arguments.part == "speed" and arguments.peer is None:
        parser.error("speed compares with nnunetv2; give --peer")
    result = speed(arguments.peer) if arguments.part == "speed" else training(arguments.data_root, arguments.epochs)
    result = {"machine": machine()} | result
    (RESULTS / f"losses_{arguments.part}.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
