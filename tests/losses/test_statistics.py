"""One pass over the logits serves all components, and keeps nothing but them."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.losses.built import CLASSES, REGIONS, loss_of
from tumorseg.losses import statistics
from tumorseg.losses.presets import LOSS_PRESETS, loss_preset
from tumorseg.losses.registry import build_loss
from tumorseg.planning.memory.allocations import AllocationTracker
from tumorseg.schema.losses import (
    BinaryCrossEntropyLoss,
    BoundaryLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    JaccardLoss,
    TopKLoss,
    TverskyLoss,
)
from tumorseg.schema.targets import IGNORE

SPACE = (5, 6, 7)


class Operations(TorchDispatchMode):
    """Notes operations and how many values each returned."""

    def __init__(self):
        super().__init__()
        self.noted = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.noted.append((str(func), max(sizes, default=0)))
        return out


def inputs(targets, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, targets.num_outputs, *SPACE, generator=generator).to(dtype)
    return logits.requires_grad_(), torch.randint(0, 4, (2, *SPACE), generator=generator)


def passes_of(loss, logits, target):
    with Operations() as operations:
        loss(logits, target).total.backward()
    return operations.noted


@pytest.mark.parametrize("targets", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_all_components_share_one_pass_each_way(targets):
    entropy = BinaryCrossEntropyLoss() if targets.has_regions else CrossEntropyLoss(label_smoothing=0.1)
    sums = (DiceLoss(), JaccardLoss(denominator="squared"), TverskyLoss(), entropy, FocalLoss(), TopKLoss())
    noted = [name for name, _ in passes_of(loss_of(*sums, targets=targets), *inputs(targets))]
    assert noted.count("tumorseg.loss_statistics.default") == 1
    assert noted.count("tumorseg.loss_statistics_backward.default") == 1
    assert not any(softmax in name for name in noted for softmax in ("softmax", "sigmoid", "one_hot"))


@pytest.mark.parametrize("name", [name for name in LOSS_PRESETS if "boundary" not in name])
def test_of_presets_for_classes_nothing_but_the_gradient_is_as_large_as_the_logits(name):
    spec = loss_preset(name, has_regions=False, batch_dice=True, deep_supervision_weights=(1.0,))
    logits, target = inputs(CLASSES, torch.float16)
    noted = passes_of(build_loss(spec, CLASSES, (1.0, 1.0, 1.0)), logits, target)
    large = [found for found, size in noted if size >= logits.numel() and "view" not in found and "detach" not in found]
    assert large == ["tumorseg.loss_statistics_backward.default"]


@pytest.mark.parametrize("elements", [1, 100, 2**18])
@pytest.mark.parametrize("targets", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_chunks_of_any_size_give_the_same(monkeypatch, targets, elements):
    entropy = BinaryCrossEntropyLoss if targets.has_regions else CrossEntropyLoss
    terms = (DiceLoss(denominator="squared"), entropy(label_smoothing=0.2), FocalLoss(), BoundaryLoss(weight=0.1))
    found = []
    for size in (elements, 2**20):
        monkeypatch.setattr(statistics, "CPU_ELEMENTS", size)
        logits, target = inputs(targets, torch.float64)
        target[0, :2] = IGNORE
        value = loss_of(*terms, targets=targets)(logits, target).total
        value.backward()
        found.append((value.detach(), logits.grad))
    torch.testing.assert_close(*found)


def test_a_graph_through_fake_tensors_has_the_same_shapes():
    logits, target = inputs(CLASSES)
    real = statistics.class_statistics(logits, target, statistics.Wanted(voxelwise=True), masked=False, moments=None)
    with torch._subclasses.FakeTensorMode() as mode:
        fakes = mode.from_tensor(logits), mode.from_tensor(target)
        fake = statistics.class_statistics(*fakes, statistics.Wanted(voxelwise=True), masked=False, moments=None)
    assert [tuple(value.shape) for value in fake.sums] == [tuple(value.shape) for value in real.sums]
    assert (fake.voxelwise.shape, fake.voxelwise.dtype) == (real.voxelwise.shape, real.voxelwise.dtype)


def test_operations_keep_torchs_rules():
    logits, target = inputs(CLASSES)
    arguments = (logits.detach().flatten(2).requires_grad_(), target.flatten(1), None, None, [True] * 5 + [False])
    torch.library.opcheck(statistics._forward, arguments)


@pytest.mark.parametrize("is_in_order", [True, False])
def test_the_gradients_operation_says_the_order_that_it_has(is_in_order):
    logits = torch.randn(2, 3, 16) if is_in_order else torch.randn(2, 16, 3).transpose(1, 2)
    sums, flags = torch.randn(statistics.NUM_SUMS, 2, 3), [True] * 5 + [False]
    arguments = (sums, torch.randn(2, 16), logits, torch.randint(0, 3, (2, 16)), None, None, flags)
    torch.library.opcheck(statistics._gradient, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("regions", [0, 3])
@pytest.mark.parametrize("classes", [3, 40])
def test_scratch_space_is_within_what_is_counted(monkeypatch, classes, regions, dtype):
    size = 2**16
    for name in ("CPU_ELEMENTS", "GPU_ELEMENTS"):
        monkeypatch.setattr(statistics, name, size)
    outputs = regions or classes
    logits, target = torch.randn(1, outputs, 2**17).to(dtype), torch.randint(0, classes, (1, 2**17))
    table = torch.rand(regions, classes + 1) < 0.5 if regions else None
    flags, slopes = [True] * 6, torch.randn(statistics.NUM_SUMS, 1, outputs)
    shape = (1, outputs, 2**17) if regions else (1, 2**17)
    moments = torch.randn(1, outputs, 2**17)
    for operation, arguments in (
        (statistics._forward, (logits, target, table, moments, flags)),
        (statistics._gradient, (slopes, torch.randn(shape), logits, target, table, moments, flags)),
    ):
        with AllocationTracker() as tracker:
            results = operation._init_fn(*arguments)
        tensors = [one for one in tree_leaves((results, arguments)) if isinstance(one, torch.Tensor)]
        kept = sum(one.untyped_storage().nbytes() for one in tensors)
        assert tracker.peak_bytes - kept <= 1.01 * statistics.scratch_bytes(logits)
