"""UIDs of results: the same for the same, another for any other."""

import uuid

from pydicom.uid import UID

from tumorseg.storage.dicom.identity import uid_from


def test_the_same_parts_give_the_same_uid():
    assert uid_from(["model", "plan"]) == uid_from(("model", "plan")) == "2.25.202479976514948221132119522763768106809"


def test_other_parts_give_another_uid():
    found = {uid_from(parts) for parts in ([], [""], ["ab"], ["a", "b"], ["b", "a"], ["a", "b", ""], ["ä"])}
    assert len(found) == 7


def test_uids_are_valid_and_derived_from_uuids():
    for number in range(50):
        uid = UID(uid_from([str(number)]))
        assert uid.is_valid
        found = uuid.UUID(int=int(uid.removeprefix("2.25.")))
        assert (found.version, found.variant) == (8, uuid.RFC_4122)
