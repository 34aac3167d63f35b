"""Pool datasets into one manifest: images stay where they are, labels too unless their values have to change."""

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError, StorageError, with_advice
from tumorseg.schema.base import Record, content_hash, to_json
from tumorseg.schema.dataset import Case, Dataset, ImageFile
from tumorseg.sources.discovery import require_certain_labels
from tumorseg.sources.label_mapping import read_mapping
from tumorseg.sources.manifest import Manifest, ManifestCase
from tumorseg.sources.pooling import Member, Pool, pool_datasets
from tumorseg.sources.registry import locate_dataset
from tumorseg.stages.datasets.merge_labels import labels_folder, rewrite_labels
from tumorseg.stages.opening.loaded import Roots, failed_cases
from tumorseg.stages.opening.stated import Stated, open_stated
from tumorseg.storage.atomic import require_replaceable, require_writable, write_text
from tumorseg.storage.json_files import read_json
from tumorseg.storage.locks import hold_folder
from tumorseg.workers.outcomes import Failure

MARK = "merged"
"""Field of a manifest by which this verb knows its own."""


class MergeRequest(Record):
    """Options of `data merge`."""

    roots: Roots = Roots()
    """Where datasets are looked for."""
    datasets: tuple[str, ...]
    """What `-d` says, at least twice."""
    output: Path
    """The manifest to write."""
    labels: Path | None = None
    """A file that states which labels are the same; their names decide if None."""
    jobs: int | None = None
    """Processes at most; one per core if None, and never more than memory holds."""
    stated: Stated = Stated()
    """What is stated of the datasets."""


class MergedDataset(Record):
    """What became of one dataset."""

    name: str
    num_cases: int
    channels: dict[str, str]
    """Channel of the pool to the dataset's own."""
    dropped_channels: tuple[str, ...]
    labels: dict[str, str]
    """The dataset's own label to that of the pool."""
    num_rewritten: int
    """Label files that were written anew."""


class Merged(NamedTuple):
    """Result of a merge."""

    path: Path
    """The manifest."""
    pool: Pool
    datasets: tuple[MergedDataset, ...]


def merge(request: MergeRequest) -> Merged:
    """Write one manifest of several datasets, and label files beside it where values have to change.

    Raises:
        InputError: a dataset is not there or unsound, they have no channel or no label in common, or share an image, or the output is
            something else, or was edited.
        TumorsegError: label files could not be written; all are listed, and the manifest holds the other cases.
        StorageError: the files cannot be written, or another process writes them.
    """
    output = Path(os.path.abspath(request.output))  # noqa: PTH100 (links stay)
    _check_output(output)
    datasets = _open(request, output)
    stated = None if request.labels is None else read_mapping(request.labels)
    pool = pool_datasets(_pool_name(output), datasets, stated)
    require_writable(output.parent)
    with hold_folder(labels_folder(output), doing="written", error=StorageError):
        written, failures = rewrite_labels(pool, output, jobs=request.jobs)
        failed = {failure.case_id for failure in failures}
        write_text(output, _marked(_manifest(pool, output, failed, written)))
    if failures:
        raise _failed(failures, pool, output)
    return Merged(request.output, pool, tuple(_told(member, pool, written) for member in pool.members))


def _check_output(output: Path) -> None:
    """Refuse what could not be read as a manifest, and files that are not as a merge left them."""
    if output.suffix.lower() != ".json":
        raise InputError("cannot be the manifest; expected a name that ends in .json; give another -o", file=output)
    require_replaceable(output)
    if not os.path.lexists(output):
        return
    try:
        content = read_json(output, InputError)
    except InputError:
        content = None
    mark = content.pop(MARK, None) if isinstance(content, dict) else None
    if mark is None:
        raise InputError("is there already and is no result of `data merge`; give another -o", file=output)
    if mark != content_hash(content):
        raise InputError("was edited since `data merge` wrote it; give another -o, or remove it", file=output)


def _marked(manifest: Manifest) -> str:
    """Return the text of a manifest with the hash of what else is in it."""
    content = json.loads(to_json(manifest))
    del content[MARK]
    return to_json(manifest.changed(**{MARK: content_hash(content)}))


def _open(request: MergeRequest, output: Path) -> list[Dataset]:
    if len(request.datasets) < 2:
        raise InputError(f"found {len(request.datasets)} dataset, expected two or more to merge; give -d again")
    datasets, places = [], set()
    for name in request.datasets:
        place = (locate_dataset(name, request.roots.data_root) or Path(name)).resolve()
        if place in places:
            raise InputError(f"dataset {name} is given twice; expected each once; leave one out")
        if output.resolve() == place or (place.is_dir() and output.parent.resolve() == place):
            raise InputError(f"would turn dataset {name} itself into the pool; give an -o elsewhere", file=output)
        places.add(place)
        dataset = open_stated(name, request.roots, request.stated)
        require_certain_labels(dataset, "data merge", is_confirmed=request.stated.confirm_labels)
        datasets.append(dataset)
    return datasets


def _pool_name(output: Path) -> str:
    """Return the name that the pool has when it is read."""
    return output.parent.name if output.stem == "manifest" else output.stem


def _manifest(pool: Pool, output: Path, failed: Collection[str], written: Collection[str]) -> Manifest:
    cases = []
    for member in pool.members:
        kept = [case for case in member.dataset.cases if case.case_id not in failed]
        cases += [_entry(case, output, is_rewritten=case.case_id in written) for case in kept]
    fields = {name: getattr(pool.description, name) for name in type(pool.description).model_fields}
    return Manifest(**fields, cases=tuple(sorted(cases, key=lambda case: case.case_id)))


def _entry(case: Case, output: Path, *, is_rewritten: bool) -> ManifestCase:
    label = case.label
    if label is not None:
        label = str(labels_folder(output) / f"{case.case_id}.nii.gz") if is_rewritten else label
    return ManifestCase(
        case_id=case.case_id,
        images=tuple(_image(file, output) for file in case.images),
        label=None if label is None else _place(label, output),
        group=case.group,
        site=case.site,
        columns=case.columns,
    )


def _image(file: ImageFile, output: Path) -> str | ImageFile:
    path = _place(file.path, output)
    return path if file == ImageFile(path=file.path) else file.changed(path=path)


def _place(path: str, output: Path) -> str:
    """Return a path as the manifest states it: relative below its folder, which may then be moved as a whole; else absolute."""
    place = Path(os.path.abspath(path))  # noqa: PTH100 (links stay)
    return place.relative_to(output.parent).as_posix() if place.is_relative_to(output.parent) else str(place)


def _told(member: Member, pool: Pool, written: Collection[str]) -> MergedDataset:
    names = {value: name for name, value in pool.description.labels.items()}
    labels = {name: names[member.values[value]] for name, value in member.dataset.foreground.items()}
    ids = {case.case_id for case in member.dataset.cases}
    return MergedDataset(
        name=member.dataset.name,
        num_cases=len(ids),
        channels=member.channels,
        dropped_channels=member.dropped,
        labels=labels,
        num_rewritten=len(ids.intersection(written)),
    )


def _failed(failures: Sequence[Failure], pool: Pool, output: Path) -> Exception:
    num_cases = sum(len(member.dataset.cases) for member in pool.members)
    error = failed_cases(list(failures), num_cases, f"merge into {output}")
    return with_advice(error, "mend them and give the same command again; until then the manifest holds the others")
