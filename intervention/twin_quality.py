"""How good a Twin is: against Trial, on persons it was not trained on."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.patients import Patients
from core.protocols import Dynamics, Outcome, RiskModel, State
from core.random import numpy_generator, stream_keys
from core.settings import Count
from core.treatments import CONTROL, MIN_INTENSITY, TREATMENTS
from envs.rewards import EnvSettings
from envs.simulation import Simulation
from envs.trial import Trial
from intervention.streams import EFFECTS, FORECAST, FORECAST_TRIAL, FORECAST_TWIN, FUTURES, PERSONS, SPEED
from intervention.trials import TrialsSettings, assign_arms
from intervention.twin import Twin, TwinDynamics

ACTIVE = range(CONTROL + 1, len(TREATMENTS))
EFFECT_DOSES = (0.4, 0.8)
EFFECT_WEEKS = (4, 8, 12)
Actions = tuple[Tensor, Tensor]  # treatment int64 and intensity float32, each (B, W)


@dataclass(frozen=True)
class TwinQualitySettings:
    """How much is simulated to score a Twin."""

    courses: Count  # held-out courses for one-week-ahead forecasts
    samples: Count  # sampled weeks per forecast
    persons: Count  # held-out persons of remission; effects take half as many, as arms share their random numbers
    futures: Count  # sampled futures per person for individual effects


def twin_quality(
    twin: Twin,
    trial: Trial,
    patients: Patients,
    risk_model: RiskModel,
    env: EnvSettings,
    design: TrialsSettings,
    settings: TwinQualitySettings,
    seed: int,
) -> dict[str, object]:
    """Score ``twin`` on held-out ``patients`` against ``trial``, which must be built over the same patients.

    Returns (sd = between-person sd of Trial):
        crps_ratio: CRPS one week ahead over that of Trial's own samples, which know the person's latent response.
        coverage_50, coverage_90: share of days inside the central intervals one week ahead.
        effect_error: mean absolute error of the mean shift against Control, over treatments, two doses, signals and
            weeks 4, 8 and 12, open loop; sd. ``effects`` has it by treatment.
        placebo_change: mean absolute difference of the mean course under Control, same weeks; sd.
        person_effect_correlation: predicted with true individual effect over four weeks, after four observed; None where one
            of them is the same for everybody.
        remission_gap: Twin minus Trial, percentage points of persons in remission within the horizon, by policy.
        steps_per_second: environment steps of the Twin at batch 4096.
    """
    dynamics = TwinDynamics(twin, patients)
    return {
        **forecast_quality(dynamics, trial, patients, design, settings, seed),
        **effect_quality(dynamics, trial, patients, settings, seed),
        "person_effect_correlation": person_effects(dynamics, trial, patients, settings, seed),
        "remission_gap": remission_gaps(dynamics, trial, patients, risk_model, env, settings, seed),
        "steps_per_second": speed(dynamics, patients, seed),
    }


# --- one week ahead -------------------------------------------------------------------------------------------------


def forecast_quality(
    dynamics: TwinDynamics,
    trial: Trial,
    patients: Patients,
    design: TrialsSettings,
    settings: TwinQualitySettings,
    seed: int,
) -> dict[str, float]:
    """CRPS ratio and coverage one week ahead along courses that Trial lives and the Twin only watches."""
    rng = numpy_generator(seed, "twin", "forecast")
    rows = torch.from_numpy(rng.integers(len(patients), size=settings.courses))
    arms = assign_arms(_with_courses(design, settings.courses), rng)
    treatment, intensity = torch.from_numpy(arms[0]), torch.from_numpy(arms[1])
    ids = torch.arange(settings.courses)
    truth, watched = trial.start(rows, ids), dynamics.start(rows, ids)
    crps_twin, crps_trial, ranks = [], [], []
    for week in range(treatment.shape[1]):
        action = treatment[:, week], intensity[:, week]
        after, outcome = trial.step(truth, *action, stream_keys(seed, FORECAST, ids, week))
        if week % 3 == 1:  # weeks 2, 5, 8, 11: a fair spread at a third of the price
            mine = _samples(dynamics, watched, action, settings.samples, stream_keys(seed, FORECAST_TWIN, ids, week))
            own = _samples(trial, truth, action, settings.samples, stream_keys(seed, FORECAST_TRIAL, ids, week))
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


def _with_courses(design: TrialsSettings, courses: int) -> TrialsSettings:
    return TrialsSettings(**{**vars(design), "courses": courses})


# --- effects --------------------------------------------------------------------------------------------------------


def rollout(
    dynamics: Dynamics, rows: Tensor, actions: Actions, keys: Tensor, state: State | None = None
) -> list[Outcome]:
    """The weeks of an open loop under given actions, from the baseline or from ``state``."""
    state = dynamics.start(rows, keys) if state is None else state
    outcomes = []
    for week in range(actions[0].shape[1]):
        state, outcome = dynamics.step(state, actions[0][:, week], actions[1][:, week], stream_keys(keys, week))
        outcomes.append(outcome)
    return outcomes


def constant(treatment: int, intensity: float, persons: int, weeks: int) -> Actions:
    return torch.full((persons, weeks), treatment), torch.full((persons, weeks), intensity)


def effect_quality(
    dynamics: TwinDynamics, trial: Trial, patients: Patients, settings: TwinQualitySettings, seed: int
) -> dict[str, object]:
    """Mean effects and natural history, measured on the sampled days; arms share their random numbers."""
    rng = numpy_generator(seed, "twin", "effects")
    rows = torch.from_numpy(rng.integers(len(patients), size=settings.persons // 2))
    keys = stream_keys(seed, EFFECTS, torch.arange(len(rows)))

    def course(of: Dynamics, treatment: int, intensity: float) -> Tensor:
        """Mean over persons at the weeks looked at ``[3, C]``, in sd."""
        outcomes = rollout(of, rows, constant(treatment, intensity, len(rows), max(EFFECT_WEEKS)), keys)
        return torch.stack([outcomes[week - 1].week.mean(dim=(0, 1)) for week in EFFECT_WEEKS]) / trial.between

    control = course(dynamics, CONTROL, 0.0), course(trial, CONTROL, 0.0)
    errors = {}
    for treatment in ACTIVE:
        shifts = [
            (course(dynamics, treatment, dose) - control[0]) - (course(trial, treatment, dose) - control[1])
            for dose in EFFECT_DOSES
        ]
        errors[TREATMENTS[treatment]] = float(torch.stack(shifts).abs().mean())
    return {
        "effect_error": float(np.mean(list(errors.values()))),
        "effects": errors,
        "placebo_change": float((control[0] - control[1]).abs().mean()),
    }


def person_effects(
    dynamics: TwinDynamics, trial: Trial, patients: Patients, settings: TwinQualitySettings, seed: int
) -> float | None:
    """Correlation over persons, averaged over treatments, of predicted with true benefit over four weeks; None where
    either is the same for everybody.

    A person has lived four weeks under the treatment, which the Twin has watched; the benefit is what four more bring
    against stopping, summed over signals in their healthy direction and sd.
    """
    rng = numpy_generator(seed, "twin", "persons")
    rows = torch.from_numpy(rng.integers(len(patients), size=settings.persons // 2))
    keys = stream_keys(seed, PERSONS, torch.arange(len(rows)))
    better = torch.tensor([float(signal.better) for signal in patients.signals]) / trial.between
    many = rows.repeat(settings.futures)
    future_keys = stream_keys(seed, FUTURES, torch.arange(len(many)))
    found = []
    for treatment in ACTIVE:
        truth, watched = trial.start(rows, keys), dynamics.start(rows, keys)
        on = constant(treatment, 0.7, len(many), 4)
        off = constant(CONTROL, 0.0, len(many), 4)
        for week in range(4):
            action = on[0][: len(rows), week], on[1][: len(rows), week]
            truth, outcome = trial.step(truth, *action, stream_keys(keys, week))
            watched = dynamics.observe(watched, *action, outcome.week, outcome.adverse)
        copies = {name: torch.cat([value] * settings.futures) for name, value in watched.items()}
        kept, left = (
            torch.stack([o.level for o in rollout(dynamics, many, plan, future_keys, copies)]) for plan in (on, off)
        )
        predicted = ((kept - left).mean(dim=0) @ better).view(settings.futures, -1).mean(dim=0)
        true_on = trial.expected_levels(truth, on[0][: len(rows), 0], on[1][: len(rows), 0], 4)
        true_off = trial.expected_levels(truth, off[0][: len(rows), 0], off[1][: len(rows), 0], 4)
        actual = (true_on - true_off).mean(dim=1) @ better
        found.append(correlation(predicted, actual))
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if len(known) == len(found) else None


def correlation(x: Tensor, y: Tensor) -> float | None:
    """Pearson's correlation of ``[N]`` with ``[N]``; None where one of them does not vary."""
    if bool((x == x[0]).all() | (y == y[0]).all()):
        return None
    return float(torch.corrcoef(torch.stack([x, y]))[0, 1])


# --- remission ------------------------------------------------------------------------------------------------------


def policies(persons: int, weeks: int, rng: np.random.Generator) -> dict[str, Actions]:
    """Simple plans that need no observation."""
    plans = {TREATMENTS[a]: constant(a, 0.6 if a != CONTROL else 0.0, persons, weeks) for a in range(len(TREATMENTS))}
    step = torch.clamp(torch.arange(weeks) // 3 + 1, max=len(TREATMENTS) - 1)
    plans["stepped"] = step.expand(persons, weeks).clone(), torch.full((persons, weeks), 0.6)
    treatment = rng.integers(len(TREATMENTS), size=(persons, weeks))
    plans["random"] = torch.from_numpy(treatment), torch.from_numpy(rng.uniform(0.1, 1.0, treatment.shape)).float()
    return plans


def remission_gaps(
    dynamics: TwinDynamics,
    trial: Trial,
    patients: Patients,
    risk_model: RiskModel,
    env: EnvSettings,
    settings: TwinQualitySettings,
    seed: int,
) -> dict[str, float]:
    """Percentage points by which remission within the horizon differs between Twin and Trial, by policy."""
    rng = numpy_generator(seed, "twin", "remission")
    first = int(rng.integers(2**31))  # seeds of neighbouring runs would share environments
    gaps = {}
    for name, plan in policies(settings.persons, env.horizon, rng).items():
        shares = []
        for of in (dynamics, trial):
            simulation = Simulation(patients, of, risk_model, env, settings.persons, first)
            simulation.reset()
            ended = torch.zeros(settings.persons, dtype=torch.bool)
            for week in range(env.horizon):
                ended |= simulation.step(plan[0][:, week], plan[1][:, week].clamp(min=MIN_INTENSITY)).terminated
            shares.append(float(ended.float().mean()))
        gaps[name] = 100 * (shares[0] - shares[1])
    return gaps


def speed(dynamics: TwinDynamics, patients: Patients, seed: int, batch: int = 4096) -> float:
    """Environment steps a second over one 12-week course."""
    rows = torch.arange(batch) % len(patients)
    plan = constant(1, 0.5, batch, max(EFFECT_WEEKS))
    began = time.perf_counter()
    rollout(dynamics, rows, plan, stream_keys(seed, SPEED, torch.arange(batch)))
    return batch * max(EFFECT_WEEKS) / (time.perf_counter() - began)
