"""Make the frozen values and gradients of nnU-Net v2's losses; run where nnunetv2 2.8.1 is installed.

python make_losses.py    writes losses.pt beside this script
"""

from pathlib import Path

import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss, DC_and_topk_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.loss.robust_ce_loss import TopKLoss
from nnunetv2.utilities.helpers import softmax_helper_dim1

SPACE, CLASSES, IGNORED = (4, 6, 5), 4, 4


def dice(batch):
    return {"batch_dice": batch, "smooth": 1e-5, "do_bg": False, "ddp": False}


def regions(target):
    return torch.cat([target >= number for number in (1, 2, 3)], dim=1)


def losses():
    """Return each loss with the kind of its target: labels, those with an ignore label, or regions."""
    efficient = MemoryEfficientSoftDiceLoss
    return {
        "dice": (efficient(apply_nonlin=softmax_helper_dim1, **dice(False)), "labels"),
        "batch_dice": (efficient(apply_nonlin=softmax_helper_dim1, **dice(True)), "labels"),
        "dice_ce": (DC_and_CE_loss(dice(True), {}, dice_class=efficient), "labels"),
        "dice_ce_ignore": (DC_and_CE_loss(dice(False), {}, ignore_label=IGNORED, dice_class=efficient), "ignored"),
        "dice_bce": (DC_and_BCE_loss({}, {**dice(True), "do_bg": True}, dice_class=efficient), "regions"),
        "topk": (TopKLoss(k=10), "labels"),
        "dice_topk": (DC_and_topk_loss(dice(True) | {"smooth": 0.0}, {"k": 10}), "labels"),
    }


def main():
    """Write logits, targets, and each loss's value and gradient."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, CLASSES, *SPACE, generator=generator) * 2
    labels = torch.randint(0, CLASSES, (2, 1, *SPACE), generator=generator)
    ignored = torch.where(torch.rand(labels.shape, generator=generator) < 0.2, IGNORED, labels)
    targets = {"labels": labels, "ignored": ignored, "regions": regions(labels)}
    found = {}
    for name, (loss, kind) in losses().items():
        leaf = (logits[:, :3] if kind == "regions" else logits).clone().requires_grad_()
        value = loss(leaf, targets[kind])
        value.backward()
        found[name] = {"kind": kind, "value": value.detach(), "gradient": leaf.grad}
    outputs = [torch.randn(2, CLASSES, *space, generator=generator) for space in (SPACE, (4, 3, 5), (2, 3, 5))]
    coarse = [labels, labels[:, :, :, 1::2], labels[:, :, 1::2, 1::2]]
    deep = DeepSupervisionWrapper(losses()["dice_ce"][0], [4 / 7, 2 / 7, 1 / 7])
    kept = {"logits": logits, "labels": labels[:, 0], "ignored": ignored[:, 0], "losses": found}
    kept["deep"] = {"outputs": outputs, "value": deep(outputs, coarse)}
    torch.save(kept, Path(__file__).with_name("losses.pt"))


if __name__ == "__main__":
    main()
