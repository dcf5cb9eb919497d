"""Trial: its closed forms, its statistics, its privileged answers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_envs import people, trial_settings

from core.errors import ConfigError
from core.random import stream_keys
from core.signals import DEFAULT_SIGNALS, Signal
from core.treatments import TREATMENTS
from envs.trial import ACTIVE, Modifier, Trial, _shifts, check_signals

N = 400
CBT, EXERCISE, MEDICATION = (TREATMENTS.index(name) for name in ("cbt", "exercise", "medication"))


@pytest.fixture(scope="module")
def trial() -> Trial:
    return Trial(people(N), trial_settings(), seed=0)


def start(trial: Trial, n: int = N) -> dict[str, torch.Tensor]:
    rows = torch.arange(n)
    return trial.start(rows, stream_keys(0, rows))


def act(treatment: int, intensity: float, n: int = N) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((n,), treatment), torch.full((n,), intensity)


def run(trial: Trial, treatment: int, intensity: float, weeks: int, seed: int = 1):
    state, outcomes = start(trial), []
    for week in range(weeks):
        state, outcome = trial.step(state, *act(treatment, intensity), stream_keys(seed, state["rows"], week))
        outcomes.append(outcome)
    return state, outcomes


def test_shapes_ranges_and_types(trial):
    state, outcomes = run(trial, MEDICATION, 1.0, 3)
    week = outcomes[-1].week
    assert week.shape == (N, 7, 4) and week.dtype == torch.float32
    assert outcomes[-1].level.shape == (N, 4) and outcomes[-1].adverse.dtype == torch.bool
    for k, signal in enumerate(DEFAULT_SIGNALS):
        assert week[:, :, k].min() >= signal.low and week[:, :, k].max() <= signal.high
    assert all(len(tensor) == N for tensor in state.values())


def test_step_is_pure(trial):
    state = start(trial)
    before = {name: tensor.clone() for name, tensor in state.items()}
    keys = stream_keys(5, state["rows"])
    first, second = (trial.step(state, *act(CBT, 0.7), keys)[1] for _ in range(2))
    assert torch.equal(first.week, second.week)
    assert all(torch.equal(state[name], before[name]) for name in before)


def test_controls_intensity_has_no_effect(trial):
    state, keys = start(trial), stream_keys(5, torch.arange(N))
    low, high = (trial.step(state, *act(0, intensity), keys) for intensity in (0.1, 1.0))
    assert torch.equal(low[1].week, high[1].week)
    assert all(torch.equal(low[0][name], high[0][name]) for name in low[0])


def test_exposure_follows_the_closed_form_of_onset_and_washout():
    settings = trial_settings()
    quiet = {n: replace(t, hazard=0.0, disengagement=0.0, start_loss=0.0) for n, t in settings.treatments.items()}
    trial = Trial(people(N), replace(settings, treatments=quiet), seed=0)
    cbt, tau = CBT - 1, settings.treatments["cbt"]
    state, _ = run(trial, CBT, 0.6, 5)
    target = trial.target_exposure(trial._dose(*act(CBT, 0.6)), torch.zeros(N, len(ACTIVE)))[:, cbt]
    reached = target * (1 - math.exp(-5 / tau.onset_weeks))
    torch.testing.assert_close(state["exposure"][:, cbt], reached)
    for week in range(3):
        state, _ = trial.step(state, *act(0, 0.1), stream_keys(9, state["rows"], week))
    torch.testing.assert_close(state["exposure"][:, cbt], reached * math.exp(-3 / tau.washout_weeks))


def test_a_week_that_begins_a_treatment_does_less_and_so_does_one_that_begins_it_anew():
    """Against the closed form, and against itself: the same weeks in turns reach less than in a row."""
    settings = trial_settings()
    quiet = {name: replace(t, hazard=0.0, disengagement=0.0) for name, t in settings.treatments.items()}
    trial = Trial(people(N), replace(settings, treatments=quiet), seed=0)
    cbt, own = CBT - 1, settings.treatments["cbt"]
    assert all(0 < t.start_loss < 1 for t in settings.treatments.values())
    target = trial.target_exposure(trial._dose(*act(CBT, 0.6)), torch.zeros(N, len(ACTIVE)))[:, cbt]
    kept = math.exp(-1 / own.onset_weeks)
    state, _ = run(trial, CBT, 0.6, 1)
    torch.testing.assert_close(state["exposure"][:, cbt], target * (1 - own.start_loss) * (1 - kept))
    state, _ = run(trial, CBT, 0.6, 2)
    torch.testing.assert_close(
        state["exposure"][:, cbt], target * ((1 - kept) + kept * (1 - own.start_loss) * (1 - kept))
    )

    def reached(plan: list[int]) -> torch.Tensor:
        state = start(trial)
        for week, treatment in enumerate(plan):
            state, _ = trial.step(state, *act(treatment, 0.6), stream_keys(9, state["rows"], week))
        return state["exposure"]

    row, turns = reached([EXERCISE] * 3 + [CBT] * 3), reached([EXERCISE, CBT] * 3)
    assert (turns[:, cbt] < row[:, cbt]).all()
    lossless = {name: replace(t, start_loss=0.0) for name, t in quiet.items()}
    free = Trial(people(N), replace(settings, treatments=lossless), seed=0)
    state, _ = run(free, CBT, 0.6, 1)
    torch.testing.assert_close(state["exposure"][:, cbt], target * (1 - kept))


def test_dose_curve_plateaus_for_medication_and_turns_for_exercise(trial):
    doses = torch.linspace(0, 1, 101)

    def curve(treatment: int) -> torch.Tensor:
        dose = torch.zeros(101, len(ACTIVE))
        dose[:, treatment - 1] = doses
        return trial.target_exposure(dose, torch.zeros_like(dose))[:, treatment - 1]

    medication, exercise = curve(MEDICATION), curve(EXERCISE)
    assert medication[0] == 0 and exercise[0] == 0
    assert medication[50] > 0.95 * medication[100]  # flat from the middle on
    assert 0.5 < doses[exercise.argmax()] < 0.9  # asking for more gets less done
    settings = trial.settings.treatments["medication"]
    half = 1 / 2 * (1 + settings.half_dose**settings.hill) * settings.adherence
    half *= 1 - settings.adherence_fall * settings.half_dose**2
    assert medication[25].item() == pytest.approx(half, rel=1e-4)


def test_engagement_decays_week_by_week(trial):
    """Each treatment at its own rate, the app fastest; weeks spent on one do not tire of another."""
    rates = {name: trial.settings.treatments[name].disengagement for name in ACTIVE}
    assert max(rates, key=rates.get) == "app"
    for place, name in enumerate(ACTIVE):
        dose, weeks = trial._dose(*act(place + 1, 0.5, 1)), torch.zeros(1, len(ACTIVE))
        fresh = trial.target_exposure(dose, weeks)[0, place]
        weeks[0, place] = 10.0
        assert trial.target_exposure(dose, weeks)[0, place] / fresh == pytest.approx(
            math.exp(-10 * rates[name]), rel=1e-5
        )
        assert trial.target_exposure(dose, 10.0 - weeks)[0, place] == fresh


def test_days_have_the_settings_lag_correlation_and_weekend():
    """Residuals around the true level, over many undrifting weeks."""
    settings = replace(trial_settings(), drift_sd=0.0)
    settings = replace(settings, signals={n: replace(s, irregularity=0.0) for n, s in settings.signals.items()})
    trial = Trial(people(3000, seed=1), settings, seed=0)
    rows = torch.arange(3000)
    state = trial.start(rows, rows)
    for week in range(6):
        state, outcome = trial.step(state, *act(0, 0.1, 3000), stream_keys(2, rows, week))
    pattern = trial.within * trial.weekend
    residual = ((outcome.week - outcome.level[:, None] - pattern) / trial.within).numpy()
    for k, signal in enumerate(DEFAULT_SIGNALS):
        expected = settings.signals[signal.name]
        lag1 = np.corrcoef(residual[:, :-1, k].ravel(), residual[:, 1:, k].ravel())[0, 1]
        assert lag1 == pytest.approx(expected.lag1, abs=0.03)
        assert residual[:, :, k].std() == pytest.approx(1.0, abs=0.06)
        days = (outcome.week - outcome.level[:, None])[:, :, k].numpy() / trial.within[k].item()
        assert days[:, 5:].mean() - days[:, :5].mean() == pytest.approx(expected.weekend, abs=0.05)
    same_day = np.corrcoef(residual.reshape(-1, 4).T)
    assert same_day[1, 3] == pytest.approx(-0.28, abs=0.03)
    assert same_day[0, 1] == pytest.approx(0.20, abs=0.03)


def test_residual_carries_over_from_sunday_to_monday(trial):
    state = start(trial)
    heart = 2
    sundays, mondays = [], []
    for week in range(4):
        sundays.append(state["residual"][:, heart])
        state, outcome = trial.step(state, *act(0, 0.1), stream_keys(3, state["rows"], week))
        centred = outcome.week[:, 0, heart] - outcome.level[:, heart]
        mondays.append(centred / trial.within[heart] - trial.weekend[0, heart])
    together = np.corrcoef(torch.cat(sundays[1:]).numpy(), torch.cat(mondays[1:]).numpy())[0, 1]
    assert together == pytest.approx(trial.settings.signals["heart_rate"].lag1, abs=0.05)


def test_start_reads_the_last_sunday_as_step_writes_a_day():
    patients = people(N)
    trial = Trial(patients, trial_settings(), seed=0)
    state = start(trial)
    level = trial._standing(state)
    spread = trial._spread(level)
    assert (spread - 1).abs().max() > 0.05  # so that the order of spread and weekend counts
    sunday = trial._physical(level) + trial.within * (spread * state["residual"] + trial.weekend[-1])
    inside = state["residual"].abs() < 3
    assert inside.float().mean() > 0.9
    torch.testing.assert_close(sunday[inside], patients.week[:, -1][inside], rtol=1e-4, atol=1e-3)


def test_latents_belong_to_the_person_not_to_their_row(trial):
    patients = people(N)
    rows = np.arange(N - 1, -1, -2)
    part = Trial(patients.select(rows), trial_settings(), seed=0)
    torch.testing.assert_close(part.response, trial.response[torch.from_numpy(rows.copy())], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(Trial(patients, trial_settings(), seed=1).response, trial.response)


def test_profile_shifts_the_response(trial):
    insomnia = (trial.patients.profiles["sleep_disorder"] == "Insomnia").to_numpy()
    plain = Trial(trial.patients, replace(trial.settings, modifiers=()), seed=0)
    ratio = (trial.response / plain.response).numpy()
    [own] = [m for m in trial.settings.modifiers if m.level == "Insomnia"]
    with_it, without = ratio[insomnia, CBT - 1], ratio[~insomnia, CBT - 1]
    assert (
        own.shift > 0
        and np.ptp(without) < 1e-4
        and with_it == pytest.approx(math.exp(own.shift) * without[0], rel=1e-3)
    )
    assert (ratio[:, EXERCISE - 1][trial.patients.profiles["physical_activity"] < 30] > 1).all()


def test_modifiers_leave_the_mean_response_as_it_is():
    """So that a cohort that lacks their columns meets the same effects: of a level in its share, of a Gaussian number."""
    rng, n = np.random.default_rng(0), 20_000
    patients = people(n)
    profiles = patients.profiles.assign(
        age=rng.normal(40, 10, n), sleep_disorder=np.where(rng.uniform(size=n) < 0.35, "Insomnia", "No disorder")
    )
    patients = replace(patients, profiles=profiles, encoder=replace(patients.encoder, numeric={"age": (40.0, 10.0)}))
    for modifier in (Modifier("sleep_disorder", "Insomnia", 0.35, "cbt", 1.5), Modifier("age", "", None, "cbt", -0.8)):
        factor = np.exp(_shifts(patients, replace(trial_settings(), modifiers=(modifier,)))[:, CBT - 1])
        assert factor.mean() == pytest.approx(1.0, abs=0.04) and factor.std() > 0.5
    with pytest.raises(ConfigError, match=r"trial\.modifiers.*share"):
        Trial(people(30), replace(trial_settings(), modifiers=(replace(modifier, level="Insomnia"),)), seed=0)
    with pytest.raises(ConfigError, match=r"trial\.modifiers.*share"):
        Trial(people(30), replace(trial_settings(), modifiers=(replace(modifier, share=0.5),)), seed=0)


def test_baseline_is_shrunken_to_the_population(trial):
    raw = (trial.patients.week.mean(dim=1) - trial.mean) / trial.between
    factor = trial.deviation / raw
    assert ((factor > 0) & (factor < 1)).all()
    assert factor[:, 2].mean() > 0.85 > factor[:, 0].mean()  # heart rate is the most reliable


def test_expected_levels_are_the_mean_of_many_steps():
    settings = trial_settings()
    trial = Trial(people(1), settings, seed=0)
    rows = torch.zeros(6000, dtype=torch.int64)
    state = trial.start(rows, rows)
    action = act(MEDICATION, 0.9, 6000)
    expected = trial.expected_levels(trial.start(rows[:1], rows[:1]), action[0][:1], action[1][:1], 4)[0]
    torch.testing.assert_close(expected[0], trial.expected_level(state, *action)[0])
    for week in range(4):
        state, outcome = trial.step(state, *action, stream_keys(11, torch.arange(6000), week))
        error = (outcome.level.mean(dim=0) - expected[week]) / trial.between
        assert error.abs().max() < 0.02


def test_natural_recovery_is_partial_and_only_of_what_is_unhealthy(trial):
    levels = trial.expected_levels(start(trial), *act(0, 0.1), 52)
    z = (levels - trial.mean) / trial.between * trial.better
    first = trial.deviation * trial.better
    unhealthy, settings = first < -0.2, trial.settings
    passed = settings.recovery_share * (1 - math.exp(-52 / settings.recovery_weeks))
    assert z[:, -1][unhealthy].div(first[unhealthy]).mean().item() == pytest.approx(1 - passed, abs=0.01)
    torch.testing.assert_close(z[:, -1][first > 0], first[first > 0], atol=2e-4, rtol=1e-3)


def test_adverse_events_follow_hazard_dose_and_frailty(trial):
    _, outcomes = run(trial, MEDICATION, 1.0, 12)
    rate = torch.stack([o.adverse for o in outcomes]).float().mean(dim=0)
    expected = (trial.settings.treatments["medication"].hazard * trial.frailty).clamp(max=1)
    assert rate.mean().item() == pytest.approx(expected.mean().item(), abs=0.02)
    assert np.corrcoef(rate, expected)[0, 1] > 0.5
    assert not torch.stack([o.adverse for o in run(trial, 0, 1.0, 3)[1]]).any()
    torch.testing.assert_close(trial.adverse_probability(start(trial), *act(MEDICATION, 1.0)), expected)
    assert trial.adverse_probability(start(trial), *act(0, 1.0)).max() == 0


def test_eight_week_effects_are_near_the_published_ones(trial):
    control = trial.expected_levels(start(trial), *act(0, 0.1), 8)[:, -1]

    def effect(treatment: str, signal: int) -> float:
        treated = trial.expected_levels(start(trial), *act(TREATMENTS.index(treatment), 0.6), 8)[:, -1]
        return float(((treated - control) / trial.between)[:, signal].mean())

    assert -0.60 < effect("app", 3) < -0.25  # stress d .33-.59
    assert 0.50 < effect("cbt", 1) < 0.95  # insomnia SMD .76 (.57-.95)
    assert -0.80 < effect("exercise", 3) < -0.35  # depression g .43-.62
    assert -3.5 < effect("exercise", 2) * trial.between[2].item() < -1.0  # bpm; -2.6 after 20 weeks
    assert -0.60 < effect("medication", 3) < -0.25  # SMD .29
    assert effect("medication", 2) > 0


def test_a_signal_without_settings_is_named():
    signals = (*DEFAULT_SIGNALS[:3], Signal("glucose", "mmol/L", 0.0, 30.0, -1))
    with pytest.raises(ConfigError, match="'glucose'"):
        Trial(people(30, signals=signals), trial_settings(), seed=0)
    with pytest.raises(ConfigError, match="'glucose'"):
        check_signals(trial_settings(), signals)
    check_signals(trial_settings(), DEFAULT_SIGNALS)


def test_fewer_signals_than_the_settings_name_are_fine():
    trial = Trial(people(30, signals=DEFAULT_SIGNALS[:2]), trial_settings(), seed=0)
    assert trial.start(torch.arange(3), torch.arange(3))["drift"].shape == (3, 2)


def test_contradictory_correlations_and_treatments_are_refused():
    settings = trial_settings()
    strong = tuple(
        replace(pair, correlation=0.99 * math.copysign(1, -pair.correlation)) for pair in settings.correlations
    )
    with pytest.raises(ConfigError, match=r"trial\.correlations"):
        Trial(people(30), replace(settings, correlations=strong), seed=0)
    with pytest.raises(ConfigError, match=r"trial\.treatments"):
        Trial(people(30), replace(settings, treatments={"app": settings.treatments["app"]}), seed=0)
