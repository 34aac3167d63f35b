"""Losses of other packages, through real entry points."""

import pytest
import torch
from torch.nn import functional as F

from tumorseg.errors import PlanError
from tumorseg.losses.registry import build_loss
from tumorseg.schema.losses import ExternalLoss, LossSpec
from tumorseg.schema.targets import Targets

MODULE = """
from torch import nn

def build(parameters, *, targets):
    return nn.CrossEntropyLoss(ignore_index=-1, label_smoothing=parameters["smoothing"] / targets.num_classes)
"""
SPACING = (1.0, 1.0)
CLASSES = Targets(label_values=(0, 1), label_names=("background", "a"), ignore_value=None)


@pytest.fixture(autouse=True)
def installed(tmp_path, monkeypatch):
    (tmp_path / "smooth_losses_module.py").write_text(MODULE)
    info = tmp_path / "smooth_losses-0.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: smooth-losses\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text("[tumorseg.losses]\nsmooth_ce = smooth_losses_module:build\n")
    monkeypatch.syspath_prepend(tmp_path)


def spec(version="0.3"):
    component = ExternalLoss(
        name="smooth_ce", parameters={"smoothing": 0.2}, distribution="smooth-losses", version=version, weight=2.0
    )
    return LossSpec(preset="test", components=(component,), deep_supervision_weights=(1.0, 1.0))


def test_an_external_loss_is_weighted_like_the_others():
    generator = torch.Generator().manual_seed(0)
    outputs = [torch.randn(2, 2, 4, 4, generator=generator), torch.randn(2, 2, 2, 2, generator=generator)]
    target = torch.randint(0, 2, (2, 4, 4), generator=generator)
    value = build_loss(spec(), CLASSES, SPACING)(outputs, target)
    levels = [F.cross_entropy(outputs[0], target, label_smoothing=0.1)]
    levels.append(F.cross_entropy(outputs[1], target[:, 1::2, 1::2], label_smoothing=0.1))
    torch.testing.assert_close(value.components["smooth_ce"], sum(levels) / 2)
    torch.testing.assert_close(value.total, sum(levels))


def test_another_version_is_refused_with_both_named():
    with pytest.raises(PlanError, match=r"smooth-losses 0\.4, but smooth-losses 0\.3 is installed"):
        build_loss(spec(version="0.4"), CLASSES, SPACING)
