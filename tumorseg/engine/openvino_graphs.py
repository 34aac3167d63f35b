"""Networks run by OpenVINO on processors: converted once, then compiled from the converted graph in under a second."""

import sys
import threading
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tumorseg.engine.averaging import Pass
from tumorseg.engine.compiled import cause_of
from tumorseg.errors import InputError

TOLERANCE = 1e-3
"""Of a graph's logits in float32 against those of torch, as a share of the largest; converted networks are within a hundredth of it."""
HINTS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
"""OpenVINO's names of types."""
REFUSALS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
)
"""What torch's exporter and OpenVINO's converter raise of a network that they cannot follow."""


class GraphSettings(NamedTuple):
    """How a graph is run."""

    shape: tuple[int, ...]
    """(C, *patch) of one input."""
    dtype: torch.dtype
    """In which it computes; inputs, outputs and weights as they are kept are float32."""
    num_threads: int
    """That share one patch."""


def quiet_openvino() -> Any:
    """Return the package `openvino`, imported so that it tells nobody of it.

    `import openvino` alone reports itself to its makers, and so does each conversion, unless the user has opted out. Where its
    package for that cannot be imported, OpenVINO uses a stand-in that does nothing.

    Raises:
        ImportError: it is not installed.
    """
    # None is how Python says that a module is not to be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def convert_network(network: nn.Module, shape: tuple[int, ...]) -> Any:
    """Return a network as a graph of OpenVINO, which takes any number of patches of one size.

    Args:
        network: on the CPU, in eval mode; returns one tensor.
        shape: (C, *patch) of one input.

    Raises:
        InputError: torch cannot export it, or OpenVINO cannot convert it.
    """
    openvino = quiet_openvino()
    from torch.export import Dim, export

    # Two, as the exporter takes a batch of one for a constant.
    example = torch.zeros(2, *shape)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # Of their own deprecated parts, of which a user cannot make anything.
            warnings.simplefilter("ignore")
            program = export(network, (example,), dynamic_shapes=({0: Dim("batch")},))
            graph = openvino.convert_model(program)
            graph.reshape([-1, *shape])
    except (*REFUSALS, *_own_errors(openvino)) as error:
        raise InputError(f"OpenVINO cannot take over the network ({cause_of(error)}); give --engine torch") from error
    if len(graph.outputs) != 1:
        raise InputError(
            f"OpenVINO takes networks of one output, and this has {len(graph.outputs)}; give --engine torch"
        )
    return graph


def check_graph(graph: Any, network: nn.Module, shape: tuple[int, ...]) -> None:
    """Compare a graph with its network on one patch of noise; the graph takes one patch at a time from then on.

    Raises:
        InputError: it gives something else.
    """
    patch = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(patch)
    settings = GraphSettings(shape, torch.float32, torch.get_num_threads())
    found = graph_pass(graph, settings)(patch)
    # Not `>`: what is not a number is no less wrong.
    is_alike = found.shape == expected.shape and bool(
        (found - expected).abs().max() <= TOLERANCE * expected.abs().max()
    )
    if not is_alike:
        raise InputError("OpenVINO gives other logits than torch for this network; give --engine torch")


def read_graph(file: str) -> Any:
    """Read a graph that `write_graph` wrote.

    Raises:
        RuntimeError: it is none.
    """
    return quiet_openvino().Core().read_model(file)


def write_graph(graph: Any, file: str) -> None:
    """Write a graph: a file `.xml` of operations and a file `.bin` of weights beside it.

    Raises:
        OSError: it cannot be written.
    """
    try:
        quiet_openvino().serialize(graph, file)
    except RuntimeError as error:
        raise OSError(cause_of(error)) from error


def processor() -> dict[str, str]:
    """Return what OpenVINO knows of the processor: its name, and the types in which it computes."""
    core = quiet_openvino().Core()
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return {"name": core.get_property("CPU", "FULL_DEVICE_NAME"), "capabilities": ",".join(sorted(capabilities))}


def graph_pass(graph: Any, settings: GraphSettings) -> Pass:
    """Compile a graph for the processor.

    Args:
        graph: takes one patch at a time from now on. A batch goes through one by one: it is no faster as a whole, and compiled
            for any number it takes more time and memory.
        settings: of its runs.

    Returns:
        Logits (B, K, *patch), float32; the same bits for the same patch, whatever the batch.
    """
    openvino = quiet_openvino()
    graph.reshape([1, *settings.shape])
    compiled = openvino.Core().compile_model(
        graph,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": HINTS[settings.dtype],
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": settings.num_threads,
            # Bound to cores, the threads of two processes would crowd on the same ones.
            "ENABLE_CPU_PINNING": False,
        },
    )
    return _GraphPass(compiled, openvino.Tensor)


class _GraphPass:
    """A compiled graph; each thread that calls has a request of its own, which holds its activations."""

    def __init__(self, compiled: Any, tensor: Any) -> None:
        self._compiled = compiled
        self._tensor = tensor
        self._output_shape = tuple(compiled.output(0).shape)[1:]
        self._own = threading.local()

    def __call__(self, batch: Tensor) -> Tensor:
        # OpenVINO writes right into the result, which no later pass touches.
        logits = torch.empty(len(batch), *self._output_shape)
        request = self._request()
        for patch, result in zip(batch.contiguous().numpy(), logits.numpy(), strict=True):
            request.set_input_tensor(self._tensor(patch[None], shared_memory=True))
            request.set_output_tensor(self._tensor(result[None], shared_memory=True))
            request.infer(share_outputs=True)
        return logits

    def _request(self) -> Any:
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        return request


def _own_errors(openvino: Any) -> tuple[type[Exception], ...]:
    """Return OpenVINO's errors of conversion, which are of no class of Python's own."""
    names = ("OpConversionFailure", "GeneralFailure", "NotImplementedFailure", "OpValidationFailure")
    return tuple(getattr(openvino.frontend, name) for name in names)
