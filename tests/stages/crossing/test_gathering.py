"""What the cells of a matrix come to."""

from tumorseg.schema.crossing import Gap
from tumorseg.schema.metrics import Intervals
from tumorseg.stages.crossing.gathering import few_in


def gap(other, num_units):
    means = {"own_mean": 0.8, "other_mean": 0.7, "difference": 0.1, "ci95": (0.0, 0.2)}
    return Gap(model="A", own="D", other=other, label="WT", metric="dsc", num=(60, 60), num_units=num_units, **means)


def test_gaps_of_few_cases_or_patients_are_named_in_a_line():
    (line,) = few_in([gap("B", (60, 7)), gap("C", (60, 60))], Intervals())
    assert line == "gaps: intervals rest on fewer than 40 cases, and may be too narrow: A to B, WT, dsc (7)"
    assert few_in([gap("C", (60, 60))], Intervals()) == []
