"""One patient walked through: who they are, their week, their risk, what the policy prescribes, what follows."""

from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.cohort import RISK_CLASSES
from core.errors import DataError
from core.patients import Patients
from core.signals import WEEKDAYS
from core.treatments import CONTROL, LABELS
from envs.rewards import EnvSettings
from envs.simulation import Simulation
from pipeline.config import Config
from pipeline.console import policy_table, sparkline
from pipeline.parts import load_agent, load_risk, load_twin, section, synthetic_patients, twin_world
from pipeline.store import RunStore
from predictor.explain import top_drivers

DRIVERS = 4  # of the risk score, named in the journey


@dataclass(frozen=True)
class Week:
    """One week of the journey; week 0 is the one before treatment."""

    treatment: int
    intensity: float
    risk: float
    probabilities: list[float]
    days: np.ndarray  # (7, C)
    adverse: bool
    remission: bool


def walk(config: Config, store: RunStore) -> tuple[Patients, int, list[Week]]:
    """The patients in care, the row of the one followed, and their weeks under the policy in the Twin."""
    env = section(store, "trials", "env", EnvSettings)
    patients, risk = synthetic_patients(store, env), load_risk(store)
    world = twin_world(patients, risk, load_twin(store), env)
    agent = load_agent(store)
    simulation = Simulation(patients, world.dynamics, risk, env, num_envs=1, seed=config.seed)
    row = choose_patient(config, store, patients)
    observation = simulation.reset(rows=torch.tensor([row]))
    weeks = [_week(simulation, CONTROL, 0.0, False)]
    done = False
    while not done:
        treatment, intensity = agent.act(observation)
        step = simulation.step(treatment, intensity)
        observation = step.observation
        done = bool(step.terminated[0] | step.truncated[0])
        weeks.append(_week(simulation, int(treatment[0]), float(step.info["intensity"][0]), bool(step.terminated[0])))
    return patients, row, weeks


def _week(simulation: Simulation, treatment: int, intensity: float, remission: bool) -> Week:
    info = simulation.info()
    return Week(
        treatment,
        intensity,
        float(info["risk"][0]),
        info["probabilities"][0].tolist(),
        simulation.days[0].numpy(),
        bool(info["adverse"][0]),
        remission,
    )


def choose_patient(config: Config, store: RunStore, patients: Patients) -> int:
    """The row of ``patient=``, or of the first of high risk.

    Raises:
        DataError: that person's risk is too low for treatment, or there is no such person.
    """
    cohort = store.cohort("cohort")
    if config.patient is None:
        assert cohort.risk is not None
        high = np.flatnonzero(cohort.risk[patients.ids] == len(RISK_CLASSES) - 1)
        return int(high[0]) if len(high) else 0
    if config.patient >= len(cohort):
        raise DataError(
            f"patient={config.patient}: the cohort of run '{store.root.name}' has patients 0 to {len(cohort) - 1}"
        )
    if config.patient not in patients.ids:
        nearest = int(patients.ids[np.argmin(np.abs(patients.ids - config.patient))])
        raise DataError(
            f"patient={config.patient} is not in care: the risk score of their week is below env.min_risk; "
            f"the nearest in care is patient={nearest}"
        )
    return patients.row_of(config.patient)


def show_journey(config: Config, store: RunStore, console: Console) -> None:
    """Print the journey and, where the policies were evaluated, their table."""
    patients, row, weeks = walk(config, store)
    before, first, last = weeks[0], weeks[1], weeks[-1]
    console.print(f"\n[bold]Patient {patients.ids[row]}[/] of the synthetic cohort")
    console.print("  " + escape(profile_line(patients, row)))
    console.print(f"  risk before  {risk_line(before)}")
    drivers = top_drivers(load_risk(store), patients.features[row], patients.week[row], DRIVERS)
    console.print(f"  driven by    {escape(', '.join(f'{readable(name)} {change:+.2f}' for name, change in drivers))}")
    console.print(f"  prescription [bold]{prescription(first)}[/] for week 1")
    console.print(days_table(patients, before, first))
    console.print(f"  risk after   {risk_line(first)}")
    console.print(course_table(weeks))
    ending = "remission" if last.remission else "the end of the course"
    console.print(
        f"  {ending} in week {len(weeks) - 1}: risk {before.risk:.2f} -> {last.risk:.2f}, as the Twin simulates it"
    )
    if store.has("evaluate"):
        console.print()
        console.print(policy_table(store.metrics("evaluate")))


def readable(name: str) -> str:
    return name.replace("_", " ")


def profile_line(patients: Patients, row: int) -> str:
    record = patients.profiles.iloc[row]
    values = {readable(str(name)): value for name, value in record.items()}
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def risk_line(week: Week) -> str:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(RISK_CLASSES, week.probabilities, strict=True))
    return f"{week.risk:.2f} ({shares})"


def prescription(week: Week) -> str:
    return LABELS[week.treatment] if week.treatment == CONTROL else f"{LABELS[week.treatment]} at {week.intensity:.0%}"


def days_table(patients: Patients, before: Week, after: Week) -> Table:
    """Each signal's week before and in week 1, as sparklines on one scale, with the means."""
    table = Table(box=None, padding=(0, 2), show_edge=False)
    table.add_column("  signal", no_wrap=True)
    table.add_column(f"week before ({WEEKDAYS[0]}-{WEEKDAYS[-1]})")
    table.add_column("week 1 (simulated)")
    table.add_column("mean", justify="right")
    for k, signal in enumerate(patients.signals):
        both = np.concatenate([before.days[:, k], after.days[:, k]])
        low, high = both.min(), both.max()
        table.add_row(
            escape(f"  {readable(signal.name)} ({signal.unit})"),
            sparkline(before.days[:, k], low, high),
            sparkline(after.days[:, k], low, high),
            f"{before.days[:, k].mean():.1f} -> {after.days[:, k].mean():.1f}",
        )
    return table


def course_table(weeks: list[Week]) -> Table:
    """The whole course, a row a week."""
    table = Table(box=None, padding=(0, 2), show_edge=False)
    for column in ("  week", "prescription", "risk", ""):
        table.add_column(column)
    for index, week in enumerate(weeks):
        note = "adverse event" if week.adverse else "remission" if week.remission else ""
        given = "before treatment" if index == 0 else prescription(week)
        table.add_row(f"  {index}", given, f"{week.risk:.2f} {'█' * round(20 * week.risk)}", note)
    return table
