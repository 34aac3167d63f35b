from pathlib import Path

from tumorseg.storage.layout import FetchFiles, fold_folder, is_fold_folder, work_folder

WORK = Path("runs")


def test_files_of_a_dataset_lie_where_the_design_says():
    folder = work_folder(WORK, "MSD_Brain")
    assert folder.source == WORK / "MSD_Brain" / "source.json"
    assert folder.cases == WORK / "MSD_Brain" / "cases"
    assert folder.model("MSD_Brain__optimized", "2d") == WORK / "MSD_Brain" / "models" / "MSD_Brain__optimized" / "2d"


def test_files_of_a_fold_lie_where_the_design_says():
    fold = fold_folder(Path("model"), 3)
    root = Path("model") / "fold_3"
    assert fold.root == root
    assert fold.plan == root / "plan.json"
    assert fold.log == root / "log.jsonl"
    assert fold.progress == root / "progress.png"
    assert fold.latest == root / "latest.ckpt"
    assert fold.best == root / "best.ckpt"
    assert fold.metrics == root / "validation" / "metrics.json"
    assert fold_folder(Path("model"), "all").root == Path("model") / "fold_all"


def test_no_two_files_have_the_same_name():
    folder, fold = work_folder(WORK, "a"), fold_folder(Path("model"), 0)
    mine = [folder.source, folder.hashes, folder.fingerprint, folder.measurements, folder.cases]
    assert len({*mine, folder.model("b", "2d")}) == 6
    files = [fold.plan, fold.run, fold.log, fold.progress, fold.latest, fold.best, fold.validation, fold.metrics]
    assert len(set(files)) == 8


def test_a_fold_folder_is_known_by_its_run_record(tmp_path):
    assert not is_fold_folder(tmp_path)
    fold = fold_folder(tmp_path, 0)
    fold.root.mkdir()
    fold.run.write_text("{}")
    assert is_fold_folder(fold.root)
    assert not is_fold_folder(tmp_path)


def test_what_is_fetched_lies_beside_its_folder():
    files = FetchFiles(Path("data") / "Task04_Hippocampus")
    assert files.archive == Path("data/Task04_Hippocampus.tar")
    assert files.partial == Path("data/Task04_Hippocampus.tar.partial")
    assert files.version == Path("data/Task04_Hippocampus.tar.partial.json")
    assert files.unpacking == Path("data/.Task04_Hippocampus.unpacking")
