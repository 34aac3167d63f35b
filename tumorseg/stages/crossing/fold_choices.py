"""Which folds of a model may segment which cases: those that were trained neither on a case nor on others of its patient."""

from collections.abc import Sequence
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case
from tumorseg.stages.crossing.hashed_datasets import HashedDataset
from tumorseg.stages.crossing.known_cases import KnownCases
from tumorseg.stages.crossing.models import CrossModel
from tumorseg.storage.layout import ALL_CASES


class Pairing(NamedTuple):
    """A model and a dataset."""

    model: CrossModel
    name: str
    """Of the dataset in the matrix."""
    found: HashedDataset
    known: KnownCases
    """Its cases that the model was trained on."""


class Choice(NamedTuple):
    """Folds that segment some of the cases."""

    folds: tuple[str, ...]
    is_held_out: bool
    """Whether the model was trained on the cases, or on others of their patients, but these folds were not."""


class Choices(NamedTuple):
    """The labelled cases of a dataset."""

    cases: dict[Choice, list[Case]]
    """Those that can be scored."""
    left_out: tuple[str, ...]
    """Those that every fold was trained on."""
    relatives: tuple[str, ...]
    """Those of whose patients every fold was trained on some case."""

    @property
    def held_out(self) -> tuple[str, ...]:
        """Return the cases that the model was trained on in part, sorted."""
        found: list[str] = []
        for choice, own in self.cases.items():
            found += [case.case_id for case in own if choice.is_held_out]
        return tuple(sorted(found))


def choose_folds(pairing: Pairing, cases: Sequence[Case]) -> Choices:
    """Return the cases that each choice of folds segments, and those for which no fold is left.

    Raises:
        InputError: no case is left.
    """
    if not cases:
        raise InputError(f"no case of {pairing.name} has a reference segmentation")
    choices: dict[Choice, list[Case]] = {}
    left_out, relatives = [], []
    for case in cases:
        if (choice := _choice(pairing, case)) is not None:
            choices.setdefault(choice, []).append(case)
        elif _is_relative(pairing, case):
            relatives.append(case.case_id)
        else:
            left_out.append(case.case_id)
    if not choices:
        raise InputError(_all_seen(pairing, len(cases), has_relatives=bool(relatives)))
    return Choices(choices, tuple(left_out), tuple(relatives))


def _all_seen(pairing: Pairing, num_cases: int, *, has_relatives: bool) -> str:
    """Return why no case is left."""
    if (part := pairing.model.without) is not None:
        return f"the model was trained with {pairing.name}, and without {part}: it is tested on that alone"
    related = ", or on others of its patient" if has_relatives else ""
    return f"every fold of the model was trained on each of the {num_cases} labelled cases{related}, so that none is unseen"


def _choice(pairing: Pairing, case: Case) -> Choice | None:
    """Return the folds that may segment a case; None where all were trained on it, or on another case of its patient."""
    model, seen, related = pairing.model, *_known_as(pairing, case)
    if not related:
        return Choice(tuple(model.folds), is_held_out=False)
    folds = _not_trained_on(model, related)
    if model.without is not None:
        # A patient of the part with cases elsewhere was kept from training; these are neither left out nor trained on.
        folds = [fold for fold in folds if seen <= set(model.plan.folds[int(fold)])]
    if model.is_cascade:
        # Its previous model has seen the case, but for what the fold that holds it out was shown, under the plan's case_id.
        folds = [fold for fold in folds if seen == {case.case_id} and seen <= set(model.plan.folds[int(fold)])]
    return Choice(tuple(folds), is_held_out=True) if folds else None


def _is_relative(pairing: Pairing, case: Case) -> bool:
    """Tell whether other cases of its patient, and not the case itself, leave no fold that may segment a case."""
    seen, related = _known_as(pairing, case)
    return not seen or (seen != related and bool(_not_trained_on(pairing.model, seen)))


def _known_as(pairing: Pairing, case: Case) -> tuple[frozenset[str], frozenset[str]]:
    """Return the cases that the plan uses which a case is, and these with all others of its patient."""
    uses = pairing.model.plan.dataset.selection().uses
    seen = frozenset(filter(uses, pairing.known.planned.get(case.case_id, ())))
    return seen, seen.union(filter(uses, pairing.known.relatives.get(case.case_id, ())))


def _not_trained_on(model: CrossModel, names: frozenset[str]) -> list[str]:
    """Return the folds of which none of some cases of the plan was in the training."""
    return [fold for fold in model.folds if fold != ALL_CASES and names <= model.plan.not_trained_on(int(fold))]
