"""How good a Twin is: against Trial, on persons it was not trained on.

Every course is lived by a person of its own: held-out persons are drawn with replacement, and each draw has a latent
response of its own (``trials.enrol``), so that what few persons happen to respond to is not taken for the Twin's error.
"""

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from core.patients import Patients
from core.protocols import Dynamics, RiskModel, State
from core.random import numpy_generator, stream_keys
from core.settings import Count
from core.treatments import CONTROL, TREATMENTS
from envs.rewards import EnvSettings
from envs.simulation import Simulation
from envs.trial import Trial
from intervention.baselines import Constant, Memoryless, Policy, Random, SteppedCare, SteppedCareSettings
from intervention.rollouts import Actions, constant, rollout
from intervention.streams import ACTIONS, FORECAST, FORECAST_TRIAL, FORECAST_TWIN, SPEED
from intervention.trials import TrialsSettings, assign_arms, enrol
from intervention.twin import Twin, TwinDynamics
from intervention.twin_effects import MakeTrial, effect_quality, person_effects

STEPPED = SteppedCareSettings(weeks=3, response=0.05, intensity=0.6)


@dataclass(frozen=True)
class TwinQualitySettings:
    """How much is simulated to score a Twin."""

    courses: Count  # held-out courses for one-week-ahead forecasts
    samples: Count  # sampled weeks per forecast
    persons: (
        Count  # held-out courses per policy of remission; half as many per arm of mean effects, whose luck is shared
    )
    persons_watched: Count  # held-out persons of individual effects, per treatment
    histories: Count  # other persons on whom the ceiling of individual effects is fitted, per treatment
    futures: Count  # sampled futures per person for individual effects


def twin_quality(
    twin: Twin,
    make_trial: MakeTrial,
    held_out: Patients,
    others: Patients,
    risk_model: RiskModel,
    env: EnvSettings,
    design: TrialsSettings,
    settings: TwinQualitySettings,
    seed: int,
) -> dict[str, object]:
    """Score ``twin`` on ``held_out`` patients against the Trial that ``make_trial`` builds over them; ``others``, whom the
    Twin was trained on, serve the ceiling of individual effects.

    Returns the numbers of ``forecast_quality``, ``effect_quality``, ``person_effects`` and ``remission_gaps``, and
    steps_per_second, environment steps of the Twin at batch 4096 without the risk model.
    """
    rng = numpy_generator(seed, "twin", "quality")
    people = enrol(held_out, rng.integers(len(held_out), size=max(settings.persons, settings.courses)))
    dynamics, trial = TwinDynamics(twin, people), make_trial(people)
    gaps = remission_gaps(dynamics, trial, risk_model, env, settings.persons, seed)
    watched = settings.persons_watched, settings.histories, settings.futures
    return {
        **forecast_quality(dynamics, trial, design, settings.courses, settings.samples, seed),
        **effect_quality(dynamics, trial, max(settings.persons // 2, 1), seed),
        **person_effects(twin, make_trial, held_out, others, *watched, seed),
        **gaps,
        "steps_per_second": speed(dynamics, people, seed),
    }


# --- one week ahead -------------------------------------------------------------------------------------------------


def forecast_quality(
    dynamics: TwinDynamics, trial: Trial, design: TrialsSettings, courses: int, samples: int, seed: int
) -> dict[str, float]:
    """One week ahead, along courses that Trial lives and the Twin only watches.

    Returns:
        crps_ratio: CRPS over that of Trial's own samples, which know the person's latent response.
        coverage_50, coverage_90: share of days inside the central intervals.
    """
    rng = numpy_generator(seed, "twin", "forecast")
    rows = torch.arange(courses)
    arms = assign_arms(replace(design, courses=courses), rng)
    treatment, intensity = torch.from_numpy(arms[0]), torch.from_numpy(arms[1])
    truth, watched = trial.start(rows, rows), dynamics.start(rows, rows)
    crps_twin, crps_trial, ranks = [], [], []
    for week in range(treatment.shape[1]):
        action = treatment[:, week], intensity[:, week]
        after, outcome = trial.step(truth, *action, stream_keys(seed, FORECAST, rows, week))
        if week % 3 == 1:  # weeks 2, 5, 8, 11: a fair spread at a third of the price
            mine = _samples(dynamics, watched, action, samples, stream_keys(seed, FORECAST_TWIN, rows, week))
            own = _samples(trial, truth, action, samples, stream_keys(seed, FORECAST_TRIAL, rows, week))
            crps_twin.append(crps(mine, outcome.week) / trial.within)
            crps_trial.append(crps(own, outcome.week) / trial.within)
            ranks.append(_rank(mine, outcome.week, rng))
        truth = after
        watched = dynamics.observe(watched, *action, outcome.week, outcome.adverse)
    rank = torch.stack(ranks)
    return {
        "crps_ratio": float(torch.stack(crps_twin).mean() / torch.stack(crps_trial).mean()),
        "coverage_50": float(((rank > 0.25) & (rank < 0.75)).float().mean()),
        "coverage_90": float(((rank > 0.05) & (rank < 0.95)).float().mean()),
    }


def crps(samples: Tensor, truth: Tensor) -> Tensor:
    """Continuous ranked probability score of ``samples`` ``[S, ...]`` for ``truth`` ``[...]``, unbiased in S (Gneiting
    & Raftery 2007, doi 10.1198/016214506000001437): E|x - y| - E|x - x'| / 2."""
    s = len(samples)
    weight = 2 * torch.arange(1, s + 1, dtype=samples.dtype) - s - 1
    spread = torch.tensordot(weight, samples.sort(dim=0).values, dims=1) / (s * (s - 1))  # E|x - x'| / 2
    return (samples - truth).abs().mean(dim=0) - spread


def _rank(samples: Tensor, truth: Tensor, rng: np.random.Generator) -> Tensor:
    """Where ``truth`` falls among ``samples`` ``[S, ...]``, in (0, 1): uniform if both have one law, ties split at random."""
    below = (samples < truth).sum(dim=0)
    ties = (samples == truth).sum(dim=0) + 1
    return (below + ties * torch.from_numpy(rng.uniform(size=truth.shape))) / (len(samples) + 1)


def _samples(dynamics: Dynamics, state: State, action: Actions, samples: int, keys: Tensor) -> Tensor:
    """``[S, B, 7, C]`` weeks that could follow."""
    weeks = [dynamics.step(state, *action, stream_keys(keys, s))[1].week for s in range(samples)]
    return torch.stack(weeks)


# --- remission ------------------------------------------------------------------------------------------------------


class Plan(Memoryless):
    """Actions ``[W]`` fixed beforehand, the same for everybody."""

    def __init__(self, treatment: list[int], intensity: list[float]) -> None:
        self.treatment, self.intensity = treatment, intensity

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        week, b = int(simulation.week[0]), len(observation)
        return torch.full((b,), self.treatment[week]), torch.full((b,), self.intensity[week])


def remission_policies(weeks: int) -> dict[str, Policy]:
    """Eleven: none, each treatment kept, one at full dose, changes on a plan, changes by chance, and one that reacts."""
    kept = {f"{TREATMENTS[a]}_0.6": Constant(a, 0.6) for a in range(CONTROL + 1, len(TREATMENTS))}
    ladder = [min(week // 3 + 1, len(TREATMENTS) - 1) for week in range(weeks)]
    pauses = [2 if week % 4 < 2 else CONTROL for week in range(weeks)]
    turns = [2 + week % 2 for week in range(weeks)]  # as trained agents like to do
    return {
        "none": Constant(CONTROL, 0.0),
        **kept,
        "exercise_1": Constant(3, 1.0),
        "ladder": Plan(ladder, [0.6] * weeks),
        "pauses": Plan(pauses, [0.8] * weeks),
        "turns": Plan(turns, [0.6] * weeks),
        "random": Random(),
        "stepped_care": SteppedCare(STEPPED),
    }


def remission_gaps(
    dynamics: TwinDynamics,
    trial: Trial,
    risk_model: RiskModel,
    env: EnvSettings,
    persons: int,
    seed: int,
) -> dict[str, object]:
    """Percentage points by which remission within the horizon differs between Twin and Trial.

    Returns:
        remission_gap: Twin minus Trial, by policy. remission_gap_luck: the largest standard error of such a difference;
            of eleven differences that are nothing but luck, the largest is about 1.7 of it.
    """
    first = int(
        numpy_generator(seed, "twin", "remission").integers(2**31)
    )  # neighbouring runs would share environments
    gaps, variances = {}, []
    for name, policy in remission_policies(env.horizon).items():
        shares = [
            _remission(policy, Simulation(trial.patients, of, risk_model, env, persons, first), seed)
            for of in (dynamics, trial)
        ]
        gaps[name] = 100 * (shares[0] - shares[1])
        variances.append(sum(share * (1 - share) for share in shares) / persons)
    return {"remission_gap": gaps, "remission_gap_luck": 100 * math.sqrt(max(variances))}


def _remission(policy: Policy, simulation: Simulation, seed: int) -> float:
    """Share of the simulation's persons, one course each, in remission within the horizon."""
    rows = torch.arange(simulation.num_envs)
    observation = simulation.reset(rows=rows)
    policy.reset(simulation, rows)
    ended = torch.zeros(len(rows), dtype=torch.bool)
    for week in range(simulation.settings.horizon):
        action = policy.act(simulation, observation, stream_keys(seed, ACTIONS, rows, week))
        step = simulation.step(*action)
        policy.observe(simulation, action, step)
        observation, ended = step.observation, ended | step.terminated
    return float(ended.float().mean())


def speed(dynamics: TwinDynamics, patients: Patients, seed: int, batch: int = 4096) -> float:
    """Environment steps a second over one 12-week course."""
    rows = torch.arange(batch) % len(patients)
    plan = constant(1, 0.5, batch, 12)
    began = time.perf_counter()
    rollout(dynamics, rows, plan, stream_keys(seed, SPEED, torch.arange(batch)))
    return batch * 12 / (time.perf_counter() - began)
