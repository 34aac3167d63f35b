"""Independent cases: those of one group count as one."""

from tumorseg.schema.fingerprint import Fingerprint

FEW_CASES, MANY_CASES = 20, 1000
"""nnU-Net's defaults were developed on sets of 20 to 484 cases."""


def independent_cases(fingerprint: Fingerprint) -> int:
    """Return the number of groups; a case without one is a group of its own."""
    return len({case.group or case.case_id for case in fingerprint.cases})
