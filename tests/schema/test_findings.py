from tumorseg.errors import InputError
from tumorseg.schema.findings import finding, finding_of


def test_an_error_becomes_a_finding_that_does_not_repeat_its_case_and_file():
    error = InputError("is\nempty; restore it", case_id="a", file="a.nii")
    found = finding_of(error, "unreadable_file", cases=("a",), file="a.nii")
    assert (found.severity, found.case_ids, found.file, found.message) == (
        "error",
        ("a",),
        "a.nii",
        "is empty; restore it",
    )
    assert finding_of(error, "unreadable_file").message == "case a: a.nii: is empty; restore it"


def test_what_no_terminal_shows_is_escaped():
    found = finding("reading", "has \x1b in it", file="\udce9.nii")
    assert (found.message, found.file) == ("has \\x1b in it", "\\udce9.nii")
