"""The raw layout of nnU-Net v2: dataset.json, imagesTr/<id>_0000.nii.gz, labelsTr/<id>.nii.gz, or files listed by case.

What nnU-Net's own keys cannot say, a folder that tumorseg wrote keeps under a key of its own: see `kept`.

References:
    nnU-Net's documentation/dataset_format.md and region_based_training.md (v2).
"""

import json
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
    image_files,
)
from tumorseg.sources.kept import KEY, Kept, disagreement, keep, ordered_json, renumbered
from tumorseg.sources.leaving_out import used
from tumorseg.sources.nnunet_files import Scanned, scan_folders
from tumorseg.sources.nnunet_keys import channel_name, is_value_to_name, label_keys
from tumorseg.storage.images import ENDINGS
from tumorseg.storage.json_files import read_json

NEEDS = "dataset.json with `channel_names`, `labels` and `file_ending`"


class _Files(Record, extra="ignore"):
    """One case of the optional key `dataset`."""

    images: tuple[str, ...]
    label: str | None = None


class _Description(Record, extra="ignore"):
    """Keys of nnU-Net's dataset.json that tumorseg reads."""

    channel_names: dict[int, str]
    labels: dict[str, int | tuple[int, ...]]
    file_ending: str
    regions_class_order: tuple[int, ...] | None = None
    dataset: dict[str, _Files] | None = None
    codes: dict[str, LabelCode] | None = None
    """A key of our own; the other layouts have none for it."""
    tumorseg: Kept | None = None


def is_nnunet(folder: Path) -> bool:
    """Tell whether a folder's dataset.json is nnU-Net v2's, or meant as such: of version 1, without a list of cases."""
    content = dataset_json(folder)
    # A list of cases goes to the Decathlon's reader, which takes it of both versions.
    is_listed = "modality" in content and "training" in content
    return "channel_names" in content or ("modality" in content and not is_listed)


def read_nnunet(folder: Path, *, allow_outside: bool = False) -> Dataset:
    """Read the training cases.

    Args:
        folder: with the dataset.json.
        allow_outside: whether files may lie outside the folder.

    Raises:
        InputError: dataset.json is malformed, or a file lies outside the folder without leave; all such are listed.
    """
    description = _read_description(folder)
    problems = Problems(folder, allow_outside=allow_outside)
    cases = _cases(folder, _training_files(folder, description, problems), description, problems=problems)
    problems.check()
    return build_dataset(folder / "dataset.json", cases, **_describe(folder, description))


def describe_nnunet(path: Path, name: str) -> tuple[DatasetDescription, int]:
    """Return what a dataset.json says of a network's channels and outputs, and how many training cases it counts.

    What tumorseg keeps under a key of its own is passed over: nnU-Net's networks go by nnU-Net's keys.

    Args:
        path: the file.
        name: what to call the dataset.

    Raises:
        InputError: it is missing or malformed.
    """
    content = read_json(path, InputError)
    description = _parse_description(path, content)
    fields = {"name": name, "channels": _channels(description), **_targets(path, description)}
    stated = str(content.get("numTraining"))
    # Plans count one case at least, and a network can be used without knowing how many it saw.
    num_training = max(1, int(stated)) if stated.isdecimal() else 1
    described = parse_record(DatasetDescription, fields, source=str(path), error=InputError)
    return described, num_training


def list_nnunet(folder: Path, *, allow_outside: bool = False) -> Listing:
    """List the training cases and those of imagesTs/; arguments as for `read_nnunet`.

    Raises:
        InputError: as from `read_nnunet`, or there is no case at all.
    """
    description = _read_description(folder)
    problems = Problems(folder, allow_outside=allow_outside)
    found = (_training_files(folder, description, problems), _scan(folder, "Ts", description, problems=problems))
    cases: list[Case] = []
    lone: list[tuple[str, str]] = []
    for files in found:
        cases += _cases(folder, files, description, problems=problems)
        lone += [(case_id, str(folder / path)) for case_id, path in files.lone_labels.items()]
    # With problems alone there were files: to say that there are none would hide what is wrong with them.
    if not (cases or lone or problems.are_there):
        raise InputError("found no case in imagesTr or imagesTs, expected at least one; check the images", file=folder)
    problems.check()
    channels = description.tumorseg.channels if description.tumorseg else ()
    names = [channel.name for channel in channels] or _channels(description)
    return Listing(tuple(names), tuple(sorted(cases, key=lambda case: case.case_id)), lone_labels=tuple(lone))


def has_images(folder: Path) -> bool:
    """Tell whether a folder holds a dataset, rather than predictions with a copy of its dataset.json."""
    folders = any((folder / part).is_dir() for part in ("imagesTr", "imagesTs"))
    return folders or (_read_description(folder).dataset is not None and not image_files(folder))


def nnunet_files(case_id: str, num_channels: int, *, is_test: bool) -> CaseFiles:
    """Return where the files of a case go."""
    part = "Ts" if is_test else "Tr"
    images = tuple(f"images{part}/{case_id}_{number:04d}.nii.gz" for number in range(num_channels))
    return CaseFiles(images, f"labels{part}/{case_id}.nii.gz")


def nnunet_documents(conversion: Conversion) -> dict[str, str]:
    """Return the text of dataset.json; the order of its keys matters to nnU-Net."""
    original = conversion.description
    content = {**nnunet_keys(original, len(conversion.training)), KEY: keep(original, conversion.cases)}
    return {"dataset.json": ordered_json(content)}


def nnunet_keys(description: DatasetDescription, num_training: int) -> dict[str, Any]:
    """Return nnU-Net's own keys of dataset.json for the files that `data import` writes."""
    labels, order = label_keys(renumbered(description))
    return {
        "name": description.name,
        "channel_names": {str(number): channel_name(channel) for number, channel in enumerate(description.channels)},
        "labels": labels,
        **({} if order is None else {"regions_class_order": order}),
        "numTraining": num_training,
        "file_ending": ".nii.gz",
    }


def _training_files(folder: Path, description: _Description, problems: Problems) -> Scanned:
    """Return the files of the training cases: those that dataset.json lists, else those in the folders."""
    if description.dataset is None:
        return _scan(folder, "Tr", description, problems=problems)
    listed = dict(used(folder, description.dataset.items(), lambda item: item[0]))
    _check_counts(listed, description, problems)
    labels = {case_id: files.label for case_id, files in listed.items() if files.label is not None}
    return Scanned({case_id: files.images for case_id, files in listed.items()}, labels, {})


def _scan(folder: Path, part: str, description: _Description, *, problems: Problems) -> Scanned:
    count = len(description.channel_names)
    return scan_folders(folder, part, ending=description.file_ending, num_channels=count, problems=problems)


def _cases(folder: Path, found: Scanned, description: _Description, *, problems: Problems) -> list[Case]:
    """Return cases, with the groups and sites that were kept."""
    kept = description.tumorseg
    cases = []
    for case_id, images in found.images.items():
        cases.append(_case(folder, case_id, images, found.labels.get(case_id), problems=problems))
    return cases if kept is None else [kept.complete(case) for case in cases]


def _read_description(folder: Path) -> _Description:
    source = folder / "dataset.json"
    description = _parse_description(source, dataset_json(folder))
    _check_ending(source, description.file_ending)
    return description


def _check_ending(source: Path, ending: str) -> None:
    if ending in ENDINGS:
        return
    meant = f".{ending.strip().lstrip('.').lower()}"
    advice = f"write {meant}" if meant in ENDINGS else "convert the images"
    raise InputError(f"found `file_ending` {ending!r}, expected {' or '.join(ENDINGS)}; {advice}", file=source)


def _parse_description(source: Path, content: Any) -> _Description:
    _check_version(source, content)
    description = parse_record(_Description, content, source=str(source), error=InputError)
    numbers = sorted(description.channel_names)
    if numbers != list(range(len(numbers))) or not numbers:
        raise InputError(f"`channel_names` numbers {numbers}, expected 0, 1, … without a gap; renumber", file=source)
    return description


def _check_version(source: Path, content: Any) -> None:
    """Call a dataset.json of version 1 what it is."""
    if not isinstance(content, dict):
        return
    labels = content.get("labels") or {}
    if is_value_to_name(labels):
        value, name = next(iter(labels.items()))
        raise InputError(
            f"`labels` are written value to name, as in version 1 of nnU-Net and in the Decathlon; expected name to value, "
            f"such as {{{json.dumps(name)}: {value}}}; turn them round",
            file=source,
        )
    if "channel_names" not in content and "modality" in content:
        raise InputError(
            "found `modality`, as in version 1 of nnU-Net and in the Decathlon, but no `training` cases; expected "
            "`channel_names` as in version 2; rename it, and give `file_ending`",
            file=source,
        )


def _describe(folder: Path, description: _Description) -> dict[str, Any]:
    """Return a dataset's name, channels, labels and regions."""
    if description.tumorseg is not None:
        return _restored(folder, description, description.tumorseg)
    targets = _targets(folder / "dataset.json", description)
    codes = description.codes or {}
    return {"name": folder_name(folder), "channels": _channels(description), "codes": codes, **targets}


def _restored(folder: Path, description: _Description, kept: Kept) -> dict[str, Any]:
    """Return what was kept, with the label values that the files hold."""
    if _channels(description) != [channel_name(channel) for channel in kept.channels]:
        raise disagreement(folder, "channels")
    found = renumbered(kept)
    labels, order = label_keys(found)
    stated = {name: list(value) if isinstance(value, tuple) else value for name, value in description.labels.items()}
    # Equal dicts may differ in order, which counts where regions are painted in it.
    has_order = order is None or list(stated) == list(labels)
    if stated != labels or not has_order or list(description.regions_class_order or ()) != (order or []):
        raise disagreement(folder, "labels")
    fields = {name: getattr(found, name) for name in DatasetDescription.model_fields}
    # The folder's name counts, as in any folder of this layout; the kept one is for writing another.
    return {**fields, "name": folder_name(folder), "codes": description.codes or kept.codes}


def _channels(description: _Description) -> list[str]:
    return [description.channel_names[number] for number in sorted(description.channel_names)]


def _case(folder: Path, case_id: str, paths: tuple[str, ...], label: str | None, *, problems: Problems) -> Case:
    files = [problems.confined_file(folder, image, case_id=case_id) for image in paths]
    # One file given for every channel holds them all, as a picture holds its bands.
    if len(paths) > 1 and len(set(paths)) == 1:
        images = [ImageFile(path=file, index=index, num_volumes=len(files)) for index, file in enumerate(files)]
    else:
        images = [ImageFile(path=file) for file in files]
    label = None if label is None else problems.confined_file(folder, label, case_id=case_id, part="label")
    return build_case(folder / "dataset.json", case_id=case_id, images=images, label=label)


def _check_counts(listed: dict[str, _Files], description: _Description, problems: Problems) -> None:
    expected = len(description.channel_names)
    for case_id, files in listed.items():
        if len(files.images) != expected:
            reason = f"found {len(files.images)} images, expected {expected}, one per channel"
            problems.add(reason, case_id=case_id, part="image")


def _targets(source: Path, description: _Description) -> dict[str, Any]:
    """Return labels, regions and ignore label."""
    values: dict[str, tuple[int, ...]] = {}
    for name, value in description.labels.items():
        if name != "ignore":
            values[name] = (value,) if isinstance(value, int) else value
    ignore = description.labels.get("ignore")
    if isinstance(ignore, tuple):
        raise InputError(f"label `ignore` is {list(ignore)}, expected one integer; mend it", file=source)
    ignored = {} if ignore is None else {"ignore": ignore}
    if empty := [name for name, v in values.items() if not v]:
        raise InputError(
            f"label `{empty[0]}` is [], expected a value, or those that the region joins; mend it", file=source
        )
    plain = {name: v[0] for name, v in values.items() if len(v) == 1}
    # Lists of one value each are plain labels, as nnU-Net takes them.
    if not any(len(value) > 1 for value in values.values()):
        return {"labels": {**_background(plain), **plain, **ignored}, "ignore_label": ignore}
    # Entries name regions: a value that none of them holds alone is given a name.
    names = {value: name for name, value in plain.items()}
    union = sorted(set[int]().union(*values.values()))
    labels = {names.get(value, f"label_{value}"): value for value in union}
    regions = _regions(source, values, description.regions_class_order)
    return {"labels": {**_background(labels), **labels, **ignored}, "regions": regions, "ignore_label": ignore}


def _background(labels: dict[str, int]) -> dict[str, int]:
    return {} if 0 in labels.values() else {"background": 0}


def _regions(source: Path, values: dict[str, tuple[int, ...]], order: tuple[int, ...] | None) -> list[dict[str, Any]]:
    """Return the regions in `labels` order, which is that of regions_class_order too."""
    foreground = {name: labels for name, labels in values.items() if set(labels) != {0}}
    if order is None or len(order) != len(foreground):
        raise InputError(
            f"found `regions_class_order` {None if order is None else list(order)}, expected one label value "
            f"for each of the regions {', '.join(foreground)}; add it",
            file=source,
        )
    painted = zip(foreground.items(), order, strict=True)
    return [{"name": name, "labels": labels, "value": value} for (name, labels), value in painted]
