"""How well a Twin knows what treatment does: on average, and to the person before it.

A person's effect is what four more weeks of a treatment bring against stopping it, after four weeks under it that were
watched. How much of that can be known at all is measured beside it: a regression of the true effect on all that was
watched, fitted on other persons, is the ceiling.
"""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from torch import Tensor

from core.patients import Patients
from core.protocols import Dynamics, State
from core.random import numpy_generator, stream_keys
from core.treatments import CONTROL, TREATMENTS
from envs.trial import Trial
from intervention.rollouts import Actions, constant, rollout
from intervention.streams import EFFECTS, FUTURES, HISTORIES, PERSONS
from intervention.trials import enrol
from intervention.twin import Twin, TwinDynamics

ACTIVE = range(CONTROL + 1, len(TREATMENTS))
EFFECT_DOSES = (0.4, 0.8)
EFFECT_WEEKS = (4, 8, 12)
PERSON_DOSE = 0.7
WATCHED, AHEAD = 4, 4  # weeks

MakeTrial = Callable[[Patients], Trial]


def effect_quality(dynamics: Dynamics, trial: Trial, persons: int, seed: int) -> dict[str, object]:
    """Mean effects and natural history of the first ``persons`` patients, measured on the sampled days; arms share their
    random numbers. Sd: between-person sd of Trial.

    Returns:
        effect_error: mean absolute error of the mean shift against Control, over treatments, two doses, signals and
            weeks 4, 8 and 12, open loop; ``effects`` has it by treatment.
        placebo_change: mean absolute difference of the mean course under Control, same weeks.
    """
    rows = torch.arange(persons)
    keys = stream_keys(seed, EFFECTS, rows)

    def course(of: Dynamics, treatment: int, intensity: float) -> Tensor:
        """Mean over persons at the weeks looked at ``[3, C]``, in sd."""
        outcomes = rollout(of, rows, constant(treatment, intensity, persons, max(EFFECT_WEEKS)), keys)
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
    twin: Twin,
    make_trial: MakeTrial,
    held_out: Patients,
    others: Patients,
    persons: int,
    histories: int,
    futures: int,
    seed: int,
) -> dict[str, object]:
    """Correlation over ``persons`` of ``held_out`` of predicted with true individual effect, mean over treatments.

    Returns:
        person_effect_correlation: of the Twin's prediction, the mean of ``futures`` sampled courses; None where predicted
            or true effect is the same for everybody.
        person_effect_ceiling: of a gradient boosting fitted on the histories of ``histories`` of the ``others``.
        person_effect_share: the first over the second; None without both.
        person_effects: by treatment, [Twin, ceiling].
    """
    rng = numpy_generator(seed, "twin", "persons")
    tested = enrol(held_out, rng.integers(len(held_out), size=persons))
    taught = enrol(others, rng.integers(len(others), size=histories), first_id=persons)
    dynamics, trials = TwinDynamics(twin, tested), [make_trial(tested), make_trial(taught)]
    found: dict[str, list[float | None]] = {}
    for treatment in ACTIVE:
        watched, state, truth = _watch(
            trials[0], dynamics, treatment, stream_keys(seed, PERSONS, torch.arange(persons))
        )
        assert state is not None
        predicted = _predicted_effect(dynamics, state, trials[0], treatment, futures, seed)
        known, _, target = _watch(trials[1], None, treatment, stream_keys(seed, HISTORIES, torch.arange(histories)))
        ceiling = HistGradientBoostingRegressor(
            learning_rate=0.06, max_leaf_nodes=15, min_samples_leaf=50, random_state=0
        )
        best = ceiling.fit(known.numpy(), target.numpy()).predict(watched.numpy())
        found[TREATMENTS[treatment]] = [
            correlation(predicted, truth),
            correlation(torch.from_numpy(best).to(truth.dtype), truth),
        ]
    mean = [_mean([pair[which] for pair in found.values()]) for which in (0, 1)]
    return {
        "person_effect_correlation": mean[0],
        "person_effect_ceiling": mean[1],
        "person_effect_share": None if mean[0] is None or not mean[1] else mean[0] / mean[1],
        "person_effects": found,
    }


def _watch(
    trial: Trial, dynamics: TwinDynamics | None, treatment: int, keys: Tensor
) -> tuple[Tensor, State | None, Tensor]:
    """All patients of ``trial`` under one treatment: what was seen of them as features ``[B, F]``, the Twin's state (if
    asked), and the true effect ``[B]`` of going on."""
    patients, rows = trial.patients, torch.arange(len(keys))
    truth, state = trial.start(rows, keys), None if dynamics is None else dynamics.start(rows, keys)
    plan = constant(treatment, PERSON_DOSE, len(rows), WATCHED)
    seen = [patients.features, *_summary(patients, patients.week)]
    for week in range(WATCHED):
        action = plan[0][:, week], plan[1][:, week]
        truth, outcome = trial.step(truth, *action, stream_keys(keys, week))
        seen += [*_summary(patients, outcome.week), outcome.adverse[:, None].float()]
        if dynamics is not None and state is not None:
            state = dynamics.observe(state, *action, outcome.week, outcome.adverse)
    on = trial.expected_levels(truth, plan[0][:, 0], plan[1][:, 0], AHEAD)
    off = trial.expected_levels(truth, plan[0][:, 0] * CONTROL, plan[1][:, 0] * 0, AHEAD)
    return torch.cat(seen, dim=1), state, _benefit((on - off).mean(dim=1), trial)


def _summary(patients: Patients, week: Tensor) -> list[Tensor]:
    """Mean, sd and last day of weeks ``[B, 7, C]`` in z."""
    scaled = patients.scaler.scale(week)
    return [scaled.mean(dim=1), scaled.std(dim=1), scaled[:, -1]]


def _benefit(change: Tensor, trial: Trial) -> Tensor:
    """A change of level ``[B, C]`` summed over signals in their healthy direction and between-person sd."""
    return change @ (trial.better / trial.between)


def _predicted_effect(
    dynamics: TwinDynamics, state: State, trial: Trial, treatment: int, futures: int, seed: int
) -> Tensor:
    """``[B]``: as the Twin sees it from ``state``, going on and stopping with the same random numbers."""
    copies = {name: torch.cat([value] * futures) for name, value in state.items()}
    many = copies["rows"]
    keys = stream_keys(seed, FUTURES, torch.arange(len(many)))

    def course(plan: Actions) -> Tensor:
        return torch.stack([outcome.level for outcome in rollout(dynamics, many, plan, keys, copies)]).mean(dim=0)

    on = course(constant(treatment, PERSON_DOSE, len(many), AHEAD))
    off = course(constant(CONTROL, 0.0, len(many), AHEAD))
    return _benefit(on - off, trial).view(futures, -1).mean(dim=0)


def correlation(x: Tensor, y: Tensor) -> float | None:
    """Pearson's correlation of ``[N]`` with ``[N]``; None where one of them does not vary."""
    if bool((x == x[0]).all() | (y == y[0]).all()):
        return None
    return float(torch.corrcoef(torch.stack([x, y]))[0, 1])


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None
