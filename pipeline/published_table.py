"""Published values beside what Trial implies."""

from collections.abc import Sequence

from rich.console import Group

from core.treatments import CONTROL, LABELS, TREATMENTS
from intervention.trial_effects import NEAR, Arms, Course, Finding, compare, effects
from pipeline.trial_table import (
    EFFECT_WEEK,
    PER_HOUR,
    REFERENCE_DOSE,
    SHOWN_DOSES,
    WEEKS,
    dropped,
    new_table,
    with_caption,
)

MARKS = {"risk": " *", "recovered": " †"}
COLOURS = {"within": "green", "near": "yellow", "outside": "bold red"}


def published_table(arms: Arms, findings: Sequence[Finding]) -> Group:
    """Every published value beside Trial's at the reference dose, with its standard error, and a verdict."""
    measured = {signal.name for signal in arms.patients.signals} | {"risk", "recovered"}
    missing = [finding.outcome for finding in findings if finding.measure not in measured]
    caption = (
        f"Trial: treated minus Control in week {EFFECT_WEEK} at dose {REFERENCE_DOSE:g}, ± 1.96 standard errors. Near: off by {NEAR:.0%} of "
        f"the published value at most. * depression beside the risk score: a stand-in, for orientation. † no longer "
        f"depressed, beside a risk score below {arms.min_risk:g}, from which a person is in care, in week {WEEKS}."
    )
    shown = [finding for finding in findings if finding.measure in measured]
    sources = list(dict.fromkeys(f"{finding.source} ({finding.weeks})" for finding in shown))
    numbered = "; ".join(f"[{number}] {source}" for number, source in enumerate(sources, 1))
    captions = [caption, f"Sources (weeks of treatment): {numbered}."]
    captions += [f"Left out, as this run has no such signal: {', '.join(missing)}."] if missing else []
    table = new_table("Beside what was published", ("published", "", "Trial", "doses\n.25 to 1"), padding=0)
    table.add_column("verdict", no_wrap=True)
    table.add_column("source", justify="right", no_wrap=True)
    before = None
    for finding in shown:
        if finding.treatment != before:
            table.add_row(f"[bold]{LABELS[TREATMENTS.index(finding.treatment)]}[/]")
            before = finding.treatment
        number = sources.index(f"{finding.source} ({finding.weeks})") + 1
        table.add_row(*published_row(arms, finding), str(number))
    return with_caption(table, *captions)


def published_row(arms: Arms, finding: Finding) -> list[str]:
    treatment = TREATMENTS.index(finding.treatment)
    reference = arms.control if treatment == CONTROL else arms.treated[treatment, REFERENCE_DOSE]
    value, error = measure(arms, reference, finding)
    doses = [] if treatment == CONTROL else [measure(arms, arms.treated[treatment, u], finding)[0] for u in SHOWN_DOSES]
    verdict, miss = compare(finding, value)
    off = "" if verdict == "within" else f", {written(abs(miss), finding.metric, signed=False)} off"
    return [
        finding.outcome + MARKS.get(finding.measure, ""),
        as_published(finding),
        "%" if finding.metric == "share" else finding.metric,
        f"{written(value, finding.metric)} ± {written(1.96 * error, finding.metric, signed=False)}",
        f"{written(min(doses), finding.metric)}..{written(max(doses), finding.metric)}" if doses else "",
        f"[{COLOURS[verdict]}]{verdict}[/]{off}",
    ]


def measure(arms: Arms, course: Course, finding: Finding) -> tuple[float, float]:
    """Trial's value of what was published, in its metric, and the standard error."""
    if finding.measure == "recovered":
        below = (course.risk[WEEKS - 1] < arms.min_risk).double().view(-1, arms.units).mean(dim=0)
        return float(below.mean()), float(below.std()) / arms.units**0.5
    found = effects(arms, course, EFFECT_WEEK)[finding.measure]
    if finding.metric == "d":
        return found.d, found.error / found.sd
    scale = PER_HOUR if finding.metric == "min" else 1.0
    return scale * found.difference, scale * found.error


def as_published(finding: Finding) -> str:
    value = "" if finding.value is None else written(finding.value, finding.metric)
    if finding.low is None or finding.high is None:
        return value
    low, high = written(finding.low, finding.metric), written(finding.high, finding.metric)
    return f"{value} ({low}, {high})".strip()


def written(value: float, metric: str, signed: bool = True) -> str:
    """A value in its metric; shares in per cent, standardised ones without the leading zero."""
    if metric == "share":
        return f"{100 * value:.0f}"
    text = f"{value:+.2f}" if metric == "d" else f"{value:+.1f}"
    text = text if signed else text.lstrip("+-")
    return dropped(text) if metric == "d" else text
