"""Files in the folders of nnU-Net's raw layout: imagesTr/<id>_0000.nii.gz and labelsTr/<id>.nii.gz."""

from pathlib import Path
from typing import NamedTuple

from tumorseg.sources.folders import Problems, image_files, image_id, split_channel
from tumorseg.sources.leaving_out import is_left_out, used
from tumorseg.storage.images import FLAT_ENDINGS


class Scanned(NamedTuple):
    """The files of the training or the test cases, relative to the dataset's folder."""

    images: dict[str, tuple[str, ...]]
    """Case id to a file for each channel, where it should be if it is not there."""
    labels: dict[str, str]
    """Case id to its label, of cases that have images."""
    lone_labels: dict[str, str]
    """Case id to its label, of those that have none."""


def scan_folders(folder: Path, part: str, *, ending: str, num_channels: int, problems: Problems) -> Scanned:
    """Return the files of imagesTr and labelsTr, or of imagesTs and labelsTs.

    Args:
        folder: the dataset.
        part: `Tr` or `Ts`.
        ending: of every file.
        num_channels: how many images each case has.
        problems: what does not fit the pattern is noted here.
    """
    images, labels = f"images{part}", f"labels{part}"
    found = dict(used(folder, _channel_numbers(folder / images, ending, problems).items(), lambda item: item[0]))
    labelled = {case_id: f"{labels}/{case_id}{ending}" for case_id in _labelled(folder / labels, ending, problems)}
    paths: dict[str, tuple[str, ...]] = {}
    for case_id, numbers in found.items():
        if extra := sorted(numbers - set(range(num_channels))):
            reason = f"found channels {extra}, expected only the {num_channels} of `channel_names`"
            problems.add(reason, case_id=case_id, part="image")
        is_joined = ending in FLAT_ENDINGS and numbers == {0}  # one picture of several bands
        given = [0] * num_channels if is_joined else range(num_channels)
        paths[case_id] = tuple(f"{images}/{case_id}_{number:04d}{ending}" for number in given)
    lone = {case_id: path for case_id, path in labelled.items() if case_id not in paths}
    for case_id in lone:
        reason = f"found a label, but no image in {folder / images}; restore or remove it"
        problems.add(reason, case_id=case_id, part="pairing")
    with_images = {case_id: path for case_id, path in labelled.items() if case_id in paths}
    return Scanned(paths, with_images, lone)


def _labelled(folder: Path, ending: str, problems: Problems) -> list[str]:
    """Return the ids of the labels in a folder, sorted."""
    found = []
    for path in image_files(folder):
        case_id = image_id(path)
        if is_left_out(case_id):
            continue
        # `p0.seg.nrrd` ends in `.nrrd` as well, and is of a format of its own.
        if path.name.endswith(ending) and case_id == path.name.removesuffix(ending):
            found.append(case_id)
        else:
            twin = path.with_name(f"{case_id}{ending}")
            beside = f", beside {twin}" if twin.is_file() else ""
            reason = f"found another ending than `file_ending` {ending}{beside}; convert, rename or remove the file"
            problems.add(reason, case_id=case_id, part="label", file=path)
    return sorted(found)


def _channel_numbers(folder: Path, ending: str, problems: Problems) -> dict[str, set[int]]:
    """Return the channel numbers that lie in a folder for each case id."""
    found: dict[str, set[int]] = {}
    for path in image_files(folder):
        named = split_channel(path.name.removesuffix(ending))
        if named is not None and path.name.endswith(ending):
            found.setdefault(named[0], set()).add(named[1])
            continue
        meant = split_channel(image_id(path))
        case_id = meant[0] if meant else image_id(path)
        if not is_left_out(case_id):
            twin = path.with_name(f"{image_id(path)}{ending}")
            beside = f", found it beside {twin}" if twin.is_file() else ""
            reason = f"expected the name <id>_0000{ending}{beside}; rename or remove the file"
            problems.add(reason, case_id=case_id, part="image", file=path)
    return found
