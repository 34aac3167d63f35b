"""Notes that tensors carry through a network: what an operation makes of noted tensors has a note too."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor
from torch.overrides import TorchFunctionMode

T = TypeVar("T")


class Following(TorchFunctionMode, Generic[T]):
    """Base class: sees every call of torch while a network runs, and asks its subclass for the note of each result."""

    def __init__(self) -> None:
        super().__init__()
        self._notes: dict[int, T] = {}
        self._kept: list[Tensor] = []

    def note(self, tensor: Tensor) -> T | None:
        """Return the note of a tensor, if it has one."""
        return self._notes.get(id(tensor))

    def write(self, tensor: Tensor, note: T) -> None:
        """Give a tensor a note, instead of the one that it has."""
        self._notes[id(tensor)] = note
        self._kept.append(tensor)  # or another one could take its place in memory, and its note

    @abstractmethod
    def passed_on(self, function: str, arguments: Sequence[Any], options: dict[str, Any], result: Tensor) -> T | None:
        """Return the note of a result.

        Args:
            function: torch's name for what was called.
            arguments: it was called with.
            options: arguments by name.
            result: of the call.
        """

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        for one in tensors_of(result):
            if (note := self.passed_on(name, args, kwargs, one)) is not None:
                self.write(one, note)
        return result


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Yield a tensor, or all in lists, tuples and dicts of them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors_of(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from tensors_of(one)


def attended(function: str, arguments: Sequence[Any], options: dict[str, Any]) -> tuple[int, int] | None:
    """Return how many groups of tokens pay attention within themselves, and tokens of a group; None for other calls.

    Args:
        function: torch's name for it.
        arguments: of the call: weights of attention (groups, heads, tokens, tokens), or queries (groups, heads, tokens, channels).
        options: arguments by name.
    """
    if function not in ("softmax", "scaled_dot_product_attention"):
        return None
    first = next(tensors_of([*arguments, options]))
    groups, _, tokens, last = first.shape if first.ndim == 4 else (0, 0, 0, 0)
    is_attention = tokens > 0 and (function != "softmax" or tokens == last)
    return (groups, tokens) if is_attention else None
