"""What one network of each family shows: half precision, compiling, exporting, and that it learns."""

import pytest
import torch
from torch.export import Dim, export
from torch.nn import functional as F

from tests.networks.rows import FAMILY_ROWS, OWN, Subject

NAMES = [pytest.param(name, marks=() if name in OWN else (pytest.mark.slow,)) for name in FAMILY_ROWS]


def evidence_but(*quick):
    """Return all names, those that are not quick as evidence alone."""
    long = (pytest.mark.slow, pytest.mark.long)
    return [pytest.param(name, marks=pytest.mark.slow if name in quick else long) for name in FAMILY_ROWS]


STEPS, LR = 60, 3e-3


def full(outputs):
    return outputs if isinstance(outputs, torch.Tensor) else outputs[0]


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_gradients_are_finite_in_bfloat16(name):
    subject = Subject(FAMILY_ROWS[name])
    network = subject.build().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = full(network(subject.images()))
    assert logits.isfinite().all()
    logits.float().square().mean().backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", evidence_but())
def test_compiled_logits_are_those_of_torch(name):
    subject = Subject(FAMILY_ROWS[name])
    network, images = subject.exact()
    network.eval()
    with torch.inference_mode():
        torch.testing.assert_close(torch.compile(network)(images), network(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", evidence_but("plain_unet", "mednext"))
def test_an_exported_graph_takes_any_number_of_patches(name):
    subject = Subject(FAMILY_ROWS[name])
    network, images = subject.exact()
    network.eval()
    with torch.no_grad():
        graph = export(network, (images,), dynamic_shapes=({0: Dim("batch", min=1, max=16)},)).module()
        for batch in (images[:1], torch.cat((images, images[:1]))):
            torch.testing.assert_close(graph(batch), network(batch), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", evidence_but(*OWN, "segresnet", "dynunet", "attention_unet"))
def test_one_batch_of_phantoms_is_learnt_by_heart(name):
    subject = Subject(FAMILY_ROWS[name], num_channels=1, num_outputs=2)
    coarse = torch.randn((2, 1, *(4 for _ in subject.patch)), generator=torch.Generator().manual_seed(2))
    smooth = F.interpolate(coarse, size=subject.patch, mode="bilinear" if len(subject.patch) == 2 else "trilinear")
    reference = (smooth > 0.3)[:, 0].long()
    images = smooth + 0.3 * subject.images()
    network = subject.build().train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(full(network(images)), reference).backward()
        optimizer.step()
    found = full(network(images)).argmax(1)
    dsc = 2 * (found * reference).sum() / (found.sum() + reference.sum())
    assert dsc > 0.9
