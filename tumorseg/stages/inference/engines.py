"""What runs a model's networks: torch, torch.compile or OpenVINO."""

import importlib.util
import logging
import os
import shutil
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import nn

from tumorseg.engine.averaging import Pass
from tumorseg.engine.compiled import CompiledFor, cause_of, compiled_pass
from tumorseg.engine.openvino_graphs import (
    GraphSettings,
    check_graph,
    convert_network,
    graph_pass,
    processor,
    quiet_openvino,
    read_graph,
    write_graph,
)
from tumorseg.errors import InputError, StorageError
from tumorseg.schema.base import content_hash
from tumorseg.schema.plan import InferenceEngine
from tumorseg.schema.settings import Engine
from tumorseg.stages.inference.method import METHOD_VERSION
from tumorseg.storage.graph_files import find_graph, keep_graph

logger = logging.getLogger(__name__)

FASTEST: dict[str, Engine] = {"cpu": "openvino", "cuda": "torch"}
"""What `auto` means on a device. Nothing is timed at run time, so that a repeat runs on the same engine; where OpenVINO is not
installed, or what it converts cannot be kept, torch takes its place."""


class EngineJob(NamedTuple):
    """What passes are made for."""

    engine: Engine
    """As from `chosen_engine`."""
    device: torch.device
    """Where the networks are."""
    dtype: torch.dtype
    """Of convolutions."""
    shape: tuple[int, ...]
    """(C, *patch) of one input."""
    weight_hashes: tuple[str, ...]
    """Of each network's checkpoint, in their order."""
    cache: Path | None = None
    """Folder of converted networks; None to convert them with every start."""


class Started(NamedTuple):
    """An engine that holds networks."""

    engine: Engine
    passes: tuple[Pass, ...]
    """What computes the logits of each network."""


def chosen_engine(requested: InferenceEngine, device: torch.device, *, keeps_graphs: bool = True) -> Engine:
    """Return the engine that is asked for, or the fastest that is there.

    Args:
        requested: by the user, else by the plan.
        device: where the networks are.
        keeps_graphs: whether what OpenVINO converts is kept for the next start. Where it is not, only those get it who ask for it: a
            conversion with every start takes longer than it saves on a few cases.

    Raises:
        InputError: it cannot run here.
    """
    if requested == "auto":
        fastest = FASTEST[device.type]
        return "torch" if fastest == "openvino" and not (keeps_graphs and has_openvino()) else fastest
    if requested == "openvino":
        _require_openvino(device)
    if requested == "compile":
        _require_compiler(device)
    return requested


def start_engine(networks: Sequence[nn.Module], job: EngineJob, *, is_required: bool) -> Started:
    """Return what runs networks; torch takes the place of an engine that nobody asked for by name and that cannot.

    Args:
        networks: on the job's device, in eval mode.
        job: engine and precision.
        is_required: whether the engine was asked for by name.

    Raises:
        InputError: an engine that is required cannot run a network.
    """
    try:
        return Started(job.engine, passes_of(networks, job))
    except InputError as error:
        if is_required or job.engine == "torch":
            raise
        cause = error.reason.partition(";")[0]
        logger.warning("%s; torch runs it instead, and --engine torch would start sooner", cause)
    return Started("torch", passes_of(networks, job._replace(engine="torch")))


def passes_of(networks: Sequence[nn.Module], job: EngineJob) -> tuple[Pass, ...]:
    """Return what computes the logits of each network; those of torch compute in the caller's precision.

    Args:
        networks: on the job's device, in eval mode.
        job: engine and precision.

    Raises:
        InputError: the engine cannot run a network.
    """
    if job.engine == "torch":
        # Modules return a tensor in eval mode.
        return cast(tuple[Pass, ...], tuple(networks))
    if job.engine == "compile":
        target = CompiledFor(job.shape, job.device, job.dtype)
        return tuple(compiled_pass(network, target) for network in networks)
    try:
        return _graph_passes(networks, job)
    except (ImportError, RuntimeError) as error:  # a broken installation, or a processor that it does not know
        raise InputError(
            f"OpenVINO cannot run the network here ({cause_of(error)}); mend its installation, or give --engine torch"
        ) from error


def _graph_passes(networks: Sequence[nn.Module], job: EngineJob) -> tuple[Pass, ...]:
    settings = GraphSettings(job.shape, job.dtype, torch.get_num_threads())
    hashed = zip(networks, job.weight_hashes, strict=True)
    return tuple(graph_pass(_graph(network, digest, job), settings) for network, digest in hashed)


def _graph(network: nn.Module, weight_hash: str, job: EngineJob) -> object:
    """Return a network as OpenVINO's graph: the kept one, or one that is made and kept."""
    if job.cache is None:
        return _converted(network, job)
    folder = job.cache / _key(network, weight_hash, job)
    try:
        file = find_graph(folder)
    except StorageError as error:
        logger.warning("%s; the network is converted anew", error)
        file = None
    try:
        file = file or keep_graph(folder, lambda path: _convert(network, job, path))
    except StorageError as error:
        logger.warning("%s; the network is converted with every start", error)
        return _converted(network, job)
    return read_graph(str(file))


def _convert(network: nn.Module, job: EngineJob, file: Path) -> None:
    write_graph(convert_network(network, job.shape), str(file))
    # As it was written: OpenVINO does not say so when the disk is full.
    try:
        written = read_graph(str(file))
    except RuntimeError as error:
        raise OSError(f"OpenVINO cannot read what it wrote: {error}") from error
    check_graph(written, network, job.shape)


def _converted(network: nn.Module, job: EngineJob) -> object:
    graph = convert_network(network, job.shape)
    check_graph(graph, network, job.shape)
    return graph


def _key(network: nn.Module, weight_hash: str, job: EngineJob) -> str:
    """Return the name of a graph: the hash of everything that it follows from."""
    return content_hash(
        {
            "weights": weight_hash,
            # Layers with all that no weight tells, such as strides and slopes.
            "layers": repr(network),
            "shape": list(job.shape),
            "method": METHOD_VERSION,
            "torch": torch.__version__,
            "openvino": quiet_openvino().__version__,
            "processor": processor(),
        }
    )


def has_openvino() -> bool:
    """Return whether OpenVINO is installed; whether it can be imported shows once it is."""
    return importlib.util.find_spec("openvino") is not None


def _require_openvino(device: torch.device) -> None:
    if device.type != "cpu":
        raise InputError(
            f"engine openvino runs networks on processors, and the device is {device}; give --device cpu or --engine torch"
        )
    if not has_openvino():
        raise InputError(
            "engine openvino needs OpenVINO, which is not installed: pip install 'tumorseg[openvino]', or give --engine torch"
        )


def _require_compiler(device: torch.device) -> None:
    """See that torch.compile finds what it makes machine code with."""
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++"]
    if device.type == "cuda":
        names = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang", "cc"]
        if importlib.util.find_spec("triton") is None:
            raise InputError("engine compile needs triton on a GPU: pip install triton, or give --engine torch")
    if not any(shutil.which(name) for name in names):
        raise InputError(
            f"engine compile needs a C++ compiler, and there is no {' or '.join(names)}: install one, or give --engine torch"
        )
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if not headers.is_file():
        raise InputError(
            f"engine compile needs Python's headers, and {headers} is missing: install python3-dev, or give --engine torch"
        )
