"""What Trial implies: effects against closed forms, dose and onset curves that were planted, and how it is told."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import run_here
from helpers_envs import env_settings, people, trial_settings
from rich.console import Console

from core.errors import MissingStageError
from core.patients import Patients
from core.protocols import NullTracker
from core.signals import names
from core.treatments import TREATMENTS
from envs.severity import SeverityIndex
from envs.simulation import Simulation
from envs.trial import Trial, TrialSettings
from intervention.baselines import Constant
from intervention.evaluation import SEED_STRIDE, courses, run_policy
from intervention.trial_effects import (
    Arms,
    Finding,
    best_arm,
    compare,
    effect,
    effects,
    gain,
    left_after,
    onset,
    plateau,
    simulate_arms,
)
from pipeline.config import load_config
from pipeline.learning_table import NAMES, requirements
from pipeline.published_table import measure, published_table
from pipeline.store import RunStore

N, WEEKS = 60, 12
DOSES = (0.1, 0.25, 0.5, 0.75, 1.0)
CBT = TREATMENTS.index("cbt")
PLAIN = {
    "response_sigma": 0.0, "onset_weeks": 0.01, "adherence": 1.0, "adherence_fall": 0.0, "disengagement": 0.0, "hazard": 0.0,
    "start_loss": 0.0, "side_effect": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def patients() -> Patients:
    return people(N, seed=3)


def world(settings: TrialSettings, patients: Patients, envs: int) -> Simulation:
    index = SeverityIndex(patients.signals, patients.scaler)
    return Simulation(patients, Trial(patients, settings, 0), index, env_settings(), envs, seed=0)


def arms_of(settings: TrialSettings, patients: Patients, doses: tuple[float, ...] = DOSES) -> Arms:
    simulation = world(settings, patients, 2 * len(patients))
    return simulate_arms(simulation, len(patients), [0, 1], doses, WEEKS, (0.5, 8), NullTracker())


def planted(**changes: object) -> TrialSettings:
    """Trial without anything that would blur an effect; ``changes`` are of every treatment."""
    settings = trial_settings()
    treatments = {name: replace(t, **(PLAIN | changes)) for name, t in settings.treatments.items()}
    return replace(settings, treatments=treatments, modifiers=(), saturation=1000.0)


@pytest.fixture(scope="module")
def shipped(patients: Patients) -> Arms:
    return arms_of(trial_settings(), patients)


def test_controls_effect_is_exactly_nothing(shipped: Arms) -> None:
    for found in effects(shipped, shipped.control, 8).values():
        assert found.difference == 0.0 and found.error == 0.0 and found.d == 0.0
    assert not gain(shipped, shipped.control).any()


def test_without_effects_every_arm_is_control(patients: Patients) -> None:
    arms = arms_of(planted(effect={}), patients, (0.5, 1.0))
    for course in [*arms.treated.values(), *arms.stopped.values()]:
        assert torch.equal(course.level, arms.control.level) and torch.equal(course.risk, arms.control.risk)
        assert torch.equal(course.remitted, arms.control.remitted)


def test_a_planted_effect_is_found_and_a_doubled_one_is_twice_as_large(patients: Patients) -> None:
    """At full dose, at once and for all alike, the difference is the effect: in the sd it is stated in, for everybody."""
    stress = names(patients.signals).index("stress")
    once, twice = (arms_of(planted(effect={"stress": size}), patients, (1.0,)) for size in (-0.2, -0.4))
    between = float(once.patients.scaler.sd[stress] * math.sqrt(trial_settings().signals["stress"].icc))
    for week in (1, 8, 12):
        small, large = (effects(arms, arms.treated[CBT, 1.0], week)["stress"] for arms in (once, twice))
        assert small.difference == pytest.approx(-0.2 * between, rel=1e-3)
        assert large.difference == pytest.approx(2 * small.difference, rel=1e-3)
        assert small.d == pytest.approx(small.difference / small.sd)
        assert small.error < 1e-3 * abs(small.difference)  # common random numbers leave no noise
        assert effects(once, once.treated[CBT, 1.0], week)["heart_rate"].difference == 0.0
    assert effects(twice, twice.treated[CBT, 1.0], 8)["risk"].difference < 0.0


def test_cohens_d_and_its_error_by_hand() -> None:
    """Two streams of three patients: the error counts patients, the sd is pooled over the arms."""
    control, treated = torch.tensor([1.0, 2, 3, 1, 2, 3]), torch.tensor([2.0, 2, 5, 2, 4, 7])
    found = effect(treated, control, 3)
    gaps = np.array([1.0, 1.0, 3.0])
    assert found.difference == pytest.approx(gaps.mean())
    assert found.error == pytest.approx(gaps.std(ddof=1) / math.sqrt(3))
    pooled = math.sqrt((np.var(control.numpy(), ddof=1) + np.var(treated.numpy(), ddof=1)) / 2)
    assert found.d == pytest.approx(gaps.mean() / pooled)
    assert math.isnan(effect(torch.ones(3), torch.ones(3), 3).d)


def test_a_planted_hill_curve_is_recovered(patients: Patients) -> None:
    arms = arms_of(planted(effect={"stress": -0.5}, half_dose=0.3, hill=3.0), patients)
    found = np.array([effects(arms, arms.treated[CBT, dose], 8)["stress"].difference for dose in DOSES])
    doses = np.array(DOSES)
    hill = (1 + 0.3**3) * doses**3 / (doses**3 + 0.3**3)
    np.testing.assert_allclose(found / found[-1], hill, atol=2e-3)


def test_planted_onset_and_washout_are_recovered(patients: Patients) -> None:
    arms = arms_of(planted(effect={"stress": -0.5}, onset_weeks=3.0, washout_weeks=5.0), patients, (0.5,))
    gains, weeks = gain(arms, arms.treated[CBT, 0.5]), (1, 2, 4, 8, 12)
    expected = [(1 - math.exp(-week / 3)) / (1 - math.exp(-12 / 3)) for week in weeks]
    assert onset(gains, weeks) == pytest.approx(expected, abs=2e-3)
    halted = gain(arms, arms.stopped[CBT])
    assert torch.equal(halted[:8], gains[:8])
    assert left_after(halted, 8, 4) == pytest.approx(math.exp(-4 / 5), abs=2e-3)
    nothing = torch.zeros(12)
    assert onset(nothing, weeks) is None and left_after(nothing, 8, 4) is None


def test_untreated_patients_get_better_by_themselves(shipped: Arms) -> None:
    """They are chosen for a bad week: regression to the mean at once, then recovery in part."""
    control = shipped.control
    care = control.before >= env_settings().min_risk
    risk = control.risk[:, care].mean(dim=1)
    assert risk[0] < control.before[care].mean() - 0.03
    assert risk[8:].mean() < risk[0] - 0.01
    assert control.remitted[-1, care].any() and not control.remitted[-1, care].all()
    assert not control.remitted[0].any()  # it takes two weeks
    assert (control.remitted[1:] >= control.remitted[:-1]).all()


def test_the_shape_of_a_dose_curve() -> None:
    doses = (0.2, 0.4, 0.6, 0.8, 1.0)
    assert plateau((0.1, 0.5, 1.0, 0.97, 0.8), doses) == (0.6, 0.6, 0.8)
    assert plateau((0.1, 0.96, 1.0, 1.0, 1.0), doses) == (0.4, 0.6, 1.0)
    assert plateau((-0.1, 0.0, 0.0, -0.2, -0.3), doses) is None


def test_the_shipped_medication_is_flat_and_exercise_turns(patients: Patients) -> None:
    """On the level alone, what adverse events do left out."""
    settings = trial_settings()
    quiet = {name: replace(t, hazard=0.0, response_sigma=0.0) for name, t in settings.treatments.items()}
    arms = arms_of(replace(settings, treatments=quiet), patients)

    def curve(treatment: str) -> list[float]:
        return [float(gain(arms, arms.treated[TREATMENTS.index(treatment), dose])[7]) for dose in DOSES]

    medication, exercise = curve("medication"), curve("exercise")
    assert min(medication[2:]) > 0.85 * max(medication) and medication[0] < 0.3 * max(medication)
    assert exercise[-1] < 0.9 * max(exercise) and exercise[3] == max(exercise)


def finding(value: float | None, low: float | None, high: float | None, **more: object) -> Finding:
    fields = {
        "treatment": "cbt",
        "outcome": "x",
        "measure": "stress",
        "metric": "d",
        "weeks": "8",
        "source": "A 2000 B",
    }
    return Finding(**(fields | more), value=value, low=low, high=high)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "value", "verdict", "miss"),
    [
        ((-0.4, -0.6, -0.2), -0.55, "within", 0.0),
        ((-0.4, -0.6, -0.2), -0.68, "near", -0.08),
        ((-0.4, -0.6, -0.2), -0.05, "outside", 0.15),
        ((-2.0, None, None), -1.6, "near", 0.4),
        ((-2.0, None, None), -1.4, "outside", 0.6),
        ((None, -1.0, 7.0), 7.9, "near", 0.9),
        ((None, -1.0, 7.0), 8.1, "outside", 1.1),
    ],
)
def test_verdicts(given: tuple, value: float, verdict: str, miss: float) -> None:
    found = compare(finding(*given), value)
    assert found[0] == verdict and found[1] == pytest.approx(miss)


def test_what_is_compared_is_in_the_publications_metric(shipped: Arms) -> None:
    course = shipped.treated[CBT, 0.5]
    found = effects(shipped, course, 8)
    assert measure(shipped, course, finding(0, 0, 0))[0] == pytest.approx(found["stress"].d)
    hours = finding(0, 0, 0, measure="sleep_duration", metric="min")
    assert measure(shipped, course, hours)[0] == pytest.approx(60 * found["sleep_duration"].difference)
    share = finding(0, 0, 0, measure="recovered", metric="share")
    below = (course.risk[11] < env_settings().min_risk).float().mean()
    assert measure(shipped, course, share)[0] == pytest.approx(float(below))


def test_published_values_are_sound_and_one_without_its_signal_is_said_to_be_left_out(shipped: Arms) -> None:
    published = load_config().published
    assert {each.treatment for each in published} == set(TREATMENTS)
    for each in published:
        assert each.value is not None or (each.low is not None and each.high is not None)
        if each.value is not None and each.low is not None and each.high is not None:
            assert each.low <= each.value <= each.high
    screen = io.StringIO()
    unknown = finding(1.0, None, None, measure="glucose", outcome="blood sugar")
    Console(file=screen, width=120).print(published_table(shipped, [*published, unknown]))
    assert "Left out, as this run has no such signal: blood sugar" in screen.getvalue()


def row(earned: float) -> dict[str, float]:
    return {"return": earned, "remission": 0.2, "dose_weeks": 5.0, "adverse_events": 0.1}


def test_requirements_are_held_against_what_was_found() -> None:
    def judged(recovered: float = 0.2, **changes: float) -> dict[str, tuple[float | None, bool]]:
        earned = {"stepped_care": 4.0, "best_constant": 3.0, "privileged": 5.2, "none": 1.0, "late": 2.0, "stop_and_go": 2.5,
                  "put_off": 2.9} | changes  # fmt: skip
        found = requirements({name: row(value) for name, value in earned.items()}, recovered)
        return {each.asked.split(":")[0]: (each.found, each.met) for each in found}

    good = judged()
    assert all(met for _, met in good.values())
    assert good["best constant / stepped care"][0] == pytest.approx(0.75)
    assert good["privileged PPO / stepped care"][0] == pytest.approx(1.3)
    for name, bad in {
        "best constant / stepped care": judged(best_constant=3.1),
        "privileged PPO / stepped care": judged(privileged=5.1),
        "waiting": judged(late=4.1),
        "hovering": judged(stop_and_go=3.01),
        "delay of cure": judged(put_off=3.01),
        "natural history": judged(recovered=0.05),
    }.items():
        assert not bad[name][1], name
    nothing = judged(stepped_care=-1.0)
    assert nothing["best constant / stepped care"] == (None, False)
    assert nothing["privileged PPO / stepped care"] == (None, False)


def test_a_return_counts_until_remission_or_the_horizon(patients: Patients) -> None:
    """As courses of the same patients with the same luck are paid."""
    settings = trial_settings()
    arms = simulate_arms(world(settings, patients, N), N, [3], (0.5,), WEEKS + 4, (0.5, 8), NullTracker())
    treatment, dose = best_arm(arms)
    index, rows = SeverityIndex(patients.signals, patients.scaler), torch.arange(N)
    simulation = Simulation(patients, Trial(patients, settings, 0), index, env_settings(), N, seed=3 * SEED_STRIDE)
    table = courses(run_policy("p", Constant(treatment, dose), simulation, rows, 3)).loc["p"]
    np.testing.assert_allclose(arms.treated[treatment, dose].returns.numpy(), table["return"], rtol=1e-4, atol=1e-4)
    assert 0 < table["remission"].mean() < 1


def test_the_command_tells_it_in_a_hundred_columns_as_the_evaluation_found_it(smoke: RunStore) -> None:
    told = run_here("preset=smoke", f"runs_dir={smoke.root.parent}", "stage=trial", "wide_threads=1")
    for text in ("Effects at 8 weeks", "Beside what was published", "Whiteford 2013", "flat", "Onset", "Remission within",
                 "Is it worth learning?", "not medical advice"):  # fmt: skip
        assert text in told
    assert max(map(len, told.splitlines())) <= 100
    policies = smoke.metrics("evaluate")["policies"]
    untreated = next(line for line in told.splitlines() if line.startswith("Control   ") and "%" in line)
    assert f"{policies['none']['remission']:.1%}" in untreated  # the same patients with the same luck
    rows = {
        name: next(line for line in told.splitlines() if line.startswith(NAMES[name]))
        for name in policies.keys() & NAMES.keys()
    }
    assert rows.keys() >= {"stepped_care", "random", "best_constant", "privileged", "ppo"}
    for name in rows.keys() - {"best_constant"}:
        assert f" {policies[name]['return']:.2f} " in rows[name], name
    best = float(rows["best_constant"].removeprefix(NAMES["best_constant"]).split()[0])
    assert best >= round(policies["best_constant"]["return"], 2)  # of more doses than the smoke preset evaluates


def test_a_run_without_what_it_needs_is_told_how_to_make_it(tmp_path) -> None:
    with pytest.raises(MissingStageError, match=r"'source' has not been run; make it with `python run_pipeline.py"):
        run_here("preset=smoke", f"runs_dir={tmp_path}", "stage=trial")
