"""The name of every file and folder that tumorseg keeps."""

from dataclasses import dataclass
from pathlib import Path

from tumorseg.storage.ensemble_layout import SelectionNotes

PREDICTIONS = "predictions.json"
"""In a folder of segmentations: what made them, and of which inputs."""
REPORT = "report.json"
"""There too: what was found in each case, by what, and how long it took."""
LABEL_MAP_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
"""How the name of a label map that is written may end; the longer ending of two that fit stands first."""
OUTPUT_ENDINGS = {
    "probabilities": ".nii.gz",
    "entropy": ".nii.gz",
    "disagreement": ".nii.gz",
    "seg": ".dcm",
    "rtstruct": ".dcm",
}
"""What lies beside the label maps, each kind in a folder of its own, so that nobody takes its files for label maps."""
FETCHED = ".fetched.json"
"""In a dataset's folder that `data fetch` unpacked: from where; nothing in such a folder may lead out of it."""
ALL_CASES = "all"
"""The fold that trains on every case."""


@dataclass(frozen=True)
class WorkFolder:
    """`<work>/<dataset>`: everything that is derived from one dataset."""

    root: Path
    """The dataset's folder."""

    @property
    def source(self) -> Path:
        """Where the dataset was read from, as `plan` noted."""
        return self.root / "source.json"

    @property
    def hashes(self) -> Path:
        """Hashes of files by path, size, times and inode."""
        return self.root / "hashes.json"

    @property
    def fingerprint(self) -> Path:
        """The fingerprint with its case table."""
        return self.root / "fingerprint.json"

    @property
    def plans(self) -> Path:
        """Which plans were written for the dataset, and their hashes."""
        return self.root / "plans.json"

    @property
    def measurements(self) -> Path:
        """What was measured of each case, so that an interrupted fingerprint goes on."""
        return self.root / "measurements"

    @property
    def cases(self) -> Path:
        """The case store."""
        return self.root / "cases"

    @property
    def probabilities(self) -> Path:
        """Out-of-fold probabilities that `select` chooses by."""
        return self.root / "probabilities"

    @property
    def studies(self) -> Path:
        """Studies that refine plans, by name."""
        return self.root / "studies"

    def selection(self, identity: str) -> SelectionNotes:
        """Return what `select` notes of a choice among the same candidates on the same cases."""
        return SelectionNotes(self.root / "selections" / identity)

    def model(self, plan_name: str, configuration: str) -> Path:
        """Return the model folder, which holds the folds."""
        return self.root / "models" / plan_name / configuration


def work_folder(work: Path, dataset_name: str) -> WorkFolder:
    """Return the folder of one dataset below the work folder."""
    return WorkFolder(work / dataset_name)


@dataclass(frozen=True)
class FoldFolder:
    """`<model>/fold_<k>`: one training, complete in itself."""

    root: Path
    """The fold's folder."""

    @property
    def plan(self) -> Path:
        """The plan with train's own overrides resolved."""
        return self.root / "plan.json"

    @property
    def run(self) -> Path:
        """Which plan, configuration and fold this is, and which options train was given."""
        return self.root / "run.json"

    @property
    def init(self) -> Path:
        """What was taken over from the weights that `--init` gave."""
        return self.root / "init.json"

    @property
    def log(self) -> Path:
        """One JSON object an epoch."""
        return self.root / "log.jsonl"

    @property
    def environment(self) -> Path:
        """Versions, machine and git state with which the training was begun."""
        return self.root / "environment.json"

    @property
    def system(self) -> Path:
        """Load of the machine while it was trained, one JSON object a sample."""
        return self.root / "system.jsonl"

    @property
    def tracking(self) -> Path:
        """What the process that mirrors the training to MLflow had to say."""
        return self.root / "tracking.log"

    @property
    def alive(self) -> Path:
        """Sign of life of the process that trains, or how it ended."""
        return self.root / "alive.json"

    @property
    def events(self) -> Path:
        """What befell the training, one JSON object an event."""
        return self.root / "events.jsonl"

    @property
    def faults(self) -> Path:
        """Batches whose loss was not finite."""
        return self.root / "faults"

    @property
    def collapsed(self) -> Path:
        """Files of a first try that was begun again with another seed."""
        return self.root / "collapsed"

    @property
    def progress(self) -> Path:
        """Learning curve."""
        return self.root / "progress.png"

    @property
    def latest(self) -> Path:
        """Full state at the last finished epoch."""
        return self.root / "latest.ckpt"

    @property
    def best(self) -> Path:
        """Weights with the best running mean of validation DSC."""
        return self.root / "best.ckpt"

    @property
    def validation(self) -> Path:
        """Segmentations of the fold's held-out cases, and their metrics."""
        return self.root / "validation"

    @property
    def metrics(self) -> Path:
        """Scores of the held-out cases."""
        return self.validation / "metrics.json"

    def prediction(self, case_id: str) -> Path:
        """Return the segmentation of a held-out case."""
        return prediction_file(self.validation, case_id)

    @property
    def predictions(self) -> Path:
        """What made the segmentations of the held-out cases."""
        return self.validation / PREDICTIONS


def prediction_file(folder: Path, case_id: str, ending: str = ".nii.gz") -> Path:
    """Return the segmentation of a case in a folder of segmentations."""
    return folder / f"{case_id}{ending}"


def output_file(folder: Path, kind: str, case_id: str) -> Path:
    """Return what a folder of segmentations holds of a case beside its label map; `kind` is one of `OUTPUT_ENDINGS`."""
    return folder / kind / f"{case_id}{OUTPUT_ENDINGS[kind]}"


def journal_file(folder: Path, part: str | None = None) -> Path:
    """Return where a run notes what it has done in a folder of segmentations until that becomes part of the record.

    Args:
        folder: of segmentations.
        part: which part of the cases the run takes, such as `shard-2-of-4`; None for all.
    """
    return folder / ("predictions.jsonl" if part is None else f"predictions.{part}.jsonl")


def journal_files(folder: Path) -> list[Path]:
    """Return the notes of all runs that are in a folder of segmentations, sorted."""
    return [journal_file(folder), *sorted(folder.glob("predictions.shard-*.jsonl"))]


def engine_cache(work: Path) -> Path:
    """Return where networks are kept that an engine has compiled."""
    return work / "engines"


def fold_folder(model: Path, fold: int | str) -> FoldFolder:
    """Return a fold's folder in a model folder."""
    return FoldFolder(model / f"fold_{fold}")


def previous_model(model: Path, identity: str) -> Path:
    """Return where a cascade's model folder keeps the previous model of an identity, with its folds."""
    return model / "previous" / identity


def is_fold_folder(folder: Path) -> bool:
    """Return whether a folder holds one training."""
    return FoldFolder(folder).run.is_file()


@dataclass(frozen=True)
class NnunetModel:
    """`<trainer>__<plans>__<configuration>`: a model as nnU-Net v2 keeps it."""

    root: Path
    """The folder of folds."""

    @property
    def plans(self) -> Path:
        """What it was trained with."""
        return self.root / "plans.json"

    @property
    def dataset(self) -> Path:
        """Channels and labels."""
        return self.root / "dataset.json"

    def is_there(self) -> bool:
        """Return whether the folder is such a model."""
        return self.plans.is_file() and self.dataset.is_file()

    def folds(self) -> dict[str, Path]:
        """Return the folder of each fold by its name: `0`, `1`, …, `all`."""
        return {path.name.removeprefix("fold_"): path for path in sorted(self.root.glob("fold_*")) if path.is_dir()}


NNUNET_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_latest.pth")
"""Of one fold of nnU-Net: of a finished training, its best epoch, its last one."""
NNUNET_V1_CHECKPOINTS = ("model_final_checkpoint.model", "model_best.model", "model_latest.model")
"""Of one fold of its first version, which MedNeXt was published in."""


@dataclass(frozen=True)
class NnunetPlanFolder:
    """`nnUNet_preprocessed/DatasetNNN_Name`: what nnU-Net v2 plans a dataset with."""

    root: Path
    """The dataset's folder."""

    @property
    def plans(self) -> Path:
        """The plans, called as nnU-Net does by default."""
        return self.root / "nnUNetPlans.json"

    @property
    def dataset(self) -> Path:
        """Channels and labels."""
        return self.root / "dataset.json"

    @property
    def splits(self) -> Path:
        """The folds, there once nnU-Net has trained, or a plan was exported."""
        return self.root / "splits_final.json"


@dataclass(frozen=True)
class FetchFiles:
    """Files beside a dataset's folder below the data root while it is fetched."""

    target: Path
    """The dataset's folder."""

    @property
    def archive(self) -> Path:
        """The whole archive, kept on request or put there by the user; never removed."""
        return self.target.with_name(f"{self.target.name}.tar")

    @property
    def partial(self) -> Path:
        """The archive as far as it has come."""
        return self.target.with_name(f"{self.archive.name}.partial")

    @property
    def version(self) -> Path:
        """Which version of the server's file the partial archive is of."""
        return self.target.with_name(f"{self.partial.name}.json")

    @property
    def unpacking(self) -> Path:
        """Holds the dataset's folder until it is complete."""
        return self.target.with_name(f".{self.target.name}.unpacking")


@dataclass(frozen=True)
class ScoresFolder:
    """What an evaluation found."""

    root: Path
    """The folder of the results."""

    @property
    def metrics(self) -> Path:
        """Scores of every case, and their summary."""
        return self.root / "metrics.json"

    @property
    def table(self) -> Path:
        """The same scores as CSV."""
        return self.root / "metrics.csv"

    @property
    def comparison(self) -> Path:
        """What tells two models apart."""
        return self.root / "comparison.json"

    @property
    def ranking(self) -> Path:
        """Places of several models."""
        return self.root / "ranking.json"

    @property
    def report(self) -> Path:
        """The page to be read."""
        return self.root / "report.html"

    @property
    def against(self) -> "ScoresFolder":
        """Scores of the predictions that were compared with."""
        return ScoresFolder(self.root / "against")
