"""Inputs: the files of a sound folder of which one or two were changed, by a target's name and a number alone."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import NamedTuple

from benchmarks.fuzzing import container_edits, header_edits, text_edits
from benchmarks.fuzzing.byte_edits import Edit, some_edit

Files = Mapping[str, bytes]
"""What a folder holds, by path relative to it."""
EDITS: dict[str, tuple[Edit, ...]] = {
    ".json": (text_edits.edit_json,),
    ".jsonl": (text_edits.edit_json_line,),
    ".csv": (text_edits.edit_cell,),
    ".txt": (text_edits.edit_text,),
    ".nii.gz": (container_edits.packed_by_gzip((header_edits.edit_nifti, some_edit)),),
    ".nii": (header_edits.edit_nifti,),
    ".nrrd": (text_edits.edit_header,),
    ".mha": (text_edits.edit_header,),
    ".mhd": (text_edits.edit_header,),
    ".raw.gz": (container_edits.packed_by_gzip((some_edit,)),),
    ".png": (header_edits.edit_png,),
    ".tif": (header_edits.edit_tiff,),
    ".deflated.dcm": (container_edits.edit_deflated,),
    ".dcm": (header_edits.edit_dicom,),
    ".ckpt": (container_edits.edit_zip,),
    ".pth": (container_edits.edit_zip,),
    ".safetensors": (container_edits.edit_safetensors,),
    ".tar": (container_edits.edit_tar,),
}
"""What knows the fields of a file, by how its name ends; the longer ending of two that fit stands first."""
LINKS = {"itself": None, "the folder": ".", "nothing": "missing"}
"""What a file may become a link to."""


class Input(NamedTuple):
    """A folder that is about to be read."""

    files: dict[str, bytes]
    steps: tuple[str, ...]
    """What was done to the sound one, in words."""
    links: Mapping[str, str] = MappingProxyType({})
    """Files that are links instead, and to what."""
    folders: tuple[str, ...] = ()
    """Files that are folders instead."""


def make_input(target: str, number: int, sound: Sequence[Files]) -> Input:
    """Return an input.

    Args:
        target: its name.
        number: the seed.
        sound: what sound folders hold, of each variant that the target reads.
    """
    # A text, of which the generator makes the same state in every process.
    rng = Random(f"{target} {number}")
    files = dict(rng.choice(sound))
    names = sorted(files)
    steps: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 1, 2))):
        name = rng.choice(names)
        edits = EDITS[ending] if (ending := _ending(name)) else ()
        is_sound = not any(name in step for step in steps)
        # What knows the fields needs them as they were.
        edit = rng.choice(edits) if edits and is_sound and rng.random() < 0.65 else some_edit
        files[name] = edit(rng, files[name])
        steps.append(f"{getattr(edit, '__name__', 'edit')} of {name}")
    if rng.random() < 0.04:
        return _misplaced(rng, Input(files, tuple(steps)), names)
    return Input(files, tuple(steps))


def make_inputs(target: str, number: int, sound: Sequence[Files], count: int) -> Input:
    """Return the input of a number, or a folder of as many as are read at once."""
    if count == 1:
        return make_input(target, number, sound)
    files: dict[str, bytes] = {}
    steps = []
    for position in range(count):
        one = make_input(target, number + position, sound)
        files |= {f"{position:04d}/{path}": content for path, content in one.files.items()}
        steps.append(f"{position:04d}: {', '.join(one.steps)}")
    return Input(files, tuple(steps))


def _ending(name: str) -> str | None:
    return next((ending for ending in EDITS if name.endswith(ending)), None)


def _misplaced(rng: Random, made: Input, names: Sequence[str]) -> Input:
    """Put something else in the place of a file."""
    name, other = rng.choice(names), rng.choice(names)
    change = rng.choice(("missing", "other", "folder", *LINKS))
    files = dict(made.files)
    steps = (*made.steps, f"{change} in place of {name}")
    if change == "other":
        files[name] = files[other]
        return made._replace(files=files, steps=steps)
    del files[name]
    if change == "folder":
        return Input(files, steps, folders=(name,))
    if change in LINKS:
        return Input(files, steps, links={name: LINKS[change] or Path(name).name})
    return Input(files, steps)


def write_input(made: Input, folder: Path) -> None:
    """Write an input's files below a folder."""
    for name, content in made.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for name in made.folders:
        (folder / name).mkdir(parents=True)
    for name, target in made.links.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)


def read_files(folder: Path) -> dict[str, bytes]:
    """Return what a folder holds."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {os.fspath(path.relative_to(folder)): path.read_bytes() for path in files}
