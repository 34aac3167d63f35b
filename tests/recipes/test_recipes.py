"""The recipes of docs/architecture.md: a toy network, loss and transform, added to a copy of the package in the promised files."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

NETWORK = {
    "schema/networks.py": (
        "KnownNetwork = PlainUNet | ResidualUNet",
        '''class TwoConvs(Network):
    """Two convolutions at full resolution."""

    name: Literal["two_convs"] = "two_convs"
    axes: Annotated[int, Field(ge=2, le=3)]
    """2 or 3."""
    features: int = 8
    """Channels between the two."""

    @property
    def num_axes(self) -> int:
        """Return 2 or 3."""
        return self.axes

    @property
    def divisors(self) -> tuple[int, ...]:
        """Return 1 for each axis."""
        return (1,) * self.axes

    @property
    def num_supervised(self) -> int:
        """Return 1."""
        return 1


KnownNetwork = PlainUNet | ResidualUNet | TwoConvs''',
    ),
    "networks/two_convs.py": (
        "",
        '''"""Two convolutions."""

from torch import nn

from tumorseg.schema.networks import TwoConvs


def two_convs(spec: TwoConvs, *, num_channels: int, num_outputs: int) -> nn.Module:
    """Return two convolutions with a ReLU between them."""
    convolution = nn.Conv2d if spec.axes == 2 else nn.Conv3d
    first = convolution(num_channels, spec.features, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), convolution(spec.features, num_outputs, 1))
''',
    ),
    "networks/registry.py": (
        '    "residual_unet": residual_unet,\n',
        '    "residual_unet": residual_unet,\n    "two_convs": two_convs,\n',
    ),
    "planning/families/two_convs.py": (
        "",
        '''"""`two_convs`: two convolutions."""

from collections.abc import Iterator

from tumorseg.planning.families.base import Grid, NetworkFamily, Sized
from tumorseg.planning.presets import Preset
from tumorseg.schema.networks import NetworkSpec, TwoConvs
from tumorseg.schema.plan import Reason


class TwoConvsFamily(NetworkFamily[TwoConvs]):
    """Two convolutions, of any patch."""

    name = "two_convs"
    rival = "plain_unet"

    def networks(self, grid: Grid, preset: Preset) -> Iterator[Sized]:
        """Yield the network on cubes of halved edges."""
        axes = len(grid.spacing_mm)
        for edge in (32, 16, 8):
            yield Sized(TwoConvs(axes=axes), (edge,) * axes)

    def like(self, other: NetworkSpec) -> TwoConvs:
        """Return the network of as many axes."""
        return TwoConvs(axes=other.num_axes)

    def reason(self, sized: Sized, grid: Grid, preset: Preset, *, rival: NetworkFamily) -> Reason:
        """Return that there is nothing to choose."""
        return Reason(rule="two convolutions, whatever the data", alternative=rival.name)
''',
    ),
    "planning/families/registry.py": (
        "        ResidualUNetFamily(),\n",
        "        ResidualUNetFamily(),\n        TwoConvsFamily(),\n",
    ),
}
NETWORK_IMPORTS = {
    "schema/networks.py": "from pydantic import Field",
    "networks/registry.py": "from tumorseg.networks.two_convs import two_convs",
    "planning/families/registry.py": "from tumorseg.planning.families.two_convs import TwoConvsFamily",
}
NETWORK_PROOF = """
import torch
from tests.planning.measured import equal_cases, fingerprint
from tumorseg.networks.registry import build_network
from tumorseg.planning.options import PlanOptions
from tumorseg.planning.overrides import parse_override
from tumorseg.planning.planner import make_plan
from tumorseg.planning.reading.explanation import explain

measured = fingerprint(equal_cases(20))
plan = make_plan(measured, "toy", PlanOptions(network="two_convs")).plan
spec = plan.configurations["3d_fullres"].network
assert spec.name == "two_convs", spec
assert plan.budget.counts["3d_fullres"].gradients_bytes == 4 * (27 * 8 + 8 + 8 * 2 + 2)
assert plan.reasons["configurations.3d_fullres.network"].rule.startswith("two convolutions")
logits = build_network(spec, num_channels=1, num_outputs=2)(torch.zeros(1, 1, 8, 8, 8))
assert logits.shape == (1, 2, 8, 8, 8)
assert explain(plan).sections
overrides = (parse_override("network.name=two_convs"), parse_override("network.features=4"))
set_by_name = make_plan(measured, "toy", PlanOptions(overrides=overrides)).plan
assert set_by_name.configurations["2d"].network.features == 4
"""

LOSS = {
    "schema/losses.py": (
        "LossComponent = Annotated[\n    DiceLoss\n",
        '''class SquaredErrorLoss(Weighted):
    """Mean squared error of probabilities (Brier 1950)."""

    name: Literal["squared_error"] = "squared_error"
    facts: ClassVar = Facts("mean (p - g)²", "0 to 1", "Brier 1950", VOXELS)


LossComponent = Annotated[
    DiceLoss
    | SquaredErrorLoss
''',
    ),
    "losses/overlap.py": (
        "class SoftDice(nn.Module):",
        '''class SquaredError(nn.Module):
    """Squared error, from the sums that overlap losses share."""

    def __init__(self, spec: SquaredErrorLoss, targets: Targets) -> None:
        super().__init__()
        self.spec = spec
        self.wanted = Wanted(overlap=True, squares=True)

    def forward(self, level: Level) -> Tensor:
        """Return the error of one level."""
        sums = level.sums
        return (sums.squared - 2 * sums.intersection + sums.reference).sum() / sums.reference.sum()


class SoftDice(nn.Module):''',
    ),
    "losses/registry.py": ('    "dice": SoftDice,\n', '    "dice": SoftDice,\n    "squared_error": SquaredError,\n'),
}
LOSS_IMPORTS = {
    "losses/overlap.py": "from tumorseg.schema.losses import SquaredErrorLoss",
    "losses/registry.py": "from tumorseg.losses.overlap import SquaredError",
}
LOSS_PROOF = """
import torch
from tumorseg.losses.catalogue import list_losses
from tumorseg.losses.registry import build_loss
from tumorseg.schema.losses import LossSpec
from tumorseg.schema.targets import Targets

spec = LossSpec.model_validate(
    {"preset": "mine", "components": [{"name": "squared_error"}], "deep_supervision_weights": [1.0]}
)
targets = Targets(label_values=(0, 1), label_names=("background", "tumour"), ignore_value=None)
reference = torch.randint(0, 2, (2, 4, 4))
sure = 50 * torch.nn.functional.one_hot(reference, 2).movedim(-1, 1).float()
right = build_loss(spec, targets, (1.0, 1.0))(sure, reference).total
wrong = build_loss(spec, targets, (1.0, 1.0))(-sure, reference).total
assert abs(float(right)) < 1e-5 and abs(float(wrong) - 2) < 1e-5, (right, wrong)
assert "squared_error" in str(list_losses())
"""

TRANSFORM = {
    "schema/transforms/intensity.py": (
        "class Contrast(ImageTransform):",
        '''class Inversion(ImageTransform):
    """Change the sign of intensities."""

    name: Literal["inversion"] = "inversion"
    probability: Probability = 0.5


class Contrast(ImageTransform):''',
    ),
    "schema/augmentation.py": ("KnownTransform = (\n", "KnownTransform = (\n    Inversion |\n"),
    "augmentation/intensity.py": (
        "def draw_noise(",
        '''class InversionDraw(NamedTuple):
    """Channels that change their sign."""

    channels: tuple[int, ...]


def draw_inversion(transform: Inversion, facts: PatchFacts, dice: Dice) -> InversionDraw | None:
    """Decide the channels."""
    channels = draw_channels(transform, facts, dice)
    return InversionDraw(channels) if channels else None


def apply_inversion(sample: Sample, draw: InversionDraw, facts: PatchFacts) -> Sample:
    """Change their sign."""
    for channel in draw.channels:
        sample.image[channel].neg_()
    return sample


def draw_noise(''',
    ),
    "augmentation/registry.py": (
        "TRANSFORMS: dict[str, Transform] = {\n",
        'TRANSFORMS: dict[str, Transform] = {\n    "inversion": Transform(draw_inversion, apply_inversion),\n',
    ),
}
TRANSFORM_IMPORTS = {
    "schema/augmentation.py": "from tumorseg.schema.transforms.intensity import Inversion",
    "augmentation/intensity.py": "from tumorseg.schema.transforms.intensity import Inversion",
    "augmentation/registry.py": "from tumorseg.augmentation.intensity import apply_inversion, draw_inversion",
}
TRANSFORM_PROOF = """
import torch
from tests.augmentation.seeded import augmented
from tumorseg.schema.augmentation import AugmentationSpec

spec = AugmentationSpec.model_validate({"transforms": [{"name": "inversion", "probability": 1.0}]})
images, labels = torch.randn(2, 1, 6, 6), torch.ones(2, 6, 6, dtype=torch.int64)
changed, same = augmented(images, labels, spec, patch_size=(6, 6))
assert torch.equal(changed, -images) and torch.equal(same, labels)
"""


def follow(folder, edits, imports):
    """Copy the package and add what a recipe adds: new files, one place of each old file, and its import."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tumorseg", folder / "tumorseg", ignore=ignored)
    for name, (before, after) in edits.items():
        path = folder / "tumorseg" / name
        text = path.read_text() if before else ""
        assert text.count(before) == 1 or not before, f"{name} has no such place"
        text = text.replace(before, after) if before else after
        if name in imports:
            text = re.sub(r"^from tumorseg", f"{imports[name]}\nfrom tumorseg", text, count=1, flags=re.MULTILINE)
        path.write_text(text)


@pytest.mark.parametrize(
    ("edits", "imports", "proof"),
    [
        (NETWORK, NETWORK_IMPORTS, NETWORK_PROOF),
        (LOSS, LOSS_IMPORTS, LOSS_PROOF),
        (TRANSFORM, TRANSFORM_IMPORTS, TRANSFORM_PROOF),
    ],
    ids=["network", "loss", "transform"],
)
def test_a_recipe_needs_the_promised_files_only(tmp_path, edits, imports, proof):
    follow(tmp_path, edits, imports)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", proof], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_page_of_recipes_names_these_files():
    page = (ROOT / "docs" / "architecture.md").read_text()
    for edits in (NETWORK, LOSS, TRANSFORM):
        for name in edits:
            generic = name.replace("two_convs", "<name>").replace("losses/overlap", "losses/<family>")
            assert Path(generic).name in page, name
