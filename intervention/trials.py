"""Virtual clinical trials: courses of treatment in a teacher that knows what each action would do.

Persons are drawn with replacement, each course with a person of its own latent response, and treated as one arm says:

    random    segments of 1 to `longest` weeks, each one treatment (or Control) at one intensity
    constant  one treatment (or Control) at one intensity, all weeks
    stepped   app -> CBT -> exercise -> medication, a step every few weeks, intensity rising
    rotating  two or three treatments in turn, a week or two each, every one at its own intensity

A Twin is only right about what trials have shown: without rotation it took weekly turns for better than they are, and
agents found out.

Beside what happened, a course keeps what the teacher expected under the action taken and under each of the five
treatments at another intensity (differences between actions for the same history, free of noise), and what would have
come of each.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from core.errors import DataError
from core.patients import Patients
from core.protocols import Dynamics, State, Tracker
from core.random import numpy_generator, stream_keys
from core.settings import Count, Fraction, Positive
from core.treatments import CONTROL, MAX_INTENSITY, MIN_INTENSITY, TREATMENTS
from intervention.streams import TRIALS


class Teacher(Dynamics, Protocol):
    """Dynamics that know the expected level ``[B, C]`` (physical, free of noise) of the coming week."""

    def expected_level(self, state: State, treatment: Tensor, intensity: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class TrialsSettings:
    """The design of the virtual trials."""

    courses: Count  # how many courses are simulated
    weeks: Count  # length of a course
    longest: Count  # longest segment of a random arm, weeks
    control_share: Fraction  # share of Control among segments and constant arms
    constant_share: Fraction  # share of courses in a constant arm
    stepped_share: Fraction  # share of courses in a stepped arm
    rotating_share: Fraction  # share of courses in a rotating arm; the rest is random
    dose_ends: Positive  # of the beta law of intensities: 1 draws all alike, less the least and the full one more often
    batch: Count  # courses simulated at once


@dataclass(frozen=True)
class VirtualTrials:
    """N courses of W weeks; physical units.

    Attributes:
        patient: int64 ``[N]``, the row of the person in the patients given; split by it.
        treatment, intensity, adverse: int64, float32, bool ``[N, W]``; Control's intensity is 0.
        weeks: float32 ``[N, W, 7, C]``, what was observed.
        true_level: float32 ``[N, W, C]``, the level the week then really had.
        level: float32 ``[N, W, C]``, the teacher's expected level under the action taken, as seen before the week.
        alternative_intensity: float32 ``[N, W, 5]``, at which each treatment was weighed instead.
        alternative_level: float32 ``[N, W, 5, C]``, the teacher's expected level under it, for the same history.
        alternative_true_level, alternative_adverse: float32 ``[N, W, 5, C]``, bool ``[N, W, 5]``, the level and the event
            that would then have come, with the same luck.
    """

    patient: np.ndarray
    treatment: np.ndarray
    intensity: np.ndarray
    adverse: np.ndarray
    weeks: np.ndarray
    true_level: np.ndarray
    level: np.ndarray
    alternative_intensity: np.ndarray
    alternative_level: np.ndarray
    alternative_true_level: np.ndarray
    alternative_adverse: np.ndarray

    def __len__(self) -> int:
        return len(self.patient)

    def select(self, rows: np.ndarray) -> "VirtualTrials":
        return VirtualTrials(**{name: array[rows] for name, array in self.to_arrays().items()})

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Named arrays for an npz file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "VirtualTrials":
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def split_by_patient(
    trials: VirtualTrials, share: float, rng: np.random.Generator
) -> tuple[VirtualTrials, VirtualTrials]:
    """(training, validation) courses with no person in both; ``share`` of the persons, at least one, validate.

    Raises:
        DataError: fewer than two persons.
    """
    persons = rng.permutation(np.unique(trials.patient))
    if len(persons) < 2:
        raise DataError(
            f"trials: courses of {len(persons)} person, expected 2 or more to train and validate on; add some"
        )
    count = min(max(1, round(share * len(persons))), len(persons) - 1)
    held = np.isin(trials.patient, persons[:count])
    return trials.select(~held), trials.select(held)


def simulate_trials(
    make_teacher: Callable[[Patients], Teacher],
    patients: Patients,
    settings: TrialsSettings,
    seed: int,
    tracker: Tracker,
) -> VirtualTrials:
    """Run the courses; a pure function of its arguments.

    ``make_teacher`` builds the teacher over given patients, for Trial
    ``lambda people: Trial(people, trial_settings, seed)``. The persons it gets have new ids, one a course.
    """
    rng = numpy_generator(seed, "trials")
    row = rng.integers(len(patients), size=settings.courses)
    treatment, intensity = assign_arms(settings, rng)
    weighed = drawn_doses(settings, rng, (*treatment.shape, len(TREATMENTS))).astype(np.float32)
    weighed[..., CONTROL] = 0
    starts = range(0, settings.courses, settings.batch)
    parts = []
    for start in tracker.track(starts, "Virtual trials", len(starts)):
        part = np.arange(start, min(start + settings.batch, settings.courses))
        people = enrol(patients, row[part], first_id=start)
        parts.append(_run(make_teacher(people), treatment[part], intensity[part], weighed[part], part, seed))
    joined = {name: np.concatenate([outcome[name] for outcome in parts]) for name in parts[0]}
    return VirtualTrials(patient=row, treatment=treatment, intensity=intensity, alternative_intensity=weighed, **joined)


def enrol(patients: Patients, rows: np.ndarray, first_id: int = 0) -> Patients:
    """The patients in ``rows`` (repeats welcome), each as a person of its own: ids ``first_id``, ``first_id`` + 1, ...,
    hence latent responses of their own."""
    return replace(patients.select(rows), ids=first_id + np.arange(len(rows), dtype=np.int64))


def drawn_doses(settings: TrialsSettings, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Intensities of the design, by a symmetric beta law from the least to the full one."""
    return MIN_INTENSITY + (MAX_INTENSITY - MIN_INTENSITY) * rng.beta(settings.dose_ends, settings.dose_ends, shape)


def assign_arms(settings: TrialsSettings, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Treatment int64 and intensity float32 ``[courses, weeks]`` of every course."""
    n, weeks = settings.courses, settings.weeks
    arm = rng.uniform(size=n)
    share = np.cumsum([settings.constant_share, settings.stepped_share, settings.rotating_share])
    constant, stepped, rotating = (np.searchsorted(share, arm, side="right") == kind for kind in range(3))

    # the segment each week belongs to: how many segments have ended before it
    length = rng.integers(1, settings.longest + 1, (n, weeks))
    length[constant] = weeks
    segment = (length.cumsum(axis=1)[:, None, :] <= np.arange(weeks)[:, None]).sum(axis=2)  # (N, W)
    active = rng.integers(CONTROL + 1, len(TREATMENTS), (n, weeks))
    chosen = np.where(rng.uniform(size=(n, weeks)) < settings.control_share, CONTROL, active)
    dose = drawn_doses(settings, rng, (n, weeks))
    treatment = np.take_along_axis(chosen, segment, axis=1)
    intensity = np.take_along_axis(dose, segment, axis=1)

    pace = rng.integers(2, 5, (n, 1))  # weeks a step lasts
    step = np.minimum(np.arange(weeks) // pace + rng.integers(0, 2, (n, 1)), len(TREATMENTS) - 1)
    rising = np.clip(dose[:, :1] * (1 + 0.3 * (np.arange(weeks) % pace)), MIN_INTENSITY, MAX_INTENSITY)
    treatment = np.where(stepped[:, None], step, treatment)
    intensity = np.where(stepped[:, None], rising, intensity)

    order = rng.permuted(np.tile(np.arange(CONTROL + 1, len(TREATMENTS)), (n, 1)), axis=1)
    turn = np.arange(weeks) // rng.integers(1, 3, (n, 1)) % rng.integers(2, 4, (n, 1))  # which is whose
    treatment = np.where(rotating[:, None], np.take_along_axis(order, turn, axis=1), treatment)
    intensity = np.where(rotating[:, None], np.take_along_axis(dose, turn, axis=1), intensity)
    intensity = np.where(treatment == CONTROL, 0.0, intensity)
    return treatment.astype(np.int64), intensity.astype(np.float32)


def _run(
    teacher: Teacher,
    treatment: np.ndarray,
    intensity: np.ndarray,
    weighed: np.ndarray,
    course: np.ndarray,
    seed: int,
) -> dict[str, np.ndarray]:
    """The outcome arrays of one batch of courses."""
    treatments, intensities = torch.from_numpy(treatment), torch.from_numpy(intensity)
    doses = torch.from_numpy(weighed)
    ids = torch.from_numpy(course)
    state = teacher.start(torch.arange(len(course)), stream_keys(seed, TRIALS, ids, 0))
    found: dict[str, list[Tensor]] = {}

    def keep(**values: Tensor) -> None:
        for name, value in values.items():
            found.setdefault(name, []).append(value)

    for week in range(treatment.shape[1]):
        action, keys = (treatments[:, week], intensities[:, week]), stream_keys(seed, TRIALS, ids, week + 1)
        others = [(torch.full_like(ids, other), doses[:, week, other]) for other in range(len(TREATMENTS))]
        would = [teacher.step(state, *other, keys)[1] for other in others]
        keep(
            level=teacher.expected_level(state, *action),
            alternative_level=torch.stack([teacher.expected_level(state, *other) for other in others], dim=1),
            alternative_true_level=torch.stack([outcome.level for outcome in would], dim=1),
            alternative_adverse=torch.stack([outcome.adverse for outcome in would], dim=1),
        )
        state, outcome = teacher.step(state, *action, keys)
        keep(adverse=outcome.adverse, weeks=outcome.week, true_level=outcome.level)
    return {name: torch.stack(values, dim=1).numpy() for name, values in found.items()}
