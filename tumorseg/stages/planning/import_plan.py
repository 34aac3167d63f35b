"""Read nnU-Net v2's plans and write them as a plan."""

from pathlib import Path

from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.totals import predict_memory
from tumorseg.planning.nnunet.import_plan import GivenSplits, NnunetSource, import_plan
from tumorseg.schema.base import Record
from tumorseg.stages.inference.nnunet_model import read_nnunet_source
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.planning.plan import WrittenPlan, read_splits
from tumorseg.stages.planning.written_plans import Place, write_plan
from tumorseg.storage.layout import NnunetPlanFolder, work_folder


class PlanImportRequest(Record):
    """Options of `plan import`."""

    plans: Path
    """`nnUNetPlans.json`, or a model's `plans.json`."""
    dataset_json: Path | None = None
    """The dataset.json that belongs to it; the one beside it if None."""
    configurations: tuple[str, ...] = ()
    """Which to import; all if empty."""
    splits: Path | None = None
    """JSON file of folds; nnU-Net's `splits_final.json` beside the plans, if there is one, if None."""
    output: Path | None = None
    """Where to write; plans/<Dataset>__<plans>.json if None."""
    roots: Roots = Roots()
    """Data and work folder."""
    force: bool = False
    """Whether a plan that was edited, or is of another dataset, may be replaced."""


def import_nnunet_plan(request: PlanImportRequest) -> WrittenPlan:
    """Import plans and write the plan.

    Raises:
        InputError: dataset.json is missing or malformed.
        PlanError: the plans say something that a plan cannot express.
    """
    beside = NnunetPlanFolder(request.plans.parent)
    found = read_nnunet_source(request.plans, request.dataset_json or beside.dataset)
    output = request.output or Path("plans") / f"{found.dataset.name}__{_plans_name(found)}.json"
    splits = _splits(request, beside)
    plan = import_plan(found, output.stem, configurations=request.configurations, splits=splits)
    plan = predict_memory(plan, MemoryCounter())
    place = Place(output, work_folder(request.roots.work, plan.dataset.name), request.plans)
    write_plan(plan, place, force=request.force)
    return WrittenPlan(plan, output)


def _splits(request: PlanImportRequest, beside: NnunetPlanFolder) -> GivenSplits | None:
    if request.splits is not None:
        return GivenSplits(read_splits(request.splits), "user")
    return GivenSplits(read_splits(beside.splits), "import") if beside.splits.is_file() else None


def _plans_name(found: NnunetSource) -> str:
    """Return the plans' own name as part of a file's."""
    return str(found.plans.get("plans_name", "nnunet")).replace("/", "_")
