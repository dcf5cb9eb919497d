"""Off-policy evaluation: exact on decision problems small enough to list every course, and against Trial's own returns."""

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers_envs import env_settings, people, settings, simulation
from rich.console import Console
from torch import Tensor

from core.treatments import CONTROL, TREATMENTS
from intervention.baselines import Constant, SteppedCare
from intervention.evaluation import EvaluateSettings
from intervention.off_policy import (
    DM,
    DR,
    IS,
    PDIS,
    WDR,
    WIS,
    Evidence,
    bootstrap_counts,
    effective_sizes,
    estimates,
    expected_action,
    fitted_values,
    ridge,
    score_estimators,
    taken_action,
    value_features,
)
from intervention.policy import OUTPUTS, DualHeadDistribution, beta_log_prob
from intervention.stochastic import (
    Logged,
    Softened,
    Tempered,
    UsualCare,
    draw,
    log_courses,
    log_density,
    log_ratios,
    replay,
    target_policies,
)
from pipeline.config import load_config
from pipeline.off_policy import off_policy
from pipeline.off_policy_table import NAMES, best_estimator, off_policy_table
from pipeline.report.policy import off_policy as off_policy_figure
from pipeline.runner import Context
from pipeline.store import RunStore
from pipeline.tracker import RunTracker

STEPPED = settings(EvaluateSettings, "evaluate").stepped_care

# --- a decision problem of two states, two actions and three weeks, every course listed

WEEKS, STATES = 3, 2
MOVE = np.array([[[0.9, 0.1], [0.3, 0.7]], [[0.6, 0.4], [0.2, 0.8]]])  # state, action -> next state
PAID = np.array([[0.0, -0.3], [1.0, 0.4]])  # state, action
LOGGED = np.array([[0.7, 0.3], [0.5, 0.5]])  # state -> action
TARGET = np.array([[0.2, 0.8], [0.6, 0.4]])


def values_of(policy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """q ``[T, S, A]`` and v ``[T, S]`` by backward induction."""
    q, v = np.zeros((WEEKS, STATES, 2)), np.zeros((WEEKS + 1, STATES))
    for week in reversed(range(WEEKS)):
        q[week] = PAID + MOVE @ v[week + 1]
        v[week] = (policy * q[week]).sum(axis=1)
    return q, v[:-1]


def every_course(behaviour: np.ndarray, q: np.ndarray, v: np.ndarray) -> tuple[Evidence, Tensor]:
    """All courses from state 0, with the propensities of ``behaviour``, and how likely each is under ``LOGGED``."""
    rows, law = [], []
    for path in itertools.product(*[range(2)] * (2 * WEEKS - 1)):
        actions, states = path[:WEEKS], (0, *path[WEEKS:])
        chance = math.prod(LOGGED[s, a] for s, a in zip(states, actions, strict=True))
        chance *= math.prod(MOVE[states[k], actions[k], states[k + 1]] for k in range(WEEKS - 1))
        law.append(chance)
        weeks = list(zip(range(WEEKS), states, actions, strict=True))
        rows.append(
            [
                [math.log(TARGET[s, a] / behaviour[s, a]) for _, s, a in weeks],
                [PAID[s, a] for _, s, a in weeks],
                [q[k, s, a] for k, s, a in weeks],
                [v[k, s] for k, s, _ in weeks],
            ]
        )
    table = torch.tensor(rows).double()
    return Evidence(*table.unbind(dim=1)), torch.tensor([law]).double()


TRUTH = float(values_of(TARGET)[1][0, 0])
EXACT, NOTHING = values_of(TARGET), (np.zeros((WEEKS, STATES, 2)), np.zeros((WEEKS, STATES)))
WRONG_Q = EXACT[0] * 3 + np.array([0.5, -1.0])
CROOKED = (WRONG_Q, (TARGET * WRONG_Q).sum(axis=-1))


@pytest.mark.parametrize("model", [EXACT, NOTHING, CROOKED])
def test_with_right_propensities_every_weighted_estimator_is_right_whatever_the_model(model: tuple) -> None:
    evidence, law = every_course(LOGGED, *model)
    assert float(law.sum()) == pytest.approx(1)
    found = estimates(evidence, law)
    for name, value in found.items():
        if name != DM:
            assert float(value) == pytest.approx(TRUTH, abs=1e-9), name
    assert (float(found[DM]) == pytest.approx(TRUTH)) == (model is EXACT)


def test_with_the_right_model_double_robustness_forgives_wrong_propensities() -> None:
    wrong = np.array([[0.5, 0.5], [0.9, 0.1]])
    found = {name: float(value) for name, value in estimates(*every_course(wrong, *EXACT)).items()}
    for name in (DM, DR, WDR):
        assert found[name] == pytest.approx(TRUTH, abs=1e-9), name
    for name in (IS, PDIS):  # a wrong propensity is seen by those that trust nothing else
        assert abs(found[name] - TRUTH) > 0.1, name
    neither = {name: float(value) for name, value in estimates(*every_course(wrong, *CROOKED)).items()}
    assert min(abs(neither[name] - TRUTH) for name in (DM, DR, WDR)) > 0.1


def test_variance_falls_per_decision_and_again_with_a_model() -> None:
    law = every_course(LOGGED, *EXACT)[1][0]

    def variance(name: str, model: tuple) -> float:
        evidence, _ = every_course(LOGGED, *model)
        one_course = estimates(evidence, torch.eye(len(law)).double())[name]
        return float((law * (one_course - TRUTH) ** 2).sum())

    assert variance(PDIS, NOTHING) < variance(IS, NOTHING)
    assert variance(DR, EXACT) < 0.6 * variance(PDIS, NOTHING)
    assert variance(DR, NOTHING) == pytest.approx(variance(PDIS, NOTHING))


def test_weighted_importance_sampling_stays_among_the_returns() -> None:
    evidence, _ = every_course(LOGGED, *NOTHING)
    counts = torch.from_numpy(
        np.random.default_rng(0).multinomial(5, [1 / len(evidence.q)] * len(evidence.q), 200)
    ).double()
    total, found = evidence.reward.sum(dim=1), estimates(evidence, counts)
    assert ((found[WIS] >= total.min() - 1e-9) & (found[WIS] <= total.max() + 1e-9)).all()
    assert found[IS].max() > total.max()


def test_effective_sizes_are_counts_of_equal_weights() -> None:
    zeros = torch.zeros(8, 3).double()
    assert effective_sizes(Evidence(zeros, zeros, zeros, zeros)) == dict.fromkeys(
        effective_sizes(Evidence(zeros, zeros, zeros, zeros)), 8.0
    )
    lone = zeros.clone()
    lone[0, 2] = 400.0  # one course outweighs all from the last week on, beyond what a square can hold
    sizes = effective_sizes(Evidence(lone, zeros, zeros, zeros))
    assert sizes[IS] == pytest.approx(1) and sizes[PDIS] == pytest.approx((8 + 8 + 1) / 3) and sizes[DM] == 8


def test_the_bootstrap_draws_patients_with_all_their_courses() -> None:
    rows = torch.tensor([7, 3, 7, 9, 7])
    counts = bootstrap_counts(rows, np.random.default_rng(0), 500)
    assert torch.equal(counts[:, 0], counts[:, 2]) and torch.equal(counts[:, 0], counts[:, 4])
    assert torch.equal(counts[:, 0] + counts[:, 1] + counts[:, 3], torch.full((500,), 3.0).double())
    assert counts[:, 1].std() > 0.5


# --- densities of choices


def outputs_for(batch: int, seed: int = 0) -> DualHeadDistribution:
    generator = torch.Generator().manual_seed(seed)
    return DualHeadDistribution().proba_distribution(torch.randn(batch, OUTPUTS, generator=generator).double())


def test_draws_follow_the_density_and_ratios_average_to_one() -> None:
    n = 10_000
    one, other = outputs_for(1), outputs_for(1, 1)
    for each in (one, other):
        each.log_p, each.alpha, each.beta = (x.expand(n, -1) for x in (each.log_p, each.alpha, each.beta))
    treatment, u = draw(one, np.random.default_rng(0))
    shares = treatment.bincount(minlength=len(TREATMENTS)) / n
    torch.testing.assert_close(shares.double(), one.log_p[0].exp(), atol=0.02, rtol=0)
    seen, meant = taken_action(treatment, u), expected_action(one)
    torch.testing.assert_close(seen.mean(dim=0), meant[0], atol=0.02, rtol=0)
    ratio = (log_density(other, treatment, u) - log_density(one, treatment, u)).exp()
    assert abs(float(ratio.mean()) - 1) < 5 * float(ratio.std()) / n**0.5


class Counting(DualHeadDistribution):
    """The planted fault: Control's dose has a density too."""

    def log_prob(self, actions: Tensor) -> Tensor:
        dose = beta_log_prob(actions[:, 1].clamp(1e-6, 1 - 1e-6), *self._shapes(actions[:, 0].long()))
        return torch.where(actions[:, 0] == CONTROL, super().log_prob(actions) + dose, super().log_prob(actions))


def test_no_treatment_has_no_dose_to_weigh() -> None:
    n = 2_000
    one, other = outputs_for(n), outputs_for(n, 1)
    other.log_p = one.log_p
    treatment, u = draw(one, np.random.default_rng(0))
    assert (u[treatment == CONTROL] == 0).all()
    faulty = Counting()
    faulty.log_p, faulty.alpha, faulty.beta = other.log_p, other.alpha, other.beta
    right, wrong = (log_density(d, treatment, u) - log_density(one, treatment, u) for d in (other, faulty))
    assert (right[treatment == CONTROL] == 0).all() and (right[treatment != CONTROL] != 0).all()
    assert (wrong[treatment == CONTROL].abs() > 1).any()


# --- logged courses in Trial


def test_a_policy_judged_by_its_own_courses_is_worth_what_they_paid() -> None:
    patients, rows = people(60), torch.arange(60)
    usual = UsualCare(STEPPED, 0.25, 0.5)
    log = log_courses(usual, simulation(patients, 60), rows, np.random.default_rng(0))
    assert log.reward.shape == log.running.shape == (60, env_settings().horizon)
    assert not log.reward[~log.running].any() and not log.observations[~log.running].any()
    again = replay(usual, simulation(patients, 1), log)
    ratios = log_ratios(log, again)
    assert float(ratios.abs().max()) < 1e-6
    layout = simulation(patients, 1).layout
    ((q, v),) = fitted_values(log, [again], *value_features(log.observations, layout))
    found = estimates(Evidence(ratios, log.reward, q, v), torch.ones(1, 60).double())
    paid = float(log.reward.sum(dim=1).mean())
    for name, value in found.items():
        if name not in (DM, DR, WDR):
            assert float(value) == pytest.approx(paid, abs=1e-5), name
    other = log_ratios(log, replay(Softened(SteppedCare(STEPPED), 0.5), simulation(patients, 1), log))
    assert float(other.abs().max()) > 1 and not other[~log.running].any()


def test_usual_care_mixes_what_it_says() -> None:
    patients = people(30)
    sim = simulation(patients, 30)
    usual, stepped = UsualCare(STEPPED, 0.2, 0.5), SteppedCare(STEPPED)
    for policy in (usual, stepped):
        policy.reset(sim, torch.arange(30))
    observation = sim.reset(rows=torch.arange(30))
    first, (choice, _) = usual.distribution(sim, observation), stepped.act(sim, observation, torch.zeros(30).long())
    assert torch.allclose(first.log_p.exp().sum(dim=1), torch.ones(30).double())
    torch.testing.assert_close(
        first.log_p.exp().gather(1, choice[:, None]), torch.full((30, 1), 0.2 + 0.8 / 5).double()
    )
    observation = sim.step(torch.full((30,), 3), torch.full((30,), 0.55)).observation
    then = usual.distribution(sim, observation)
    torch.testing.assert_close(then.log_p.exp()[:, 3], torch.full((30,), 0.5 + 0.3 / 5).double())
    alpha, beta = then.alpha[:, 2], then.beta[:, 2]  # the treatment goes on at about its dose, raw .5
    torch.testing.assert_close((alpha - 1) / (alpha + beta - 2), torch.full((30,), 0.5).double(), atol=1e-6, rtol=0)


class StandIn:
    """An agent that has no medication to give."""

    def distribution(self, observation: Tensor) -> DualHeadDistribution:
        weights = torch.randn(observation.shape[1], OUTPUTS, generator=torch.Generator().manual_seed(0)) / 4
        forbidden = (torch.arange(len(TREATMENTS)) == 4).expand(len(observation), -1)
        return DualHeadDistribution().proba_distribution(observation @ weights, forbidden)


AGENT: Any = StandIn()


def test_tempering_flattens_and_keeps_what_is_forbidden() -> None:
    sim, rows = simulation(people(20), 20), torch.arange(20)
    seen, agent = sim.reset(rows=rows), AGENT
    own = agent.distribution(seen)
    same = Tempered(agent, 1.0).distribution(sim, seen)
    torch.testing.assert_close(same.log_p.exp(), own.log_p.double().exp(), atol=1e-6, rtol=0)
    torch.testing.assert_close(same.alpha, own.alpha.double(), atol=1e-6, rtol=0)
    flat = Tempered(agent, 1e6, 0.3).distribution(sim, seen)
    torch.testing.assert_close(flat.log_p.exp()[:, :4], torch.full((20, 4), 0.25).double(), atol=1e-4, rtol=0)
    assert (flat.log_p.exp()[:, 4] == 0).all()
    torch.testing.assert_close(flat.alpha, torch.ones(20, 4).double(), atol=1e-4, rtol=0)


def test_twenty_targets_that_any_log_can_meet() -> None:
    sim, rows = simulation(people(20), 20), torch.arange(20)
    seen, targets = sim.reset(rows=rows), target_policies(AGENT, STEPPED)
    assert len(targets) == 20
    for name, target in targets.items():
        target.reset(sim, rows)
        chosen = target.distribution(sim, seen)
        assert torch.isfinite(chosen.alpha).all() and chosen.alpha.min() >= 1 and chosen.beta.min() >= 1, name
        torch.testing.assert_close(chosen.log_p.exp().sum(dim=1).double(), torch.ones(20).double())


# --- the fitted model


def test_ridge_is_least_squares_that_leaves_the_intercept_alone() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(np.column_stack([np.ones(5000), rng.normal(3, 2, 5000)]))
    y = (5 + 0.7 * x[:, 1:]) + 0.01 * torch.from_numpy(rng.normal(size=(5000, 1)))
    torch.testing.assert_close(ridge(x, y)[:, 0], torch.tensor([5.0, 0.7]).double(), atol=0.01, rtol=0)
    alone = ridge(torch.cat([x, 1e6 * x[:, 1:]], dim=1), y)  # the unit of a column is no matter
    torch.testing.assert_close((x @ ridge(x, y)), torch.cat([x, 1e6 * x[:, 1:]], dim=1) @ alone, atol=0.01, rtol=0)


@pytest.mark.parametrize("folds", [1, 2])
def test_fitted_values_are_those_of_a_problem_that_is_linear(folds: int) -> None:
    rng, n = np.random.default_rng(0), 4_000
    x = torch.from_numpy(rng.uniform(-1, 1, (n, 2)))  # unlike in a course, what is seen does not hang on what is done
    behaviour = DualHeadDistribution()
    behaviour.log_p, behaviour.alpha = torch.full((n, 5), 0.2).double().log(), torch.ones(n, 4).double()
    behaviour.beta = behaviour.alpha
    treatment, u = (torch.stack(pair, dim=1) for pair in zip(*(draw(behaviour, rng) for _ in range(2)), strict=True))
    paid = 1 + 2 * x + torch.where(treatment == 2, (x + 3) * u - u**2, 0.0)
    running = torch.ones(n, 2, dtype=torch.bool)
    running[: n // 4, 1] = False  # some end after the first week
    log = Logged(
        torch.arange(n), torch.zeros(n, 2, 1), treatment, u, torch.zeros(n, 2), torch.where(running, paid, 0), running
    )
    target = outputs_for(n)
    seen = torch.stack([torch.ones(n, 2).double(), x], dim=2)
    ((q, v),) = fitted_values(log, [[target, target]], seen, seen, folds)
    first, second = expected_action(target)[:, [4 + 1, 8 + 1]].T  # E[1(cbt) u], E[1(cbt) u^2]
    last = 1 + 2 * x[:, 1] + (x[:, 1] + 3) * first - second
    assert not v[~running].any() and not q[~running].any()
    torch.testing.assert_close(v[running[:, 1], 1], last[running[:, 1]], atol=0.05, rtol=0)
    assert float((q - paid)[:, 1][running[:, 1]].abs().mean()) < 0.03  # the penalty shows at the edges
    # Nothing seen in the first week tells of the second: its mean, over those who have one.
    whole = 1 + 2 * x[:, 0] + (x[:, 0] + 3) * first - second + torch.where(running[:, 1], last, 0).mean()
    assert abs(float((v[:, 0] - whole).mean())) < 0.05


def test_a_value_may_depend_on_all_that_a_policy_sees() -> None:
    layout = simulation(people(5), 1).layout
    seen = torch.rand(3, 2, layout.size)
    features, _ = value_features(seen, layout)
    for part, where in layout.slices.items():
        other = seen.clone()
        other[..., where] += 1
        # Each week has a regression of its own, so that time is known.
        assert torch.equal(value_features(other, layout)[0], features) == (part == "time"), part


def test_folds_keep_a_patient_out_of_the_own_fit() -> None:
    patients, rows = people(40), torch.arange(40)
    usual = UsualCare(STEPPED, 0.25, 0.5)
    log = log_courses(usual, simulation(patients, 40), rows, np.random.default_rng(0))
    layout, own = simulation(patients, 1).layout, [replay(usual, simulation(patients, 1), log)]
    richer = replace(log, reward=log.reward + 100 * (log.rows == 0).double()[:, None] * log.running)
    before, after = (
        fitted_values(each, own, *value_features(each.observations, layout))[0][1] for each in (log, richer)
    )
    assert torch.equal(before[::2], after[::2]) and not torch.equal(before[1::2], after[1::2])


# --- the score and the stage


def test_scores_are_what_they_say() -> None:
    truth = [1.0, 2.0, 3.0]
    frame = pd.DataFrame(
        [
            {
                "estimator": name,
                "truth": t,
                "estimate": e,
                "low": e - 0.2,
                "high": e + 0.2,
                "effective_sample_size": 7.0,
            }
            for name, found in {"good": [1.1, 1.9, 3.0], "flat": [2.0] * 3, "none": [1.0, math.nan, 3.0]}.items()
            for t, e in zip(truth, found, strict=True)
        ]
    )
    scores = score_estimators(frame)
    assert scores["good"] == pytest.approx(
        {"error": 0.2 / 6, "bias": 0.0, "rank_correlation": 1.0, "coverage": 1.0, "effective_sample_size": 7.0}
    )
    assert scores["flat"]["rank_correlation"] is None and scores["flat"]["error"] == pytest.approx(2 / 6)
    assert scores["none"]["error"] is None


def test_the_stage_writes_every_estimate_and_shows_it(smoke: RunStore, tmp_path: Path) -> None:
    small = ["enabled=true", "patients=20", "logged_courses=4", "true_courses=2", "resamples=20"]
    config = load_config(["preset=smoke", *(f"off_policy.{each}" for each in small)])
    console = Console(record=True, width=120, file=(tmp_path / "log").open("w"))
    context = Context(config, smoke, tmp_path, RunTracker(tmp_path, console), "")
    found = off_policy(context)["off_policy"]
    table = pd.read_parquet(tmp_path / "off_policy.parquet")
    assert found["policies"] == table["policy"].nunique() == 20 and found["logged_courses"] == 80
    assert set(found["estimators"]) == set(table["estimator"]) == set(NAMES)
    assert found["estimators"]["twin"]["effective_sample_size"] == 20
    assert not table.groupby("policy")["truth"].nunique().gt(1).any() and table["truth"].nunique() > 15
    console.print(off_policy_table(found))
    assert "fitted Q evaluation" in console.export_text()
    figure = off_policy_figure(table, found)
    assert len(figure.charts) == len(NAMES) - 1 and NAMES[best_estimator(found["estimators"])] in figure.title
    assert off_policy(replace(context, config=load_config(["preset=smoke"]))) == {}


def test_constants_name_a_dose() -> None:
    sim = simulation(people(5), 5)
    seen = sim.reset(rows=torch.arange(5))
    chosen = Softened(Constant(2, 0.55), 0.3).distribution(sim, seen)
    torch.testing.assert_close(chosen.log_p.exp()[0], torch.tensor([0.06, 0.06, 0.76, 0.06, 0.06]).double())
    torch.testing.assert_close(chosen.alpha[0], torch.tensor([1.0, 3.0, 1.0, 1.0]).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(chosen.beta[0], torch.tensor([1.0, 3.0, 1.0, 1.0]).double(), atol=1e-6, rtol=0)
