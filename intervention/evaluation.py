"""How good a policy is: courses of held-out patients in Trial, the same luck for every policy, intervals by patient."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
from annotated_types import Ge, Gt, Le, Lt, MinLen
from torch import Tensor

from core.patients import Patients
from core.protocols import Tracker
from core.random import stream_keys
from core.settings import Count
from envs.simulation import Simulation, Step
from intervention.baselines import Action, Dose, Policy, SteppedCareSettings
from intervention.streams import ACTIONS

EPISODE_COLUMNS = (
    "policy", "seed", "patient", "week", "treatment", "intensity", "risk", "reward", "adverse_event", "remission",
    "level_gain",
)  # fmt: skip
SEED_STRIDE = 1_000_003  # more than any number of environments
MEASURES = ("return", "remission", "weeks_to_remission", "dose_weeks", "adverse_events", "level_gain")


@dataclass(frozen=True)
class EvaluateSettings:
    patients: Count  # held-out patients treated by every policy, at most all there are
    seeds: Count  # courses of each of them, with different luck
    gap_courses: Annotated[
        int, Ge(2)
    ]  # courses in Twin and in Trial, of a person each, that the exploitation gap is measured on
    resamples: Count  # bootstrap resamples of the patients
    confidence: Annotated[float, Gt(0), Lt(1)]  # of the intervals
    constant_intensities: Annotated[tuple[Dose, ...], MinLen(1)]  # doses of the constant policies
    stepped_care: SteppedCareSettings
    greedy_intensities: Annotated[tuple[Dose, ...], MinLen(1)]  # doses the greedy policy weighs
    subgroups: dict[str, tuple[float, ...]]  # profile columns reported by group; edges of a numeric one's bands
    tree_depth: Count  # of the tree that explains the policy
    tree_leaf: Annotated[int, Ge(1)]  # observations a leaf holds at least
    tree_patients: Count  # synthetic patients it is grown on, and the least dose found on; at most all there are
    dose_shares: tuple[
        Annotated[float, Gt(0), Le(1)], ...
    ]  # of the agent's intensities, among which the least is sought


def run_policy(name: str, policy: Policy, simulation: Simulation, rows: Tensor, seed: int) -> pd.DataFrame:
    """One course of each patient in ``rows`` (int64 ``[B]``) under ``policy``; columns ``EPISODE_COLUMNS``.

    ``simulation`` must be new and hold B environments: patient i then always meets the luck of environment i, whatever
    the policy, which pairs policies by patient. ``week`` counts from 1; a course ends at remission or the horizon.
    ``level_gain`` is how far the level (the true one in Trial, the expected one in the Twin) has moved since the baseline
    week in the healthy direction, between-person sd, mean over signals: what the risk model has no say in. The baseline
    is measured over one week, so persons chosen for a bad one gain a little by themselves, alike under every policy.
    """
    observation = simulation.reset(rows=rows)
    policy.reset(simulation, rows)
    running = torch.ones(len(rows), dtype=torch.bool)
    environment = torch.arange(len(rows))
    patient = np.asarray(simulation.patients.ids)[rows.numpy()]
    weeks, week = [], 0
    while running.any():
        treatment, intensity = policy.act(simulation, observation, stream_keys(seed, ACTIONS, environment, week))
        step = simulation.step(treatment, intensity)
        policy.observe(simulation, (step.info["treatment"], step.info["intensity"]), step)
        observation, week = step.observation, week + 1
        columns = {
            "treatment": step.info["treatment"],
            "intensity": step.info["intensity"],
            "risk": step.info["risk"],
            "reward": step.reward,
            "adverse_event": step.info["adverse"],
            "remission": step.terminated,
            "level_gain": level_gain(simulation.patients, rows, step.info["level"]),
        }
        kept = running.numpy()
        frame = pd.DataFrame({column: values[running].cpu().numpy() for column, values in columns.items()})
        weeks.append(frame.assign(policy=name, seed=seed, patient=patient[kept], week=week))
        running = running & ~step.terminated & ~step.truncated
    return pd.concat(weeks, ignore_index=True)[list(EPISODE_COLUMNS)]


def level_gain(patients: Patients, rows: Tensor, level: Tensor) -> Tensor:
    """``[B]``: from the mean of the baseline week to ``level`` ``[B, C]``, as ``run_policy`` explains."""
    healthy = torch.tensor([signal.better for signal in patients.signals]) / torch.tensor(patients.scaler.between)
    return ((level - patients.week[rows].mean(dim=1)) * healthy.to(level.device)).mean(dim=1)


def observations_under(policy: Policy, simulation: Simulation, rows: Tensor, seed: int) -> Tensor:
    """Observations ``[M, D]`` met in one course of each patient in ``rows`` under ``policy``; arguments as above."""
    met: list[Tensor] = []
    run_policy("", _Recorder(policy, met), simulation, rows, seed)
    return torch.cat(met)


class _Recorder:
    """A policy that keeps the observations of courses still running."""

    def __init__(self, policy: Policy, met: list[Tensor]) -> None:
        self.policy, self.met = policy, met

    def reset(self, simulation: Simulation, rows: Tensor) -> None:
        self.running = torch.ones(len(rows), dtype=torch.bool)
        self.policy.reset(simulation, rows)

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        self.met.append(observation[self.running])
        return self.policy.act(simulation, observation, keys)

    def observe(self, simulation: Simulation, action: Action, step: Step) -> None:
        self.running = self.running & ~step.terminated & ~step.truncated
        self.policy.observe(simulation, action, step)


def run_policies(
    policies: Mapping[str, Policy],
    make_simulation: Callable[[int], Simulation],
    rows: Tensor,
    seeds: Sequence[int],
    tracker: Tracker,
) -> pd.DataFrame:
    """Every policy on every patient with every seed; ``make_simulation(seed)`` gives a new one of ``len(rows)``.

    The simulation's own seeds are the given ones spread far apart, as environment i of a simulation adds i.
    """
    jobs = [(name, seed) for name in policies for seed in seeds]
    frames = [
        run_policy(name, policies[name], make_simulation(seed * SEED_STRIDE), rows, seed)
        for name, seed in tracker.track(jobs, "evaluation", total=len(jobs))
    ]
    return pd.concat(frames, ignore_index=True)


def courses(episodes: pd.DataFrame) -> pd.DataFrame:
    """One row per policy and patient, the mean over seeds of ``MEASURES``.

    ``weeks_to_remission`` is restricted to the horizon: a course without remission counts all its weeks;
    ``level_gain`` is that of a course's last week.
    """
    by_course = episodes.groupby(["policy", "patient", "seed"], sort=True)
    table = by_course.agg(
        **{
            "return": ("reward", "sum"),
            "remission": ("remission", "max"),
            "weeks_to_remission": ("week", "max"),
            "dose_weeks": ("intensity", "sum"),
            "adverse_events": ("adverse_event", "sum"),
            "level_gain": ("level_gain", "last"),
        }
    )
    return table.astype(float).groupby(level=["policy", "patient"]).mean()


def summarise(
    episodes: pd.DataFrame, rng: np.random.Generator, resamples: int, confidence: float
) -> dict[str, dict[str, Any]]:
    """Per policy: the mean of every measure, with bootstrap intervals (by patient) of return and remission.

    ``return_iqm`` is the mean of the middle half of the patients (Agarwal et al. 2021, arXiv 2108.13264).
    """
    table = courses(episodes)
    summary = {}
    for name in table.index.unique("policy"):
        one = table.loc[name]
        draws = rng.integers(len(one), size=(resamples, len(one)))
        returns, remission = one["return"].to_numpy(), one["remission"].to_numpy()
        summary[str(name)] = {
            **{measure: float(one[measure].mean()) for measure in MEASURES},
            "return_ci": _interval(returns[draws].mean(axis=1), confidence),
            "return_iqm": float(interquartile_mean(returns)),
            "return_iqm_ci": _interval(interquartile_mean(returns[draws]), confidence),
            "remission_ci": _interval(remission[draws].mean(axis=1), confidence),
            "patients": len(one),
        }
    return summary


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the middle half along the last axis; a quarter that is no whole number of values is cut down."""
    cut = values.shape[-1] // 4
    return np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut].mean(axis=-1)


def best_constant(episodes: pd.DataFrame) -> str:
    """The constant policy (named ``constant_<treatment>_<intensity>``) of the highest mean return.

    Chosen on the same patients it is then reported on: an optimistic baseline, hence the stricter one to beat.
    """
    returns = courses(episodes)["return"].groupby(level="policy").mean()
    constants = returns[returns.index.str.startswith("constant_")]
    return str(constants.idxmax())


def normalised_score(
    episodes: pd.DataFrame,
    policy: str,
    floor: str,
    ceiling: str,
    rng: np.random.Generator,
    resamples: int,
    confidence: float,
) -> tuple[float | None, list[float] | None]:
    """(J - J_floor) / (J_ceiling - J_floor) and its interval; all three from the same resampled patients.

    The score is None where the ceiling is not above the floor, the interval where it is not in some resample.
    """
    returns = _paired(episodes, [policy, floor, ceiling])  # (P, 3)
    draws = returns[rng.integers(len(returns), size=(resamples, len(returns)))].mean(axis=1)  # (R, 3)

    def score(j: np.ndarray) -> np.ndarray:
        return (j[..., 0] - j[..., 1]) / (j[..., 2] - j[..., 1])

    mean = returns.mean(axis=0)
    if mean[2] <= mean[1]:
        return None, None
    bounded = bool((draws[:, 2] > draws[:, 1]).all())
    return float(score(mean)), _interval(score(draws), confidence) if bounded else None


def exploitation_gap(twin: pd.DataFrame, trial: pd.DataFrame, span: float) -> tuple[float, float] | tuple[None, None]:
    """|J_Twin - J_Trial| as a share of ``span`` (J of the best there is less that of no treatment), and the standard error
    that luck gives it; None where the span is not positive.

    Large where a policy has learned what only the Twin believes. ``twin`` and ``trial``: episodes of the same policies on
    the same persons, each for one course: in Trial how a person responds is luck that the Twin has none of. All policies
    share that luck, so that the persons are what is counted, not the episodes.
    """
    if span <= 0:
        return None, None
    returns = [
        each.groupby(["patient", "policy", "seed"])["reward"].sum().groupby("patient").mean() for each in (twin, trial)
    ]
    assert returns[0].index.equals(returns[1].index), "Twin and Trial must have treated the same persons"
    off = returns[0] - returns[1]
    return float(abs(off.mean()) / span), float(off.std() / math.sqrt(len(off)) / span)


def probability_of_improvement(
    episodes: pd.DataFrame, policy: str, other: str, rng: np.random.Generator, resamples: int, confidence: float
) -> tuple[float, list[float], float]:
    """Share of patients who fare better under ``policy`` than under ``other`` (ties count half), its interval, and the share of
    resamples of the patients whose mean return is higher: a course is mostly luck, a mean is not."""
    returns = _paired(episodes, [policy, other])
    better = (returns[:, 0] > returns[:, 1]) + 0.5 * (returns[:, 0] == returns[:, 1])
    draws = rng.integers(len(better), size=(resamples, len(better)))
    means = returns[draws].mean(axis=1)  # (R, 2)
    return (
        float(better.mean()),
        _interval(better[draws].mean(axis=1), confidence),
        float((means[:, 0] > means[:, 1]).mean()),
    )


def _paired(episodes: pd.DataFrame, policies: Sequence[str]) -> np.ndarray:
    """Returns ``[P, len(policies)]`` of the same patients under each policy."""
    wide = courses(episodes)["return"].unstack("policy")
    chosen = wide[list(policies)]
    assert not chosen.isna().to_numpy().any(), "every policy must have treated the same patients"
    return chosen.to_numpy()


def _interval(draws: np.ndarray, confidence: float) -> list[float]:
    tail = (1 - confidence) / 2
    return [float(value) for value in np.quantile(draws, [tail, 1 - tail])]
