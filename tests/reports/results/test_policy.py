import json

import pytest

from tumorseg.reports.results.policy import content_policy, script_hash, script_json


def test_a_hash_is_that_of_the_standard() -> None:
    # The example of Content Security Policy Level 2, section 7.17.1.
    assert script_hash("alert('Hello, world.');") == "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng="


def test_a_page_may_run_its_own_scripts_and_reach_nothing() -> None:
    policy = content_policy(["let a = 1;"])
    assert f"script-src '{script_hash('let a = 1;')}'" in policy
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "strict-dynamic" not in policy
    assert "script-src 'none'" in content_policy([])


def test_only_a_page_with_files_beside_it_may_add_scripts() -> None:
    assert content_policy(["let a = 1;"], loads_files=True).endswith(" 'strict-dynamic'")


@pytest.mark.parametrize(
    "text", ["</script><script>alert(1)</script>", "<!--", "\u2028", '"\\', "é\ud800", "__proto__"]
)
def test_json_in_a_script_element_holds_any_text_and_ends_nothing(text: str) -> None:
    written = script_json({text: [text, 1.5, None]})
    assert "<" not in written
    assert "\u2028" not in written
    assert json.loads(written) == {text: [text, 1.5, None]}
    assert written.encode("ascii")


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        script_json([float("nan")])
