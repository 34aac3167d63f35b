"""Saved ensembles: one folder that holds the models, how they are combined, and what `select` found out about them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tumorseg.errors import InputError, PlanError
from tumorseg.schema.base import to_json
from tumorseg.schema.ensembles import Combination, EnsembleDocument, SavedMember
from tumorseg.schema.targets import targets_of
from tumorseg.stages.inference.agreement import Named, check_combination, common_dataset
from tumorseg.stages.inference.member_files import MemberFiles, read_member
from tumorseg.storage.ensemble_layout import EnsembleFolder
from tumorseg.storage.hashing import hash_files
from tumorseg.storage.json_files import read_record
from tumorseg.storage.linking import link_folder
from tumorseg.storage.paths import impossible_path

NOTHING: Mapping[str, bytes] = MappingProxyType({})


def save_ensemble(
    target: Path,
    members: Sequence[Sequence[Path]],
    *,
    combination: Combination,
    extra: Mapping[str, bytes] = NOTHING,
) -> EnsembleDocument:
    """Make a folder of hard links, or copies, of all that an ensemble takes to predict; it appears whole or not at all.

    A folder that holds the same already stays as it is.

    Args:
        target: the folder; the ensemble is called like it.
        members: of each model the folders of its folds, or its own.
        combination: how they are combined.
        extra: what further files hold, by name: `trust.json`, `settings.json`, `selection.json`, `report.html`.

    Returns:
        Its `ensemble.json`.

    Raises:
        InputError: the folder holds something else.
        PlanError: a model is missing, or they cannot be combined.
        StorageError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    return save_members(target, [read_member(paths) for paths in members], combination=combination, extra=extra)


def save_members(
    target: Path, opened: Sequence[MemberFiles], *, combination: Combination, extra: Mapping[str, bytes] = NOTHING
) -> EnsembleDocument:
    """Make the folder of an ensemble of models that were looked up already.

    Args, Returns and Raises:
        As for `save_ensemble`.
    """
    targets = targets_of(common_dataset([Named(member.name, member.plan.dataset) for member in opened]))
    check_combination(combination, targets, len(opened))
    saved = tuple(_saved(number, member) for number, member in enumerate(opened))
    document = EnsembleDocument(name=_name(target), members=saved, combination=combination)
    files: dict[str, Path] = {}
    for one, member in zip(saved, opened, strict=True):
        files |= {f"{one.folder}/{name}": path for name, path in member.files.items()}
    folder = EnsembleFolder(target)
    written = {**extra, folder.document.name: to_json(document).encode()}
    check_place(target)
    link_folder(target, files, written)
    _check_same(target, files, written)
    return document


def _name(target: Path) -> str:
    # Resolved, as a folder may be given as `.`; it need not be there.
    return target.resolve().name


def _saved(number: int, member: MemberFiles) -> SavedMember:
    hashes = hash_files(map(str, member.checkpoints))
    return SavedMember(
        folder=f"members/{number}",
        plan=member.plan.name,
        configuration=member.configuration,
        folds=tuple(member.folds),
        weights=tuple(hashes[str(path)].digest for path in member.checkpoints),
    )


def check_place(target: Path) -> None:
    """Refuse a place that holds anything but an ensemble.

    Raises:
        InputError: it does.
    """
    if target.exists() and not EnsembleFolder(target).is_there():
        raise InputError(f"{target} is there already, and no ensemble; move it elsewhere, or give another folder")


def _check_same(target: Path, files: Mapping[str, Path], written: Mapping[str, bytes]) -> None:
    """Refuse a folder that was there before and holds other things.

    Raises:
        InputError: it does.
    """
    expected = {*files, *written}
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    others = found ^ expected
    others |= {name for name in written if name not in others and (target / name).read_bytes() != written[name]}
    others |= {name for name, path in files.items() if name not in others and not _is_same(target / name, path)}
    if others:
        raise InputError(
            f"{target} is there already and holds another ensemble ({', '.join(sorted(others)[:3])}); move it elsewhere, or give "
            "another folder"
        )


def _is_same(path: Path, other: Path) -> bool:
    """Return whether two files are one, or hold the same."""
    if path.samefile(other):
        return True
    if path.stat().st_size != other.stat().st_size:
        return False
    found = hash_files([str(path), str(other)])
    return found[str(path)].digest == found[str(other)].digest


def read_ensemble(root: Path) -> EnsembleDocument:
    """Return what a saved ensemble consists of.

    Raises:
        PlanError: its document is missing, damaged, or of another version of tumorseg, or a model lies outside the folder or is missing.
    """
    document = read_record(EnsembleDocument, EnsembleFolder(root).document, error=PlanError)
    for member in document.members:
        if (fault := impossible_path(str(root / member.folder))) is not None:
            raise PlanError(f"found the model {member.folder!r}, a path that {fault}", file=root)
        # A document of somebody else's must not lead out of its folder.
        place = (root / member.folder).resolve()
        if root.resolve() not in place.parents:
            raise PlanError(f"found the model {member.folder}, expected one inside the folder", file=root)
        if not place.is_dir():
            raise PlanError(f"lacks {member.folder}, one of its models; copy the whole folder", file=root)
    return document
