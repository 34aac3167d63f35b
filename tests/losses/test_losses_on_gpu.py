"""Every loss gives the same on a GPU as on the CPU."""

import pytest
import torch

from tests.losses.test_losses_contract import CASES, SPACES, logits_of, target_of
from tumorseg.losses.distance_maps import distances_to
from tumorseg.losses.registry import build_loss
from tumorseg.losses.selection import kth_largest
from tumorseg.losses.weighting import BUILDERS
from tumorseg.schema.losses import CrossEntropyLoss, DiceLoss, LossSpec
from tumorseg.schema.targets import IGNORE

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda")]


@pytest.mark.parametrize("ignores", [False, True])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_the_cpu(name, space, ignores):
    case, shape = CASES[name], SPACES[space]
    loss = build_loss(LossSpec(preset="test", components=case.components), case.targets, (1.5, 0.8, 0.7)[: len(shape)])
    target = target_of(shape)
    target[:, 0] = IGNORE if ignores else 0
    found = []
    for device in ("cpu", "cuda"):
        logits = logits_of(case.targets, shape).to(device).requires_grad_()
        total = loss.to(device)(logits, target.to(device)).total
        total.backward()
        found.append((total.detach().cpu(), logits.grad.cpu()))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_half_precision_is_finite_under_autocast_at_extreme_logits(name, dtype):
    case, shape = CASES[name], SPACES["3d"]
    loss = build_loss(LossSpec(preset="test", components=case.components), case.targets, (1.5, 0.8, 0.7)).cuda()
    logits = (logits_of(case.targets, shape).sign() * 50).to("cuda", dtype).requires_grad_()
    with torch.autocast("cuda", dtype=dtype):
        total = loss(logits, target_of(shape).cuda()).total
    total.backward()
    assert total.dtype == torch.float32
    assert total.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("limit", [None, 4.0])
def test_distances_are_those_of_the_cpu(limit):
    mask = torch.rand(3, 20, 24, 22, generator=torch.Generator().manual_seed(0)) < 0.01
    mask[0] = False
    expected = distances_to(mask, (2.0, 0.7, 1.1), limit)
    torch.testing.assert_close(distances_to(mask.cuda(), (2.0, 0.7, 1.1), limit).cpu(), expected)


def test_the_kth_largest_is_that_of_the_cpu():
    values = torch.rand(1000, generator=torch.Generator().manual_seed(0)).round(decimals=2)
    for k in (1, 10, 999, 1000):
        found = kth_largest(values.cuda(), torch.tensor(k, device="cuda"))
        assert found.cpu() == kth_largest(values, torch.tensor(k))


@pytest.mark.parametrize("name", BUILDERS)
def test_weights_that_follow_the_training_live_on_the_device(name):
    spec = LossSpec(preset="test", components=(DiceLoss(), CrossEntropyLoss()), weighting={"name": name})
    case = CASES["dice"]
    loss = build_loss(spec, case.targets, (1.0, 1.0, 1.0)).cuda()
    value = loss(logits_of(case.targets, SPACES["3d"]).cuda(), target_of(SPACES["3d"]).cuda())
    loss.weighting.observe(value.components)
    loss.weighting.end_epoch()
    assert set(loss.weights()) == {"dice", "cross_entropy"}
    assert value.total.isfinite()
