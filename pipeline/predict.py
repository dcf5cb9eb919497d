"""Scores for a table of the user's own: each week's risk, whether it is worth an alarm, and what moved it.

A command like the journey, not a stage: it reads a finished run, its result belongs to the user's table, and the run
neither waits for it nor goes stale with it.
"""

import time
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from pydantic import Field, TypeAdapter
from rich.console import Console
from rich.markup import escape

from core.cohort import RISK_CLASSES, Cohort
from core.errors import ConfigError, MissingStageError
from core.protocols import Tracker, risk_score
from generators.sources import DataSettings
from generators.sources.checks import require_distinct
from generators.sources.scored import Scorable, Tally, read_scorable
from generators.sources.scored_layout import Inputs, Layout, layout_of
from pipeline.config import Config, PredictSettings, plain
from pipeline.parts import load_risk
from pipeline.scores_file import beside, refuse_to_replace, write_scores
from pipeline.store import RunStore
from pipeline.terminal.table import Table
from pipeline.tracker import RunTracker
from predictor.dual_lstm import BATCH, DualLSTMRisk
from predictor.explain import batch_drivers

ASKED = ("person", "date", "date_format", "separator", "decimal", "convert")  # settings that stand before the run's
SHOWN = 10  # highest scores on the screen


@dataclass(frozen=True)
class Clock:
    """Seconds that the parts took."""

    reading: float
    scoring: float
    drivers: float


def predict(config: Config, store: RunStore, console: Console) -> list[Path]:
    """Score ``input=`` with the run's risk model, write the scores and say what was found; returns the files written.

    Raises:
        MissingStageError: the run has no risk model. ArtifactError: its files are damaged.
        DataError: the table cannot be scored, or the output is a file that something else wrote.
    """
    assert config.input is not None  # checked with the configuration
    settings, started = config.predict, time.perf_counter()
    if not store.has("risk"):
        raise MissingStageError(
            f"{store.root}: the run has no trained risk model; make it with `{store.command('all')}`"
        )
    model, tracker = load_risk(store), RunTracker(store.root, console)
    torch.set_num_threads(config.wide_threads)
    inputs = Inputs(model.signals, model.scaler, model.encoder)
    layout = layout_for(settings, store, inputs)
    files = [Path(config.input), *([Path(settings.profiles)] if settings.profiles else [])]
    output = Path(settings.output or store.root / "predict" / f"{files[0].stem}.parquet")
    refuse_to_replace(output, files, config.force)
    console.print(
        f"[bold]Manō[/] run [bold]{escape(store.root.name)}[/] scores {escape(config.input)}. "
        "Research simulator, not medical advice."
    )
    latest = settings.weeks == "latest"
    found = read_scorable(config.input, settings.profiles, layout, inputs, latest, settings.min_days, tracker)
    read = time.perf_counter()
    scores = score(model, found)
    scored = time.perf_counter()
    scores = scores.join(drivers(model, found.cohort, settings.drivers, tracker))
    clock = Clock(read - started, scored - read, time.perf_counter() - scored)
    facts = {
        "run": store.root.name,
        "risk_model": store.digest("risk"),
        "alarm": float(model.alarm),
        "settings": plain(settings),
        "rows": len(scores),
        "tally": plain(found.tally),
        "notes": tracker.notes,
    }
    write_scores(output, scores, layout, files, facts, tracker)
    show(console, scores, found.tally, float(model.alarm), settings, output, clock)
    return [output, beside(output)]


def layout_for(settings: PredictSettings, store: RunStore, inputs: Inputs) -> Layout:
    """How the table is written: as the one that the run was trained on, but for what ``predict.*`` says.

    Raises:
        ConfigError: ``predict.columns`` names what the model does not read, or two inputs share a column.
    """
    data = store.manifest("risk")["config"]["data"]
    kind: TypeAdapter[object] = TypeAdapter(Annotated[DataSettings, Field(discriminator="kind")])
    trained = layout_of(kind.validate_python(data))
    asked = {name: getattr(settings, name) for name in ASKED}
    known = [*(signal.name for signal in inputs.signals), *inputs.encoder.columns]
    for name in settings.columns or {}:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "leave it out"
            raise ConfigError(
                f"predict.columns: the model of run '{store.root.name}' reads no '{name}' (it reads {', '.join(known)}); {hint}"
            )
    layout = replace(
        trained,
        **{name: value for name, value in asked.items() if value is not None},
        columns={**trained.columns, **(settings.columns or {})},
    )
    require_distinct([layout.person, layout.date, *map(layout.column, known)], "predict: the columns to read")
    return layout


def score(model: DualLSTMRisk, found: Scorable) -> pd.DataFrame:
    """A row per week: whose, which, how much of it was observed, and what the model makes of it."""
    probabilities = model.predict_cohort(found.cohort)
    low, medium, high = probabilities.T
    return pd.DataFrame(
        {
            "person": found.name,
            "week": found.monday.astype(object),  # dates, not time stamps
            "days_observed": found.days_observed,
            "risk_score": risk_score(torch.from_numpy(probabilities)).numpy(),
            "p_low": low,
            "p_medium": medium,
            "p_high": high,
            "risk_class": np.array(RISK_CLASSES, object)[probabilities.argmax(axis=1)],
            "alarm": high >= float(model.alarm),
        }
    )


def drivers(model: DualLSTMRisk, cohort: Cohort, count: int, tracker: Tracker) -> pd.DataFrame:
    """The ``count`` largest drivers of each row's score: ``driver_1``, ``driver_1_contribution``, ..."""
    most = min(count, len(model.signals) + len(model.encoder.columns))
    if not most:
        return pd.DataFrame(index=range(len(cohort)))
    rows: list[list[tuple[str, float]]] = []
    for start in tracker.track(range(0, len(cohort), BATCH), "drivers of the scores"):
        rows += batch_drivers(model, cohort.select(np.arange(start, min(start + BATCH, len(cohort)))), most)
    columns: dict[str, list[str] | np.ndarray] = {}
    for k in range(most):
        columns[f"driver_{k + 1}"] = [row[k][0] for row in rows]
        columns[f"driver_{k + 1}_contribution"] = np.array([row[k][1] for row in rows], np.float32)
    return pd.DataFrame(columns)


def show(
    console: Console,
    scores: pd.DataFrame,
    tally: Tally,
    alarm: float,
    settings: PredictSettings,
    output: Path,
    clock: Clock,
) -> None:
    """What was scored, what was not and why, the classes, the highest scores, and where they all are."""
    persons = tally.persons - tally.persons_without
    console.print(
        f"  {persons:,} of {tally.persons:,} persons scored, {len(scores):,} of {tally.weeks:,} calendar weeks"
        + (" (each person's latest)" if settings.weeks == "latest" else "")
    )
    for line in left_out(tally, settings.min_days):
        console.print(f"  left out: {escape(line)}")
    counts = scores["risk_class"].value_counts()
    console.print(
        f"  classes: {', '.join(f'{name} {counts.get(name, 0):,}' for name in RISK_CLASSES)}; "
        f"alarms: {int(scores['alarm'].sum()):,} (P(High) of {alarm:.2f} or more)"
    )
    console.print("  highest scores, by their row in the file:")
    console.print(highest(scores))
    took = f"read in {clock.reading:.1f} s, scored in {clock.scoring:.1f} s"
    took += f", drivers in {clock.drivers:.1f} s" if settings.drivers else ""
    rate = persons / (clock.reading + clock.scoring + clock.drivers)
    console.print(f"  {took}: {rate:,.0f} persons/s")
    console.print(f"  {len(scores):,} rows written to {escape(str(output))}", soft_wrap=True)


def left_out(tally: Tally, min_days: int) -> list[str]:
    """Which weeks and persons were not scored, and why."""
    lines = []
    if tally.too_few:
        lines.append(f"{tally.too_few:,} weeks with fewer than {min_days} observed days of a signal (predict.min_days)")
    if tally.lacking:
        signals = ", ".join(f"{name} {count:,}" for name, count in tally.unobserved.items())
        lines.append(f"{tally.lacking:,} weeks in which a signal was never observed ({signals})")
    if tally.earlier:
        lines.append(f"{tally.earlier:,} earlier weeks (predict.weeks=all scores them)")
    if tally.persons_without:
        lines.append(f"{tally.persons_without:,} persons without a week to score")
    return lines


def highest(scores: pd.DataFrame) -> Table:
    """The highest scores, by their row in the file: who a row is stands there, and nowhere else."""
    table = Table(box=None, padding=(0, 1), show_edge=False)
    names = [name for name in scores if name.startswith("driver_") and not name.endswith("_contribution")]
    for column in ("  row", "week", "days", "score", "P(High)", "class", "alarm"):
        table.add_column(column, no_wrap=True)
    if names:
        table.add_column("drivers")
    for row, each in scores.nlargest(SHOWN, "risk_score").iterrows():
        moved = ", ".join(f"{each[name]} {each[f'{name}_contribution']:+.2f}" for name in names)
        table.add_row(
            f"  {int(str(row)) + 1}",
            str(each["week"]),
            str(each["days_observed"]),
            f"{each['risk_score']:.2f}",
            f"{each['p_high']:.2f}",
            each["risk_class"],
            "yes" if each["alarm"] else "no",
            *([escape(moved)] if names else []),
        )
    return table
