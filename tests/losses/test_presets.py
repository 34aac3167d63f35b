"""Presets are data that need no torch."""

import subprocess
import sys

import pytest

from tumorseg.errors import PlanError
from tumorseg.losses.presets import LOSS_PRESETS, deep_supervision_weights, loss_preset
from tumorseg.losses.registry import build_loss
from tumorseg.schema.losses import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    OverlapLoss,
    TverskyLoss,
)
from tumorseg.schema.targets import Targets

SPACING = (1.0, 1.0, 1.0)
CLASSES = Targets(label_values=(0, 1, 2), label_names=("background", "a", "b"), ignore_value=None)
REGIONS = CLASSES.model_copy(update={"region_names": ("ab", "b"), "regions": ((1, 2), (2,)), "region_values": (1, 2)})


def test_nnunets_weights_halve_and_end_in_0():
    assert deep_supervision_weights(1) == (1.0,)
    assert deep_supervision_weights(2) == (1.0, 0.0)
    assert deep_supervision_weights(4) == pytest.approx((4 / 7, 2 / 7, 1 / 7, 0))


@pytest.mark.parametrize("name", LOSS_PRESETS)
@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("targets", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_presets_are_sums_that_can_be_built(name, batch_dice, targets):
    spec = loss_preset(
        name, has_regions=targets.has_regions, batch_dice=batch_dice, deep_supervision_weights=(1.0, 0.0)
    )
    assert (spec.preset, spec.deep_supervision_weights) == (name, (1.0, 0.0))
    assert [component.batch for component in spec.components if isinstance(component, OverlapLoss)] == [batch_dice]
    assert len(build_loss(spec, targets, SPACING).terms) == len(spec.components) in (2, 3)


@pytest.mark.parametrize("name", ["dice_ce", "nnunet"])
def test_the_default_is_nnunets_loss(name):
    spec = loss_preset(name, has_regions=False, batch_dice=True, deep_supervision_weights=(1.0,))
    assert spec.components == (DiceLoss(batch=True), CrossEntropyLoss())
    spec = loss_preset(name, has_regions=True, batch_dice=False, deep_supervision_weights=(1.0,))
    assert spec.components == (DiceLoss(), BinaryCrossEntropyLoss())


def test_the_others_are_as_published():
    def components(name):
        return loss_preset(name, has_regions=False, batch_dice=False, deep_supervision_weights=(1.0,)).components

    assert components("dice_focal") == (DiceLoss(), FocalLoss(gamma=2.0))
    tversky = TverskyLoss(alpha=0.3, beta=0.7, gamma=0.75)
    assert components("focal_tversky") == (tversky, CrossEntropyLoss())


@pytest.mark.parametrize("name", LOSS_PRESETS)
def test_a_preset_says_in_one_sentence_when_to_use_it_and_where_it_is_from(name):
    assert LOSS_PRESETS[name].when.endswith(".")
    assert ". " not in LOSS_PRESETS[name].when
    assert "20" in LOSS_PRESETS[name].source


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(
        PlanError, match=r"'dice_focl'; known are dice_ce, dice_focal, dice_topk, focal_tversky, .*, nnunet"
    ):
        loss_preset("dice_focl", has_regions=False, batch_dice=False, deep_supervision_weights=(1.0,))


def test_presets_import_no_torch():
    code = "import sys, tumorseg.losses.presets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
