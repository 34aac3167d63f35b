"""Tensors of the CPU that have a shape, a type and a storage of a size, but no data.

Torch's own `FakeTensorMode` is made for compilers: it takes seconds to load, and up to a millisecond for an operation.
What counting needs of it is here, and counts the same bytes.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tumorseg.planning.memory import shape_rules

META = torch.device("meta")
"""Where torch computes shapes and types alone."""


class Fake(Tensor):
    """Says that it lies on the CPU, so that autocast treats it as it would; computes on the device `meta`."""

    meta: Tensor
    """Has its shape, type and strides. Views share the storage of this, not that of the fake."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation outside the mode."""
        return _run(func, args, kwargs or {})


class EagerMode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its modes without types
    """A mode that no compiler looks into, so that torch's is not loaded for it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class FakeMode(EagerMode):  # type: ignore[no-untyped-call]
    """Makes every new tensor a fake; real ones that meet fakes become fakes too."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation."""
        return _run(func, args, kwargs or {})


def fake_of(meta: Tensor) -> Fake:
    """Wrap what torch computed on `meta`."""
    layout = {"strides": meta.stride(), "storage_offset": meta.storage_offset(), "dtype": meta.dtype}
    fake: Fake = cast(Any, Tensor)._make_wrapper_subclass(Fake, meta.shape, **layout, device="cpu")
    fake.meta = meta
    return fake


def storage_of(tensor: Tensor) -> torch.UntypedStorage:
    """Return the storage that a tensor and its views share, of a fake or a real one."""
    return (tensor.meta if isinstance(tensor, Fake) else tensor).untyped_storage()


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation on `meta`; what it changes in place is returned as the very fake that was given."""
    # Such as a random fill: most of building a network, and nothing that is counted.
    if _keeps_shape(func) and _fit_the_first(args):
        return args[0]
    if is_composite(func):
        with FakeMode():  # subclasses of tensors that meet no mode let torch load what it has for distributed ones
            return func.decompose(*args, **kwargs)
    given: dict[int, Fake] = {}

    def enter(value: Any) -> Any:
        if isinstance(value, Fake):
            given[id(value.meta)] = _whole(value)
            return value.meta
        return value.to(META) if isinstance(value, Tensor) else value

    def leave(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return _whole(given[id(value)]) if id(value) in given else fake_of(value)

    inside = _each(args, enter)
    options = {name: _each(value, enter) for name, value in kwargs.items()}
    # Without a device, torch would make real tensors on the CPU.
    if "device" in options or _makes_tensors(func):
        options["device"] = META
    return _each(shape_rules.run(func, inside, options), leave)


def _whole(fake: Fake) -> Fake:
    """Return a fake whose shape is still that of what it wraps: `squeeze_` changes the one, `.data = …` the other."""
    if fake.shape != fake.meta.shape:
        raise NotImplementedError("a light fake does not follow changes of its shape")
    return fake


def _fit_the_first(args: tuple[Any, ...]) -> bool:
    """Tell whether an operation in place needs no check: all tensors are like the first, which holds fractions."""
    first, *others = (value for value in args if isinstance(value, Tensor))
    if not first.is_floating_point():
        return False
    has_one_type = all(other.dtype == first.dtype for other in others)
    return has_one_type and shape_rules.is_spread_over(first, others)


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """Apply a function to a value, or to all of a list or tuple; operations of torch nest no deeper than lists."""
    if isinstance(value, list | tuple):
        return type(value)(_each(one, change) for one in value)
    return change(value)


@functools.cache
def _makes_tensors(func: Any) -> bool:
    """Tell whether an operation takes a device and no tensor."""
    types = {argument.name: str(argument.type) for argument in func._schema.arguments}
    return "device" in types and not any("Tensor" in kind for kind in types.values())


@functools.cache
def is_composite(func: Any) -> bool:
    """Tell whether an operation is made of others; without autograd, torch leaves taking it apart to us."""
    return func._can_decompose() and torch._C._dispatch_has_kernel_for_dispatch_key(
        func.name(), torch._C.DispatchKey.CompositeImplicitAutograd
    )


@functools.cache
def _keeps_shape(func: Any) -> bool:
    """Tell whether an operation changes a tensor's values in place and nothing else about it."""
    # Random fills have the second tag only.
    by_value = {torch.Tag.pointwise, torch.Tag.nondeterministic_seeded}
    return func._schema.name.endswith("_") and not by_value.isdisjoint(func.tags)
