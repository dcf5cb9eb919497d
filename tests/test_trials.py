"""Virtual trials: arms, courses, what would have come of other actions, and how they are split."""

import numpy as np
import pytest
import torch
from helpers_twin import EFFECTS, Linear, Lucky, design, load, make_patients, small_trials

from core.errors import DataError
from core.patients import Patients
from core.protocols import NullTracker
from core.random import numpy_generator
from core.signals import DAYS
from core.treatments import CONTROL, MAX_INTENSITY, MIN_INTENSITY, TREATMENTS
from envs.trial import Trial, TrialSettings
from intervention.trials import VirtualTrials, _run, assign_arms, enrol, simulate_trials, split_by_patient


@pytest.fixture(scope="module")
def patients() -> Patients:
    return make_patients()


@pytest.fixture(scope="module")
def trials(patients: Patients) -> VirtualTrials:
    return small_trials(patients)


# --- arms -------------------------------------------------------------------------------------------------------------


def test_arms_hold_what_the_design_asks_for() -> None:
    treatment, intensity = assign_arms(design(courses=2000), np.random.default_rng(0))
    assert treatment.shape == intensity.shape == (2000, 12)
    assert set(np.unique(treatment)) == set(range(len(TREATMENTS)))
    assert (intensity[treatment == CONTROL] == 0).all()
    active = intensity[treatment != CONTROL]
    assert active.min() >= MIN_INTENSITY and active.max() <= MAX_INTENSITY
    changes = (treatment[:, 1:] != treatment[:, :-1]).mean()
    assert 0.1 < changes < 0.5  # held for weeks, yet not for ever


def test_stepped_arms_climb_in_order() -> None:
    treatment, intensity = assign_arms(
        design(courses=200, constant_share=0.0, stepped_share=1.0, rotating_share=0.0), np.random.default_rng(0)
    )
    assert (np.diff(treatment, axis=1) >= 0).all() and (treatment[:, -1] >= 2).all()
    assert (intensity[treatment == CONTROL] == 0).all()


def test_constant_arms_never_change() -> None:
    treatment, intensity = assign_arms(
        design(courses=200, constant_share=1.0, stepped_share=0.0, rotating_share=0.0), np.random.default_rng(0)
    )
    assert (treatment == treatment[:, :1]).all() and (intensity == intensity[:, :1]).all()


def test_rotating_arms_take_turns_at_one_intensity_each() -> None:
    treatment, intensity = assign_arms(
        design(courses=300, constant_share=0.0, stepped_share=0.0, rotating_share=1.0), np.random.default_rng(0)
    )
    assert treatment.min() > CONTROL
    kinds, periods = set(), set()
    for taken, dose in zip(treatment, intensity, strict=True):
        of = {int(t): set(dose[taken == t].tolist()) for t in taken}
        assert all(len(doses) == 1 for doses in of.values())
        kinds.add(len(of))
        periods.add(next(p for p in range(1, 12) if (taken[p:] == taken[:-p]).all()))
    assert kinds == {2, 3} and periods == {2, 3, 4, 6}  # two or three treatments, of a week or two each


def test_shares_of_the_arms_are_those_asked_for() -> None:
    treatment, _ = assign_arms(
        design(courses=20_000, constant_share=0.5, stepped_share=0.0, rotating_share=0.5), np.random.default_rng(0)
    )
    never = (treatment == treatment[:, :1]).all(axis=1)
    assert never.mean() == pytest.approx(0.5, abs=0.015)


# --- courses ----------------------------------------------------------------------------------------------------------


def test_trials_record_the_teacher_and_do_not_depend_on_the_batch(patients: Patients, trials: VirtualTrials) -> None:
    again = small_trials(patients, batch=77)
    for name, array in trials.to_arrays().items():
        assert np.array_equal(array, again.to_arrays()[name]), name
    base = patients.week.mean(dim=1).numpy()[trials.patient]
    expected = base[:, None] + trials.intensity[..., None] * EFFECTS.numpy()[trials.treatment]
    assert np.allclose(trials.level, expected, atol=1e-4)
    others = base[:, None, None] + trials.alternative_intensity[..., None] * EFFECTS.numpy()
    assert np.allclose(trials.alternative_level, others, atol=1e-4)
    assert trials.weeks.shape == (300, 4, DAYS, 4) and trials.weeks.dtype == np.float32
    other_seed = simulate_trials(Linear, patients, design(courses=300, weeks=4, batch=128), 1, NullTracker())
    assert not np.array_equal(trials.weeks, other_seed.weeks)


def test_what_would_have_come_has_the_luck_of_what_came(patients: Patients) -> None:
    """The week's luck is the same under every action: it moves all levels alike, and spares whoever takes less."""
    found = simulate_trials(Lucky, patients, design(courses=200, weeks=4, batch=77), 0, NullTracker())
    luck = found.true_level - found.level
    assert 0.25 < luck.std() < 0.35
    assert np.allclose(found.alternative_true_level - found.alternative_level, luck[:, :, None], atol=1e-4)
    less = (found.treatment != CONTROL)[..., None] & (found.alternative_intensity <= found.intensity[..., None])
    assert not (found.alternative_adverse & less & ~found.adverse[..., None]).any()
    more = (found.alternative_intensity >= found.intensity[..., None])[..., 1:]
    assert found.alternative_adverse[..., 1:][more & found.adverse[..., None]].all()
    assert not found.alternative_adverse[..., CONTROL].any()
    rate = found.alternative_adverse[..., 1:].mean()
    assert rate == pytest.approx(found.alternative_intensity[..., 1:].mean(), abs=0.02)


def test_the_action_taken_is_the_alternative_at_its_own_intensity(patients: Patients) -> None:
    """In Trial, with events and side effects: weighed at the intensity taken, what would have come is what came."""
    n, weeks, rng = 60, 6, np.random.default_rng(0)
    treatment, intensity = assign_arms(design(courses=n, weeks=weeks), rng)
    weighed = np.repeat(intensity[..., None], len(TREATMENTS), axis=-1)
    teacher = Trial(enrol(patients, rng.integers(len(patients), size=n)), load("trial.yaml", "trial", TrialSettings), 0)
    found = _run(teacher, treatment, intensity, weighed, np.arange(n), 0)
    taken = treatment[..., None]
    for name in ("true_level", "level"):
        own = np.take_along_axis(found[f"alternative_{name}"], taken[..., None], axis=2)[:, :, 0]
        assert np.array_equal(own, found[name]), name
    own = np.take_along_axis(found["alternative_adverse"], taken, axis=2)[..., 0]
    assert np.array_equal(own, found["adverse"]) and own.any()


def test_enrolled_persons_have_ids_and_responses_of_their_own(patients: Patients) -> None:
    rows = np.array([3, 3, 3, 7])
    people = enrol(patients, rows, first_id=10)
    assert people.ids.tolist() == [10, 11, 12, 13]
    assert torch.equal(people.week, patients.week[rows]) and torch.equal(people.features, patients.features[rows])
    assert patients.ids.tolist() == list(range(40))  # those drawn from stay who they are
    response = Trial(people, load("trial.yaml", "trial", TrialSettings), 0).response
    assert (response[0] != response[1]).all() and (response[1] != response[2]).all()
    later = Trial(enrol(patients, rows[1:], first_id=11), load("trial.yaml", "trial", TrialSettings), 0).response
    assert torch.equal(response[1:], later)  # by its id, whoever else is enrolled


def test_no_two_courses_share_a_person(patients: Patients) -> None:
    seen: list[np.ndarray] = []

    def teacher(people: Patients) -> Linear:
        seen.append(people.ids)
        return Linear(people)

    simulate_trials(teacher, patients, design(courses=100, weeks=1, batch=30), 0, NullTracker())
    assert np.array_equal(np.concatenate(seen), np.arange(100))


# --- the split --------------------------------------------------------------------------------------------------------


def test_split_is_by_patient_and_arrays_round_trip(trials: VirtualTrials) -> None:
    train, validation = split_by_patient(trials, 0.25, numpy_generator(0, "split"))
    assert not set(train.patient) & set(validation.patient)
    assert len(train) + len(validation) == len(trials)
    assert len(np.unique(validation.patient)) == 10
    copy = VirtualTrials.from_arrays(trials.to_arrays())
    assert all(
        np.array_equal(a, b) for a, b in zip(copy.to_arrays().values(), trials.to_arrays().values(), strict=True)
    )


def test_one_person_cannot_be_split(trials: VirtualTrials) -> None:
    two = trials.select(np.isin(trials.patient, np.unique(trials.patient)[:2]))
    for share in (0.0, 0.25, 1.0):
        assert all(len(part) for part in split_by_patient(two, share, numpy_generator(0, "split")))
    with pytest.raises(DataError, match="2 or more"):
        split_by_patient(two.select(two.patient == two.patient[0]), 0.25, numpy_generator(0, "split"))
