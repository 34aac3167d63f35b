"""Models in memory that answer together, and a model alone as an ensemble of one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tumorseg.errors import PlanError
from tumorseg.schema.ensembles import Combination, SavedMember
from tumorseg.schema.planned_dataset import PlannedDataset
from tumorseg.schema.targets import Targets, targets_of
from tumorseg.schema.trust import TrustProfile
from tumorseg.stages.inference.agreement import Named, check_combination, common_dataset
from tumorseg.stages.inference.ensemble_folder import read_ensemble
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.runtime import AS_PLANNED, Runtime, RuntimeOptions
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.inference.trusting import read_trust
from tumorseg.storage.ensemble_layout import EnsembleFolder

AS_IS = Combination()
"""Changes nothing of a single member's answer."""
MOST_LETTERS = 60
"""Of the name of an ensemble that nobody has named: DICOM takes 64."""


class Ensemble(NamedTuple):
    """Models that answer together, ready to predict."""

    members: tuple[Model, ...]
    """They share the thread of the network and the turn at it. The first one leads: masks lie on the grid that it reads."""
    combination: Combination
    """How one mask is made of their answers."""
    name: str
    """That reports call it by."""
    dataset: PlannedDataset
    """What masks hold, and the channels that a case brings: of the first member, then those that only others see."""
    root: Path | None = None
    """Folder that it was loaded from; None for one that is not saved."""
    trust: TrustProfile | None = None
    """What cases are judged by; None: they are not."""

    @property
    def lead(self) -> Model:
        """Return the first member."""
        return self.members[0]

    @property
    def targets(self) -> Targets:
        """Return what masks hold."""
        return targets_of(self.dataset)

    @property
    def device(self) -> torch.device:
        """Return where the networks are."""
        return self.lead.device

    @property
    def is_model(self) -> bool:
        """Return whether it is a model alone, whose answer nothing changes."""
        return len(self.members) == 1 and self.combination == AS_IS

    @property
    def has_slices(self) -> bool:
        """Return whether it has probabilities, which observers are shown slice by slice: STAPLE of several masks has none."""
        return len(self.members) == 1 or self.combination.method != "staple"

    @property
    def weight_hashes(self) -> tuple[str, ...]:
        """Return the hashes of all checkpoints, those of cascades' previous models included."""
        hashes: list[str] = []
        for member in self.members:
            hashes += member.weight_hashes
        return tuple(hashes)

    def stop(self) -> None:
        """Let cases that are being segmented fail soon, for good."""
        for member in self.members:
            member.stop()

    def positions(self, member: Model) -> tuple[int, ...]:
        """Return which of a case's channels a member sees, in its own order."""
        names = [channel.name for channel in self.dataset.channels]
        return tuple(names.index(channel.name) for channel in member.plan.dataset.channels)

    def changed_inference(self, **fields: Any) -> "Ensemble":
        """Return it with some fields of `inference`, such as `overlap`, changed in every member's configuration.

        Engines and precision stay what they were loaded with.

        Raises:
            ValidationError: a value is unsound.
        """
        return self._replace(members=tuple(_with_inference(member, fields) for member in self.members))


def _with_inference(model: Model, fields: dict[str, Any]) -> Model:
    configuration = model.configuration
    changed = configuration.changed(inference=configuration.inference.changed(**fields))
    previous = model.previous_model
    shown = model.previous if previous is None else _with_inference(previous, fields)
    return model._replace(configuration=changed, previous=shown)


def alone(model: Model) -> Ensemble:
    """Return an ensemble of one model, which answers as the model does."""
    return Ensemble((model,), AS_IS, model.plan.name, model.plan.dataset)


def as_ensemble(model: Model | Ensemble) -> Ensemble:
    """Return an ensemble as it is, and a model as one of its own."""
    return alone(model) if isinstance(model, Model) else model


def together(members: Sequence[Model], combination: Combination = AS_IS, *, name: str | None = None) -> Ensemble:
    """Return models as an ensemble; from now on one of their networks computes at a time.

    Args:
        members: on one device; the first one leads.
        combination: how one mask is made of their answers.
        name: that reports call it by; from the names of its plans if None.

    Raises:
        PlanError: they cannot be combined, or the combination speaks of labels, regions or members that are not there.
        InputError: a step of its postprocessing does.
    """
    named = [Named(f"{member.plan.name}/{member.configuration_name}", member.plan.dataset) for member in members]
    dataset = common_dataset(named)
    check_combination(combination, targets_of(dataset), len(members))
    beside = tuple(_beside(member, members[0].runtime) for member in members)
    return Ensemble(beside, combination, name or joint_name([one.name for one in named]), dataset)


def joint_name(names: Sequence[str]) -> str:
    """Return what an ensemble is called that has no name."""
    joint = " + ".join(names)
    if len(joint) <= MOST_LETTERS or len(names) == 1:
        return joint
    short = f"{names[0]} and {len(names) - 1} more"
    return short if len(short) <= MOST_LETTERS else f"ensemble of {len(names)} models"


def _beside(model: Model, lead: Runtime) -> Model:
    """Return a model whose networks, a cascade's previous ones too, take turns with another's."""
    previous = model.previous_model
    shown = model.previous if previous is None else _beside(previous, lead)
    runtime = lead if model.runtime is lead else model.runtime.beside(lead)
    return model._replace(runtime=runtime, previous=shown)


def load_ensemble(
    paths: Sequence[Path],
    device: str,
    folds: Sequence[str] = (),
    *,
    runtime: RuntimeOptions = AS_PLANNED,
) -> Ensemble:
    """Load a saved ensemble, or folds of one model as an ensemble of one.

    Args:
        paths: the ensemble's folder; or a model's, or those of its folds.
        device: where to compute.
        folds: which folds, of each member; all if empty.
        runtime: engine and precision, of all members.

    Raises:
        PlanError: as from `load_model`; a saved ensemble is damaged, holds other weights than were saved, or stands beside other models.
        StorageError: a checkpoint is missing or damaged.
        InputError: a checkpoint was replaced while it was loaded, the engine cannot run a network, or `trust.json` cannot be read.
    """
    if len(paths) != 1 or not EnsembleFolder(paths[0]).is_there():
        return alone(load_model(paths, device, folds, runtime=runtime))
    root = paths[0]
    document = read_ensemble(root)
    members = []
    for saved in document.members:
        chosen = folds or saved.folds
        member = load_model([root / saved.folder], device, chosen, runtime=runtime)
        _check_weights(member, saved, chosen, root=root)
        members.append(member)
    loaded = together(members, document.combination, name=document.name)
    return loaded._replace(root=root, trust=read_trust(root))


def _check_weights(model: Model, saved: SavedMember, folds: Sequence[str], *, root: Path) -> None:
    """Refuse a member whose checkpoints were replaced: weights, thresholds and what is known of trust are of others."""
    known = dict(zip(saved.folds, saved.weights, strict=True))
    # Each once, as they are loaded; those of a cascade's previous model follow.
    expected = tuple(known.get(fold) for fold in dict.fromkeys(folds))
    if model.weight_hashes[: len(model.networks)] != expected:
        raise PlanError(
            f"{saved.folder} ({saved.plan}/{saved.configuration}) holds other weights than the ensemble was saved with; copy the whole folder "
            "again, or save the ensemble anew",
            file=root,
        )
