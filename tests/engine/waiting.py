"""Count how often code would wait for a GPU, on the CPU: wherever a tensor's values come to Python."""

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class _Transfers(TorchFunctionMode):
    """Counts whole tensors that are read, which on the CPU happens without a call of an operator."""

    reading = (Tensor.tolist, Tensor.cpu, Tensor.numpy)

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += function in self.reading
        return function(*args, **(kwargs or {}))


class CountWaits(TorchDispatchMode):
    """Counts values that are read one by one, too: by `item`, `float`, `int`, `bool`.

    Operators of this package are not looked into, as they compute otherwise on the CPU.
    """

    def __init__(self):
        super().__init__()
        self._items, self._transfers = 0, _Transfers()

    @property
    def count(self):
        return self._items + self._transfers.count

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self._items += function.name() in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select")
        return function(*args, **(kwargs or {}))

    def __enter__(self):
        self._transfers.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._transfers.__exit__(*error)
