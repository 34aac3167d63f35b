import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from tests.engine.test_openvino_graphs import SHAPE, assert_alike, patches_of
from tumorseg.errors import InputError
from tumorseg.schema.plan import InferenceEngine
from tumorseg.schema.settings import Engine
from tumorseg.stages.inference import engines
from tumorseg.stages.inference.engines import FASTEST, EngineJob, chosen_engine, passes_of, start_engine

CPU, CUDA = torch.device("cpu"), torch.device("cuda:1")

# Starts the engine as a prediction does and prints what it loaded.
START = """
import json, sys, torch
from pathlib import Path
from tests.stages.inference.test_engines import job_of, small
from tumorseg.stages.inference.engines import passes_of
passes_of([small()], job_of(Path(sys.argv[1])))
print(json.dumps([name for name in sys.modules if sys.modules[name] is not None]))
"""


def small(slope=0.1):
    """Return a network that is converted in no time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(3, 5, 3, padding=1), nn.LeakyReLU(slope)).eval()


def job_of(cache, weight_hashes=("0a",)):
    return EngineJob("openvino", CPU, torch.float32, SHAPE, weight_hashes, cache)


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Path:
    cache = tmp_path_factory.mktemp("work") / "engines"
    passes_of([small()], job_of(cache))
    return cache


@pytest.fixture
def no_conversion(monkeypatch):
    def refuse(*_):
        raise InputError("converted again")

    monkeypatch.setattr(engines, "convert_network", refuse)


def test_a_plan_may_ask_for_every_engine_and_auto_is_one_of_them():
    assert {"auto", *get_args(Engine)} == set(get_args(InferenceEngine))
    assert set(FASTEST.values()) <= set(get_args(Engine))


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_auto_is_always_there(monkeypatch, device):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setenv("PATH", "")
    assert chosen_engine("auto", device) == "torch"
    monkeypatch.setitem(FASTEST, device.type, "openvino")
    assert chosen_engine("auto", device) == "torch"


def test_auto_converts_only_where_the_graph_is_kept(monkeypatch):
    monkeypatch.setitem(FASTEST, "cpu", "openvino")
    assert chosen_engine("auto", CPU) == "openvino"
    assert chosen_engine("auto", CPU, keeps_graphs=False) == "torch"
    assert chosen_engine("openvino", CPU, keeps_graphs=False) == "openvino"


def test_where_a_network_cannot_be_converted_torch_runs_it_unless_openvino_was_asked_for(
    no_conversion, tmp_path, caplog
):
    network = small()
    with caplog.at_level(logging.WARNING, logger="tumorseg"):
        started = start_engine([network], job_of(tmp_path), is_required=False)
    assert started == ("torch", (network,))
    assert caplog.messages == ["converted again; torch runs it instead, and --engine torch would start sooner"]
    with pytest.raises(InputError, match="converted again"):
        start_engine([network], job_of(tmp_path), is_required=True)


@pytest.fixture
def broken_openvino(monkeypatch, tmp_path):
    """An installation of which a library is missing."""
    (tmp_path / "site" / "openvino").mkdir(parents=True)
    text = "raise ImportError('libopenvino.so: cannot open shared object file')\n"
    (tmp_path / "site" / "openvino" / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "site")
    for name in [one for one in sys.modules if one.split(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("broken_openvino")
def test_where_openvino_cannot_be_imported_torch_takes_its_place_unless_it_was_asked_for(monkeypatch, tmp_path, caplog):
    monkeypatch.setitem(FASTEST, "cpu", "openvino")
    assert chosen_engine("auto", CPU) == "openvino"
    with caplog.at_level(logging.WARNING, logger="tumorseg"):
        assert start_engine([small()], job_of(tmp_path), is_required=False).engine == "torch"
    assert len(caplog.messages) == 1
    with pytest.raises(InputError, match=r"cannot run the network here \(libopenvino.so: cannot open.*mend its inst"):
        start_engine([small()], job_of(tmp_path), is_required=True)


@pytest.mark.parametrize(
    ("engine", "device", "message"),
    [
        ("openvino", CPU, r"pip install 'tumorseg\[openvino\]'"),
        ("openvino", CUDA, "the device is cuda:1; give --device cpu or --engine torch"),
        ("compile", CPU, r"no g\+\+ or clang\+\+: install one, or give --engine torch"),
    ],
)
def test_an_engine_that_is_not_there_is_one_line_that_says_what_to_do(monkeypatch, tmp_path, engine, device, message):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError, match=message) as raised:
        chosen_engine(engine, device)
    assert "\n" not in str(raised.value)


def test_torch_runs_the_networks_as_they_are():
    networks = [nn.Conv3d(3, 5, 1), nn.Conv3d(3, 5, 1)]
    job = EngineJob("torch", CPU, torch.float32, SHAPE, ("0a", "0b"))
    assert list(passes_of(networks, job)) == networks


def test_a_kept_graph_gives_what_torch_gives_without_a_conversion(filled, no_conversion):
    patches = patches_of(SHAPE)
    (run,) = passes_of([small()], job_of(filled))
    with torch.inference_mode():
        assert_alike(run(patches), small()(patches))


@pytest.mark.parametrize(
    ("network", "changes"),
    [
        (small(), {"weight_hashes": ("0b",)}),
        (small(), {"shape": (3, 6, 20, 16)}),
        (small(slope=0.2), {}),
    ],
    ids=["weights", "patch", "layers"],
)
def test_a_graph_is_kept_for_one_network_and_patch(filled, no_conversion, network, changes):
    with pytest.raises(InputError, match="converted again"):
        passes_of([network], job_of(filled)._replace(**changes))


def test_a_damaged_graph_is_made_anew_with_one_warning(filled, tmp_path, caplog):
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    (weights,) = tmp_path.glob("*/graph.bin")
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])

    with caplog.at_level(logging.WARNING, logger="tumorseg"):
        passes_of([small()], job_of(tmp_path))

    (warning,) = [record.getMessage() for record in caplog.records if record.name.startswith("tumorseg")]
    assert "is damaged" in warning
    assert weights.read_bytes() == whole


def test_where_nothing_can_be_kept_the_network_runs_all_the_same(tmp_path, caplog):
    (tmp_path / "engines").write_text("no folder")
    with caplog.at_level(logging.WARNING, logger="tumorseg"):
        (run,) = passes_of([small()], job_of(tmp_path / "engines"))
    assert "the network is converted with every start" in caplog.text
    assert run(patches_of(SHAPE)).shape == (3, 5, *SHAPE[1:])


@pytest.mark.slow
def test_a_start_from_a_kept_graph_loads_no_exporter_and_tells_nobody(filled, tmp_path, monkeypatch):
    # OpenVINO's reports begin with a file in the user's home folder.
    monkeypatch.setenv("HOME", str(tmp_path))
    command = [sys.executable, "-W", "error", "-c", START, str(filled)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)

    loaded = json.loads(done.stdout)
    assert "openvino" in loaded
    assert not {"torch._dynamo", "torch._inductor", "openvino_telemetry", "openvino.frontend.pytorch"} & set(loaded)
    assert list(tmp_path.iterdir()) == []
