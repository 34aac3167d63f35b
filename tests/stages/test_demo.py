import pytest

from tumorseg.cli.main import run
from tumorseg.stages.demo import DemoRequest, demo
from tumorseg.stages.opening.loaded import Roots


@pytest.mark.slow
def test_the_demo_leaves_one_html_file_with_curve_scores_and_overlays(tmp_path, capsys):
    done = demo(DemoRequest(roots=Roots(work=tmp_path), num_cases=5, epochs=1, device="cpu"))
    page = done.report.read_text("utf-8")
    assert page.count("data:image/png;base64,") == 3
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<link" not in page
    for label in ("edema", "non-enhancing tumor", "enhancing tumour"):
        assert label in page
    assert run(["-q", "--work", str(tmp_path), "demo", "--cases", "5", "--epochs", "1", "--device", "cpu"]) == 0
    assert str(done.report) in capsys.readouterr().out
