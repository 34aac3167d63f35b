"""The report of a selection: what may be claimed, what was chosen among, what was rejected and why, what it costs, when to distrust it."""

from collections.abc import Iterator, Sequence

from tumorseg.reports.results.page import ResultsInput, results_page
from tumorseg.reports.results.sections import Cell, Section, Table
from tumorseg.reports.selection_words import step_text
from tumorseg.reports.tables import NOTHING
from tumorseg.schema.quantities import bytes_text
from tumorseg.schema.selection import ChoiceEntry, GainEntry, Selection, TrialEntry
from tumorseg.schema.settings import SettingsTable
from tumorseg.schema.trust import TrustProfile

MOST_TRIALS = 40
"""Rejected proposals that are listed; selection.json has all."""
STAGES = {"ensemble": "members", "names": "members by name", "thresholds": "thresholds", "steps": "postprocessing"}


def selection_page(selection: Selection, trust: TrustProfile | None, settings: SettingsTable | None) -> str:
    """Return the page.

    Args:
        selection: what was found.
        trust: what cases are judged by; left out if None.
        settings: what settings bring and cost; left out if None.
    """
    sections = [_gains(selection), _choice(selection), _candidates(selection), _taken(selection), _parts(selection)]
    sections.append(_calibration(selection))
    sections += [] if trust is None else [_trust(trust)]
    sections += [] if settings is None else [_settings(settings)]
    # Last, as it is long.
    sections.append(_rejected(selection))
    content = ResultsInput(
        title=f"Selection on {selection.dataset}",
        subtitle=selection.claim,
        facts=_facts(selection),
        sections=[section for section in sections if section.tables or section.text],
    )
    return results_page(content).html


def _facts(selection: Selection) -> dict[str, list[tuple[str, str]]]:
    scored = "regions" if selection.has_regions else "labels"
    cases = [
        ("scored", f"{len(selection.cases)}, each predicted by a fold that did not see it"),
        ("left out", str(selection.num_left_out)),
        ("parts", str(len(selection.by_part))),
        (scored, ", ".join(selection.names)),
    ]
    model = [
        ("members", str(len(selection.choice.members))),
        ("chosen among", str(len(selection.candidates))),
        ("temperature", f"{selection.calibration.temperature:.3f}"),
        ("best single model", selection.baseline),
    ]
    return {"Cases": cases, "Model": model}


def _gains(selection: Selection) -> Section:
    rows = []
    for gain in selection.gains:
        claimed = "yes" if gain.is_claimed else "no"
        verdict = Cell(claimed if gain.name is None else NOTHING, is_text=True)
        figures = [Cell(_dsc(gain.baseline)), Cell(_dsc(gain.selected)), Cell(f"{gain.gain:+.4f}", _interval(gain))]
        rows.append([Cell(gain.name or "mean", is_text=True), Cell(str(gain.num_cases)), *figures, verdict])
    columns = ["Name", "Cases", "Best single model", "Chosen", "Gain", "May be claimed"]
    caption = "Below the gain its 95 % interval. A gain is claimed of the mean alone, where its interval lies above 0."
    text = (
        "DSC on cases that the choice did not see: for each part members, weights, thresholds and postprocessing are chosen on all "
        "other parts, and so is the best single model. The final model averages all folds of its members, which can only be told from "
        "other cases: here each case is predicted by one fold."
    )
    return Section("What may be claimed", text, [Table(columns, rows, caption)])


def _interval(gain: GainEntry) -> str:
    return f"{gain.ci95[0]:+.4f} to {gain.ci95[1]:+.4f}" if gain.ci95 else ""


def _dsc(value: float) -> str:
    return f"{value:.4f}"


def _choice(selection: Selection) -> Section:
    choice = selection.choice
    tables = [_members(choice, selection.names)]
    if choice.thresholds:
        rows = [[Cell(name, is_text=True), Cell(f"{value:g}")] for name, value in choice.thresholds.items()]
        tables.append(Table(["Region", "Painted above"], rows, heading="Thresholds"))
    if choice.steps:
        words = map(step_text, choice.steps)
        rows = [[Cell(str(number)), Cell(text, is_text=True)] for number, text in enumerate(words, start=1)]
        tables.append(Table(["Step", "What is done"], rows, heading="Postprocessing"))
    return Section("The model", "How often each member counts in the mean of probabilities.", tables)


def _members(choice: ChoiceEntry, names: Sequence[str]) -> Table:
    per_name = any(len(counts) > 1 for counts in choice.members.values())
    columns = ["Member", *(names if per_name else ("all",))]
    rows = []
    for name, counts in choice.members.items():
        rows.append([Cell(name, is_text=True), *(Cell(str(count)) for count in counts)])
    return Table(columns, rows, heading="Members")


def _candidates(selection: Selection) -> Section:
    rows = []
    for candidate in selection.candidates:
        values = [candidate.dsc[name] for name in selection.names]
        mean = sum(values) / len(values)
        figures = [Cell(_dsc(value), shade=value) for value in (mean, *values)]
        rows.append([Cell(candidate.name, is_text=True), Cell(", ".join(candidate.folds), is_text=True), *figures])
    apparent = [selection.dsc[name] for name in selection.names]
    chosen = [Cell(_dsc(value), shade=value) for value in (sum(apparent) / len(apparent), *apparent)]
    rows.append([Cell("chosen", "on the cases it was chosen on", is_text=True), Cell(""), *chosen])
    columns = ["Candidate", "Folds", "mean", *selection.names]
    caption = "DSC over all cases; 1 where neither mask has the label or region, 0 where one alone has it."
    return Section("Candidates by themselves", tables=[Table(columns, rows, caption)])


def _taken(selection: Selection) -> Section:
    taken = [trial for trial in selection.trials if trial.verdict == "taken"]
    text = (
        "From the best single model to the choice, on all cases; the gains are those that were seen, not honest ones."
    )
    return Section("Steps that were taken", text, [_trials(taken)]) if taken else Section("Steps that were taken")


def _rejected(selection: Selection) -> Section:
    rejected = [trial for trial in selection.trials if trial.verdict != "taken"]
    # Those that came closest tell most.
    shown = sorted(rejected, key=lambda trial: -trial.gain)[:MOST_TRIALS]
    more = len(rejected) - len(shown)
    text = f"The {len(shown)} that gained most of {len(rejected)}; selection.json lists all." if more else ""
    return Section("What was rejected, and why", text, [_trials(shown)] if shown else [])


def _trials(trials: Sequence[TrialEntry]) -> Table:
    rows = []
    for trial in trials:
        why = f"harms {trial.harmed}" if trial.verdict == "harms" else trial.verdict
        error = f"± {trial.error:.4f}" if trial.error is not None else ""
        words = [Cell(trial.name or "mean", is_text=True), Cell(trial.text, is_text=True)]
        figures = [Cell(f"{trial.gain:+.4f}", error), Cell(f"{trial.p:.3f}")]
        rows.append([Cell(STAGES[trial.stage], is_text=True), *words, *figures, Cell(why, is_text=True)])
    return Table(["Stage", "For", "Proposal", "Gain", "p", "Verdict"], rows)


def _parts(selection: Selection) -> Section:
    rows = []
    for part in selection.by_part:
        words = [Cell(part.choice.text, is_text=True), Cell(part.baseline, is_text=True)]
        rows.append([Cell(str(part.part)), Cell(str(part.num_cases)), *words])
    columns = ["Part", "Cases", "Chosen on the others", "Best single model on the others"]
    return Section("How firm the choice is", "What is chosen for each part, on all others.", [Table(columns, rows)])


def _calibration(selection: Selection) -> Section:
    found = selection.calibration
    rows = []
    for title, honest, fitted in (
        ("negative log-likelihood", found.nll, found.fitted_nll),
        ("expected calibration error", found.ece, found.fitted_ece),
    ):
        figures = [*(honest or (None, None)), *(fitted or (None, None))]
        rows.append([Cell(title, is_text=True), *(Cell(_or_nothing(value)) for value in figures)])
    columns = ["Of a voxel", "Before", "After", "Before, where fitted", "After, where fitted"]
    text = (
        f"Logits are divided by {found.temperature:.3f} before they are shown as probabilities; masks do not change. Before and after are "
        f"of {found.num_voxels} voxels, each part by the temperature that the others give."
    )
    return Section("Calibration", text, [Table(columns, rows)] if found.nll else [])


def _trust(trust: TrustProfile) -> Section:
    rows = []
    for name, rule in trust.dsc.items():
        rank = NOTHING if rule.spearman is None else f"{rule.spearman:.2f}"
        limit = NOTHING if rule.threshold is None else f"{rule.threshold:.3f}"
        figures = [Cell(str(rule.num_cases)), Cell(rank), Cell(f"{rule.mean_error:.3f}"), Cell(limit)]
        rows.append([Cell(name, is_text=True), *figures])
    columns = ["Predicted DSC of", "Cases", "Rank correlation", "Mean error", "Review below"]
    text = (
        f"Of {trust.num_sound} held-out cases with masks as good as usual {trust.num_flagged} would be sent to review. Predictions are "
        "those of cases that they were not learnt from."
    )
    return Section("Trust", text, [Table(columns, rows)] if rows else [])


def _settings(table: SettingsTable) -> Section:
    rows = []
    for row in table.rows:
        figures = [_or_nothing(row.dsc), _or_nothing(row.nsd), f"{row.seconds:.2f}"]
        peak = NOTHING if row.peak_bytes is None else bytes_text(row.peak_bytes)
        shown = [Cell(str(row.setting), is_text=True), *map(Cell, figures), Cell(peak)]
        rows.append(shown)
    text = " ".join(_settings_words(table))
    columns = ["Setting", "DSC", "NSD", "Seconds a case", "Memory"]
    return Section("What settings bring and cost", text, [Table(columns, rows)])


def _settings_words(table: SettingsTable) -> Iterator[str]:
    machine = table.machine
    yield f"On {len(table.cases)} held-out cases with {machine.processor}, {machine.cores} cores, {machine.device}."
    if any(row.is_of_one_fold for row in table.rows):
        yield "DSC and NSD are those of one fold, as the others were trained on the case; seconds and memory are of as many as stand there."


def _or_nothing(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"
