"""The layout of the Medical Segmentation Decathlon: dataset.json, imagesTr/, labelsTr/, channels last in 4D files.

References:
    Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, 4128 (2022).
"""

from pathlib import Path
from typing import Any

from tumorseg.errors import InputError
from tumorseg.schema.base import Record, parse_record
from tumorseg.schema.dataset import Case, Dataset, ImageFile
from tumorseg.sources.folders import (
    Listing,
    Problems,
    build_case,
    build_dataset,
    dataset_json,
    folder_name,
    image_id,
)

NEEDS = "dataset.json with `modality`, `labels` and `training` [{image, label}]"


class _Pair(Record, extra="ignore"):
    """One training case."""

    image: str
    label: str


class _Description(Record, extra="ignore"):
    """What tumorseg reads of the Decathlon's dataset.json."""

    modality: dict[int, str]
    labels: dict[int, str]
    training: tuple[_Pair, ...]
    test: tuple[str | _Pair, ...] = ()


def is_msd(folder: Path) -> bool:
    """Tell whether a folder's dataset.json is the Decathlon's."""
    content = dataset_json(folder)
    return "modality" in content and "training" in content


def read_msd(folder: Path) -> Dataset:
    """Read the training cases.

    Raises:
        InputError: dataset.json is malformed, or a file lies outside the folder; all such are listed.
    """
    source, description = _read_description(folder)
    channels = _channels(source, description)
    problems = Problems(source)
    cases = [_training_case(folder, pair, len(channels), problems=problems) for pair in description.training]
    problems.check()
    return build_dataset(
        source,
        cases,
        name=folder_name(folder),
        channels=channels,
        labels=_labels(source, description.labels),
    )


def list_msd(folder: Path) -> Listing:
    """List the training and the test cases.

    Raises:
        InputError: as from `read_msd`.
    """
    dataset = read_msd(folder)
    source, description = _read_description(folder)
    problems = Problems(source)
    tests = [_test_case(folder, entry, len(dataset.channels), problems=problems) for entry in description.test]
    problems.check()
    return Listing(tuple(channel.name for channel in dataset.channels), (*dataset.cases, *tests))


def _read_description(folder: Path) -> tuple[Path, _Description]:
    source = folder / "dataset.json"
    return source, parse_record(_Description, dataset_json(folder), source=str(source), error=InputError)


def _channels(source: Path, description: _Description) -> list[str]:
    """Return the channel names in file order."""
    found = sorted(description.modality)
    if found != list(range(len(found))) or not found:
        raise InputError(f"{source}: `modality` numbers its channels {found}, expected 0, 1, … without a gap; renumber")
    return [description.modality[number] for number in found]


def _labels(source: Path, names: dict[int, str]) -> dict[str, int]:
    labels = {name: value for value, name in {0: "background", **names}.items()}
    if len(labels) < len({0, *names}):
        raise InputError(f"{source}: `labels` gives one name to two values: {names}; rename one")
    return labels


def _training_case(folder: Path, pair: _Pair, num_channels: int, *, problems: Problems) -> Case:
    return _case(folder, pair.image, num_channels, problems=problems, label=pair.label)


def _test_case(folder: Path, entry: str | _Pair, num_channels: int, *, problems: Problems) -> Case:
    return _case(folder, entry if isinstance(entry, str) else entry.image, num_channels, problems=problems)


def _case(folder: Path, image: str, num_channels: int, *, problems: Problems, label: str | None = None) -> Case:
    case_id = image_id(Path(image))
    path = problems.confined_file(folder, image, case_id=case_id)
    fields: dict[str, Any] = {"case_id": case_id, "images": _images(path, num_channels)}
    if label is not None:
        fields["label"] = problems.confined_file(folder, label, case_id=case_id)
    return build_case(folder / "dataset.json", **fields)


def _images(path: str, num_channels: int) -> list[ImageFile]:
    """Return one image per channel; a file of one channel has no channel axis."""
    if num_channels == 1:
        return [ImageFile(path=path)]
    return [ImageFile(path=path, index=index, num_volumes=num_channels) for index in range(num_channels)]
