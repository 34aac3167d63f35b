"""Interface by which a layout writes a dataset."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from tumorseg.schema.dataset import Case, DatasetDescription


class CaseFiles(NamedTuple):
    """Files of one case to be written, relative to the dataset's folder."""

    images: tuple[str, ...]
    """One per channel, or one for all."""
    label: str


class Conversion(NamedTuple):
    """A dataset whose files have been written."""

    description: DatasetDescription
    """As the dataset was first read: with its own label values."""
    training: tuple[Case, ...]
    """All with a label; where their files were."""
    tests: tuple[Case, ...]
    """Cases that the dataset does not train on."""

    @property
    def cases(self) -> tuple[Case, ...]:
        """Return all cases; a training case comes after a test case of its id."""
        return (*self.tests, *self.training)


class NameFiles(Protocol):
    """Says where the files of a case go."""

    def __call__(self, case_id: str, num_channels: int, /, *, is_test: bool) -> CaseFiles:
        """Return the names."""
        ...


class Writer(NamedTuple):
    """Functions that write a dataset in a layout; reading it is the same module's part."""

    describe: Callable[[DatasetDescription], DatasetDescription]
    """Return a dataset with the label values that the layout's files hold."""
    name_files: NameFiles
    make_documents: Callable[[Conversion], dict[str, str]]
    """Return name and text of the files that make a folder a dataset, the one that counts last."""
    documents: tuple[str, ...]
    """The names of all that there may be."""
