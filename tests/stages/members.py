"""Members of ensembles that differ in all that plans can differ in, around small fixed networks, and what they say as whole arrays."""

from dataclasses import replace

import nibabel
import numpy as np
import scipy.special
import torch
from torch import nn

from tests.engine.phantoms import CLASSES, REGIONS, configuration_of
from tests.stages.inference.test_nnunet_model import write_model
from tests.stages.models import AFFINE, model_of
from tumorseg.networks.registry import build_network
from tumorseg.ops.geometry import orient, restore_orientation, spacing_of
from tumorseg.ops.preprocessing import axis_order
from tumorseg.schema.base import record_hash
from tumorseg.schema.dataset import Region
from tumorseg.schema.metrics import CaseMetrics, LabelSummary, MetricsReport
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.runtime import RuntimeOptions
from tumorseg.stages.inference.segment_case import RunOptions, segment_case
from tumorseg.stages.opening.fold_folders import Run, TrainOptions, write_run
from tumorseg.stages.opening.reading import CaseImage
from tumorseg.storage.checkpoints import save_checkpoint
from tumorseg.storage.json_files import write_record
from tumorseg.storage.layout import fold_folder

SHAPE = (9, 11, 7)
"""Voxels (Z, Y, X) of an image."""
BOX = (slice(1, 8), slice(2, 10), slice(1, 6))
"""What is not 0 of it."""
NESTED = (Region(name="both", labels=(1, 2), value=1), Region(name="right", labels=(2,), value=2))


class Filter(nn.Module):
    """A convolution with fixed weights, and so its own opinion of each voxel."""

    def __init__(self, num_axes=3, num_channels=2, num_outputs=3, seed=0):
        super().__init__()
        kind = nn.Conv3d if num_axes == 3 else nn.Conv2d
        self.layer = kind(num_channels, num_outputs, 3, padding=1)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.6)

    def forward(self, images):
        return self.layer(images)


def base_model(folder):
    """Return a model whose plan others are made from."""
    return load_model([write_model(folder)], "cpu", runtime=RuntimeOptions(engine="torch"))


def member(base, name, *, seed=0, num_axes=3, plan=None, dataset=None, num_folds=1, **configuration):
    """Return a model of one's own plan.

    Args:
        base: the model that the plan is made from.
        name: of the plan; its configuration is called `2d` or `3d_fullres`.
        seed: of its networks.
        num_axes: of these.
        plan: fields of the plan that differ.
        dataset: fields of its dataset that differ.
        num_folds: how many networks it has.
        configuration: fields of the configuration that differ.
    """
    described = base.plan.dataset.changed(**dataset or {})
    targets = targets_of(described)
    spacing = {"spacing_mm": (1.0, 1.5, 2.0)[-num_axes:], "patch_size": (4, 8, 6)[-num_axes:]}
    planned = configuration_of(num_axes, targets=REGIONS if targets.has_regions else CLASSES, **spacing | configuration)
    planned = planned.changed(normalization=planned.normalization[:1] * len(described.channels))
    key = "2d" if num_axes == 2 else "3d_fullres"
    fields = {"name": name, "orientation": "RAS", "transpose": (0, 1, 2), "dataset": described} | (plan or {})
    made = base.plan.changed(default_configuration=key, configurations={key: planned}, reasons={}, **fields)
    shape = num_axes, len(described.channels), targets.num_outputs
    networks = tuple(Filter(*shape, seed=seed + 100 * fold) for fold in range(num_folds))
    model = model_of(made, planned, networks[0], name)
    hashes = tuple(f"{name} {fold}" for fold in range(num_folds))
    return model._replace(networks=networks, weight_hashes=hashes, runtime=replace(model.runtime, passes=networks))


def image_of(seed=0, num_channels=2):
    """Return channels (C, Z, Y, X) as stored, 0 around a box."""
    image = np.zeros((num_channels, *SHAPE), np.float32)
    noise = np.random.default_rng(seed).normal(size=image.shape)
    image[(slice(None), *BOX)] = noise[(slice(None), *BOX)]
    return image


def write_inputs(folder):
    """Write three cases of two channels each, stored in different axis orders, and return their folder."""
    folder.mkdir()
    for seed, (name, code) in enumerate({"a": "RAS", "b": "LPS", "c": "SPL"}.items()):
        for number, channel in enumerate(image_of(seed)):
            image = nibabel.Nifti1Image(channel.T, AFFINE)
            target = nibabel.orientations.axcodes2ornt(code)
            turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(AFFINE), target)
            nibabel.save(image.as_reoriented(turn), folder / f"{name}_{number:04d}.nii.gz")
    return folder


def found_of(model, image):
    """Return an image as a model sees it."""
    orientation = axis_order(model.plan).orientation(AFFINE)
    oriented = np.ascontiguousarray(orient(image, orientation))
    return CaseImage(oriented, spacing_of(AFFINE, orientation), orientation, AFFINE, image.shape[1:])


def whole_probabilities(model, image, wanted=None, mirroring=None):
    """Return what a model says of each voxel (K, Z, Y, X) in the stored order, float64: certain background around its crop box.

    Args:
        model: alone.
        image: (C, Z, Y, X) as stored, its own channels.
        wanted: regions of the same labels, if they are asked for.
        mirroring: as of `RunOptions`.
    """
    found, targets = found_of(model, image), targets_of(model.plan.dataset)
    whole = np.zeros((targets.num_outputs, *found.image.shape[1:]))
    whole[0] = 0 if targets.has_regions else 1

    def observe(seen):
        logits = seen.logits.double().numpy()
        chances = scipy.special.expit(logits) if targets.has_regions else scipy.special.softmax(logits, axis=0)
        whole[(slice(None), seen.position, *seen.window)] = chances

    segment_case(model, found, options=RunOptions(mirroring), observers=(observe,))
    stored = restore_orientation(whole, found.orientation)
    if wanted is None or targets.has_regions:
        return stored
    return np.stack([stored[list(classes)].sum(axis=0) for classes in wanted.regions])


def write_trained(root, base, name, *, folds=("0",), seed=0, scores=None, **differing):
    """Write a model folder of our own kind, as a finished training leaves it, and return it.

    Args:
        root: below which the folder goes: `<name>/<configuration>`.
        base: as for `member`.
        name: of the plan.
        folds: names of its folds.
        seed: of their networks' weights.
        scores: mean DSC of each label or region by which its validation is made up; None: not validated.
        differing: as for `member`.
    """
    plan = member(base, name, **differing).plan
    (key,) = plan.configurations
    model = write_folds(root / name / key, plan, key, folds=folds, seed=seed)
    for fold in folds:
        if scores is not None and fold != "all":
            _write_scores(fold_folder(model, fold), scores)
    return model


def write_folds(model, plan, key, *, folds=("0",), seed=0, previous=None):
    """Write the folds of a model folder, as finished trainings leave them, and return it."""
    planned, targets = plan.configurations[key], targets_of(plan.dataset)
    inputs, outputs = num_inputs(planned, targets), targets.num_outputs
    iterations = plan.training.epochs * plan.training.iterations_per_epoch
    for number, fold in enumerate(folds):
        folder = fold_folder(model, fold)
        torch.manual_seed(seed + 100 * number)
        network = build_network(planned.network, num_channels=inputs, num_outputs=outputs)
        progress, length = {"iteration": iterations, "losses": []}, {"tail": None, "watch": None}
        state = {"network": network.state_dict(), "progress": progress, "length": length}
        save_checkpoint(folder.latest, state)
        hashed, options = record_hash(plan), TrainOptions()
        run = Run(plan_name=plan.name, plan_hash=hashed, configuration=key, fold=fold, options=options)
        write_run(folder, plan, run.changed(previous=previous))
    return model


def _write_scores(folder, scores):
    """Write a validation of three cases whose mean DSC is as stated; in one of them it is undefined."""
    cases = []
    for label, dsc in scores.items():
        for case_id, found in {"a": dsc - 0.1, "b": dsc + 0.1, "c": None}.items():
            volume = 0.0 if found is None else 1.0
            measured = {"prediction_volume_ml": volume, "reference_volume_ml": volume, "scores": {"dsc": found}}
            cases.append(CaseMetrics(case_id=case_id, label=label, **measured))
    nothing = LabelSummary(metrics={}, num_cases=3, num_undefined=1, num_missed=0, num_invented=0)
    report = MetricsReport(definitions={}, tolerance_mm=1.0, cases=tuple(cases), summary=dict.fromkeys(scores, nothing))
    write_record(folder.metrics, report)
