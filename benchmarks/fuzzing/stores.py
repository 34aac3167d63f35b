"""Readers of what is kept between commands: stored cases, checkpoints and weights, probabilities, measurements, hashes."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from benchmarks.fuzzing.documents import small_plan
from benchmarks.fuzzing.targets import Target, every
from tests.stages.inference.test_nnunet_model import write_model
from tumorseg.errors import StorageError
from tumorseg.networks.registry import build_network
from tumorseg.schema.cases import StoredCase
from tumorseg.schema.dataset import Case, ImageFile
from tumorseg.schema.fingerprint import CaseMeasurement
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.opening.fold_folders import TrainOptions, begin_run, write_run
from tumorseg.stages.training.given_weights import open_initial
from tumorseg.storage.case_notes import begin_case, finish_case, read_notes
from tumorseg.storage.cases import CaseArrays, CaseStore, is_stored, previous_name, store_case, store_previous
from tumorseg.storage.checkpoints import load_checkpoint, save_checkpoint
from tumorseg.storage.damage import of_blosc2
from tumorseg.storage.frames import read_frame
from tumorseg.storage.graph_files import FILES, find_graph, keep_graph
from tumorseg.storage.hashing import HashCache, hash_files
from tumorseg.storage.layout import FoldFolder
from tumorseg.storage.measurements import Measured, read_measured, write_measured
from tumorseg.storage.nnunet_checkpoints import load_nnunet_checkpoint
from tumorseg.storage.probability_cache import ProbabilityCache, StoredVolumes, affine_rows, open_volumes, write_volumes
from tumorseg.storage.weight_files import read_weights

SHAPE = (5, 9, 7)
WHOLE = ((0, 5), (0, 9), (0, 7))
PART = ((1, 4), (2, 9), (0, 3))
KEY = "key"
PLENTY = 1 << 30


def _arrays() -> CaseArrays:
    image = np.arange(2 * 5 * 9 * 7, dtype=np.float32).reshape(2, *SHAPE)
    segmentation = (image[0] % 5 > 3).astype(np.int8)
    return CaseArrays(image, segmentation, np.argwhere(segmentation).astype(np.int32))


def _cases(folder: Path) -> None:
    arrays = _arrays()
    voxels = np.bincount(arrays.segmentation.ravel(), minlength=2).tolist()
    record = StoredCase(
        case_id="case_0",
        shape=SHAPE,
        spacing_mm=(3, 1, 1),
        num_channels=2,
        class_voxels=tuple(voxels),
        location_starts=(0, 0, len(arrays.locations)),
    )
    store_case(folder / "one", KEY, record, arrays)
    store_previous(folder / "one" / KEY / previous_name("hash"), arrays.segmentation)


def _read_cases(folder: Path) -> object:
    def opened() -> CaseStore:
        return CaseStore(folder, {"case_0": KEY}, {"case_0": previous_name("hash")})

    return every(
        lambda: is_stored(folder, KEY),
        lambda: opened().read("case_0", WHOLE),
        lambda: opened().read("case_0", PART),
        lambda: opened().read_previous("case_0", PART),
        lambda: [opened().location("case_0", 1, number) for number in range(opened().num_locations("case_0", 1))],
        lambda: [opened().num_voxels("case_0", number) for number in opened().supervised_classes("case_0")],
    )


def _model(folder: Path) -> None:
    plan = small_plan()
    name, configuration = next(iter(plan.configurations.items()))
    targets = targets_of(plan.dataset)
    torch.manual_seed(0)
    network = build_network(
        configuration.network, num_channels=num_inputs(configuration, targets), num_outputs=targets.num_outputs
    )
    fold = FoldFolder(folder / "one" / "model" / "fold_all")
    write_run(fold, plan, begin_run(plan, name, "all", TrainOptions()))
    iterations = plan.training.epochs * plan.training.iterations_per_epoch
    progress = {"iteration": iterations, "losses": [1.0, 0.5]}
    state = {"network": network.state_dict(), "progress": progress, "length": {"tail": None, "watch": None}}
    save_checkpoint(fold.latest, state)


def _checkpoints(folder: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv3d(2, 3, 1), torch.nn.Conv3d(3, 2, 1))
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.zeros(1, 2, 1, 1, 1)).sum().backward()
    optimizer.step()
    state: dict[str, Any] = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": torch.get_rng_state(),
    }
    (folder / "one").mkdir()
    save_checkpoint(
        folder / "one" / "latest.ckpt", state | {"progress": {"iteration": 3, "losses": [0.5]}, "seed": 2**40}
    )


def _read_checkpoint(folder: Path) -> object:
    path = folder / "latest.ckpt"
    return every(
        lambda: load_checkpoint(path), lambda: load_checkpoint(path, is_mapped=True), lambda: read_weights(path)
    )


def _nnunet_model(folder: Path) -> None:
    write_model(folder / "one" / "model", network="plain_3d")


def _foreign(folder: Path) -> None:
    weights = {"encoder.weight": torch.arange(12.0).reshape(3, 4), "encoder.bias": torch.zeros(3, dtype=torch.bfloat16)}
    notes = {
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "2d"},
        "inference_allowed_mirroring_axes": (0, 1),
    }
    logging = {"ema": [np.float32(0.25), np.int64(3)]}
    for name, is_zip in (("zip", True), ("old", False)):
        (folder / name).mkdir()
        state = {"network_weights": weights, "_best_ema": np.float64(0.5), "logging": logging, **notes}
        torch.save(
            state, folder / name / f"weights.{'pth' if is_zip else 'old'}", _use_new_zipfile_serialization=is_zip
        )


def _read_foreign(folder: Path) -> object:
    path = next(folder.glob("weights.*"), folder / "weights.pth")
    return every(lambda: load_nnunet_checkpoint(path), lambda: read_weights(path), lambda: open_initial(path, "0"))


def _safetensors(folder: Path) -> None:
    (folder / "one").mkdir()
    weights = {"encoder.weight": torch.arange(12.0).reshape(3, 4), "encoder.bias": torch.zeros(3, dtype=torch.bfloat16)}
    (folder / "one" / "weights.safetensors").write_bytes(save(weights, {"format": "pt"}))


def _probabilities(folder: Path) -> None:
    about = StoredVolumes(
        shape=SHAPE, spacing_mm=(3, 1, 1), affine=affine_rows(np.diag([1.0, 1.0, 3.0, 1.0])), box=PART, num_volumes=2
    )
    place = folder / "one" / KEY
    place.mkdir(parents=True)
    write_volumes(place, about, [np.arange(3 * 7 * 3, dtype=np.uint16).reshape(3, 7, 3)] * 2)


def _read_probabilities(folder: Path) -> object:
    def unverified() -> object:
        volumes = open_volumes(folder / KEY)
        return volumes.volume(0), volumes.read(volumes.about.box)

    def kept() -> object:
        found = ProbabilityCache(folder, PLENTY, [KEY]).find(KEY)
        return None if found is None else (found.volume(1), found.read(WHOLE))

    return every(unverified, kept)


def _frames(folder: Path) -> None:
    _cases(folder)
    for name in ("image", "segmentation", "locations"):
        place = folder / name
        place.mkdir()
        (folder / "one" / KEY / f"{name}.b2nd").rename(place / "array.b2nd")
    for path in sorted((folder / "one").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / "one").rmdir()


def _read_frame(folder: Path) -> object:
    """Read a frame as a store does, which has looked at the record of its case."""
    path = folder / "array.b2nd"
    reads = [partial(_part, path, (slice(0, 2), *(slice(1, 3) for _ in range(count)))) for count in (1, 2, 3)]
    return every(*reads, lambda: _part(path, 0))


def _part(path: Path, index: Any) -> object:
    try:
        return read_frame(path, index)
    except of_blosc2() as error:
        raise StorageError("is damaged", file=path) from error


def _measurements(folder: Path) -> None:
    record = CaseMeasurement(
        case_id="case_0",
        spacing_mm=(2.5, 0.8, 0.8),
        shape=(9, 11, 13),
        shape_after_crop=(7, 11, 12),
        label_voxels={"tumour": 17},
        content_hash="0f",
    )
    write_measured(folder / "one", KEY, Measured(record, np.arange(20, dtype=np.float32).reshape(2, 10)))


def _notes(folder: Path) -> None:
    place = folder / "one"
    (place / "files").mkdir(parents=True)
    (place / "files" / "a.bin").write_bytes(b"a")
    begin_case(place, "case_0", ["files/b.bin"])
    finish_case(place, "case_1", "key", files=["files/a.bin"], classes=[0, 1])
    cache = HashCache(place / "hashes.json")
    cache.remember(hash_files([str(place / "files" / "a.bin")]))
    cache.save()

    def write(path: Path) -> None:
        path.write_text("<net/>")
        path.with_name(FILES[1]).write_bytes(bytes(16))

    keep_graph(place / "graph", write)


def _read_notes(folder: Path) -> object:
    case = Case(case_id="case_1", images=(ImageFile(path=str(folder / "files" / "a.bin")),))
    return every(
        lambda: read_notes(folder),
        lambda: HashCache(folder / "hashes.json").case_hash(case),
        lambda: find_graph(folder / "graph"),
    )


TARGETS = {
    "case_store": Target(_cases, _read_cases),
    "frame": Target(_frames, _read_frame),
    "checkpoint": Target(_checkpoints, _read_checkpoint),
    "model": Target(_model, lambda folder: load_model([folder / "model"], "cpu")),
    "nnunet_model": Target(_nnunet_model, lambda folder: load_model([folder / "model"], "cpu")),
    "nnunet_checkpoint": Target(_foreign, _read_foreign),
    "safetensors": Target(_safetensors, lambda folder: read_weights(folder / "weights.safetensors")),
    "probabilities": Target(_probabilities, _read_probabilities),
    "measurements": Target(_measurements, lambda folder: read_measured(folder, KEY)),
    "notes": Target(_notes, _read_notes),
}
