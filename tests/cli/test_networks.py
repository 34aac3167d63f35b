import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.planning.measured import equal_cases, fingerprint, planned
from tumorseg.cli.main import run
from tumorseg.networks.catalogue import ABOUT
from tumorseg.networks.registry import build_network
from tumorseg.planning.families.base import Grid
from tumorseg.planning.families.registry import family_of
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.base import to_json
from tumorseg.schema.networks import NETWORKS

PLAN = planned(fingerprint(equal_cases(10)), preset="fast_prototyping")


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "toy.json"
    path.write_text(to_json(PLAN.model_copy(update={"name": "toy"})))
    return path


def as_json(capsys, *arguments):
    assert run(["--json", "-q", "networks", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out)


def test_list_names_every_network_with_its_source_and_its_fields(capsys):
    assert run(["networks", "list"]) == 0
    text = capsys.readouterr().out
    for name, about in ABOUT.items():
        assert f"\n  {name}  ({about.axes} axes)\n" in text
    assert "from Roy et al., MedNeXt, MICCAI 2023" in text
    found = {one["name"]: one for one in as_json(capsys, "list")["networks"]}
    assert set(found) == set(NETWORKS) == set(ABOUT)
    for name, one in found.items():
        assert one["summary"].endswith(".")
        assert set(one["sized_by"]) <= set(one["fields"]) == set(NETWORKS[name].model_fields) - {"name"}
    assert found["swin_unetr"]["fields"]["depths"]["default"] == [2, 2, 2, 2]


@pytest.mark.slow
def test_a_patch_puts_networks_side_by_side_and_says_what_is_otherwise(capsys):
    chosen = ("--preset", "fast_prototyping", "--network", "plain_unet", "--network", "mednext", "--network", "dints")
    found = as_json(capsys, "list", "--patch", "30,32", "--channels", 3, "--classes", 4, *chosen)
    plain, mednext = found["networks"]
    assert (plain["network"], plain["patch_size"], plain["batch_size"]) == ("plain_unet", [32, 32], 2)
    spec = next(family_of("plain_unet").networks(Grid((1, 1), (32, 32), 1e9, 4), PRESETS["fast_prototyping"])).network
    network = build_network(spec, num_channels=3, num_outputs=4)
    assert plain["parameters"] == sum(weight.numel() for weight in network.parameters()) != mednext["parameters"]
    assert plain["sight"] == {"voxels": [79, 79], "whole": None}
    assert plain["step_s"] is None
    assert "volumes only" in found["refused"]["dints"]
    # Where none is left, there is nothing to show.
    assert run(["-q", "networks", "list", "--patch", "30,32", "--network", "dints"]) == 1
    assert capsys.readouterr().err.startswith("error: dints: network dints was searched for volumes only")


@pytest.mark.slow
def test_a_budget_compares_networks_as_they_are_planned(capsys, tmp_path):
    path = tmp_path / "fingerprint.json"
    path.write_text(to_json(fingerprint(equal_cases(100, shape=(1, 64, 64)))))
    options = ("--fingerprint", path, "--vram", 2, "--preset", "fast_prototyping", "--network", "plain_unet")
    (one,) = as_json(capsys, "list", *options)["networks"]
    assert one["memory_bytes"] <= 2 * 2**30
    assert one["patch_size"] == [64, 64]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vram", "8"], "Nothing to compare for"),
        (["--time"], "Nothing to compare for"),
        (["--preset", "optimized"], "Nothing to compare for"),
        (["--patch", "64"], "give 2 or 3 numbers of voxels"),
        (["--patch", "64,0,64"], "give 2 or 3 numbers of voxels"),
        (["--patch", "64,64", "--vram", "8"], "leave out --vram"),
        (["-d", "x", "--classes", "3"], "a dataset has its own"),
    ],
)
def test_options_that_do_not_go_together_are_refused(capsys, options, message):
    assert run(["networks", "list", *options]) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_network_and_two_datasets_are_one_line(capsys, tmp_path):
    assert run(["networks", "list", "--patch", "64,64", "--network", "vnet"]) == 1
    assert "'vnet' is unknown" in capsys.readouterr().err
    assert run(["networks", "list", "-d", "x", "--fingerprint", str(tmp_path / "y.json")]) == 1
    assert "give --patch, or -d DATASET or --fingerprint FILE" in capsys.readouterr().err


@pytest.mark.slow
def test_describe_tells_costs_and_stages_and_times_them_where_asked(capsys, plan):
    assert run(["networks", "describe", str(plan), "--configuration", "2d", "--time"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("2d\n")
    assert "3d_fullres" not in text
    assert "encoder 0" in text
    assert "were measured on noise, on cpu of this machine" in text
    found = as_json(capsys, "describe", plan)["configurations"]
    assert list(found) == sorted(PLAN.configurations)
    for name, one in found.items():
        assert one["costs"]["parameters"] == sum(stage["parameters"] for stage in one["network"]["stages"])
        assert one["costs"]["patch_size"] == list(PLAN.configurations[name].patch_size)


@pytest.mark.slow
def test_describe_draws_all_networks_of_a_plan(capsys, plan, tmp_path):
    png, html = tmp_path / "networks.png", tmp_path / "networks.html"
    assert run(["networks", "describe", str(plan), "--configuration", "2d", "-o", str(png)]) == 0
    assert f"written to {png}" in capsys.readouterr().out
    assert np.asarray(Image.open(io.BytesIO(png.read_bytes())).convert("L")).min() < 100
    assert run(["networks", "describe", str(plan), "--configuration", "2d", "-o", str(html)]) == 0
    page = html.read_text()
    assert page.count("data:image/svg+xml") == 1
    assert "FLOPs a patch" in page


def test_describe_refuses_what_it_cannot_draw(capsys, plan, tmp_path):
    assert run(["networks", "describe", str(plan), "-o", str(tmp_path / "networks.pdf")]) == 1
    assert "--output" in capsys.readouterr().err
    assert run(["networks", "describe", str(plan), "--configuration", "4d"]) == 1
