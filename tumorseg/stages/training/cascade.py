"""Inputs of a cascade from its previous configuration: out-of-fold segmentations of all cases, and the model."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import PlanError
from tumorseg.schema.base import content_hash
from tumorseg.schema.plan import Plan
from tumorseg.stages.inference.folds import is_finished
from tumorseg.stages.inference.ledger import read_predictions
from tumorseg.stages.inference.method import AS_PLANNED, method_hash
from tumorseg.stages.inference.predictions import mask_hash
from tumorseg.stages.inference.previous_sources import KnownPrevious
from tumorseg.stages.opening.fold_folders import Run, fold_plan, read_run
from tumorseg.storage.hashing import hash_files
from tumorseg.storage.layout import ALL_CASES, FoldFolder, fold_folder, is_fold_folder, previous_model
from tumorseg.storage.linking import link_folder


class OutOfFold(NamedTuple):
    """The trained folds of a previous configuration, and what each said of the cases that it had not seen."""

    folders: tuple[FoldFolder, ...]
    """In the order of the plan's folds."""
    files: dict[str, Path]
    """Label values on each case's own grid, by case_id."""
    weights: tuple[str, ...]
    """Hash of each fold's checkpoint."""
    identity: str
    """Of weights and plans of all folds."""


def out_of_fold(plan: Plan, configuration: str, model: Path) -> OutOfFold | None:
    """Return what a cascade is shown of every case: what the fold that held the case out found in it.

    Args:
        plan: of the training.
        configuration: that is trained.
        model: its model folder, beside that of the previous configuration.

    Returns:
        None for a configuration that is no cascade.

    Raises:
        PlanError: a fold of the previous configuration is not trained, finished and validated.
    """
    previous = plan.configurations[configuration].previous_configuration
    if previous is None:
        return None
    if not plan.folds:
        raise PlanError(
            f"plan {plan.name} has no folds, so no {previous} model can segment a case that it was not trained on, which "
            f"{configuration} learns from; train another configuration"
        )
    folders = tuple(fold_folder(model.parent / previous, number) for number in range(len(plan.folds)))
    checkpoints = [folder.latest for folder in folders if folder.latest.is_file()]
    hashes = {path: state.digest for path, state in hash_files(map(str, checkpoints)).items()}
    lacks = [_lack(plan, previous, number, folder, hashes) for number, folder in enumerate(folders)]
    if any(lacks):
        found = ", ".join(f"fold {number} {lack}" for number, lack in enumerate(lacks) if lack)
        raise PlanError(
            f"{configuration} learns from what every fold of {previous} finds in the cases that it holds out; {found}; run "
            f"`tumorseg train --configuration {previous} --fold K` (or `tumorseg validate`) with plan {plan.name} for these first"
        )
    return _gather(plan, folders, tuple(hashes[str(folder.latest)] for folder in folders))


def _gather(plan: Plan, folders: tuple[FoldFolder, ...], weights: tuple[str, ...]) -> OutOfFold:
    if len({read_run(folder).plan_hash for folder in folders}) > 1:
        raise PlanError(
            f"{folders[0].root.parent} holds folds of different plans, which cannot be averaged; train them with --restart"
        )
    states = hash_files(str(folder.plan) for folder in folders)
    plans = [state.digest for state in states.values()]
    files: dict[str, Path] = {}
    for folder, held_out in zip(folders, plan.folds, strict=True):
        files |= {case_id: folder.prediction(case_id) for case_id in held_out}
    return OutOfFold(folders, files, weights, content_hash([weights, plans]))


def _lack(plan: Plan, previous: str, number: int, folder: FoldFolder, hashes: Mapping[str, str]) -> str | None:
    """Return what is missing of a fold of the previous configuration, or None."""
    if not is_fold_folder(folder.root):
        return "is not trained"
    trained = fold_plan(folder)
    if _decided(trained, previous) != _decided(plan, previous):
        return "was trained with another plan"
    if not is_finished(folder):
        return "is not trained to its end"
    if not folder.predictions.is_file():
        return "is not validated"
    weights = (hashes[str(folder.latest)],)
    made = read_predictions(folder.predictions, PlanError)
    if made.weight_hashes != weights:
        return "was validated with earlier weights"
    if made.method_hash != method_hash(trained, trained.configurations[previous], weights=weights, options=AS_PLANNED):
        return "was validated otherwise than its plan and this version say"
    held_out = plan.folds[number]
    written = {one: made.cases[one].files.get(folder.prediction(one).name) for one in held_out if one in made.cases}
    if any(written.get(one) is None or not folder.prediction(one).is_file() for one in held_out):
        return "is not validated on every case that it holds out"
    # Last of all, since every mask is read for it.
    changed = [one for one in held_out if mask_hash(folder.prediction(one)) != written[one]]
    return f"holds segmentations that were changed by hand ({', '.join(changed[:5])})" if changed else None


def _decided(plan: Plan, configuration: str) -> tuple[object, ...]:
    """Return what two plans must agree on for one's model to serve the other's cascade."""
    chosen = plan.configurations.get(configuration)
    folds = plan.folds, plan.kept_from_training
    return plan.dataset, folds, plan.orientation, plan.transpose, plan.cropping, chosen


def keep_model(previous: OutOfFold, model: Path) -> None:
    """Put the previous model into a cascade's model folder, which is to be complete in itself.

    Raises:
        PlanError: a fold was trained on since its weights were hashed.
        StorageError: it cannot be written.
    """
    states = hash_files(str(folder.latest) for folder in previous.folders)
    if tuple(state.digest for state in states.values()) != previous.weights:
        raise PlanError(
            f"{previous.folders[0].root.parent}: its folds were trained on meanwhile; give the command again once that has ended"
        )
    files: dict[str, Path] = {}
    for folder in previous.folders:
        for path in (folder.plan, folder.run, folder.latest):
            files[f"{folder.root.name}/{path.name}"] = path
    link_folder(previous_model(model, previous.identity), files)


def known_to(folder: FoldFolder, run: Run) -> KnownPrevious | None:
    """Return the previous segmentations of the cases that a cascade's fold holds out, made by weights that never saw them.

    Args:
        folder: of the fold.
        run: its record.

    Returns:
        None for a configuration that is no cascade.

    Raises:
        PlanError: they are not there, or not those of the training.
    """
    if run.previous is None or run.fold == ALL_CASES:
        return None
    plan = fold_plan(folder)
    found = out_of_fold(plan, run.configuration, folder.root.resolve().parent)
    if found is None or found.identity != run.previous:
        raise PlanError(
            f"{folder.root} was trained with segmentations of another training of the previous configuration than is there "
            "now; train the fold with --restart"
        )
    number = int(run.fold)
    return KnownPrevious({one: found.files[one] for one in plan.folds[number]}, (found.weights[number],))
