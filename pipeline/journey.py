"""One patient walked through: who they are, their week, their risk, what the policy prescribes, what follows."""

import numpy as np
import torch
from rich.console import Console

from core.cohort import RISK_CLASSES
from core.errors import DataError
from core.patients import Patients
from core.treatments import CONTROL
from envs.rewards import EnvSettings
from envs.simulation import Simulation
from pipeline.config import Config
from pipeline.console import policy_table
from pipeline.journey_text import (
    Week,
    course_table,
    days_table,
    drivers_line,
    facts,
    prescription,
    profile_line,
    risk_line,
    sum_line,
)
from pipeline.parts import load_agent, load_risk, load_twin, section, synthetic_patients, twin_world
from pipeline.store import RunStore
from predictor.explain import attributions


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
    risk = load_risk(store)
    why = attributions(risk, patients.features[row : row + 1], patients.week[row : row + 1])
    record = patients.profiles.iloc[row]
    console.print(f"\n[bold]Patient {patients.ids[row]}[/] of the synthetic cohort")
    console.print(
        facts(
            {
                "profile": profile_line(record),
                "risk before": risk_line(before),
                "made up of": sum_line(why),
                "driven by": drivers_line(risk.signals, risk.encoder.columns, record, why),
                "prescription": f"{prescription(first)} for week 1",
            }
        )
    )
    console.print(days_table(patients.signals, before, first, why))
    console.print(facts({"risk after": risk_line(first)}))
    console.print(course_table(weeks))
    ending = "remission" if last.remission else "the end of the course"
    console.print(
        f"  {ending} in week {len(weeks) - 1}: risk {before.risk:.2f} -> {last.risk:.2f}, as the Twin simulates it"
    )
    if store.has("evaluate"):
        console.print()
        console.print(policy_table(store.metrics("evaluate")))
