import json
import resource
import time
import tracemalloc

import pytest

from tumorseg.errors import InputError, StorageError
from tumorseg.schema.cases import CaseReading
from tumorseg.stages.inference.case_report import CaseEntry, FoundLabel, RunEntry
from tumorseg.stages.inference.journal import Header, read_notes
from tumorseg.stages.inference.ledger import read_predictions
from tumorseg.stages.inference.prediction_folder import PredictionFolder, hold_predictions
from tumorseg.stages.inference.predictions import Predictions
from tumorseg.stages.inference.report_file import entry_text, read_entries, read_report, report_parts, run_key
from tumorseg.stages.inference.shards import Shard
from tumorseg.storage.atomic import write_parts
from tumorseg.storage.layout import journal_file

RUN = RunEntry(
    plan="Toy",
    configuration="3d_fullres",
    num_folds=1,
    weight_hashes=("w",),
    method_hash="m",
    engine="torch",
    precision="fp32",
    device="cpu",
    versions={},
)
FOUND = FoundLabel(volume_ml=1.5, box=((0, 1), (2, 5), (3, 4)), num_components=2)
ENTRY = CaseEntry(run=run_key(RUN), labels={"lesion": FOUND}, seconds={"read": 0.5}, peak_memory_bytes=None)


def header(method="m", outputs="o", **forms):
    made_by = Predictions(
        method_hash=method,
        method_version=1,
        plan="Toy",
        weight_hashes=("w",),
        mirroring=True,
        reading=CaseReading(),
        forms=forms,
    )
    return Header(made_by=made_by, run=RUN, outputs=outputs)


def open_folder(root, *names, cases="ab", shard=None, **made):
    """Begin a run of cases `a`, `b`, … of the files named."""
    folder = PredictionFolder(root, header(**made), shard=shard)
    folder.begin_run({case_id: (f"{case_id}.nii.gz", *names) for case_id in cases})
    return folder


def write(folder, case_id, *others, input_hash="i", text="mask"):
    """Write files of a case as a run does."""
    names = (f"{case_id}.nii.gz", *others)
    folder.begin(case_id, input_hash, names)
    for name in names:
        (folder.root / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.root / name).write_text(text)
    folder.finish(case_id, input_hash, names, ENTRY)


def record_in(root):
    return json.loads((root / "predictions.json").read_text())


def test_a_run_leaves_a_record_and_a_report_and_no_journal(tmp_path):
    folder = open_folder(tmp_path)
    write(folder, "a")
    assert journal_file(tmp_path).is_file()
    assert folder.end_run() is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz", "predictions.json", "report.json"]
    assert record_in(tmp_path)["cases"]["a"]["files"].keys() == {"a.nii.gz"}
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["cases"]["a"]["labels"]["lesion"]["volume_ml"] == 1.5
    assert report["runs"][report["cases"]["a"]["run"]]["plan"] == "Toy"


def test_a_case_is_done_when_all_that_is_asked_for_is_there(tmp_path):
    folder = open_folder(tmp_path)
    write(folder, "a")
    folder.end_run()
    again = open_folder(tmp_path)
    assert again.is_done("a", "i", ["a.nii.gz"])
    assert not again.is_done("a", "other", ["a.nii.gz"])
    assert not again.is_done("a", "i", ["a.nii.gz", "seg/a.dcm"])
    assert not again.is_done("b", "i", ["b.nii.gz"])
    (tmp_path / "a.nii.gz").unlink()
    assert not again.is_done("a", "i", ["a.nii.gz"])


def test_what_another_command_wrote_of_the_same_image_stays_a_result(tmp_path):
    folder = open_folder(tmp_path, seg="binary")
    write(folder, "a", "seg/a.dcm")
    write(folder, "a", "entropy/a.nii.gz")
    assert folder.is_done("a", "i", ["a.nii.gz", "seg/a.dcm", "entropy/a.nii.gz"])
    write(folder, "a", input_hash="other image")
    assert not folder.is_done("a", "other image", ["a.nii.gz", "seg/a.dcm"])
    assert folder.of_others(["a.nii.gz"]) == ["entropy/a.nii.gz", "seg/a.dcm"]


def test_another_form_of_a_file_is_another_file_and_the_mask_is_the_same(tmp_path):
    folder = open_folder(tmp_path, seg="binary")
    write(folder, "a", "seg/a.dcm")
    folder.end_run()
    other = open_folder(tmp_path, seg="labelmap")
    assert other.is_done("a", "i", ["a.nii.gz"])
    assert not other.is_done("a", "i", ["a.nii.gz", "seg/a.dcm"])
    # A run that asks for no SEG leaves what was said of it.
    assert open_folder(tmp_path).is_done("a", "i", ["a.nii.gz", "seg/a.dcm"])


@pytest.mark.parametrize("name", ["a.nii.gz", "seg/a.dcm"])
@pytest.mark.parametrize("method", ["m", "other"])
def test_a_file_that_was_edited_is_refused_whoever_made_it(tmp_path, name, method):
    folder = open_folder(tmp_path)
    write(folder, "a", "seg/a.dcm")
    folder.end_run()
    (tmp_path / name).write_text("edited")
    again = open_folder(tmp_path, method=method)
    with pytest.raises(InputError, match=f"{name} was changed since predict wrote it"):
        again.is_done("a", "i", ["a.nii.gz", "seg/a.dcm"])


def test_files_from_elsewhere_are_not_written_over(tmp_path):
    (tmp_path / "seg").mkdir()
    (tmp_path / "seg" / "a.dcm").write_text("a user's")
    with pytest.raises(InputError, match=r"seg/a\.dcm is there already and no result of predict"):
        open_folder(tmp_path, "seg/a.dcm")
    assert [path.name for path in tmp_path.iterdir()] == ["seg"]


def test_a_second_mask_of_a_case_in_another_format_is_refused(tmp_path):
    folder = open_folder(tmp_path)
    write(folder, "a")
    folder.end_run()
    again = PredictionFolder(tmp_path, header())
    with pytest.raises(
        InputError, match=r"a\.nii\.gz is there already, and would be a second mask of a .*--format nii.gz"
    ):
        again.begin_run({"a": ("a.nrrd",)})
    again.begin_run({"a": ("seg/a.dcm",)})


def killed(folder):
    """Let a run end as a kill does: without a word."""
    return folder.root


def test_a_killed_run_costs_only_what_it_was_writing(tmp_path):
    folder = open_folder(tmp_path)
    write(folder, "a")
    folder.begin("b", "i", ["b.nii.gz"])
    (tmp_path / "b.nii.gz").write_text("whole, but nobody knows")
    with journal_file(tmp_path).open("ab") as file:
        file.write(b'{"finished":"b","made":{"inp')
    root = killed(folder)
    assert [*read_notes(journal_file(root), InputError).steps][-1][1].begun == "b"
    again = open_folder(root)
    assert not journal_file(root).exists()
    assert (again.is_done("a", "i", ["a.nii.gz"]), again.is_done("b", "i", ["b.nii.gz"])) == (True, False)
    assert record_in(root)["replaceable"] == {"b.nii.gz": None}


def test_whoever_reads_the_record_knows_what_a_killed_run_had_done(tmp_path):
    open_folder(tmp_path).end_run()
    write(first := open_folder(tmp_path), "a")
    first.end_run()
    killed(second := open_folder(tmp_path, method="other"))
    write(second, "b")
    found = read_predictions(tmp_path / "predictions.json", InputError)
    assert (found.method_hash, found.cases.keys(), found.replaceable.keys()) == ("other", {"b"}, {"a.nii.gz"})
    assert record_in(tmp_path)["method_hash"] == "m"


def test_a_record_taken_over_twice_says_the_same(tmp_path):
    write(folder := open_folder(tmp_path, seg="binary"), "a", "seg/a.dcm")
    write(folder, "a")
    lines = journal_file(tmp_path).read_bytes()
    folder.end_run()
    before = [(tmp_path / name).read_bytes() for name in ("predictions.json", "report.json")]
    journal_file(tmp_path).write_bytes(lines)  # as if the kill had come before it was removed
    open_folder(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in ("predictions.json", "report.json")] == before


def test_shards_fill_one_folder_and_leave_one_record(tmp_path):
    root, one, two = tmp_path / "out", Shard(1, 2), Shard(2, 2)
    with hold_predictions(root, one), hold_predictions(root, two):
        first, second = open_folder(root, shard=one), open_folder(root, shard=two)
        write(first, "a")
        write(second, "b")
        first.end_run()
        assert record_in(root)["cases"].keys() == {"a"}
        assert not journal_file(root, one.name).exists()
        assert journal_file(root, two.name).is_file()
        second.end_run()
    assert record_in(root)["cases"].keys() == {"a", "b"}
    assert json.loads((root / "report.json").read_text())["cases"].keys() == {"a", "b"}


def test_a_shard_of_something_else_is_refused_while_another_runs(tmp_path):
    root, one, two = tmp_path / "out", Shard(1, 2), Shard(2, 2)
    with hold_predictions(root, one):
        running = open_folder(root, shard=one)
        with hold_predictions(root, two):
            for made in ({"method": "other"}, {"outputs": "more"}):
                with pytest.raises(StorageError, match="is being filled by a shard of another model or other options"):
                    open_folder(root, shard=two, **made)
            open_folder(root, shard=two)
        running.end_run()
    with hold_predictions(root, two):
        open_folder(root, shard=two, method="other")


def test_what_a_killed_shard_had_done_is_taken_over_by_the_next_run(tmp_path):
    root, one = tmp_path / "out", Shard(1, 2)
    with hold_predictions(root, one):
        write(open_folder(root, shard=one), "a")
    whole = open_folder(root)
    assert whole.is_done("a", "i", ["a.nii.gz"])
    assert record_in(root)["cases"].keys() == {"a"}
    assert not journal_file(root, one.name).exists()


def test_20000_cases_are_noted_in_a_time_each_that_does_not_grow(tmp_path):
    folder = open_folder(tmp_path)
    write(folder, "a")
    folder.end_run()
    record = record_in(tmp_path)
    record["cases"] = {f"case{number:05d}": record["cases"]["a"] for number in range(20_000)}
    (tmp_path / "predictions.json").write_text(json.dumps(record))
    again = open_folder(tmp_path)
    began = time.perf_counter()
    for number in range(10):
        again.begin(f"case{number:05d}", "i", [f"case{number:05d}.nii.gz"])
    each = (time.perf_counter() - began) / 10
    # Written anew each time, the record would take a quarter of a second.
    assert each < 0.1


def test_a_line_that_finds_no_room_leaves_the_journal_as_it_was(tmp_path):
    write(folder := open_folder(tmp_path), "a")
    before = journal_file(tmp_path).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        with pytest.raises(StorageError, match="free disk space"):
            folder.begin("b", "i", ["b.nii.gz"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert journal_file(tmp_path).read_bytes() == before
    write(folder, "b")
    folder.end_run()
    assert record_in(tmp_path)["cases"].keys() == {"a", "b"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_killed_shards_are_no_reason_to_refuse_the_same_shards_of_something_else(tmp_path, order):
    """However far each had come, and whichever is first to know its model."""
    root, shards, names = tmp_path / "out", [Shard(1, 2), Shard(2, 2)], "ab"
    with hold_predictions(root, shards[0]), hold_predictions(root, shards[1]):
        for shard, name in zip(shards, names, strict=True):
            write(open_folder(root, cases=name, shard=shard), name)
    with hold_predictions(root, shards[order[0]]), hold_predictions(root, shards[order[1]]):
        for number in order:
            running = open_folder(root, cases=names[number], shard=shards[number], method="other")
        running.end_run()
    assert record_in(root)["cases"] == {}
    assert record_in(root)["replaceable"].keys() == {"a.nii.gz", "b.nii.gz"}


def test_shards_know_of_each_other_by_whatever_link_they_come(tmp_path):
    (tmp_path / "out").mkdir()
    link, one, two = tmp_path / "link", Shard(1, 2), Shard(2, 2)
    link.symlink_to(tmp_path / "out")
    with hold_predictions(link, one), hold_predictions(tmp_path / "out", two):
        write(open_folder(link, cases="a", shard=one), "a")
        with pytest.raises(StorageError, match="is being filled by a shard of another model"):
            open_folder(tmp_path / "out", cases="b", shard=two, method="other")
        assert open_folder(link, cases="b", shard=two).end_run() is None
        assert journal_file(link, one.name).is_file()


def test_a_lane_that_outlives_its_run_writes_nothing(tmp_path):
    folder = open_folder(tmp_path)
    folder.begin("a", "i", ["a.nii.gz"])
    (tmp_path / "a.nii.gz").write_text("mask")
    folder.end_run()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(StorageError, match="the run was stopped before this case was written"):
        folder.finish("a", "i", ["a.nii.gz"], ENTRY)
    with pytest.raises(StorageError, match="the run was stopped"):
        folder.begin("b", "i", ["b.nii.gz"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_stale_file_that_cannot_be_removed_is_a_storage_error(tmp_path):
    (tmp_path / "summary.html").mkdir()
    folder = PredictionFolder(tmp_path, header(), stale=[tmp_path / "summary.html"])
    folder.begin_run({"a": ("a.nii.gz",)})
    with pytest.raises(StorageError, match=r"summary\.html: cannot write"):
        folder.begin("a", "i", ["a.nii.gz"])


def test_a_journal_that_the_record_takes_over_meanwhile_is_none(tmp_path):
    assert read_notes(journal_file(tmp_path), InputError) is None


def test_entries_are_read_and_written_one_at_a_time(tmp_path):
    labels = {f"organ_{number:02d}": FOUND for number in range(60)}
    text = entry_text(ENTRY.changed(labels=labels))
    write_parts(tmp_path / "report.json", report_parts(((f"case{number:03d}", text) for number in range(200)), {}))
    tracemalloc.start()
    try:
        assert len(read_report(tmp_path / "report.json", InputError).entries) == 200
        write_parts(tmp_path / "again.json", report_parts(read_entries(tmp_path / "report.json", InputError), {}))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "report.json").read_bytes()
    assert peak < (tmp_path / "report.json").stat().st_size / 4


def test_a_report_that_another_program_has_laid_out_anew_is_read_and_written_as_before(tmp_path):
    folder = open_folder(tmp_path)
    write(folder, "b")
    write(folder, "a")
    folder.end_run()
    expected = (tmp_path / "report.json").read_bytes()
    laid = json.loads(expected)
    laid["cases"] = dict(reversed(laid["cases"].items()))
    (tmp_path / "report.json").write_text(json.dumps(laid))
    write(again := open_folder(tmp_path), "a")
    again.end_run()
    assert (tmp_path / "report.json").read_bytes() == expected
