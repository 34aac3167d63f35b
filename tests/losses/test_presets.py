"""Presets are data that need no torch."""

import subprocess
import sys

import pytest

from tumorseg.errors import PlanError
from tumorseg.losses.presets import LOSS_PRESETS, deep_supervision_weights, loss_preset
from tumorseg.schema.losses import BinaryCrossEntropyLoss, CrossEntropyLoss, DiceLoss


def test_nnunets_weights_halve_and_end_in_0():
    assert deep_supervision_weights(1) == (1.0,)
    assert deep_supervision_weights(2) == (1.0, 0.0)
    assert deep_supervision_weights(4) == pytest.approx((4 / 7, 2 / 7, 1 / 7, 0))


@pytest.mark.parametrize("name", LOSS_PRESETS)
@pytest.mark.parametrize("batch_dice", [False, True])
def test_presets_hold_every_component(name, batch_dice):
    spec = loss_preset(name, has_regions=False, batch_dice=batch_dice, deep_supervision_weights=(1.0, 0.0))
    assert spec.preset == name
    assert spec.components == (DiceLoss(batch=batch_dice), CrossEntropyLoss())
    assert spec.deep_supervision_weights == (1.0, 0.0)


@pytest.mark.parametrize("name", LOSS_PRESETS)
def test_regions_take_the_binary_cross_entropy(name):
    spec = loss_preset(name, has_regions=True, batch_dice=False, deep_supervision_weights=(1.0,))
    assert spec.components == (DiceLoss(), BinaryCrossEntropyLoss())


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(PlanError, match="'dice_focl'; known are dice_ce, nnunet"):
        loss_preset("dice_focl", has_regions=False, batch_dice=False, deep_supervision_weights=(1.0,))


def test_presets_import_no_torch():
    code = "import sys, tumorseg.losses.presets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
