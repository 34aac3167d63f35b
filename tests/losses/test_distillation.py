import pytest
import torch
from torch.nn import functional as F

from tumorseg.losses.distillation import distillation_loss, softened_classes, softened_regions

SHAPE = (2, 3, 4, 5, 3)


def logits_of(seed, scale=2.0):
    return scale * torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def test_the_term_of_classes_is_hintons():
    student, teacher, temperature = logits_of(0), logits_of(1), 3.0
    soft = (teacher / temperature).softmax(1)
    # Hinton's cross-entropy with soft targets, less their own entropy, which has no gradient.
    crossed = -(soft * F.log_softmax(student / temperature, 1)).sum(1).mean()
    own = -(soft * soft.log()).sum(1).mean()
    found = distillation_loss(student, teacher.softmax(1), temperature=temperature, has_regions=False)
    assert found.item() == pytest.approx(((crossed - own) * temperature**2).item(), rel=1e-4)


def test_the_term_of_regions_is_that_of_each_against_its_background():
    student, teacher, temperature = logits_of(0), logits_of(1), 2.0
    found = distillation_loss(student, teacher.sigmoid(), temperature=temperature, has_regions=True)
    pairs = []
    for own, told in zip(student.unbind(1), teacher.unbind(1), strict=True):
        two = [torch.stack((torch.zeros_like(one), one), dim=1) for one in (own, told)]
        pairs.append(distillation_loss(two[0], two[1].softmax(1), temperature=temperature, has_regions=False))
    assert found.item() == pytest.approx(torch.stack(pairs).mean().item(), rel=1e-4)


@pytest.mark.parametrize("has_regions", [False, True])
def test_who_agrees_with_the_teachers_has_nothing_to_learn(has_regions):
    logits = logits_of(0).requires_grad_()
    told = logits.detach().sigmoid() if has_regions else logits.detach().softmax(1)
    loss = distillation_loss(logits, told, temperature=2.0, has_regions=has_regions)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert logits.grad.abs().max() < 1e-6


def test_a_case_counts_by_trust():
    student, teacher = logits_of(0), logits_of(1).softmax(1)
    each = [
        distillation_loss(student[[case]], teacher[[case]], temperature=2.0, has_regions=False).item()
        for case in range(2)
    ]
    trusted = distillation_loss(
        student, teacher, temperature=2.0, has_regions=False, trust=torch.tensor([1.0, 0.25])
    ).item()
    assert trusted == pytest.approx((each[0] + 0.25 * each[1]) / 2, rel=1e-5)


def test_certain_teachers_and_half_precision_stay_finite():
    certain = torch.zeros(SHAPE)
    certain[:, 0] = 1
    student = logits_of(0, scale=50).half().requires_grad_()
    for has_regions in (False, True):
        loss = distillation_loss(student, certain, temperature=4.0, has_regions=has_regions)
        loss.backward()
        assert loss.isfinite()
        assert student.grad.isfinite().all()


def test_probabilities_are_softened_as_their_logits_would_be():
    logits = logits_of(3)
    assert torch.allclose(softened_classes(logits.softmax(1), 2.5), (logits / 2.5).log_softmax(1), atol=1e-5)
    assert torch.allclose(softened_regions(logits.sigmoid(), 2.5), (logits / 2.5).sigmoid(), atol=1e-5)
