"""Which candidates are members and how often each counts: for all names together, then for each by itself."""

from collections.abc import Iterator

from tumorseg.ops.choosing.protocol import Choice, Row, all_alike, one_hot, single
from tumorseg.ops.choosing.rounds import ROUNDING, Round, Search, Setting, Standing, take_best


def best_single(setting: Setting) -> Search:
    """Choose the single candidate of the largest mean over names and cases; ties go to the first."""
    choices = [single(number, setting.num_candidates) for number in range(setting.num_candidates)]
    tables = yield choices
    means = [round(float(table.mean()) / ROUNDING) for table in tables]
    best = means.index(max(means))
    return Standing(choices[best], tables[best], baseline=choices[best])


def improve_ensemble(standing: Standing, setting: Setting) -> Search:
    """Add the candidate that helps most, again and again, the same ones too, until none helps.

    The mean of all candidates is proposed beside each. What counts is the mean over names: one of them may lose.

    References:
        Caruana, Niculescu-Mizil, Crew & Ksikes, Ensemble selection from libraries of models, ICML 2004.
    """
    while True:
        rows = [*_one_more(standing.choice.counts[0], setting), all_alike(setting.num_candidates)]
        proposals = [standing.choice._replace(counts=(row,)) for row in rows]
        after = yield from take_best(standing, Round("ensemble", proposals, may_harm=True), setting)
        if after.choice == standing.choice:
            return after
        standing = after


def improve_names(standing: Standing, setting: Setting) -> Search:
    """Give a name members of its own where that improves it and harms no other, name by name.

    From the common members one is added at a time as before; each single candidate and the mean of all are proposed, too. Regions are
    painted by themselves, but later ones over earlier; labels share a softmax. So each proposal is scored for all names.
    """
    if setting.num_candidates == 1 or len(setting.names) == 1:
        return standing
    for name in range(len(setting.names)):
        standing = yield from _improve_name(standing, name, setting)
    return standing


def _improve_name(standing: Standing, name: int, setting: Setting) -> Search:
    """Choose the row of one name."""
    count = setting.num_candidates
    fixed = [*(one_hot(number, count) for number in range(count)), all_alike(count)]
    while True:
        rows = [*_one_more(standing.choice.row(name), setting), *fixed]
        proposals = [_with_row(standing.choice, name, row, num_names=len(setting.names)) for row in rows]
        after = yield from take_best(standing, Round("names", proposals, name), setting)
        if after.choice == standing.choice:
            return after
        standing = after


def _one_more(row: Row, setting: Setting) -> Iterator[Row]:
    """Yield a row with one more count of each candidate, unless it is full."""
    if sum(row) >= setting.options.most_counts:
        return
    for number in range(len(row)):
        yield tuple(count + (place == number) for place, count in enumerate(row))


def _with_row(choice: Choice, name: int, row: Row, *, num_names: int) -> Choice:
    """Return a choice in which one name has another row, all others what they had."""
    rows = [choice.row(place) for place in range(num_names)]
    rows[name] = row
    return choice._replace(counts=tuple(rows))
