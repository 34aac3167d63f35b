import shutil

import pytest
import torch

from tests.stages.inference.test_nnunet_model import write_model
from tumorseg.engine.ranks import ALONE, Ranks
from tumorseg.errors import PlanError, StorageError, TrainingError
from tumorseg.stages.training import given_weights
from tumorseg.stages.training.given_weights import check_same_weights, open_initial
from tumorseg.storage.layout import NNUNET_V1_CHECKPOINTS, FoldFolder
from tumorseg.storage.weight_files import read_weights


@pytest.fixture
def model(trained, tmp_path):
    """Return a model whose fold 0 is trained, and whose fold 1 is begun."""
    root = tmp_path / "3d_fullres"
    for number in ("0", "1"):
        shutil.copytree(trained.folder.root, root / f"fold_{number}")
    for path in (FoldFolder(root / "fold_1").latest, FoldFolder(root / "fold_1").best):
        path.unlink()
    return root


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(PlanError, match="is no model"):
        open_initial(tmp_path, "0")
    with pytest.raises(StorageError, match="no such file"):
        open_initial(tmp_path / "missing.pt", "0")


def test_a_fold_that_has_no_checkpoint_yet_is_not_taken(model):
    taken = FoldFolder(model / "fold_0").latest
    assert open_initial(model, "0").origin.path == taken
    assert open_initial(model, "1").origin.path == taken
    assert open_initial(model, "1", own=model / "fold_1").origin.path == taken


def test_a_model_gives_a_training_none_of_its_own_weights(model):
    own = model / "fold_0"
    with pytest.raises(PlanError, match=r"3d_fullres: has no checkpoint in any fold but the one that is to be trained"):
        open_initial(model, "0", own=own)
    # It may be named, as for a restart.
    assert open_initial(own, "0", own=own).origin.path == FoldFolder(own).latest


def test_a_damaged_fold_does_no_harm_beside_the_one_that_is_taken(model):
    shutil.copytree(model / "fold_0", model / "fold_2")
    FoldFolder(model / "fold_2").plan.write_text("{")
    assert open_initial(model, "0").origin.path == FoldFolder(model / "fold_0").latest


def test_a_file_that_is_written_meanwhile_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.ones(2)}, path)

    def read_late(source):
        found = read_weights(source)
        torch.save({"a": torch.zeros(3)}, tmp_path / "next.pt")
        (tmp_path / "next.pt").replace(source)
        return found

    monkeypatch.setattr(given_weights, "read_weights", read_late)
    with pytest.raises(StorageError, match=r"weights\.pt: is being written; wait .* or give a copy"):
        open_initial(path, "0")


class Second(Ranks):
    """The second process of two, whose first one read a file with another hash."""

    rank, size = 1, 2

    def __init__(self, digest):
        self.digest = digest

    def of_first(self, value):
        return float(int(self.digest[:12], 16))


def test_processes_that_read_other_bytes_are_refused(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "weights.pt")
    initial = open_initial(tmp_path / "weights.pt", "0")
    check_same_weights(initial, ALONE)
    check_same_weights(initial, Second(initial.digest))
    last = "1" if initial.digest[11] == "0" else "0"
    with pytest.raises(TrainingError, match=r"not all processes read the same file for --init \(.*weights\.pt\)"):
        check_same_weights(initial, Second(initial.digest[:11] + last))


def test_a_fold_of_nnunet_without_a_checkpoint_is_not_taken(tmp_path):
    root = write_model(tmp_path / "model", folds=("0", "1", "2"))
    final = "checkpoint_final.pth"
    (root / "fold_0" / final).rename(root / "fold_0" / "checkpoint_latest.pth")
    (root / "fold_1" / final).unlink()
    taken = {fold: open_initial(root, fold).origin.path.relative_to(root) for fold in "012"}
    assert taken["0"].as_posix() == "fold_0/checkpoint_latest.pth"
    # The same fold has nothing, and the next one has not ended.
    assert taken["1"] == taken["2"] == (root / "fold_2" / final).relative_to(root)
    shutil.rmtree(root / "fold_2")
    shutil.rmtree(root / "fold_0")
    with pytest.raises(StorageError, match="found none of checkpoint_final"):
        open_initial(root, "1")


def test_a_file_of_nnunet_is_taken_without_its_labels_where_its_plans_cannot_be_imported(tmp_path):
    root = write_model(tmp_path / "model", cascade=True)
    with pytest.raises(PlanError, match="cascade is not supported"):
        open_initial(root, "0")
    found = open_initial(root / "fold_0" / "checkpoint_final.pth", "0")
    assert found.origin.plan is None
    assert found.origin.warning.startswith("its labels are not known, as its model cannot be imported (")
    assert "cascade is not supported" in found.origin.warning


@pytest.mark.parametrize(
    ("folders", "fold", "taken", "is_told"),
    [
        (("fold_0", "fold_1", "all"), "1", "fold_1", False),
        (("fold_0", "all"), "1", "fold_0", True),
        (("fold_0", "all"), "all", "all", False),
        (("fold_0",), "all", "fold_0", False),
        (("all",), "1", "all", True),
        ((".",), "1", ".", False),
    ],
)
def test_of_a_first_versions_folds_the_same_is_taken_and_another_is_told(tmp_path, folders, fold, taken, is_told):
    for folder in folders:
        (tmp_path / folder).mkdir(exist_ok=True)
        torch.save({"state_dict": {"a": torch.ones(2)}}, tmp_path / folder / NNUNET_V1_CHECKPOINTS[0])
    origin = open_initial(tmp_path, fold).origin
    assert origin.path.parent == tmp_path / taken
    told = f"it is of {taken}, which may have been trained on what fold {fold} holds out: if so, its scores will be too good"
    assert origin.warning == (told if is_told else "")
