"""A study on real data from beginning to end, unattended, one of its workers killed on the way; and what came of it.

    python -m benchmarks.tuning --work FOLDER [--dataset hippocampus|brain|acdc] [--hours 1.5] [--space A,B|FILE] [-- OPTIONS OF tune]

Plans with `fast_prototyping`, tunes with fold 0 spared and fold 1 judging, kills a worker with SIGKILL once a trial of its has reached a
rung, and trains a few steps with the child plan. Given again with the same options it goes on where it stopped. Report, result and child
plan are copied to benchmarks/results/tuning/<dataset>/, and what they come to stands in results/tuning/<dataset>.json.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import machine
from tumorseg.errors import PlanError
from tumorseg.reports.tuning_words import saved_by_pruning
from tumorseg.schema.plan import Plan
from tumorseg.schema.tuning import TuningResult
from tumorseg.storage.json_files import read_record
from tumorseg.storage.layout import work_folder
from tumorseg.storage.study_folder import StudyFolder
from tumorseg.storage.study_tasks import TaskFile, claimed_tasks

RESULTS = Path(__file__).parent / "results" / "tuning"
SPARED, JUDGING = "0", "1"
LOOK_S = 2.0
STUDY = "benchmark"
SHORT = ["--epochs", "1", "--iterations", "3"]
"""Of the training that shows that the child plan is one."""


class Job(NamedTuple):
    """Where a study on one dataset lies."""

    name: str
    work: Path
    data_root: Path
    dataset: str
    """As `-d` takes it."""
    planning: tuple[str, ...] = ()
    """Further options of `plan`."""

    @property
    def plan(self) -> Path:
        """Return the plan that is refined."""
        return self.work / f"{self.name}.json"

    @property
    def child(self) -> Path:
        """Return the plan that the study writes."""
        return self.work / f"{self.name}__tuned.json"

    @property
    def killed(self) -> Path:
        """Return where it is noted which worker was killed."""
        return self.work / f"{self.name}.killed.json"

    def command(self, *arguments: str) -> list[str]:
        """Return a command line of tumorseg."""
        roots = ["--data-root", str(self.data_root), "--work", str(self.work / "runs")]
        return [sys.executable, "-m", "tumorseg", "--json", *roots, *arguments]

    def study(self) -> StudyFolder:
        """Return the study's folder, which need not be there yet."""
        # Of this dataset alone: others may have been tuned in the same folder.
        name = read_record(Plan, self.plan, error=PlanError).dataset.name
        return StudyFolder(work_folder(self.work / "runs", name).studies / STUDY)


def hippocampus(data_root: Path, work: Path) -> Job:
    return Job("hippocampus", work, data_root, "MSD_Hippocampus")


def brain(data_root: Path, work: Path) -> Job:
    """Write the cases in the layout of MSD_Brain, once, and folds of one case each: six cases leave too few for trials otherwise."""
    made = work / "data"
    folder = made / "Task01_BrainTumour"
    if not (folder / "dataset.json").is_file():
        subprocess.run([sys.executable, str(data_root / "make_msd_brain.py"), str(made)], check=True)
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (folder / "labelsTr").glob("*.nii.gz"))
    splits = work / "brain_splits.json"
    splits.write_text(json.dumps([[case] for case in cases]))
    return Job("brain", work, made, "MSD_Brain", planning=("--splits", str(splits)))


def acdc(data_root: Path, work: Path) -> Job:
    """Write a manifest that tells which images are of one patient: both frames of a heart stay together."""
    source = (data_root / "Dataset027_ACDC").resolve()
    description = json.loads((source / "dataset.json").read_text())
    channel = description["channel_names"]["0"]
    cases = []
    for label in sorted((source / "labelsTr").glob("*.nii.gz")):
        case_id = label.name.removesuffix(".nii.gz")
        image = source / "imagesTr" / f"{case_id}_0000.nii.gz"
        group = case_id.split("_")[0]
        cases.append({"case_id": case_id, "images": {channel: str(image)}, "label": str(label), "group": group})
    channels = [{"name": channel, "kind": "mr"}]
    manifest = {"name": "ACDC", "channels": channels, "labels": description["labels"], "cases": cases}
    (work / "acdc_manifest.json").write_text(json.dumps(manifest, indent=1))
    return Job("acdc", work, data_root, str(work / "acdc_manifest.json"))


JOBS = {"hippocampus": hippocampus, "brain": brain, "acdc": acdc}


def plan(job: Job) -> None:
    """Plan, unless that was done before."""
    if not job.plan.is_file():
        options = ["--preset", "fast_prototyping", *job.planning, "-o", str(job.plan)]
        subprocess.run(job.command("plan", "-d", job.dataset, *options), check=True, stdout=subprocess.DEVNULL)


def tune(job: Job, hours: float, jobs: int, more: Sequence[str]) -> dict[str, Any]:
    """Tune to the end, killing a worker on the way, and return what the command prints."""
    options = ["--hours", str(hours), "--folds", JUDGING, "--spare", SPARED, "--jobs", str(jobs), "--study", STUDY]
    command = job.command("tune", "-p", str(job.plan), *options, *more, "-o", str(job.child))
    folder = job.study()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            time.sleep(LOOK_S)
            if not job.killed.is_file():
                _kill_one(job, folder)
        assert process.stdout is not None
        printed = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"tune left with {process.returncode}; give the same command again")
    found: dict[str, Any] = json.loads(printed)
    return found


def _kill_one(job: Job, folder: StudyFolder) -> None:
    """Kill the worker of a trial that has reached a rung, so that another has to go on from its checkpoint."""
    for task in claimed_tasks(folder):
        values = folder.attempt(task.stem, task.attempt).values
        if values.is_file() and values.read_text().count("\n"):
            process = _process_of(task)
            if process is not None:
                os.kill(process, signal.SIGKILL)
                note = {"task": task.stem, "attempt": task.attempt, "rungs": values.read_text().count("\n")}
                job.killed.write_text(json.dumps(note))
            return


def _process_of(task: TaskFile) -> int | None:
    """Return the id of the process that works on a task: a worker is called by machine, process and a random part."""
    number = task.worker.split("-")[-2]
    command = Path(f"/proc/{number}/cmdline")
    # Not of another program that has that number by now.
    return int(number) if command.is_file() and b"--worker" in command.read_bytes() else None


def accept(job: Job) -> bool:
    """Train a few steps with the child plan; return whether it was accepted."""
    options = ["--fold", JUDGING, *SHORT, "--validation", "none", "--no-mlflow"]
    done = subprocess.run(job.command("train", "-p", str(job.child), *options), check=False, stdout=subprocess.DEVNULL)
    return done.returncode == 0


def row(job: Job, result: TuningResult) -> dict[str, Any]:
    """Return what the study came to."""
    states = [trial.state for trial in result.trials]
    saved = saved_by_pruning(result)
    killed = json.loads(job.killed.read_text()) if job.killed.is_file() else None
    return {
        "claim": result.claim,
        "chosen": result.chosen,
        "trials": {state: states.count(state) for state in sorted(set(states))},
        "steps_saved_by_pruning": None if saved is None else round(saved, 3),
        "proxy": result.study.proxy.model_dump(mode="json"),
        "final_iterations": result.study.final_iterations,
        "judged": [one.model_dump(mode="json") for one in result.judged],
        "verdicts": [one.model_dump(mode="json") for one in result.verdicts],
        "importances": result.importances,
        "hours": round(result.seconds / 3600, 3),
        "worker_hours": round(result.worker_seconds / 3600, 3),
        "killed": killed and {**killed, "attempts_in_all": _attempts(job, killed["task"])},
    }


def _attempts(job: Job, stem: str) -> int:
    return sum(path.name.isdecimal() for path in job.study().task(stem).iterdir())


def main() -> int:
    """Run a study and write down what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=list(JOBS), default="hippocampus")
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--hours", type=float, default=1.5)
    parser.add_argument("--jobs", type=int, default=2, help="workers")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything; the same one to go on")
    parser.add_argument("--space", help="what may change, as tune takes it; tune's own default if not given")
    parser.add_argument("more", nargs="*", help="further options of tune, after --")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    job = JOBS[options.dataset](options.data_root, options.work.resolve())
    plan(job)
    more = [*([] if options.space is None else ["--space", options.space]), *options.more]
    printed = tune(job, options.hours, options.jobs, more)
    folder = job.study()
    result = TuningResult.model_validate_json(folder.result.read_text())
    is_accepted = accept(job)
    found = row(job, result) | {"machine": machine(), "train_accepts_the_child": is_accepted, "options": more}
    copies = RESULTS / job.name
    copies.mkdir(parents=True, exist_ok=True)
    for path in (Path(printed["output"]), Path(printed["report"]), folder.result):
        shutil.copy(path, copies)
    (RESULTS / f"{job.name}.json").write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
    print(json.dumps(found, indent=2, sort_keys=True))
    return 0 if is_accepted else 1


if __name__ == "__main__":
    sys.exit(main())
