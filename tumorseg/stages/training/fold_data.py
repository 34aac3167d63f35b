"""The cases that a fold trains on, and those that it holds out."""

from tumorseg.engine.feed import Data
from tumorseg.schema.cases import preprocessing_of
from tumorseg.stages.opening.loaded import open_planned_dataset
from tumorseg.stages.training.cascade import OutOfFold
from tumorseg.stages.training.preprocess import PreprocessRequest, StoredCases, preprocess
from tumorseg.stages.training.previous_segmentations import keep_previous
from tumorseg.stages.training.request import TrainRequest
from tumorseg.storage.cases import CaseStore
from tumorseg.storage.layout import ALL_CASES


def open_fold_data(request: TrainRequest, name: str, previous: OutOfFold | None) -> Data:
    """Fill the case store, and return the cases to train on and those that the fold holds out; `all` trains on every case used."""
    fields = {"roots": request.roots, "plan": request.plan, "dataset": request.dataset, "jobs": request.jobs}
    # The store compares each case when it is first read: nobody waits for all of them.
    stored = preprocess(PreprocessRequest(configurations=(name,), has_comparison=False, **fields))[name]
    shown = None if previous is None else _keep_previous(request, name, stored, previous)
    if request.fold == ALL_CASES:
        return Data(CaseStore(stored.folder, stored.keys, shown), None)
    number = int(request.fold)
    held_out, others = set(request.plan.folds[number]), request.plan.not_trained_on(number)
    training = {case_id: key for case_id, key in stored.keys.items() if case_id not in others}
    validation = {case_id: key for case_id, key in stored.keys.items() if case_id in held_out}
    return Data(CaseStore(stored.folder, training, shown), CaseStore(stored.folder, validation, shown))


def _keep_previous(request: TrainRequest, name: str, stored: StoredCases, previous: OutOfFold) -> dict[str, str]:
    dataset = open_planned_dataset(request.plan, request.roots, request.dataset)
    spec = preprocessing_of(request.plan, request.plan.configurations[name])
    return keep_previous(dataset, stored, previous.files, spec, jobs=request.jobs)
