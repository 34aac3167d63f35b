"""Whole commands of both programs by turns."""

import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.agreement import Pair, agreement, scores
from benchmarks.inference_engines import engine_rows
from benchmarks.inference_models import CONFIGURATION, Prepared
from benchmarks.labels import VERSIONS
from benchmarks.preprocessing import Bench
from benchmarks.watching import Watched, told_by, watch
from tumorseg.engine.precision import has_bf16
from tumorseg.engine.sliding_window import tile_starts
from tumorseg.stages.opening.loaded import read_plan

HERE = Path(__file__).parent
POLL_S = 0.5
"""Between two looks at the memory: rarely, as each takes time from the cores that are measured."""
PEER_PROCESSES = (3, 1)
"""For reading and for writing: nnU-Net's default, and what two cores have room for."""
NUM_VIEWS = 8


class Settings(NamedTuple):
    """How much to measure."""

    turns: int
    """Of each program on the small cases."""
    ct_turns: int
    """On the CT."""


class Side(NamedTuple):
    """One way to segment the cases."""

    name: str
    command: tuple[str, ...]
    """All but where to write."""


class Round(NamedTuple):
    """One run of a command."""

    watched: Watched
    network_s: float
    """In which at least one pass of the network ran."""
    num_passes: int
    output: Path


def peer_side(bench: Bench, prepared: Prepared, processes: int, *, is_mirrored: bool) -> Side:
    """Return nnU-Net on the CPU, which takes all cores for its passes."""
    jobs = ("-npp", str(processes), "-nps", str(processes))
    paths = ("-i", str(prepared.inputs), "-m", str(prepared.model), "-f", "0")
    views = () if is_mirrored else ("--disable_tta",)
    command = (str(bench.peer), str(HERE / "peer" / "inference.py"), *paths, "-device", "cpu", *jobs, *views)
    return Side(f"nnunetv2_{processes}", command)


def own_side(prepared: Prepared, precision: str, *, is_mirrored: bool) -> Side:
    """Return our command; its default precision is `auto`."""
    paths = ("-m", str(prepared.model), "-i", str(prepared.inputs))
    views = () if is_mirrored else ("--no-mirroring",)
    options = ("--device", "cpu", "--precision", precision, *views)
    # What an engine keeps of a compiled network lies with the models.
    work = str(prepared.folder / "runs")
    start = (sys.executable, "-m", "benchmarks.own_inference", "--work", work, "-q", "predict")
    return Side(f"tumorseg_{precision}", (*start, *paths, *options))


def run_round(side: Side, prepared: Prepared) -> Round:
    """Run a command into a folder of its own, which was not there before."""
    output = prepared.folder / f"out_{side.name}"
    shutil.rmtree(output, ignore_errors=True)
    watched = watch([*side.command, "-o", str(output)], poll_s=POLL_S)
    told = told_by(watched)
    print(f"  {side.name}: {watched.seconds:.1f} s, network {told['network_s']:.1f} s", flush=True)
    return Round(watched, told["network_s"], told["num_passes"], output)


def versions_of(bench: Bench) -> dict[str, str]:
    """Return the versions of the other program."""
    found: dict[str, str] = json.loads(watch([str(bench.peer), "-c", VERSIONS]).output)
    return found


def figures(rounds: Sequence[Round]) -> dict[str, Any]:
    """Return the medians of several runs of one command, and the time of each."""
    seconds = [one.watched.seconds for one in rounds]
    shares = [one.network_s / one.watched.seconds for one in rounds]
    return {
        "seconds": round(median(seconds), 2),
        "seconds_by_turn": [round(one, 2) for one in seconds],
        "network_s": round(median(one.network_s for one in rounds), 2),
        "network_share": round(median(shares), 3),
        "all_but_network_s": round(median(one.watched.seconds - one.network_s for one in rounds), 2),
        "num_passes": rounds[0].num_passes,
        "all_processes_mib": round(max(one.watched.all_bytes for one in rounds) / 2**20),
    }


def hippocampus(bench: Bench, prepared: Prepared, settings: Settings) -> dict[str, Any]:
    """Segment all cases in 8 views by turns: nnU-Net, ours in fp32, ours as it is by default."""
    peers = [peer_side(bench, prepared, processes, is_mirrored=True) for processes in PEER_PROCESSES]
    own = [own_side(prepared, precision, is_mirrored=True) for precision in ("fp32", "auto")]
    # Files of both programs, and what ours keeps of a compiled network, are there for all that follows.
    for side in (peers[0], *own):
        run_round(side, prepared)
    found: dict[str, list[Round]] = {side.name: [] for side in (*peers, *own)}
    for turn in range(settings.turns):
        # After the first turn nnU-Net runs in as many processes as were faster for it.
        for side in (*(peers if turn == 0 else [_faster(peers, found)]), *own):
            found[side.name].append(run_round(side, prepared))
    chosen = _faster(peers, found).name
    peer = figures(found[chosen])
    return {
        "peer": versions_of(bench),
        "cases": len(prepared.case_ids),
        "views": NUM_VIEWS,
        "turns": settings.turns,
        "peer_processes_in_first_turn": {side.name: round(found[side.name][0].watched.seconds, 2) for side in peers},
        "peer_chosen": chosen,
        "nnunetv2": peer,
        **{side.name: _against(found[side.name], peer) for side in own},
        **_quality(bench, prepared, peer=found[chosen][-1], own={side.name: found[side.name][-1] for side in own}),
    }


def _faster(sides: Sequence[Side], found: dict[str, list[Round]]) -> Side:
    return min(sides, key=lambda side: found[side.name][0].watched.seconds)


def _against(rounds: Sequence[Round], peer: dict[str, Any]) -> dict[str, Any]:
    """Return figures with their shares of nnU-Net's."""
    own = figures(rounds)
    shares = {
        "share_of_time": round(own["seconds"] / peer["seconds"], 3),
        "share_of_all_but_network": round(own["all_but_network_s"] / peer["all_but_network_s"], 3),
        "share_of_memory": round(own["all_processes_mib"] / peer["all_processes_mib"], 3),
    }
    return own | shares


def _quality(bench: Bench, prepared: Prepared, *, peer: Round, own: Mapping[str, Round]) -> dict[str, Any]:
    """Return how far our masks agree with nnU-Net's, and how well all agree with the references."""
    references = bench.data_root / "Task04_Hippocampus" / "labelsTr"
    against = {name: scores(_pair(prepared, one.output, references)) for name, one in {"nnunetv2": peer, **own}.items()}
    return {"agreement_with_nnunetv2": _agreements(prepared, peer, own), "dsc_against_references": against}


def _agreements(prepared: Prepared, peer: Round, own: Mapping[str, Round]) -> dict[str, Any]:
    return {name: agreement(_pair(prepared, one.output, peer.output)) for name, one in own.items()}


def _pair(prepared: Prepared, first: Path, second: Path) -> Pair:
    labels = read_plan(prepared.plan).dataset.labels
    foreground = {name: value for name, value in labels.items() if value != 0}
    return Pair(first, second, tuple(prepared.case_ids), foreground)


def ct(bench: Bench, prepared: Prepared, settings: Settings) -> dict[str, Any]:
    """Segment the CT in one view with both programs, and tell before how long that may take."""
    precisions = ("fp32", "auto") if has_bf16() else ("auto",)
    peer = peer_side(bench, prepared, 1, is_mirrored=False)
    own = [own_side(prepared, precision, is_mirrored=False) for precision in precisions]
    is_nnunetv2s_plan = is_peers_plan(bench, prepared)
    estimate = _estimate(prepared, num_runs=settings.ct_turns * (1 + len(own)))
    found: dict[str, list[Round]] = {side.name: [] for side in (peer, *own)}
    for _ in range(settings.ct_turns):
        for side in (peer, *own):
            found[side.name].append(run_round(side, prepared))
    theirs = figures(found[peer.name])
    masks = {side.name: found[side.name][-1] for side in own}
    return {
        "peer": versions_of(bench),
        "turns": settings.ct_turns,
        "is_nnunetv2s_plan": is_nnunetv2s_plan,
        "estimate": estimate,
        "nnunetv2": theirs,
        **{side.name: _against(found[side.name], theirs) for side in own},
        "agreement_with_nnunetv2": _agreements(prepared, found[peer.name][-1], masks),
    }


def _estimate(prepared: Prepared, num_runs: int) -> dict[str, float]:
    """Time a tile in fp32, and print how long so many runs take."""
    configuration = read_plan(prepared.plan).configurations[CONFIGURATION]
    overlap = configuration.inference.overlap
    # One case was planned for, so that its grid is the median one.
    sizes = zip(configuration.median_shape, configuration.patch_size, strict=True)
    num_tiles = math.prod(len(tile_starts(size, tile, overlap)) for size, tile in sizes)
    row = engine_rows(prepared, "torch", "fp32", batch_sizes=(1,), seconds=0)[0]
    minutes = num_tiles * row["tile_s"] * num_runs / 60
    print(f"  {num_tiles} tiles of {row['tile_s']:.2f} s, {num_runs} runs: {minutes:.0f} minutes or less", flush=True)
    return {"num_tiles": num_tiles, "tile_s": row["tile_s"], "minutes": round(minutes, 1)}


def is_peers_plan(bench: Bench, prepared: Prepared) -> bool:
    """Return whether nnU-Net's own planner makes the network, the patch and the grid that were planned here."""
    name = "Dataset901_PeerPlanned"
    for folder in ("nnUNet_raw", "nnUNet_preprocessed"):
        shutil.rmtree(Path(bench.nnunet[folder]) / name, ignore_errors=True)
    dataset = ("-d", str(prepared.folder / "manifest.csv"), "--confirm-labels")
    bench.tumorseg("data", "import", *dataset, "-o", str(Path(bench.nnunet["nnUNet_raw"]) / name))
    bench.nnunet_command("nnUNetv2_extract_fingerprint", "-d", "901", "-np", "1")
    bench.nnunet_command("nnUNetv2_plan_experiment", "-d", "901")
    planned = Path(bench.nnunet["nnUNet_preprocessed"]) / name / "nnUNetPlans.json"
    theirs, ours = (_network_of(path) for path in (planned, prepared.model / "plans.json"))
    return theirs == ours


def _network_of(plans: Path) -> dict[str, Any]:
    configuration = json.loads(plans.read_text())["configurations"][CONFIGURATION]
    spacing = [round(edge, 5) for edge in configuration["spacing"]]
    return {
        "patch_size": configuration["patch_size"],
        "spacing": spacing,
        "architecture": configuration["architecture"],
    }
