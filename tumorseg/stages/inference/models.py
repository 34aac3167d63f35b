"""Loading models: those that were trained here; folders of nnU-Net are handed on to their reader."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from tumorseg.errors import PlanError
from tumorseg.stages.inference.folds import chosen_folds, weights_file
from tumorseg.stages.inference.nnunet_model import is_nnunet_model, load_nnunet_model
from tumorseg.stages.inference.previous_sources import KnownPrevious, kept_previous_model
from tumorseg.stages.inference.runtime import AS_PLANNED, RuntimeOptions
from tumorseg.stages.inference.trained_model import Model, WeightFiles, load_networks
from tumorseg.stages.opening.fold_folders import fold_plan, read_run
from tumorseg.storage.checkpoints import load_network


def load_model(
    paths: Sequence[Path],
    device: str,
    folds: Sequence[str] = (),
    *,
    previous: KnownPrevious | None = None,
    runtime: RuntimeOptions = AS_PLANNED,
) -> Model:
    """Load the networks of model folders or fold folders, ours or nnU-Net's, which must be folds of one model.

    Args:
        paths: model folders (their folds are averaged) or folds' folders.
        device: where to compute.
        folds: which folds of a model folder; all if empty.
        previous: what to show a cascade instead of what its own previous model finds.
        runtime: engine and precision, of a cascade's previous model too.

    Raises:
        PlanError: no training, folds that are not there, folds of different models, or a cascade's previous model is
            missing.
        StorageError: a checkpoint is missing or damaged.
        InputError: a checkpoint was replaced while it was loaded, or the engine cannot run the network.
    """
    if any(map(is_nnunet_model, paths)):
        return load_nnunet_model(paths, device, folds, runtime=runtime)
    folders = chosen_folds(paths, folds)
    runs = [read_run(folder) for folder in folders]
    if len({(run.plan_hash, run.configuration) for run in runs}) > 1:
        found = ", ".join(sorted({f"{run.plan_name}/{run.configuration}" for run in runs}))
        raise PlanError(
            f"the models given are folds of different plans or configurations: {found}; give folds of one model; models of "
            "different plans are combined by `tumorseg ensemble`"
        )
    plan = fold_plan(folders[0])
    configuration = plan.configurations[runs[0].configuration]
    weights = WeightFiles([weights_file(folder) for folder in folders], _read_weights)
    model = load_networks(plan, configuration, weights, device, runtime=runtime)
    if configuration.previous_configuration is None:
        return model
    shown = previous or load_model([kept_previous_model(folders, runs)], device, runtime=runtime)
    if isinstance(shown, Model):
        shown = shown._replace(runtime=shown.runtime.beside(model.runtime))
    return model._replace(previous=shown, weight_hashes=model.weight_hashes + shown.weight_hashes)


def _read_weights(path: Path, _network: nn.Module) -> Mapping[str, Tensor]:
    return load_network(path)
