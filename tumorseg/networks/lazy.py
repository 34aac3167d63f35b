"""Builders whose modules are imported when they are first needed."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

Builder = Callable[..., nn.Module]
"""(record, num_channels=, num_outputs=) -> module."""


@dataclass(frozen=True)
class LazyBuilder:
    """A builder whose module brings a library that takes seconds to import."""

    find: Callable[[], Builder]
    """Imports the module, and returns the builder in it."""

    def load(self) -> Builder:
        """Return the builder, its module imported."""
        with warnings.catch_warnings():
            # They are about parts of the library that are not used here.
            warnings.simplefilter("ignore")
            return self.find()

    def __call__(self, *args: Any, **options: Any) -> nn.Module:
        """Build a network."""
        return self.load()(*args, **options)
