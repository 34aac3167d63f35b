"""Fingerprint and preprocessing against nnunetv2, in one run on the same cores.

    python -m benchmarks.preprocessing --data-root ../shared/data --peer <python of an environment with nnunetv2 2.8.1>

Parts: `hippocampus` (200 small cases, whole commands, start-up included), `ct` (a CT of 512 x 512 x 119 to 1 mm, time per case
without start-up), `streaming` (1,000 and 10,000 generated cases: memory must not grow). Results go to
benchmarks/results/preprocessing.json with machine and commit; a run of some parts keeps the results of the others.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import machine
from benchmarks.watching import Watched, watch

RESULT = Path(__file__).parent / "results" / "preprocessing.json"
PROCESSES = 2
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
NUM_REPEATS = 3
VERBS = ("fingerprint", "plan", "preprocess")
STREAMED = (1_000, 10_000)

PEER_CASE = """
import json, resource, sys, time
started = time.perf_counter()
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
raw, preprocessed, repeats = sys.argv[1], sys.argv[2], int(sys.argv[3])
plans = PlansManager(preprocessed + "/nnUNetPlans.json")
configuration, dataset = plans.get_configuration("3d_fullres"), load_json(raw + "/dataset.json")
start_up, seconds = time.perf_counter() - started, []
for number in range(repeats):
    started = time.perf_counter()
    DefaultPreprocessor(verbose=False).run_case_save(
        f"{preprocessed}/out_{number}", [raw + "/imagesTr/case_0000.nii.gz"], raw + "/labelsTr/case.nii.gz", plans, configuration, dataset
    )
    seconds.append(time.perf_counter() - started)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print("RESULT" + json.dumps({"start_up_s": start_up, "case_s": seconds, "peak_bytes": peak}))
"""
OWN_CASE = """
import json, resource, shutil, sys, time
started = time.perf_counter()
from pathlib import Path
from tumorseg.schema.targets import targets_of
from tumorseg.stages.opening.loaded import Roots, open_planned_dataset, read_plan
from tumorseg.schema.cases import preprocessing_of
from tumorseg.stages.training.preprocess import PreprocessTask, preprocess_case
from tumorseg.storage.hashing import case_files, hash_files
plan_path, data, out, repeats = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
plan = read_plan(plan_path)
dataset = open_planned_dataset(plan, Roots(work=out), data)
spec = preprocessing_of(plan, plan.configurations["3d_fullres"])
states = hash_files(case_files(dataset.cases[0]))
task = PreprocessTask(dataset.cases[0], spec, targets_of(dataset), out, "case", states)
start_up, seconds = time.perf_counter() - started, []
for _ in range(repeats):
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    preprocess_case(task)
    seconds.append(time.perf_counter() - started)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print("RESULT" + json.dumps({"start_up_s": start_up, "case_s": seconds, "peak_bytes": peak}))
"""


class Bench:
    """Where everything is."""

    def __init__(self, data_root: Path, peer: str, folder: Path) -> None:
        """Make the folders that nnU-Net wants to be told by environment variables."""
        self.data_root, self.peer, self.folder = data_root.resolve(), Path(peer), folder
        self.nnunet = {f"nnUNet_{name}": str(folder / f"nnUNet_{name}") for name in ("raw", "preprocessed", "results")}
        for path in self.nnunet.values():
            Path(path).mkdir(exist_ok=True)

    def tumorseg(self, *arguments: str, work: str = "runs") -> Watched:
        """Run one of our verbs as a user would."""
        roots = ("--data-root", str(self.data_root), "--work", str(self.folder / work), "--json", "-q")
        return watch([sys.executable, "-m", "tumorseg", *roots, *arguments])

    def nnunet_command(self, name: str, *arguments: str) -> Watched:
        """Run one of nnU-Net's commands."""
        return watch([str(self.peer.parent / name), *arguments], environment=self.nnunet)

    def raw(self, dataset: str, name: str) -> Path:
        """Write a dataset as nnU-Net's raw folder."""
        folder = Path(self.nnunet["nnUNet_raw"]) / name
        self.tumorseg("data", "import", "-d", dataset, "-o", str(folder))
        return folder


def hippocampus(bench: Bench) -> dict[str, Any]:
    """Whole commands on 200 small cases by turns: fingerprint, plan of the same kind, preprocess, with start-up."""
    bench.raw("MSD_Hippocampus", "Dataset004_Hippocampus")
    rounds = [(_peer_round(bench), _own_round(bench, number)) for number in range(NUM_REPEATS)]
    peer, own = ({verb: [one[side][verb] for one in rounds] for verb in VERBS} for side in (0, 1))
    # All rounds' files lie in the page cache by now, for both alike.
    again = bench.tumorseg(*_preprocess(bench, 0), work="round_0")
    cases = ("fingerprint", "preprocess")
    return {
        "processes": PROCESSES,
        "nnunetv2": {verb: _middle(found) for verb, found in peer.items()},
        "tumorseg": {verb: _middle(found) for verb, found in own.items()},
        "times_faster": round(_seconds(peer, cases) / _seconds(own, cases), 2),
        "share_of_time_with_plan": round(_seconds(own, VERBS) / _seconds(peer, VERBS), 3),
        "shares_of_time_by_round": [
            round(sum(ours[v].seconds for v in VERBS) / sum(theirs[v].seconds for v in VERBS), 3)
            for theirs, ours in rounds
        ],
        "share_of_memory": round(_peak(own, cases) / _peak(peer, cases), 3),
        "second_start_s": round(again.seconds, 2),
    }


def _peer_round(bench: Bench) -> dict[str, Watched]:
    jobs = ("-np", str(PROCESSES))
    return {
        "fingerprint": bench.nnunet_command("nnUNetv2_extract_fingerprint", "-d", "4", "--clean", *jobs),
        "plan": bench.nnunet_command("nnUNetv2_plan_experiment", "-d", "4"),
        "preprocess": bench.nnunet_command("nnUNetv2_preprocess", "-d", "4", "-c", "3d_fullres", *jobs),
    }


def _own_round(bench: Bench, number: int) -> dict[str, Watched]:
    work, jobs, plan = f"round_{number}", ("--jobs", str(PROCESSES)), _plan(bench, number)
    dataset = ("-d", "MSD_Hippocampus")
    return {
        "fingerprint": bench.tumorseg("fingerprint", *dataset, *jobs, work=work),
        "plan": bench.tumorseg("plan", *dataset, "--preset", "nnunet", "-o", plan, work=work),
        "preprocess": bench.tumorseg(*_preprocess(bench, number), work=work),
    }


def _plan(bench: Bench, number: int) -> str:
    return str(bench.folder / f"hippocampus_{number}.json")


def _preprocess(bench: Bench, number: int) -> tuple[str, ...]:
    return ("preprocess", "-p", _plan(bench, number), "--configuration", "3d_fullres", "--jobs", str(PROCESSES))


def _middle(rounds: list[Watched]) -> dict[str, float]:
    """Return the figures of the round of the median time."""
    return sorted(rounds, key=lambda watched: watched.seconds)[len(rounds) // 2].figures()


def _seconds(rounds: dict[str, list[Watched]], verbs: Sequence[str]) -> float:
    return sum(median(watched.seconds for watched in rounds[verb]) for verb in verbs)


def _peak(rounds: dict[str, list[Watched]], verbs: Sequence[str]) -> int:
    return max(max(watched.all_bytes for watched in rounds[verb]) for verb in verbs)


def ct(bench: Bench) -> dict[str, Any]:
    """One CT to 1 mm: seconds per case without start-up, and the peak memory of the process."""
    source = bench.data_root / "CT_Liver_IRCADb17"
    manifest = bench.folder / "ct" / "manifest.csv"
    manifest.parent.mkdir()
    header = "case_id,CT,label,label:liver=1,label:tumour=2"
    manifest.write_text(f"{header}\ncase,{source / 'image.nii.gz'},{source / 'label.nii.gz'},,\n")
    raw = bench.raw(str(manifest), "Dataset900_CT")
    bench.nnunet_command("nnUNetv2_extract_fingerprint", "-d", "900", "-np", "1")
    bench.nnunet_command("nnUNetv2_plan_experiment", "-d", "900")
    preprocessed = Path(bench.nnunet["nnUNet_preprocessed"]) / raw.name
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    plans["configurations"]["3d_fullres"]["spacing"] = [1.0, 1.0, 1.0]
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    plan = bench.folder / "ct.json"
    bench.tumorseg(
        "plan", "-d", str(manifest), "-o", str(plan), "--set", "configurations.3d_fullres.spacing_mm=[1,1,1]"
    )
    peer_command = [str(bench.peer), "-c", PEER_CASE, str(raw), str(preprocessed), str(NUM_REPEATS)]
    own_command = [
        sys.executable,
        "-c",
        OWN_CASE,
        str(plan),
        str(manifest),
        str(bench.folder / "out"),
        str(NUM_REPEATS),
    ]
    peer = _case_figures(watch(peer_command, environment={**bench.nnunet, **ONE_THREAD}))
    own = _case_figures(watch(own_command, environment=ONE_THREAD))
    return {
        "threads": 1,
        "nnunetv2": peer,
        "tumorseg": own,
        "times_faster": round(peer["case_s"] / own["case_s"], 2),
        "share_of_memory": round(own["peak_mib"] / peer["peak_mib"], 3),
    }


def _case_figures(watched: Watched) -> dict[str, Any]:
    (line,) = [line for line in watched.output.splitlines() if line.startswith("RESULT")]
    found = json.loads(line.removeprefix("RESULT"))
    return {
        "start_up_s": round(found["start_up_s"], 2),
        "case_s": round(median(found["case_s"]), 2),
        "cases_s": [round(seconds, 2) for seconds in found["case_s"]],
        "peak_mib": round(found["peak_bytes"] / 2**20),
    }


def streaming(bench: Bench) -> dict[str, Any]:
    """Fingerprint and preprocess ten times the cases: what each process holds."""
    found: dict[str, Any] = {}
    for count in STREAMED:
        folder = bench.folder / f"streamed_{count}"
        write_small_cases(folder, count)
        plan = str(bench.folder / f"streamed_{count}.json")
        own = {
            "fingerprint": bench.tumorseg("fingerprint", "-d", str(folder), "--jobs", str(PROCESSES)),
            "plan": bench.tumorseg("plan", "-d", str(folder), "-o", plan),
            "preprocess": bench.tumorseg(
                "preprocess", "-p", plan, "--configuration", "3d_fullres", "--jobs", str(PROCESSES)
            ),
        }
        found[str(count)] = {verb: watched.figures() for verb, watched in own.items()}
    return found


def write_small_cases(folder: Path, count: int) -> None:
    """Write so many cases of 14 x 16 x 12 voxels in the layout of the Decathlon."""
    import nibabel
    import numpy as np

    rng = np.random.default_rng(0)
    training = []
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        image = rng.integers(0, 1000, (14, 16, 12)).astype(np.int16)
        label = np.zeros(image.shape, np.uint8)
        label[4:9, 5:11, 3:8] = 1 + number % 2
        pair = {"image": f"./imagesTr/c{number:05}.nii.gz", "label": f"./labelsTr/c{number:05}.nii.gz"}
        for array, path in ((image, pair["image"]), (label, pair["label"])):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])), folder / path)
        training.append(pair)
    description = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "one", "2": "two"},
        "training": training,
    }
    (folder / "dataset.json").write_text(json.dumps(description))


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {"hippocampus": hippocampus, "ct": ct, "streaming": streaming}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--peer", default="python", help="python of an environment with nnunetv2 2.8.1")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    results = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    for part in options.parts:
        with tempfile.TemporaryDirectory() as folder:
            results[part] = {**PARTS[part](Bench(options.data_root, options.peer, Path(folder))), "machine": machine()}
        print(json.dumps({part: results[part]}, indent=2))
        RESULT.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
