"""Look for what would break a run on this machine, before it starts."""

import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tumorseg.errors import InputError, PlanError, TumorsegError
from tumorseg.schema.base import Record
from tumorseg.schema.health import Check, DoctorReport
from tumorseg.schema.plan import Plan
from tumorseg.stages.opening.loaded import Roots, missing_files, open_planned_dataset, read_plan
from tumorseg.stages.tracking.mirror import default_uri
from tumorseg.stages.watching import measuring
from tumorseg.stages.watching.checks import folders, gpu, packages, plan, processor
from tumorseg.storage.hashing import HashCache, dataset_hash
from tumorseg.storage.layout import WorkFolder, work_folder
from tumorseg.storage.probes import nearest


class DoctorRequest(Record):
    """Options of `doctor`."""

    roots: Roots = Roots()
    """Data and work folder."""
    plan: Path | None = None
    """A plan that is to be carried out here."""
    mlflow: str | None = None
    """Where trainings are mirrored to; the database in the work folder if None."""


def doctor(request: DoctorRequest) -> DoctorReport:
    """Measure this machine and judge it; nothing but files that are gone at once is written."""
    gpus = measuring.measure_gpus()
    checks = [*_check_packages(gpus.cudnn), *_check_machine(gpus), *_check_folders(request)]
    if request.plan is not None:
        checks += _check_plan(request.plan, request.roots, tuple(gpus.devices))
    return DoctorReport(checks=tuple(checks))


def _check_packages(cudnn: str | None) -> Iterator[Check]:
    found = measuring.measure_packages()
    yield packages.check_python(sys.version_info[:3], found.python)
    yield from packages.check_packages(found.installed, found.requirements)
    yield from packages.check_known_bad(found.installed | ({} if cudnn is None else {"cudnn": cudnn}))


def _check_machine(gpus: gpu.Gpus) -> Iterator[Check]:
    cores, memory = measuring.measure_cores(), measuring.measure_memory()
    yield processor.check_cores(cores, processor.num_threads(os.environ))
    yield processor.check_memory(memory)
    yield processor.check_shared_memory(memory.shared, len(gpus.devices))
    yield processor.check_open_files(measuring.open_files_limit())
    yield from processor.check_environment(os.environ, cores.granted)
    yield from gpu.check_gpus(gpus)


def _check_folders(request: DoctorRequest) -> Iterator[Check]:
    data_root, work = request.roots.data_root, request.roots.work
    is_readable = os.access(data_root, os.R_OK | os.X_OK)
    yield folders.check_data_root(str(data_root), is_there=data_root.is_dir(), is_readable=is_readable)
    yield from folders.check_work_folder(measuring.measure_folder(work))
    uri = request.mlflow or default_uri(work)
    yield folders.check_tracking(uri, measuring.database_failure(uri))


def _check_plan(path: Path, roots: Roots, devices: tuple[gpu.Device, ...]) -> Iterator[Check]:
    try:
        asked = read_plan(path)
    except PlanError as error:
        yield Check(name="plan", grade="blocker", found=str(error), advice="plan again")
        return
    yield Check(name="plan", grade="ok", found=f"{path} can be read")
    yield plan.check_budget(asked, devices, measuring.measure_memory().available)
    yield from plan.check_precision(asked, devices)
    content = _content(asked, roots)
    yield plan.check_content(asked, content)
    work = work_folder(roots.work, asked.dataset.name)
    room = plan.Room(measuring.free_bytes(nearest(work.root)), _num_stored(work))
    num_cases = content.num_cases or len(set().union(*asked.folds))
    yield plan.check_room(asked, room, num_cases)


def _content(asked: Plan, roots: Roots) -> plan.Content:
    """Look at a plan's dataset without reading images."""
    try:
        dataset = open_planned_dataset(asked, roots)
        gone = list(chain.from_iterable(map(missing_files, dataset.cases)))
        if gone:
            raise InputError(
                f"{len(gone)} files of the planned dataset are missing: {', '.join(gone[:3])}; restore them"
            )
        cache = HashCache(work_folder(roots.work, asked.dataset.name).hashes)
        hashes = {case.case_id: cache.case_hash(case) for case in dataset.cases}
    except TumorsegError as error:
        return plan.Content(failure=" ".join(str(error).split()))
    known = {case_id: found for case_id, found in hashes.items() if found is not None}
    place = str(Path(dataset.cases[0].images[0].path).parent) if dataset.cases else "no folder"
    is_whole = len(known) == len(hashes)
    return plan.Content(
        place=place,
        num_cases=len(hashes),
        num_unread=len(hashes) - len(known),
        content_hash=dataset_hash(known) if is_whole else None,
    )


def _num_stored(work: WorkFolder) -> int:
    """Return how many cases are preprocessed, those of other plans included."""
    return sum(1 for _ in work.cases.glob("[!.]*")) if work.cases.is_dir() else 0
