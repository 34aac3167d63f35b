import pytest


@pytest.mark.slow
def test_validation_leaves_a_report_with_the_learning_curve_and_pictures_of_held_out_cases(toy, trained):
    page = (trained.folder.validation / "report.html").read_text("utf-8")
    held_out = toy.plan.folds[0]
    assert 0 < page.count("data:image/png;base64,") <= len(held_out)
    assert all(case_id in page for case_id in held_out)
    assert "Learning curves" in page
    assert f"{toy.plan.name}, fold 0" in page
    assert f"{len(held_out)} of them held out" in page
