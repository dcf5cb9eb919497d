"""What an episode pays and what an agent sees of it: reward, observation, severity, and what the models cannot know."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_envs import env_settings, people, simulation, world_of

from core.patients import Patients
from core.protocols import Dynamics, Outcome, State, risk_score
from envs.patient_env import PatientEnv
from envs.responses import KEPT, RIDGE
from envs.rewards import REWARD_TERMS, eligible
from envs.severity import SeverityIndex
from envs.simulation import Simulation
from envs.vector_env import PatientVectorEnv


@pytest.fixture(scope="module")
def patients() -> Patients:
    return people(600)


@pytest.fixture(scope="module")
def world(patients):
    return world_of(patients)


# The reward.


def episodes(patients: Patients, treatments: list[int], intensity: float = 0.6, n: int = 300, seed: int = 5):
    """Every step of ``n`` episodes under a plan of 12 weeks."""
    sim = simulation(patients, n, seed)
    sim.reset()
    first, steps = sim.risk.clone(), []
    for treatment in treatments:
        steps.append(sim.step(torch.full((n,), treatment), torch.full((n,), intensity)))
    return first, steps


def test_reward_is_the_sum_of_its_terms_and_improvement_telescopes(patients):
    first, steps = episodes(patients, [1, 2, 3, 4] * 3)
    scale = env_settings().risk_scale
    improvement = sum(step.info["improvement"] for step in steps)
    torch.testing.assert_close(improvement, scale * (first - steps[-1].info["risk"]), atol=1e-4, rtol=0)
    for step in steps:
        torch.testing.assert_close(step.reward, sum(step.info[name] for name in REWARD_TERMS))


def test_controls_intensity_changes_neither_reward_nor_observation(patients):
    quiet, loud = (episodes(patients, [0] * 4, intensity=u)[1] for u in (0.1, 1.0))
    for a, b in zip(quiet, loud, strict=True):
        assert torch.equal(a.observation, b.observation) and torch.equal(a.reward, b.reward)
        assert not b.info["treatment_cost"].any() and not b.info["intensity"].any()


def test_remission_terminates_the_horizon_truncates(patients):
    _, steps = episodes(patients, [2] * 12)
    settings = env_settings()
    risks = torch.stack([step.info["risk"] for step in steps])
    well = risks < settings.remission_threshold
    for week, step in enumerate(steps):
        expected = well[week] & well[week - 1] if week else torch.zeros_like(well[0])
        assert torch.equal(step.terminated, expected)
        assert torch.equal(step.truncated, ~step.terminated & torch.full_like(expected, week == 11))


def test_hovering_below_remission_does_not_beat_cure(patients):
    """A planted cheat: the same treatment, but every second well week it breaks off, so as never to be discharged.

    It is allowed to know the coming risk, which no policy does: of each pair of well weeks it pays back the second.
    """
    sim, settings, n = simulation(patients, 400, seed=2), env_settings(), 400
    sim.reset()
    first, alive, cured = sim.risk.clone(), torch.ones(n, dtype=torch.bool), torch.zeros(n)
    risks, costs, done = [], [], torch.zeros(n, dtype=torch.bool)
    for _ in range(12):
        step = sim.step(torch.full((n,), 2), torch.full((n,), 0.6))
        cured += alive * step.reward
        done |= alive & step.terminated
        alive &= ~step.terminated
        risks.append(step.info["risk"])
        costs.append(step.info["treatment_cost"] + step.info["adverse_cost"])
    # Hovering forgoes the bonus; the best it can end on is the lowest risk of the course.
    lowest = torch.stack(risks).min(dim=0).values
    hover = settings.risk_scale * (first - lowest) + torch.stack(costs).sum(dim=0)
    assert done.sum() > 50
    assert (cured[done] > hover[done]).all()


def test_waiting_does_not_pay(patients):
    """The same course of treatment, begun later with the same luck, earns less; never beginning earns least."""

    def total(plan: list[int]) -> float:
        alive, reward = torch.ones(600), torch.zeros(600)
        for step in episodes(patients, plan, n=600)[1]:
            reward += alive * step.reward
            alive *= 1 - step.terminated.float()
        return float(reward.mean())

    for course in ([2] * 12, [3] * 12, [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3):
        now, late, never = (total([0] * wait + course[: 12 - wait]) for wait in (0, 8, 12))
        assert now > late + 0.1 and late > never


def test_true_level_is_reported(patients):
    _, steps = episodes(patients, [3] * 3)
    level = steps[-1].info["level"]
    assert level.shape == (300, 4)
    assert np.corrcoef(level[:, 2], simulation_days(patients, [3] * 3)[:, 2])[0, 1] > 0.9


def simulation_days(patients: Patients, treatments: list[int]) -> torch.Tensor:
    sim = simulation(patients, 300, 5)
    sim.reset()
    for treatment in treatments:
        sim.step(torch.full((300,), treatment), torch.full((300,), 0.6))
    return sim.days.mean(dim=1)


# The observation.


def test_layout_names_every_number(patients):
    sim = simulation(patients, 4)
    layout, observation = sim.layout, sim.reset()
    assert observation.shape == (4, layout.size) and len(set(layout.names)) == layout.size
    covered = [i for part in layout.slices.values() for i in range(part.start, part.stop)]
    assert covered == list(range(layout.size))
    torch.testing.assert_close(observation[:, layout.slices["week"]], observation[:, layout.slices["baseline"]])
    step = sim.step(torch.tensor([0, 1, 2, 4]), torch.tensor([0.5, 0.5, 1.0, 0.25]))
    seen = {part: step.observation[:, where] for part, where in layout.slices.items()}
    torch.testing.assert_close(seen["risk"][:, 0], step.info["risk"])
    torch.testing.assert_close(risk_score(seen["probabilities"]), step.info["risk"])
    assert seen["last_treatment"].argmax(dim=1).tolist() == [0, 1, 2, 4]
    assert seen["last_intensity"][:, 0].tolist() == [0.0, 0.5, 1.0, 0.25]
    assert seen["mean_intensity"][3].tolist() == [0, 0, 0, 0.25] and not seen["weeks_on"][0].any()
    torch.testing.assert_close(
        seen["risk_change"][2, 1] * env_settings().risk_scale, step.info["improvement"][2], atol=1e-5, rtol=0
    )


def test_observation_tells_what_weeks_under_a_treatment_showed(patients):
    """Exposures and slopes of a ridge regression, made anew from what was seen and done; a new course begins with none."""
    sim = simulation(patients, 20)
    where, signals = sim.layout.slices, len(patients.signals)
    weeks, doses, courses = [], [], torch.zeros(20, dtype=torch.int64)
    observation, draw = sim.reset(), torch.Generator().manual_seed(3)
    for week in range(6):
        treatment, intensity = torch.randint(5, (20,), generator=draw), 0.1 + 0.9 * torch.rand(20, generator=draw)
        observation = sim.step(treatment, intensity).observation
        means = [observation[:, where[part]].unflatten(1, (7, -1)).mean(dim=1) for part in ("week", "baseline")]
        weeks.append(means[0] - means[1])
        doses.append(intensity[:, None] * torch.eye(5)[treatment][:, 1:])
        if week == 2:
            again = torch.arange(20) % 3 == 0
            observation, courses = sim.reset(which=again), torch.where(again, 3, 0)
            assert not observation[again][:, where["exposure"]].any()
            assert not observation[again][:, where["change_per_exposure"]].any()
    for i, begin in enumerate(courses.tolist()):
        exposure, shown, seen = torch.zeros(4), torch.zeros(4, signals), torch.full((4,), RIDGE)
        for change, dose in zip(weeks[begin:], doses[begin:], strict=True):
            exposure = KEPT * exposure + (1 - KEPT) * dose[i]
            shown, seen = shown + exposure[:, None] * change[i], seen + exposure**2
        torch.testing.assert_close(observation[i, where["exposure"]], exposure)
        slopes = (shown / seen[:, None]).flatten()
        torch.testing.assert_close(observation[i, where["change_per_exposure"]], slopes, atol=1e-5, rtol=1e-4)
    assert sim.layout.names[where["change_per_exposure"]][0] == f"change_per_exposure.app.{patients.signals[0].name}"


def test_pool_holds_the_eligible_and_anybody_can_be_chosen(world):
    patients, _, index, settings = world
    rows = eligible(patients, index, settings.min_risk)
    sim = simulation(patients, 64)
    assert np.array_equal(sim.pool, rows) and 0 < len(rows) < len(patients)
    sim.reset()
    assert (sim.risk >= settings.min_risk).all()
    well = int(np.setdiff1d(np.arange(len(patients)), rows)[0])
    _, info = PatientEnv(*world).reset(seed=0, options={"patient_id": int(patients.ids[well])})
    assert info["patient_id"] == patients.ids[well] and info["risk"] < settings.min_risk


def test_a_chosen_patient_keeps_to_the_seed(world):
    env = PatientVectorEnv(*world, num_envs=3)
    _, infos = env.reset(seed=1, options={"patient_id": [5, 6, 7]})
    assert infos["patient_id"].tolist() == [5, 6, 7]
    _, infos = env.reset(seed=1, options={"patient_id": 9})
    assert infos["patient_id"].tolist() == [9, 9, 9]


# Severity.


def test_severity_is_worse_for_worse_weeks(patients):
    index = SeverityIndex(patients.signals, patients.scaler)
    better = torch.tensor([float(s.better) for s in patients.signals])
    step = better * torch.tensor(patients.scaler.between)
    risks = [risk_score(index.probabilities(patients.features, patients.week - x * step)) for x in (-1.0, 0.0, 1.0)]
    assert (risks[0] < risks[1]).all() and (risks[1] < risks[2]).all()
    torch.testing.assert_close(index.probabilities(patients.features, patients.week).sum(dim=1), torch.ones(600))


def test_severity_ignores_what_was_not_observed(patients):
    index = SeverityIndex(patients.signals, patients.scaler)
    mask = torch.ones_like(patients.week, dtype=torch.bool)
    mask[:, 3] = False
    spoiled = patients.week.clone()
    spoiled[:, 3] = 0.0
    a, b = (index.probabilities(patients.features, week, mask) for week in (patients.week, spoiled))
    torch.testing.assert_close(a, b)


# Disagreement.


class Doubtful(Dynamics):
    """Trial whose models are said to disagree by 0.1 sd more with every week, on patients of odd rows."""

    def __init__(self, trial: Dynamics) -> None:
        self.trial = trial

    def start(self, rows: torch.Tensor, keys: torch.Tensor) -> State:
        return self.trial.start(rows, keys)

    def step(self, state: State, treatment: torch.Tensor, intensity: torch.Tensor, keys: torch.Tensor):
        week, odd = state["week"], state["rows"] % 2
        state, outcome = self.trial.step(state, treatment, intensity, keys)
        return state, Outcome(outcome.week, outcome.adverse, outcome.level, 0.1 * (week + 1) * odd)


def doubtful(world, n: int, **changes: float | None) -> PatientVectorEnv:
    patients, trial, index, config = world
    return PatientVectorEnv(patients, Doubtful(trial), index, replace(config, **changes), n, "Discrete")


def test_too_much_disagreement_truncates_and_says_so(world):
    env, n = doubtful(world, 40, spread_limit=0.35), 40
    _, first = env.reset(seed=0)
    odd, ended = first["patient_id"] % 2 == 1, np.zeros(n, dtype=bool)
    assert 0 < odd.sum() < n
    for week in range(1, 5):
        _, _, terminated, truncated, infos = env.step(np.zeros(n, np.int64))
        final = infos.get("final_info", {"spread_exceeded": np.zeros(n, dtype=bool)})
        expected = odd & ~ended & ~terminated & (week == 4)  # 0.4 > 0.35, first in week 4
        np.testing.assert_array_equal(truncated & ~ended, expected)
        np.testing.assert_array_equal(final["spread_exceeded"] & truncated & ~ended, expected)
        ended |= terminated | truncated
    assert expected.sum() > 5


def test_without_a_limit_disagreement_only_costs(world):
    free, costly = (doubtful(world, 40, spread_limit=None, spread_cost=cost) for cost in (0.0, 2.0))
    for env in (free, costly):
        _, first = env.reset(seed=0)
    odd = first["patient_id"] % 2
    for week in range(1, 4):
        (_, paid, done, *_), (_, less, _, truncated, infos) = (e.step(np.zeros(40, np.int64)) for e in (free, costly))
        assert not truncated.any()
        np.testing.assert_allclose((paid - less)[~done], (0.2 * week * odd)[~done], atol=1e-5)
        assert not infos["spread_exceeded"].any()
        if done.any():
            break


def test_trial_never_truncates_before_its_horizon(patients):
    """It is one truth, so that the least limit changes nothing."""
    plain = simulation(patients, 50)
    _, trial, index, config = world_of(patients)
    limited = Simulation(patients, trial, index, replace(config, spread_limit=1e-9), 50, 0)
    for sim in (plain, limited):
        sim.reset()
    for _ in range(config.horizon):
        a, b = (sim.step(torch.full((50,), 3), torch.full((50,), 0.9)) for sim in (plain, limited))
        assert torch.equal(a.truncated, b.truncated) and not b.info["spread_exceeded"].any()
