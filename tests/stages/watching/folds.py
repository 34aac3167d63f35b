"""Folders of trainings as they are found: written file by file, no network trained."""

import json
import os
import time
import zipfile

from tests.tracking.test_epochs import log_of
from tumorseg.schema.alive import Process, SignOfLife
from tumorseg.stages.watching.status import watch_trainings
from tumorseg.storage.layout import fold_folder, work_folder
from tumorseg.tracking.epochs import append_epoch
from tumorseg.workers.machine import machine_identity, started_ticks

EPOCHS, LENGTH = 4, 50


def fold_of(work, fold="0", *, epochs=2, dataset="Toy", plan="toy", has_scores=False, **sign):
    """Write a training's folder, with a sign of life if a phase is given."""
    folder = fold_folder(work_folder(work, dataset).model(plan, "3d_fullres"), fold)
    folder.root.mkdir(parents=True)
    folder.run.write_text(json.dumps({"plan_name": plan}))
    folder.plan.write_text(json.dumps({"training": {"epochs": EPOCHS, "iterations_per_epoch": LENGTH}}))
    for epoch in range(epochs):
        append_epoch(folder.log, log_of(epoch).changed(dsc={"core": 0.5 + 0.1 * epoch, "rim": None}))
    if epochs:
        with zipfile.ZipFile(folder.latest, "w") as file:
            file.writestr("weights", "no more than a name")
    if has_scores:
        folder.validation.mkdir()
        folder.metrics.write_text("{}")
    if sign:
        folder.alive.write_text(sign_of(**sign).model_dump_json())
    return folder


def sign_of(phase, *, process=None, **fields):
    """Return a sign of life, of this process unless another one is given."""
    now = time.time()
    given = {"began_at": now, "beat_at": now, "moved_at": now, "num_beats": 1} | fields
    return SignOfLife(phase=phase, process=process or here(), **given)


def here(process_id=None):
    process_id = process_id or os.getpid()
    ticks = started_ticks(process_id)
    return Process(host="here", process_id=process_id, started_ticks=ticks, machine=machine_identity())


def gone():
    """Return this process as it was before the system gave its number out again."""
    return here().changed(started_ticks=1)


def elsewhere():
    return Process(host="gpu-7", process_id=1, started_ticks=1, machine="another boot")


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def look(*folders):
    return next(watch_trainings(folders))


def states(report):
    return {one.fold: one.state for one in report.trainings}
