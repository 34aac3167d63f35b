"""Values and gradients of nnunetv2's own losses, frozen by tests/nnunet/make_losses.py."""

from pathlib import Path

import pytest
import torch

from tests.losses.built import CLASSES, REGIONS, loss_of
from tumorseg.schema.losses import BinaryCrossEntropyLoss, CrossEntropyLoss, DiceLoss, TopKLoss
from tumorseg.schema.targets import IGNORE

FROZEN = torch.load(Path(__file__).parents[1] / "nnunet" / "losses.pt", weights_only=True)
CASES = {
    "dice": ((DiceLoss(),), CLASSES),
    "batch_dice": ((DiceLoss(batch=True),), CLASSES),
    "dice_ce": ((DiceLoss(batch=True), CrossEntropyLoss()), CLASSES),
    "dice_ce_ignore": ((DiceLoss(), CrossEntropyLoss()), CLASSES),
    "dice_bce": ((DiceLoss(batch=True), BinaryCrossEntropyLoss()), REGIONS),
    "topk": ((TopKLoss(k=0.1),), CLASSES),
    "dice_topk": ((DiceLoss(batch=True, smooth=0.0), TopKLoss(k=0.1)), CLASSES),
}


def target_of(kind):
    if kind == "ignored":
        return torch.where(FROZEN["ignored"] == 4, IGNORE, FROZEN["ignored"])
    return FROZEN["labels"]


@pytest.mark.parametrize("name", FROZEN["losses"])
def test_values_and_gradients_are_nnunets(name):
    components, targets = CASES[name]
    frozen = FROZEN["losses"][name]
    logits = FROZEN["logits"][:, : targets.num_outputs].clone().requires_grad_()
    value = loss_of(*components, targets=targets)(logits, target_of(frozen["kind"])).total
    value.backward()
    from_dice = 1 if "dice" in name else 0  # nnU-Net's Dice loss is -dice
    torch.testing.assert_close(value - from_dice, frozen["value"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits.grad, frozen["gradient"], rtol=1e-5, atol=1e-7)


def test_deep_supervision_is_nnunets():
    loss = loss_of(DiceLoss(batch=True), CrossEntropyLoss(), deep_supervision_weights=(4.0, 2.0, 1.0))
    value = loss(FROZEN["deep"]["outputs"], FROZEN["labels"]).total
    torch.testing.assert_close(value - 1, FROZEN["deep"]["value"], rtol=1e-5, atol=1e-5)
