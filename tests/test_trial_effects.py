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
from intervention.baselines import Action, Constant, Memoryless, Policy
from intervention.evaluation import courses, run_policy
from intervention.trial_effects import (
    Arms,
    Finding,
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
from pipeline.published_table import measure, published_table
from pipeline.store import RunStore
from pipeline.trial_table import learning_lines

N, WEEKS = 60, 12
DOSES = (0.1, 0.25, 0.5, 0.75, 1.0)
CBT = TREATMENTS.index("cbt")
PLAIN = {
    "response_sigma": 0.0, "onset_weeks": 0.01, "adherence": 1.0, "adherence_fall": 0.0, "disengagement": 0.0, "hazard": 0.0,
    "side_effect": {},
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
    share = finding(0, 0, 0, measure="remission", metric="share")
    assert measure(shipped, course, share)[0] == pytest.approx(float(course.remitted[-1].float().mean()))


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


def test_whether_it_is_worth_learning_is_said_as_measured() -> None:
    def lines(stepped: float, constant: float, privileged: float) -> list[str]:
        returns = {"stepped_care": stepped, "best_constant": constant, "privileged": privileged, "none": 1.0}
        policies = {name: {"return": value} for name, value in returns.items()}
        return learning_lines({"policies": policies, "best_constant": "cbt_0.5"}).split("\n")

    _, constant, privileged = lines(4.0, 3.0, 5.2)
    assert "25% below" in constant and "[green]met" in constant
    assert "1.30 times" in privileged and "[green]met" in privileged
    _, constant, privileged = lines(4.0, 3.1, 5.1)
    assert "22% below" in constant and "not met" in constant and "not met" in privileged
    assert all("no ratio" in line and "not met" in line for line in lines(-1.0, 3.0, 5.0)[1:])
    assert "no evaluate stage" in learning_lines(None)


class StopAndGo(Memoryless):
    """A planted cheat: treats until the patient is nearly well, pauses until they are not, and so on for ever."""

    def __init__(self, treatment: int, margin: float) -> None:
        self.treatment, self.margin = treatment, margin

    def act(self, simulation: Simulation, observation: torch.Tensor, keys: torch.Tensor) -> Action:
        ill = simulation.risk >= simulation.settings.remission_threshold + self.margin
        return torch.where(ill, self.treatment, 0), torch.full((len(ill),), 0.6)


@pytest.mark.parametrize("treatment", TREATMENTS[1:])
def test_hovering_around_remission_never_earns_more_than_remitting(treatment: str) -> None:
    many, choice = people(800, seed=5), TREATMENTS.index(treatment)
    rows = world(trial_settings(), many, 1).pool

    def course(policy: Policy) -> tuple[np.ndarray, np.ndarray]:
        episodes = run_policy("p", policy, world(trial_settings(), many, len(rows)), rows, 0)
        table = courses(episodes).loc["p"]
        return table["return"].to_numpy(), table["remission"].to_numpy() > 0

    (kept, cured), (paused, recovered) = course(Constant(choice, 0.6)), course(StopAndGo(choice, 0.1))
    hovers = cured & ~recovered
    assert hovers.sum() >= 10
    assert (kept[hovers] > paused[hovers]).all()
    assert kept.mean() > paused.mean()


def test_the_command_tells_it_in_a_hundred_columns_as_the_evaluation_found_it(smoke: RunStore) -> None:
    told = run_here("preset=smoke", f"runs_dir={smoke.root.parent}", "stage=trial", "wide_threads=1")
    for text in ("Effects at 8 weeks", "Beside what was published", "Whiteford 2013", "flat", "Onset", "Remission within",
                 "Is it worth learning?", "not medical advice"):  # fmt: skip
        assert text in told
    assert max(map(len, told.splitlines())) <= 100
    policies = smoke.metrics("evaluate")["policies"]
    untreated = next(line for line in told.splitlines() if line.startswith("Control   ") and "%" in line)
    assert f"{policies['none']['remission']:.1%}" in untreated  # the same patients with the same luck
    assert f"return of stepped care {policies['stepped_care']['return']:.2f}" in told


def test_a_run_without_what_it_needs_is_told_how_to_make_it(tmp_path) -> None:
    with pytest.raises(MissingStageError, match=r"'source' has not been run; make it with `python run_pipeline.py"):
        run_here("preset=smoke", f"runs_dir={tmp_path}", "stage=trial")
