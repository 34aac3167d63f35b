import pytest

from tests.planning.measured import fingerprint, planned
from tumorseg.errors import InputError, StorageError
from tumorseg.stages.planning.explain import ExplainPlanRequest, explain_plan

PLAN = planned(fingerprint())


def test_page_and_picture_are_written_where_they_are_asked_for(tmp_path):
    page, picture = tmp_path / "new" / "plan.html", tmp_path / "net.PNG"
    explanation = explain_plan(ExplainPlanRequest(plan=PLAN, html=page, picture=picture))
    assert explanation.name == PLAN.name
    assert "the plan explained" in page.read_text("utf-8")
    assert picture.read_bytes().startswith(b"\x89PNG")
    explain_plan(ExplainPlanRequest(plan=PLAN, picture=tmp_path / "net.svg"))
    assert (tmp_path / "net.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("option", "name", "words"),
    [
        ("html", "plan.txt", r"--html .*ends in \.html or \.htm"),
        ("picture", "net.jpg", r"--picture .*ends in \.svg or \.png"),
        ("picture", "folder.svg", "is a folder"),
    ],
)
def test_other_files_are_refused_before_anything_is_written(tmp_path, option, name, words):
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(InputError, match=words):
        explain_plan(ExplainPlanRequest(plan=PLAN, **{option: tmp_path / name}))
    assert [path.name for path in tmp_path.iterdir()] == ["folder.svg"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        explain_plan(ExplainPlanRequest(plan=PLAN, html=tmp_path / "file" / "plan.html"))
