"""Networks of other packages, through real entry points."""

import subprocess
import sys

import pytest
import torch

from tumorseg.errors import PlanError
from tumorseg.networks.registry import build_network, outline_network
from tumorseg.schema.extensions import External

MODULE = """
from torch import nn

def build(parameters, *, num_channels, num_outputs):
    return nn.Conv2d(num_channels, num_outputs, parameters["kernel_size"], padding="same")
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    (tmp_path / "tiny_nets_module.py").write_text(MODULE)
    info = tmp_path / "Tiny_Nets-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Tiny_Nets\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[tumorseg.networks]\ntiny = tiny_nets_module:build\n")
    monkeypatch.syspath_prepend(tmp_path)


def spec(**changes):
    fields = {"name": "tiny", "parameters": {"kernel_size": 3}, "distribution": "tiny-nets", "version": "1.2"}
    return External(**{**fields, **changes})


@pytest.mark.usefixtures("installed")
class TestInstalled:
    def test_the_builder_gets_parameters_channels_and_outputs(self):
        network = build_network(spec(), num_channels=2, num_outputs=5)
        assert network(torch.zeros(1, 2, 4, 4)).shape == (1, 5, 4, 4)
        assert network.kernel_size == (3, 3)

    def test_another_version_is_refused_with_both_named(self):
        with pytest.raises(
            PlanError, match=r"tiny-nets 1\.3, but tiny-nets 1\.2 is installed; install tiny-nets==1\.3"
        ):
            build_network(spec(version="1.3"), num_channels=2, num_outputs=5)

    def test_another_distribution_is_refused_with_both_named(self):
        with pytest.raises(PlanError, match=r"huge-nets 1\.2, but tiny-nets 1\.2"):
            build_network(spec(distribution="huge-nets"), num_channels=2, num_outputs=5)

    def test_an_unknown_name_lists_what_is_there(self):
        with pytest.raises(PlanError, match=r"installed there: tiny\); install tiny-nets==1\.2"):
            build_network(spec(name="teeny"), num_channels=2, num_outputs=5)


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(PlanError, match=r"'tiny' of tiny-nets 1\.2.*installed there: none"):
        build_network(spec(), num_channels=2, num_outputs=5)


CONSTANTS = """
import torch
from torch import nn

SCALE = torch.tensor([2.0])

def build(parameters, *, num_channels, num_outputs):
    rates = [one.item() for one in torch.linspace(0, 0.1, 3)]
    network = nn.Sequential(nn.Conv2d(num_channels, num_outputs, 3), nn.Dropout(rates[-1]))
    network.register_buffer("scale", SCALE)
    return network
"""


@pytest.mark.usefixtures("installed")
def test_constants_of_another_package_stay_real_when_an_outline_is_asked_for_first(tmp_path):
    (tmp_path / "tiny_nets_module.py").write_text(CONSTANTS)
    sys.modules.pop("tiny_nets_module", None)
    with pytest.raises(RuntimeError, match="meta tensors"):
        outline_network(spec(), num_channels=2, num_outputs=5)
    assert build_network(spec(), num_channels=2, num_outputs=5).scale.tolist() == [2.0]
    sys.modules.pop("tiny_nets_module")


@pytest.mark.slow
def test_an_outline_of_our_networks_loads_no_compiler():
    program = (
        "import sys\nfrom tests.networks.rows import OWN, OWN_ROWS\nfrom tumorseg.networks.registry import outline_network\n"
        "for name in OWN:\n    made = outline_network(OWN_ROWS[name].spec, num_channels=2, num_outputs=3)\n"
        "    assert all(one.is_meta for one in made.parameters())\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
