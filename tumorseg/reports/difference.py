"""`plan diff` as text."""

from collections.abc import Iterator

from pydantic import JsonValue

from tumorseg.planning.reading.difference import Difference, PlanDiff
from tumorseg.reports.explanation import filled, value_text


def diff_text(found: PlanDiff) -> str:
    """Return the differences, a block each: the field, then what it was and is, and by which rules."""
    if found.is_same:
        worded = f"; {found.num_reasons} of their reasons differ" if found.num_reasons else ""
        return f"{found.before} and {found.after} are the same in everything but their names{worded}"
    count = len(found.differences)
    differs = "field differs" if count == 1 else "fields differ"
    notes = [filled("  ", note) for note in found.notes]
    blocks = ["\n".join([f"{found.before} -> {found.after}: {count} {differs}", *notes])]
    previous: tuple[object, ...] = ()
    for entry in found.differences:
        # The first two keys of a field say of which configuration it is.
        rules = (entry.field.split(".")[:2], entry.rule_before, entry.rule_after)
        blocks.append("\n".join(_lines(entry, has_rules=rules != previous)))
        previous = rules
    return "\n\n".join(blocks)


def _lines(entry: Difference, *, has_rules: bool) -> Iterator[str]:
    """Yield a block; rules that the block before, of the same configuration, showed already are left out."""
    yield entry.field
    sides = (("-", "before", entry.before, entry.rule_before), ("+", "after", entry.after, entry.rule_after))
    for sign, side, value, rule in sides:
        yield filled(f"  {sign} ", _side_text(entry, side, value))
        if rule is not None and has_rules:
            yield filled("      because  ", rule)


def _side_text(entry: Difference, side: str, value: JsonValue) -> str:
    # Where both plans have a field, it is "only in" none of them.
    return value_text(entry.field, value) if entry.only_in in (None, side) else "not there"
