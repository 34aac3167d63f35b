"""The layout of the Medical Segmentation Decathlon: dataset.json, imagesTr/, labelsTr/, channels last in 4D files.

What its keys cannot say, a folder that tumorseg wrote keeps under a key of its own: see `kept`.

References:
    Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, 4128 (2022).
"""

from pathlib import Path
from typing import Any

from tumorseg.errors import InputError
from tumorseg.schema.base import Record, parse_record
from tumorseg.schema.codes import LabelCode
from tumorseg.schema.dataset import Case, Dataset, DatasetDescription, ImageFile
from tumorseg.sources.conversion import CaseFiles, Conversion
from tumorseg.sources.folders import (
    Listing,
    Problems,
    build_case,
    build_dataset,
    dataset_json,
    folder_name,
    image_id,
    is_there,
)
from tumorseg.sources.kept import KEY, Kept, disagreement, keep, ordered_json
from tumorseg.sources.leaving_out import used
from tumorseg.sources.nnunet_keys import is_value_to_name

NEEDS = "dataset.json with `modality`, `labels` and `training` [{image, label}]"


class _Pair(Record, extra="ignore"):
    """One training case."""

    image: str
    label: str | None = None


class _Description(Record, extra="ignore"):
    """Keys of the Decathlon's dataset.json that tumorseg reads."""

    modality: dict[int, str]
    labels: dict[int, str]
    training: tuple[_Pair, ...]
    test: tuple[str | _Pair, ...] = ()
    codes: dict[str, LabelCode] | None = None
    """A key of our own; the other layouts have none for it."""
    tumorseg: Kept | None = None


def is_msd(folder: Path) -> bool:
    """Tell whether a folder's dataset.json is the Decathlon's, whose keys version 1 of nnU-Net shares."""
    content = dataset_json(folder)
    # Some files of version 2 keep `modality` and `training` of version 1; the form of their labels tells.
    is_version_2 = "channel_names" in content and not is_value_to_name(content.get("labels"))
    return "modality" in content and "training" in content and not is_version_2


def read_msd(folder: Path, *, allow_outside: bool = False) -> Dataset:
    """Read the training cases.

    Args:
        folder: with the dataset.json.
        allow_outside: whether files may lie outside the folder.

    Raises:
        InputError: dataset.json is malformed, or a file lies outside the folder without leave; all such are listed.
    """
    source, description = _read_description(folder)
    fields = _describe(folder, description)
    problems = Problems(source, allow_outside=allow_outside)
    cases = _training_cases(folder, description, problems)
    problems.check()
    return build_dataset(source, cases, **fields)


def list_msd(folder: Path, *, allow_outside: bool = False) -> Listing:
    """List the training and the test cases; arguments as for `read_msd`.

    Raises:
        InputError: as from `read_msd`, or there is no case at all.
    """
    source, description = _read_description(folder)
    channels = _channels(source, description)
    problems = Problems(source, allow_outside=allow_outside)
    cases = sorted(_training_cases(folder, description, problems), key=lambda case: case.case_id)
    tests = [_test_case(folder, entry, description, problems=problems) for entry in description.test]
    if not cases and not tests:
        raise InputError("found no case in `training` or `test`, expected at least one; list the images", file=source)
    problems.check()
    return Listing(tuple(channels), (*cases, *tests))


def msd_files(case_id: str, num_channels: int, *, is_test: bool) -> CaseFiles:
    """Return where the files of a case go; all its channels are in one."""
    part = "Ts" if is_test else "Tr"
    return CaseFiles((f"images{part}/{case_id}.nii.gz",), f"labels{part}/{case_id}.nii.gz")


def msd_documents(conversion: Conversion) -> dict[str, str]:
    """Return the text of dataset.json."""
    original = conversion.description
    content = {
        "name": original.name,
        "tensorImageSize": "4D" if len(original.channels) > 1 else "3D",
        "modality": {str(number): channel.name for number, channel in enumerate(original.channels)},
        "labels": {str(value): name for name, value in original.labels.items()},
        "numTraining": len(conversion.training),
        "numTest": len(conversion.tests),
        "training": [_entry(case, is_test=False) for case in conversion.training],
        "test": [_entry(case, is_test=True) for case in conversion.tests],
        KEY: keep(original, conversion.cases),
    }
    return {"dataset.json": ordered_json(content)}


def _entry(case: Case, *, is_test: bool) -> str | dict[str, str]:
    files = msd_files(case.case_id, 1, is_test=is_test)
    # The Decathlon's own files write paths with a leading `./`.
    image = f"./{files.images[0]}"
    return image if case.label is None else {"image": image, "label": f"./{files.label}"}


def _read_description(folder: Path) -> tuple[Path, _Description]:
    source, content = folder / "dataset.json", dataset_json(folder)
    _check_labels(source, content.get("labels"))
    return source, parse_record(_Description, content, source=str(source), error=InputError)


def _check_labels(source: Path, labels: Any) -> None:
    """Say so where `labels` are written the other way round."""
    if not isinstance(labels, dict) or not labels or not all(isinstance(value, int) for value in labels.values()):
        return
    if not is_value_to_name(labels):
        raise InputError(
            "`labels` are written name to value, as in version 2 of nnU-Net; expected value to name beside `modality`, as in "
            "the Decathlon; turn them round, or write `channel_names` and `file_ending` as in version 2",
            file=source,
        )


def _describe(folder: Path, description: _Description) -> dict[str, Any]:
    """Return a dataset's name, channels, labels and regions."""
    source = folder / "dataset.json"
    channels, labels = _channels(source, description), _labels(source, description.labels)
    kept = description.tumorseg
    if kept is None:
        return {"name": folder_name(folder), "channels": channels, "labels": labels, "codes": description.codes or {}}
    if channels != [channel.name for channel in kept.channels]:
        raise disagreement(folder, "channels")
    if labels != kept.labels:
        raise disagreement(folder, "labels")
    fields = {name: getattr(kept, name) for name in DatasetDescription.model_fields}
    # The folder's name counts, as in any folder of this layout; the kept one is for writing another.
    return {**fields, "name": folder_name(folder), "codes": description.codes or kept.codes}


def _channels(source: Path, description: _Description) -> list[str]:
    """Return the channel names in file order."""
    found = sorted(description.modality)
    if found != list(range(len(found))) or not found:
        raise InputError(
            f"`modality` numbers its channels {found}, expected 0, 1, … without a gap; renumber", file=source
        )
    return [description.modality[number] for number in found]


def _labels(source: Path, names: dict[int, str]) -> dict[str, int]:
    # Not every file lists the background; one that does may call it otherwise.
    labels = {name: value for value, name in {0: "background", **names}.items()}
    # By name, two values of one name have become one entry.
    if len(labels) < len({0, *names}):
        raise InputError(f"`labels` gives one name to two values: {names}; rename one", file=source)
    return labels


def _training_cases(folder: Path, description: _Description, problems: Problems) -> list[Case]:
    pairs = used(folder / "dataset.json", description.training, lambda pair: image_id(Path(pair.image)))
    return [_case(folder, pair.image, description, problems=problems, label=pair.label) for pair in pairs]


def _test_case(folder: Path, entry: str | _Pair, description: _Description, *, problems: Problems) -> Case:
    if isinstance(entry, str):
        return _case(folder, entry, description, problems=problems)
    # The Decathlon names labels of test cases that it does not give away.
    label = entry.label if description.tumorseg else None
    return _case(folder, entry.image, description, problems=problems, label=label)


def _case(folder: Path, image: str, description: _Description, *, problems: Problems, label: str | None = None) -> Case:
    case_id = image_id(Path(image))
    count = len(description.modality)
    paths = [problems.confined_file(folder, stated, case_id=case_id) for stated in _stated_files(folder, image, count)]
    fields: dict[str, Any] = {"case_id": case_id, "images": _images(paths, count)}
    if label is not None:
        fields["label"] = problems.confined_file(folder, label, case_id=case_id, part="label")
    case = build_case(folder / "dataset.json", **fields)
    return case if description.tumorseg is None else description.tumorseg.complete(case)


def _stated_files(folder: Path, image: str, num_channels: int) -> list[str]:
    """Return the file of a case; in version 1 of nnU-Net, which lists `<id>.nii.gz`, `<id>_0000.nii.gz`, `<id>_0001.nii.gz`, …."""
    path = Path(image)
    ending = path.name.removeprefix(image_id(path))
    parts = [f"{path.parent}/{image_id(path)}_{number:04d}{ending}" for number in range(num_channels)]
    is_numbered = bool(image and parts) and not is_there(folder / path) and is_there(folder / parts[0])
    return parts if is_numbered else [image]


def _images(paths: list[str], num_channels: int) -> list[ImageFile]:
    """Return one image per channel; a file of one channel has no channel axis."""
    if len(paths) == num_channels:
        return [ImageFile(path=path) for path in paths]
    return [ImageFile(path=paths[0], index=index, num_volumes=num_channels) for index in range(num_channels)]
