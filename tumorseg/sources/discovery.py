"""Labels of datasets that state none: every value or name in the label files, and what speaks against them."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.labels import count_values
from tumorseg.ops.smears import picture_fault
from tumorseg.planning.evidence.certainty import describe_uncertain
from tumorseg.planning.evidence.doubts import FileFault, Held, Label, question_labels
from tumorseg.schema.dataset import Case, Dataset, LabelDoubt
from tumorseg.storage.images import FLAT_ENDINGS, knows_names_only, read_stored_labels
from tumorseg.storage.named_labels import label_names
from tumorseg.types import Segmentation
from tumorseg.workers.machine import num_cores

MOST_VALUES = 1000
"""Different values in one file above which it is no label map but an image; its case fails when it is read."""
MOST_THREADS = 4
"""Label files that are read at once."""
LOSSY_ENDINGS = (".jpg", ".jpeg")
"""Of formats that do not keep values."""


class Discovered(NamedTuple):
    """Labels found in the label files of a dataset."""

    labels: dict[str, int]
    """Name to value, the background included."""
    doubts: tuple[LabelDoubt, ...] = ()
    """What speaks against them."""


def discover_labels(cases: Iterable[Case]) -> Discovered:
    """Return a name, `label_<value>`, for every value in the label files; one that cannot be read fails with its case.

    Every file is read, several at once. Labels that have names, sorted, get values from 1 on.

    Raises:
        InputError: some labels are numbers, others names.
    """
    from tumorseg.storage.formats import nifti  # noqa: F401 (it hides pydicom while it is imported, which no thread may see)

    # Not by `with`, which would read all files that still wait before it lets an interrupt through.
    pool = ThreadPoolExecutor(min(num_cores(), MOST_THREADS))
    try:
        held = list(pool.map(_held_by, cases))
    finally:
        pool.shutdown(cancel_futures=True)
    found: set[Label] = set().union(*(one.labels for one in held))
    names = sorted(label for label in found if isinstance(label, str))
    values = sorted(label for label in found if isinstance(label, int))
    if names and values:
        raise InputError(
            f"found labels with names ({', '.join(names[:5])}) and labels with values ({values[:5]}); expected one kind; "
            "state which is which in a manifest with label:NAME=VALUE headings"
        )
    labels = {"background": 0} | numbered(names) | {f"label_{value}": value for value in values}
    return Discovered(labels, question_labels(held))


def numbered(names: Iterable[str]) -> dict[str, int]:
    """Return values from 1 on for labels that are known by name, sorted."""
    return {name: value for value, name in enumerate(sorted(set(names)), start=1)}


def require_certain_labels(dataset: Dataset, what: str, *, is_confirmed: bool) -> None:
    """Refuse a dataset whose labels were found in files and are doubtful.

    Args:
        dataset: as a source read it.
        what: the verb that needs labels, for the message.
        is_confirmed: whether the user says that the labels are meant so.

    Raises:
        InputError: they are, and nobody confirms them.
    """
    if dataset.doubts and not is_confirmed:
        raise InputError(f"{dataset.name}: {what} needs certain labels; {describe_uncertain(dataset.doubts)}")


def _held_by(case: Case) -> Held:
    """Return the names or values in a case's label files; none where they cannot be read."""
    nothing = Held(case.case_id, frozenset())
    if case.label is None:
        return nothing
    try:
        if knows_names_only(case.label):
            return nothing._replace(labels=frozenset(label_names(case.label_files)))
        return _held_values(case, case.label)
    except InputError:
        return nothing


def _held_values(case: Case, path: str) -> Held:
    segmentation = read_stored_labels(path)
    values = set(count_values(segmentation)[0])
    fault = _fault(path, segmentation, num_labels=len(values - {0}))
    # None of an image's thousand values becomes a label; of other doubtful files, some may be meant.
    labels = frozenset[Label]() if fault == "crowded" else frozenset[Label](values - {0})
    return Held(case.case_id, labels, fault, has_background=0 in values, is_flat=path.lower().endswith(FLAT_ENDINGS))


def _fault(path: str, segmentation: Segmentation, *, num_labels: int) -> FileFault | None:
    """Return why the values of a file are no labels; of volumes, whose values formats keep, only their number tells."""
    if num_labels > 1 and path.lower().endswith(LOSSY_ENDINGS):
        return "lossy"
    if num_labels >= MOST_VALUES:
        return "crowded"
    return picture_fault(segmentation) if path.lower().endswith(FLAT_ENDINGS) else None
