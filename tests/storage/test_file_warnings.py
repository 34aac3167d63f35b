from tumorseg.storage.file_warnings import FileWarning, captured_warnings, warn


def test_a_warning_is_logged_with_its_file(caplog):
    warn("a.nii", "is strange")
    warn("a.dcm", "is strange", source="a.dcm, b.dcm")
    assert caplog.messages == ["a.nii: is strange", "a.dcm, b.dcm: is strange"]


def test_captured_warnings_are_not_logged(caplog):
    with captured_warnings() as captured:
        warn("a.nii", "is strange")
    warn("b.nii", "is strange too")
    assert captured == [FileWarning("a.nii", "is strange", "a.nii")]
    assert caplog.messages == ["b.nii: is strange too"]
