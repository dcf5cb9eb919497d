"""Trial: the mechanistic ground truth of how a person's weeks change under treatment.

For person i, signal k and week w, in between-person standard deviations (+ is the signal's own direction)::

    level[i,k,w] = baseline[i,k] * recovery[w] + saturate(sum_a exposure[i,a,w] response[i,a] effect[a,k]) + drift[i,k,w]
    exposure     -> adherence_a(u) hill_a(u), less in a week that begins a, approached with an onset and left with a wash-out time
    days         = level + weekend + AR(1) residual with same-day correlation between signals, clipped to the range
    adverse      ~ Bernoulli(hazard_a u^2 frailty_i)

Every function is batched over patients; nothing loops over days. All numbers come from ``TrialSettings``.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from core.batching import product, take, turned
from core.errors import ConfigError
from core.patients import Patients
from core.protocols import Outcome, State
from core.random import stream_draws, stream_keys, stream_normal
from core.settings import Fraction, NonNegative, Positive
from core.signals import DAYS, WEEKEND, Signals, names
from core.treatments import TREATMENTS

ACTIVE = TREATMENTS[1:]  # everything but Control


@dataclass(frozen=True)
class SignalSettings:
    """How one signal behaves in people, as pure numbers; the physical scale is the cohort's."""

    icc: Fraction  # share of the daily variance that lies between persons
    lag1: Fraction  # correlation of a person's residuals on successive days
    weekend: float  # weekend minus weekday, in within-person sd
    irregularity: float  # log change of the within-person sd per sd of ill-being


@dataclass(frozen=True)
class TreatmentSettings:
    """What one treatment does at full exposure in a person of average response."""

    effect: dict[str, float]  # signal -> change in between-person sd; a signal not named is not moved
    response_sigma: NonNegative  # log-sd of the response between persons
    onset_weeks: Positive  # time constant of approach
    washout_weeks: Positive  # time constant of loss
    half_dose: Positive  # intensity of half the Hill effect
    hill: Positive  # steepness of the dose curve
    adherence: Fraction  # share followed at a vanishing intensity
    adherence_fall: Fraction  # share of that lost at intensity 1 (with intensity squared)
    disengagement: NonNegative  # log-loss of adherence per week already spent on it
    start_loss: Fraction  # share of the adherence lost in a week that begins it, or begins it anew
    hazard: Fraction  # adverse events per week at intensity 1 in a person of average frailty
    side_effect: dict[str, float]  # signal -> change in the week of an adverse event, between-person sd


@dataclass(frozen=True)
class Pair:
    """Same-day correlation of two signals' residuals."""

    first: str
    second: str
    correlation: float


@dataclass(frozen=True)
class Modifier:
    """A profile column that shifts the log response to a treatment and leaves its mean over persons as it is.

    With ``level``, persons whose column reads so, a ``share`` of all, are shifted by ``shift`` against the others;
    without (empty), a numeric column shifts by ``shift`` per population sd. A column the cohort lacks is left out.
    """

    column: str
    level: str
    share: Fraction | None  # of the persons who read so; None of a numeric column
    treatment: str
    shift: float


@dataclass(frozen=True)
class TrialSettings:
    """The numbers of Trial; ``conf/trial.yaml`` gives the source of each."""

    signals: dict[str, SignalSettings]  # by signal name
    treatments: dict[str, TreatmentSettings]  # by name, exactly the four active ones
    correlations: tuple[Pair, ...]  # same-day, within person; pairs not named are uncorrelated
    modifiers: tuple[Modifier, ...]  # who responds to what
    frailty_sigma: NonNegative  # log-sd of the proneness to adverse events
    adverse_adherence_loss: Fraction  # share of the week's adherence an adverse event costs
    saturation: Positive  # most that treatment can move a signal, between-person sd
    recovery_weeks: Positive  # time constant of natural recovery
    recovery_share: Fraction  # share of the unhealthy deviation that passes by itself in the end
    drift_sd: NonNegative  # stationary sd of the week-to-week drift, between-person sd
    drift_memory: Fraction  # correlation of the drift in successive weeks


class Trial:
    """Dynamics (``core.protocols``) over ``patients``; ``seed`` fixes who responds to what.

    State, each with the batch first: ``rows`` and ``week`` int64; ``response`` [B, 4] and ``frailty`` [B], properties
    of the person that no episode changes; ``deviation`` [B, C], the baseline in between-person sd; ``exposure``,
    ``weeks_on`` and ``given`` (1 if given last week) [B, 4] in the order of ``TREATMENTS[1:]``; ``drift``, ``side_effect`` and ``residual`` (last day's, in
    within-person sd) [B, C].

    Raises:
        ConfigError: a signal of the cohort or a treatment is missing in the settings, or a modifier's share does not fit.
    """

    def __init__(self, patients: Patients, settings: TrialSettings, seed: int) -> None:
        check_signals(settings, patients.signals)
        self.patients, self.settings = patients, settings
        signals, device = [settings.signals[name] for name in names(patients.signals)], patients.week.device

        def row(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        sd, icc = row(list(patients.scaler.sd)), row([s.icc for s in signals])
        self.mean, self.between, self.within = row(list(patients.scaler.mean)), icc.sqrt() * sd, (1 - icc).sqrt() * sd
        self.low, self.high = row([s.low for s in patients.signals]), row([s.high for s in patients.signals])
        self.better = row([float(s.better) for s in patients.signals])
        self.irregularity = row([s.irregularity for s in signals])
        # Centred, so that the mean of a week is its level: (7, C) in within-person sd.
        days = torch.zeros(DAYS, device=device)
        days[list(WEEKEND)] = 1.0
        self.weekend = (days - days.mean())[:, None] * row([s.weekend for s in signals])

        self.active = torch.arange(1, len(TREATMENTS), device=device)[:, None]  # (A, 1)
        treatments = [settings.treatments[name] for name in ACTIVE]
        self.effect = _effects([t.effect for t in treatments], patients.signals).to(device)  # (A, C)
        self.side_effect = _effects([t.side_effect for t in treatments], patients.signals).to(device)
        self.onset = row([1 - math.exp(-1 / t.onset_weeks) for t in treatments])
        self.washout = row([1 - math.exp(-1 / t.washout_weeks) for t in treatments])
        self.half_dose, self.hill = row([t.half_dose for t in treatments]), row([t.hill for t in treatments])
        self.adherence = row([t.adherence for t in treatments])
        self.adherence_fall = row([t.adherence_fall for t in treatments])
        self.disengagement = row([t.disengagement for t in treatments])
        self.hazard = row([t.hazard for t in treatments])
        self.start_loss = row([t.start_loss for t in treatments])

        self.carry, self.mix = _residual_process(patients.signals, settings)
        self.carry, self.mix = self.carry.to(device), self.mix.to(device)
        response, self.frailty = _latents(patients, settings, seed)  # (N, A), (N,)
        reliability = row([_reliability(s.icc, s.lag1) for s in signals])
        deviation = reliability * (patients.week.mean(dim=1) - self.mean) / self.between  # (N, C)
        self.response, self.deviation = turned(response), turned(deviation)
        self.sunday = turned(patients.week[:, -1])

    def start(self, rows: Tensor, keys: Tensor) -> State:
        """The state after the baseline week; it takes no randomness, as a person's latents are their own."""

        def zeros(numbers: int) -> Tensor:
            return self.deviation.new_zeros(numbers, len(rows)).T

        state = {
            "rows": rows,
            "week": torch.zeros_like(rows),
            "response": take(self.response, rows),
            "frailty": self.frailty[rows],
            "deviation": take(self.deviation, rows),
            "exposure": zeros(len(ACTIVE)),
            "weeks_on": zeros(len(ACTIVE)),
            "given": zeros(len(ACTIVE)),
            "drift": zeros(len(self.mean)),
            "side_effect": zeros(len(self.mean)),
        }
        level = self._standing(state)
        sunday = take(self.sunday, rows) - self._physical(level)
        residual = (sunday / self.within - self.weekend[-1]) / self._spread(level)  # as ``step`` puts a day together
        return {**state, "residual": residual.clamp(-3.0, 3.0)}

    def step(self, state: State, treatment: Tensor, intensity: Tensor, keys: Tensor) -> tuple[State, Outcome]:
        """One week: ``treatment`` int64 ``[B]``, ``intensity`` float32 ``[B]``, ``keys`` int64 ``[B]``."""
        b, c = len(treatment), len(self.mean)
        dose = self._dose(treatment, intensity)
        uniform, noise = stream_draws(keys, 1, DAYS * c + c)
        adverse = uniform[:, 0] < self._adverse_probability(state, dose)
        state = self._advance(state, dose, adverse.float())
        state["drift"] = state["drift"] + self._drift_shock * noise[:, DAYS * c :]

        level = self._standing(state)  # (B, C)
        # (B, 7C): what is left of last Sunday plus this week's innovations, in within-person sd.
        residual = product(state["residual"], self.carry) + product(noise[:, : DAYS * c], self.mix)
        state["residual"] = residual[:, -c:].clone()
        physical = self._physical(level)
        days = residual.T.view(DAYS, c, b).permute(2, 0, 1)  # (B, 7, C); in place from here, as memory is what it costs
        week = days.mul_(self._spread(level)[:, None]).add_(self.weekend).mul_(self.within).add_(physical[:, None])
        week = torch.clamp_(week, self.low, self.high)
        return state, Outcome(week, adverse, physical, torch.zeros_like(physical[:, 0]))

    def expected_level(self, state: State, treatment: Tensor, intensity: Tensor) -> Tensor:
        """``[B, C]`` physical: the expected level of the coming week under this action, free of noise."""
        return self.expected_levels(state, treatment, intensity, 1)[:, 0]

    def expected_levels(self, state: State, treatment: Tensor, intensity: Tensor, weeks: int) -> Tensor:
        """``[B, weeks, C]`` physical: the levels of the coming weeks if this action is kept, free of noise.

        Adverse events count with their probability, the drift fades as it is expected to. Exact but for the curvature
        of the saturation over adverse events; the carry-over of day noise is not part of a level.
        """
        dose, levels = self._dose(treatment, intensity), []
        for _ in range(weeks):
            state = self._advance(state, dose, self._adverse_probability(state, dose))
            levels.append(self._physical(self._standing(state)))
        return torch.stack(levels, dim=1)

    def adverse_probability(self, state: State, treatment: Tensor, intensity: Tensor) -> Tensor:
        """``[B]``: how likely an adverse event is in the coming week under this action."""
        return self._adverse_probability(state, self._dose(treatment, intensity))

    @property
    def _drift_shock(self) -> float:
        return self.settings.drift_sd * math.sqrt(1 - self.settings.drift_memory**2)

    def _dose(self, treatment: Tensor, intensity: Tensor) -> Tensor:
        """``[B, A]``: the intensity in the chosen treatment's place; Control leaves all at 0."""
        return torch.where(treatment == self.active, intensity.to(self.mean.dtype), 0.0).T

    def _adverse_probability(self, state: State, dose: Tensor) -> Tensor:
        return ((self.hazard * dose.square()).sum(dim=1) * state["frailty"]).clamp(max=1.0)

    def target_exposure(self, dose: Tensor, weeks_on: Tensor) -> Tensor:
        """``[B, A]``: the exposure that a dose held for ever would reach; the Hill curve is 1 at intensity 1."""
        half, risen = self.half_dose**self.hill, dose**self.hill
        hill = (1 + half) * risen / (risen + half)
        adherence = self.adherence * (1 - self.adherence_fall * dose.square())
        return hill * adherence * torch.exp(-self.disengagement * weeks_on)

    def _advance(self, state: State, dose: Tensor, adverse: Tensor) -> State:
        """One week without new noise; ``adverse`` [B] is whether an event happened, or its probability."""
        lost = 1 - self.settings.adverse_adherence_loss * adverse[:, None]
        chosen = (dose > 0).to(dose.dtype)
        begun = 1 - self.start_loss * (1 - state["given"])
        target = self.target_exposure(dose, state["weeks_on"]) * lost * begun
        rate = torch.where(target > state["exposure"], self.onset, self.washout)
        return {
            **state,
            "week": state["week"] + 1,
            "exposure": state["exposure"] + rate * (target - state["exposure"]),
            "weeks_on": state["weeks_on"] + chosen,
            "given": chosen,
            "drift": self.settings.drift_memory * state["drift"],
            "side_effect": product(chosen * adverse[:, None], self.side_effect),
        }

    def _standing(self, state: State) -> Tensor:
        """``[B, C]``: the level in between-person sd from the population mean."""
        passed = self.settings.recovery_share * (1 - torch.exp(-state["week"] / self.settings.recovery_weeks))
        unhealthy = state["deviation"] * self.better < 0
        baseline = state["deviation"] * torch.where(unhealthy, 1 - passed[:, None], 1.0)
        cap = self.settings.saturation
        gain = cap * torch.tanh(product(state["exposure"] * state["response"], self.effect) / cap)
        return baseline + gain + state["drift"] + state["side_effect"]

    def _physical(self, level: Tensor) -> Tensor:
        return torch.clamp(torch.addcmul(self.mean, self.between, level), self.low, self.high)

    def _spread(self, level: Tensor) -> Tensor:
        """``[B, C]``: factor on the within-person sd; days of the distressed are less regular."""
        illbeing = -(level * self.better).mean(dim=1, keepdim=True).clamp(-2.0, 2.0)
        return torch.exp(self.irregularity * illbeing)


def check_signals(settings: TrialSettings, signals: Signals) -> None:
    """Raises ConfigError unless ``settings`` describe every one of ``signals`` and exactly the active treatments."""
    known = ", ".join(settings.signals)
    for name in names(signals):
        if name not in settings.signals:
            raise ConfigError(
                f"trial.signals has no entry for the cohort's signal '{name}' (it has {known}); add its icc, lag1, weekend and irregularity"
            )
    if set(settings.treatments) != set(ACTIVE):
        raise ConfigError(
            f"trial.treatments has {', '.join(settings.treatments)}; expected exactly {', '.join(ACTIVE)}"
        )
    for modifier in settings.modifiers:
        if modifier.treatment not in ACTIVE:
            raise ConfigError(
                f"trial.modifiers: treatment '{modifier.treatment}' is unknown; expected {', '.join(ACTIVE)}"
            )
        if bool(modifier.level) != (modifier.share is not None):
            raise ConfigError(
                f"trial.modifiers: '{modifier.column}' for {modifier.treatment} has level '{modifier.level}' and share {modifier.share}; expected a share of persons with a level, null with a number"
            )


def _effects(by_treatment: list[dict[str, float]], signals: Signals) -> Tensor:
    """``[A, C]`` from one mapping per treatment."""
    return torch.tensor([[effect.get(name, 0.0) for name in names(signals)] for effect in by_treatment])


def _reliability(icc: float, lag1: float) -> float:
    """Share of the variance of a 7-day mean that lies between persons (day residuals AR(1))."""
    days = np.arange(DAYS)
    noise = (1 - icc) * (lag1 ** np.abs(days[:, None] - days)).mean()
    return float(icc / (icc + noise)) if icc + noise > 0 else 1.0


def _residual_process(signals: Signals, settings: TrialSettings) -> tuple[Tensor, Tensor]:
    """The week of AR(1) residuals as two matrices: ``[C, 7C]`` for last Sunday's residual, ``[7C, 7C]`` for innovations.

    Innovation covariance R[k,l] (1 - phi_k phi_l) makes R the same-day correlation of the stationary process.
    """
    found, c = names(signals), len(signals)
    phi = np.array([settings.signals[name].lag1 for name in found])
    correlation = np.eye(c)
    for pair in settings.correlations:
        if pair.first in found and pair.second in found:
            i, j = found.index(pair.first), found.index(pair.second)
            correlation[i, j] = correlation[j, i] = pair.correlation
    covariance = correlation * (1 - np.outer(phi, phi))
    if np.linalg.eigvalsh(covariance).min() < 0:
        raise ConfigError(
            "trial.correlations and trial.signals.*.lag1 contradict each other: no such process exists; lower the correlations"
        )
    factor = np.linalg.cholesky(covariance + 1e-12 * np.eye(c))
    carry, mix = np.zeros((c, DAYS, c)), np.zeros((DAYS, c, DAYS, c))
    for day in range(DAYS):
        carry[:, day] = np.diag(phi ** (day + 1))
        for past in range(day + 1):
            mix[past, :, day] = factor.T * phi ** (day - past)
    return torch.from_numpy(carry.reshape(c, -1)).float(), torch.from_numpy(mix.reshape(DAYS * c, -1)).float()


def _latents(patients: Patients, settings: TrialSettings, seed: int) -> tuple[Tensor, Tensor]:
    """Response ``[N, A]`` and frailty ``[N]``, lognormal with mean 1 before the profile's shifts."""
    ids = torch.from_numpy(np.asarray(patients.ids)).to(patients.week.device)
    noise = stream_normal(stream_keys(seed, ids), len(ACTIVE) + 1)
    sigma = torch.tensor([settings.treatments[name].response_sigma for name in ACTIVE], dtype=torch.float64)
    sigma = sigma.to(noise.device)
    shift = torch.from_numpy(_shifts(patients, settings)).to(noise.device)
    response = torch.exp(sigma * noise[:, :-1] - sigma.square() / 2 + shift)
    frailty = torch.exp(settings.frailty_sigma * noise[:, -1] - settings.frailty_sigma**2 / 2)
    return response.float(), frailty.float()


def _shifts(patients: Patients, settings: TrialSettings) -> np.ndarray:
    """Log-response shifts ``[N, A]`` that the raw profile columns give."""
    shifts = np.zeros((len(patients), len(ACTIVE)))
    for modifier in settings.modifiers:
        if modifier.column not in patients.profiles:
            continue
        column = patients.profiles[modifier.column]
        if modifier.level:
            weight = (column.astype(str).str.lower() == modifier.level.lower()).to_numpy(float)
            assert modifier.share is not None, "check_signals has seen to it"
            mean_factor = 1 + modifier.share * math.expm1(modifier.shift)
        elif pd.api.types.is_numeric_dtype(column) and modifier.column in patients.encoder.numeric:
            mean, sd = patients.encoder.numeric[modifier.column]
            weight = ((column.to_numpy(float) - mean) / sd).clip(-2.0, 2.0)
            mean_factor = math.exp(modifier.shift**2 / 2)  # of a Gaussian column
        else:
            continue
        shifts[:, ACTIVE.index(modifier.treatment)] += modifier.shift * weight - math.log(mean_factor)
    return shifts
