"""What a ground truth implies, as a clinical trial would find it: arms of the same patients with the same luck.

Arms differ in their treatment alone: patient and stream of random numbers are common to all (common random numbers), so a
difference between arms is the treatment's, and its standard error that of paired patients.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from core.patients import Patients
from core.protocols import Tracker
from core.treatments import CONTROL, TREATMENTS
from envs.simulation import Simulation
from intervention.evaluation import SEED_STRIDE
from intervention.rollouts import Actions, constant

NEAR = 0.25  # share of the published value by which a finding may miss it and still count as near


@dataclass(frozen=True)
class Finding:
    """A published value, signed as a change; ``conf/published.yaml`` says what its fields mean."""

    treatment: Literal["control", "app", "cbt", "exercise", "medication"]
    outcome: str  # what the study measured
    measure: str  # what it is compared with: a signal's name, ``risk`` or ``recovered``
    metric: Literal["d", "min", "bpm", "share"]
    value: float | None  # None where the source gives a range alone
    low: float | None
    high: float | None
    weeks: str
    source: str


@dataclass(frozen=True)
class Course:
    """One arm over W weeks; B = patients x streams, all patients of the first stream first.

    Attributes:
        before: ``[B]``, the risk score of the baseline week.
        level: ``[W, B, C]``, the true weekly levels in physical units.
        risk: ``[W, B]``, the risk score of the week that was observed.
        remitted: bool ``[W, B]``, remission so far, as the environment defines it.
        returns: ``[B]``, what the environment pays until remission or its horizon.
    """

    before: Tensor
    level: Tensor
    risk: Tensor
    remitted: Tensor
    returns: Tensor


@dataclass(frozen=True)
class Arms:
    """The arms of one trial on the first ``units`` of ``patients``.

    Attributes:
        control: no treatment.
        treated: by treatment and intensity, kept to the end.
        stopped: by treatment, at one intensity, given up on the way.
        min_risk: the risk score from which a person is in care.
    """

    control: Course
    treated: dict[tuple[int, float], Course]
    stopped: dict[int, Course]
    patients: Patients
    units: int
    min_risk: float


@dataclass(frozen=True)
class Effect:
    """Treated minus Control: the mean difference, its standard error, and the standard deviation to express it in."""

    difference: float
    error: float
    sd: float

    @property
    def d(self) -> float:
        """Cohen's d; NaN where the patients are all alike."""
        return self.difference / self.sd if self.sd > 0 else math.nan


def simulate_arms(
    simulation: Simulation,
    units: int,
    seeds: Sequence[int],
    doses: Sequence[float],
    weeks: int,
    stop: tuple[float, int],
    tracker: Tracker,
) -> Arms:
    """Control and every treatment at each of ``doses``, and at the dose ``stop[0]`` given up after week ``stop[1]``.

    ``simulation`` holds ``units`` x ``len(seeds)`` environments; patient i meets in stream s the luck of environment i with
    seed s, as in ``evaluation.run_policies``. Plans go on after remission: a trial measures everybody at the end.
    """
    places = torch.arange(units)
    rows, b = places.repeat(len(seeds)), units * len(seeds)
    keys = torch.cat([seed * SEED_STRIDE + places for seed in seeds])
    active = range(CONTROL + 1, len(TREATMENTS))
    plans = {(t, dose, False): constant(t, dose, b, weeks) for t in active for dose in doses}
    plans |= {(t, stop[0], True): _stopped(constant(t, stop[0], b, weeks), stop[1]) for t in active}
    plans[CONTROL, 0.0, False] = constant(CONTROL, 0.0, b, weeks)
    found = {name: _run(simulation, rows, keys, plans[name]) for name in tracker.track(plans, "arms", total=len(plans))}
    control = found.pop((CONTROL, 0.0, False))
    treated = {(t, dose): course for (t, dose, halted), course in found.items() if not halted}
    stopped = {t: course for (t, _, halted), course in found.items() if halted}
    return Arms(control, treated, stopped, simulation.patients, units, simulation.settings.min_risk)


def _run(simulation: Simulation, rows: Tensor, seeds: Tensor, plan: Actions) -> Course:
    simulation.reseed(seeds)
    simulation.reset(rows=rows)
    before, (treatment, intensity) = simulation.risk.clone(), plan
    steps = [simulation.step(treatment[:, w], intensity[:, w]) for w in range(treatment.shape[1])]
    level, risk, remission = (torch.stack([step.info[key] for step in steps]) for key in ("level", "risk", "remission"))
    remitted = remission.cummax(dim=0).values
    paid = torch.stack([step.reward for step in steps])
    paid[1:] *= ~remitted[:-1]
    return Course(before, level, risk, remitted, paid[: simulation.settings.horizon].sum(dim=0))


def _stopped(plan: Actions, after: int) -> Actions:
    """The plan for ``after`` weeks, and Control from then on."""
    treatment, intensity = plan[0].clone(), plan[1].clone()
    treatment[:, after:], intensity[:, after:] = CONTROL, 0.0
    return treatment, intensity


def effect(treated: Tensor, control: Tensor, patients: int) -> Effect:
    """The effect on one measure ``[B]`` at one week, paired by patient and stream.

    ``sd`` is the pooled sd of the two arms' patients at that week, Cohen's; the standard error takes patients as units.
    """
    gap = (treated - control).double().view(-1, patients).mean(dim=0)
    sd = ((treated.double().var() + control.double().var()) / 2).sqrt()
    return Effect(float(gap.mean()), float(gap.std()) / math.sqrt(patients), float(sd))


def effects(arms: Arms, course: Course, week: int) -> dict[str, Effect]:
    """The effect on every signal's true level and on ``risk``, at ``week`` (from 1)."""
    level, control = course.level[week - 1], arms.control.level[week - 1]
    signals = enumerate(arms.patients.signals)
    found = {signal.name: effect(level[:, k], control[:, k], arms.units) for k, signal in signals}
    return {**found, "risk": effect(course.risk[week - 1], arms.control.risk[week - 1], arms.units)}


def best_arm(arms: Arms) -> tuple[int, float]:
    """The treatment and the dose that, kept to the end, earn most: chosen on the patients they are judged by."""
    return max(arms.treated, key=lambda plan: float(arms.treated[plan].returns.mean()))


def gain(arms: Arms, course: Course) -> Tensor:
    """``[W]``: how much healthier the true level is than under Control, between-person sd, mean over signals."""
    signals, between = arms.patients.signals, arms.patients.scaler.between
    healthy = torch.tensor([signal.better for signal in signals]) / torch.tensor(between)
    return ((course.level - arms.control.level).double() * healthy).mean(dim=(1, 2))


def onset(gains: Tensor, weeks: Sequence[int]) -> list[float] | None:
    """Share of the last week's gain that is there at each of ``weeks``; None where there is none in the end."""
    last = float(gains[-1])
    return [float(gains[week - 1]) / last for week in weeks] if last > 0 else None


def left_after(gains: Tensor, stop: int, weeks: int) -> float | None:
    """Share of the gain at week ``stop`` that is left ``weeks`` later; None where there was none."""
    then = float(gains[stop - 1])
    return float(gains[stop - 1 + weeks]) / then if then > 0 else None


def plateau(curve: Sequence[float], doses: Sequence[float], share: float = 0.95) -> tuple[float, float, float] | None:
    """The first dose with ``share`` of the best effect, the best dose, and what is left of the best at the highest dose.

    ``curve`` is the benefit at each of ``doses``, ascending. None where no dose does any good.
    """
    best = max(curve)
    if best <= 0:
        return None
    first = next(dose for dose, value in zip(doses, curve, strict=True) if value >= share * best)
    return first, doses[list(curve).index(best)], curve[-1] / best


def compare(finding: Finding, value: float) -> tuple[Literal["within", "near", "outside"], float]:
    """Where ``value`` lies to what was published, and by how much it misses (signed; 0 within).

    Missed is the interval, or the value itself where there is none; near is within a quarter of the published value (of the
    half range, where there is no value).
    """
    points = [point for point in (finding.low, finding.high, finding.value) if point is not None]
    low, high = min(points), max(points)
    miss = value - high if value > high else value - low if value < low else 0.0
    if miss == 0.0:
        return "within", 0.0
    scale = abs(finding.value) if finding.value is not None else (high - low) / 2
    return ("near" if abs(miss) <= NEAR * scale else "outside"), miss
