"""What Trial implies in words and tables of at most 100 columns, plain where the output is no terminal."""

from collections.abc import Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.text import Text

from core.signals import Signal
from core.treatments import CONTROL, LABELS, TREATMENTS
from envs.rewards import EnvSettings
from intervention.trial_effects import (
    Arms,
    Course,
    Effect,
    effects,
    gain,
    left_after,
    onset,
    plateau,
)
from pipeline.console import sparkline
from pipeline.terminal.table import Table, paragraph

WEEKS, EFFECT_WEEK = 12, 8  # of the simulation, and at which effects are read off
DOSES = tuple(round(0.1 * k, 1) for k in range(1, 11))
SHOWN_DOSES = (0.25, 0.5, 0.75, 1.0)
REFERENCE_DOSE = 0.5  # set beside what was published: studies give the usual dose
ONSET_WEEKS = (1, 2, 4, 8, 12)
STOP = 8  # week after which the wash-out arms are untreated
PER_HOUR = 60.0  # min
ACTIVE = range(CONTROL + 1, len(TREATMENTS))


def new_table(title: str, columns: Sequence[str], padding: int = 1) -> Table:
    """A table whose first column is words and whose others are numbers."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, padding, 0, 0),
    )
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def with_caption(table: Table, *captions: str) -> Group:
    """A table and what must be known to read it."""
    return Group(table, *map(paragraph, captions))


def effect_table(arms: Arms) -> Group:
    """Effects at 8 weeks by treatment and dose: standardised, and in the signal's unit."""
    headers = [f"{signal.name.replace('_', ' ')}\nd ({unit(signal)})" for signal in arms.patients.signals]
    caption = (
        "Treated minus Control. d (Cohen): by the pooled sd of the patients' true levels at that week, free of day-to-day "
        "noise, hence larger than a study with noisy measures would find; risk score: by the sd of the scores."
    )
    table = new_table(
        f"Effects at {EFFECT_WEEK} weeks, mean of the true levels", ["dose", *headers, "risk score\nd (points)"]
    )
    for treatment in ACTIVE:
        for dose in SHOWN_DOSES:
            found = effects(arms, arms.treated[treatment, dose], EFFECT_WEEK)
            cells = [both(found[signal.name], signal) for signal in arms.patients.signals]
            label = LABELS[treatment] if dose == SHOWN_DOSES[0] else ""
            table.add_row(label, f"{dose:g}", *cells, both(found["risk"], None))
        table.add_section()
    return with_caption(table, caption)


def unit(signal: Signal) -> str:
    return "min" if signal.unit == "h" else signal.unit


def both(found: Effect, signal: Signal | None) -> str:
    """d and the difference in its unit: ``-0.41 (-0.52)``."""
    if signal is not None and signal.unit == "h":
        return f"{found.d:+.2f} ({PER_HOUR * found.difference:+.0f})"
    return f"{found.d:+.2f} ({found.difference:+.2f})"


def dose_table(arms: Arms) -> Group:
    """The fall of the risk score against Control by dose: where it is flat, where it turns."""
    caption = "Flat from: the first dose with 95 % of the best effect. At 1: how much of the best is left there."
    headers = [*(dropped(f"{dose:.1f}") for dose in DOSES), "", "flat\nfrom", "best\nat", "at 1"]
    table = new_table(f"Dose and fall of the risk score at {EFFECT_WEEK} weeks, against Control", headers, padding=0)
    for treatment in ACTIVE:
        curve = [-effects(arms, arms.treated[treatment, dose], EFFECT_WEEK)["risk"].difference for dose in DOSES]
        found = plateau(curve, DOSES)
        shape = ["n/a"] * 3 if found is None else [f"{found[0]:g}", f"{found[1]:g}", f"{found[2]:.0%}"]
        spark = sparkline(np.array(curve), 0.0, max(*curve, 1e-9))
        table.add_row(LABELS[treatment], *(dropped(f"{value:.3f}") for value in curve), spark, *shape)
    return with_caption(table, caption)


def dropped(text: str) -> str:
    """A number without its leading zero: ``.25``, ``-.25``."""
    return text.replace("0.", ".", 1) if text.lstrip("+-").startswith("0.") else text


def onset_table(arms: Arms) -> Group:
    """How fast the gain comes, and how fast it goes."""
    caption = f"Gain of the true level at dose {REFERENCE_DOSE:g}, mean over signals in between-person sd. More than 100%: past its peak."
    headers = [*(f"week {week}" for week in ONSET_WEEKS), f"left {WEEKS - STOP} weeks after\nstopping at week {STOP}"]
    table = new_table(f"Onset: share of the {WEEKS}-week effect that is there", headers)
    for treatment in ACTIVE:
        shares = onset(gain(arms, arms.treated[treatment, REFERENCE_DOSE])[:WEEKS], ONSET_WEEKS)
        left = left_after(gain(arms, arms.stopped[treatment]), STOP, WEEKS - STOP)
        cells = ["n/a"] * len(ONSET_WEEKS) if shares is None else [f"{share:.0%}" for share in shares]
        table.add_row(LABELS[treatment], *cells, "n/a" if left is None else f"{left:.0%}")
    return with_caption(table, caption)


def remission_table(arms: Arms) -> Table:
    table = new_table(f"Remission within {WEEKS} weeks", [f"dose {dose:g}" for dose in SHOWN_DOSES])
    for treatment in ACTIVE:
        table.add_row(LABELS[treatment], *(share(arms.treated[treatment, dose]) for dose in SHOWN_DOSES))
    table.add_row(LABELS[CONTROL], share(arms.control))
    return table


def share(course: Course) -> str:
    return f"{course.remitted[WEEKS - 1].double().mean():.1%}"


def recovered(arms: Arms) -> float:
    """The share of the untreated whose risk score in the last week is too low to be in care: cases no longer."""
    return float((arms.control.risk[WEEKS - 1] < arms.min_risk).double().mean())


def natural_history(arms: Arms, env: EnvSettings) -> Group:
    """What becomes of the untreated: their mean risk, who would no longer be taken into care, who remits."""
    control = arms.control
    risks = ", ".join(f"{control.risk[week - 1].mean():.2f}" for week in ONSET_WEEKS)
    first = float((control.risk[0] < arms.min_risk).double().mean())
    lines = (
        f"Untreated: mean risk score {control.before.mean():.2f} before, {risks} after {', '.join(map(str, ONSET_WEEKS))} weeks. "
        f"Below {arms.min_risk:g}, the score from which a person is in care: {first:.0%} in week 1 (by luck: they were chosen for a "
        f"bad week), {recovered(arms):.0%} in week {WEEKS}. Remission here asks for more, {env.remission_weeks} weeks running "
        f"below {env.remission_threshold:g}: {share(control)}."
    )
    return Group(Text("Natural history", style="bold"), paragraph(lines))
